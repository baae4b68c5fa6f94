#include <cstring>

#include "formats/gguf.h"
#include "model/weight_source.h"
#include "quant/quant_format.h"

namespace ink {
namespace {

// GGUF's Llama family stores Q and K rows permuted for the interleaved rotation
// (llama.cpp conversion: LlamaModel.permute).
bool HasInterleavedHeads(std::string_view architecture) {
  return architecture == "llama" || architecture == "mistral3";
}

// "blk.3.attn_q.weight" or ".bias" -> 'q'; 'k' likewise; else 0.
char QueryOrKey(std::string_view name) {
  if (name.find(".attn_q.") != std::string_view::npos) return 'q';
  if (name.find(".attn_k.") != std::string_view::npos) return 'k';
  return 0;
}

// Old files keep experts apart: "blk.0.ffn_gate_exps.weight" as "blk.0.ffn_gate.7.weight".
std::string ExpertName(std::string_view stacked, int expert) {
  std::string name(stacked);
  size_t at = name.find("_exps.");
  return name.substr(0, at) + "." + std::to_string(expert) + name.substr(at + 5);
}

class GgufWeightSource : public WeightSource {
 public:
  explicit GgufWeightSource(GgufFile file) : file_(std::move(file)) {}

  Status Init() {
    INK_ASSIGN_OR_RETURN(std::string_view arch, file_.metadata().GetString("general.architecture"));
    if (file_.tensors().empty()) {
      return InvalidArgument(file_.path() + ": expected a model, the file has no tensors" +
                             " (a vocabulary only)");
    }
    if (!HasInterleavedHeads(arch)) return OkStatus();
    std::string prefix(arch);
    INK_ASSIGN_OR_RETURN(q_heads_, file_.metadata().GetU32(prefix + ".attention.head_count"));
    INK_ASSIGN_OR_RETURN(k_heads_,
                         file_.metadata().GetU32(prefix + ".attention.head_count_kv", q_heads_));
    return OkStatus();
  }

  const std::string& path() const override { return file_.path(); }
  const Metadata& metadata() const override { return file_.metadata(); }
  bool Has(std::string_view name) const override {
    if (file_.Find(name) != nullptr) return true;
    return name.find("_exps.") != std::string_view::npos &&
           file_.Find(ExpertName(name, 0)) != nullptr;
  }
  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const GgufTensor& tensor : file_.tensors()) names.emplace_back(tensor.name);
    return names;
  }

  Result<SourceTensor> Matrix(std::string_view name) const override {
    SourceTensor out;
    out.name = name;
    const GgufTensor* tensor = file_.Find(name);
    if (tensor == nullptr && name.find("_exps.") != std::string_view::npos) {
      for (int e = 0; (tensor = file_.Find(ExpertName(name, e))) != nullptr; ++e) {
        if (e > 0 && (tensor->type != out.type || tensor->dims[0] != out.cols ||
                      tensor->dims[1] != out.rows)) {
          return Corrupt(path() + ": tensor " + std::string(tensor->name) +
                         ": expected the type and shape of expert 0, got " +
                         std::string(Info(tensor->type).name) + " " + tensor->ShapeString());
        }
        INK_RETURN_IF_ERROR(SetShape(*tensor, &out));
        out.experts.push_back(tensor->data.data());
      }
      if (!out.experts.empty()) return out;
    }
    if (tensor == nullptr) return NotFound(path() + ": no tensor named " + std::string(name));
    INK_RETURN_IF_ERROR(SetShape(*tensor, &out));
    uint64_t expert_bytes = static_cast<uint64_t>(out.rows) * out.row_bytes();
    for (int64_t e = 0; e < tensor->dims[2] * tensor->dims[3]; ++e) {
      out.experts.push_back(tensor->data.data() + e * expert_bytes);
    }
    char which = QueryOrKey(name);
    uint32_t heads = which == 'q' ? q_heads_ : which == 'k' ? k_heads_ : 0;
    if (heads > 0) {
      if (out.rows % (2 * int64_t{heads}) != 0) {
        return Corrupt(path() + ": tensor " + out.name + ": expected a multiple of " +
                       std::to_string(2 * heads) + " rows (heads), got " +
                       std::to_string(out.rows));
      }
      out.interleaved_heads = static_cast<int>(heads);
    }
    return out;
  }

  Result<std::vector<float>> Vector(std::string_view name) const override {
    INK_ASSIGN_OR_RETURN(const GgufTensor* tensor, file_.Get(name));
    const QuantFormat* format = FindQuantFormat(tensor->type);
    if (format == nullptr || tensor->num_rows() != 1) {
      return Corrupt(path() + ": tensor " + std::string(name) + ": expected a float vector, got " +
                     std::string(Info(tensor->type).name) + " " + tensor->ShapeString());
    }
    std::vector<float> values(tensor->dims[0]);
    format->decode(tensor->data.data(), values.data(), tensor->dims[0]);
    char which = QueryOrKey(name);
    uint32_t heads = which == 'q' ? q_heads_ : which == 'k' ? k_heads_ : 0;
    if (heads > 0 && name.find(".bias") != std::string_view::npos) {
      if (values.size() % (2 * size_t{heads}) != 0) {
        return Corrupt(path() + ": tensor " + std::string(name) + ": expected a multiple of " +
                       std::to_string(2 * heads) + " values, got " + std::to_string(values.size()));
      }
      SourceTensor shape;
      shape.rows = static_cast<int64_t>(values.size());
      shape.cols = 1;
      shape.interleaved_heads = static_cast<int>(heads);
      shape.experts = {reinterpret_cast<const std::byte*>(values.data())};
      std::vector<float> canonical(values.size());
      for (size_t i = 0; i < values.size(); ++i) {
        std::memcpy(&canonical[i], shape.Row(0, static_cast<int64_t>(i)), sizeof(float));
      }
      return canonical;
    }
    return values;
  }

  void DropPages(const SourceTensor& tensor, int expert, int64_t first_row,
                 int64_t num_rows) const override {
    const GgufTensor* stored = file_.Find(tensor.name);
    if (stored == nullptr) stored = file_.Find(ExpertName(tensor.name, expert));
    if (stored == nullptr) return;
    auto begin = tensor.experts[expert] - stored->data.data() + first_row * tensor.row_bytes();
    file_.DropPages(*stored, begin, num_rows * tensor.row_bytes());
  }

 private:
  Status SetShape(const GgufTensor& tensor, SourceTensor* out) const {
    if (FindQuantFormat(tensor.type) == nullptr) {
      return Unsupported(path() + ": tensor " + std::string(tensor.name) +
                         ": expected a weight type, got " + std::string(Info(tensor.type).name));
    }
    out->type = tensor.type;
    out->cols = tensor.dims[0];
    out->rows = tensor.dims[1];
    return OkStatus();
  }

  GgufFile file_;
  uint32_t q_heads_ = 0;  // > 0 when Q and K rows are stored interleaved
  uint32_t k_heads_ = 0;
};

Result<std::unique_ptr<WeightSource>> Finish(GgufFile file) {
  auto source = std::make_unique<GgufWeightSource>(std::move(file));
  INK_RETURN_IF_ERROR(source->Init());
  return std::unique_ptr<WeightSource>(std::move(source));
}

}  // namespace

const std::byte* SourceTensor::Row(int expert, int64_t row) const {
  if (interleaved_heads > 0) {
    const int64_t head_rows = rows / interleaved_heads;
    const int64_t in_head = row % head_rows;
    const int64_t half = in_head / (head_rows / 2);
    row = row - in_head + 2 * (in_head % (head_rows / 2)) + half;
  }
  return experts[expert] + row * row_bytes();
}

Result<std::unique_ptr<WeightSource>> OpenGgufSource(const std::string& path) {
  INK_ASSIGN_OR_RETURN(GgufFile file, GgufFile::Open(path));
  return Finish(std::move(file));
}

Result<std::unique_ptr<WeightSource>> OpenGgufSourceFromBytes(std::span<const std::byte> bytes,
                                                              std::string name) {
  INK_ASSIGN_OR_RETURN(GgufFile file, GgufFile::FromBytes(bytes, std::move(name)));
  return Finish(std::move(file));
}

}  // namespace ink
