#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <unordered_set>

#include "base/atomic_file.h"
#include "formats/quote.h"
#include "formats/safetensors_writer.h"
#include "model/hf_config.h"
#include "model/hf_convert.h"
#include "model/hf_convert_values.h"

namespace ink {
namespace {

constexpr std::string_view kRopeFreqs = "rope_freqs.weight";
constexpr std::string_view kRopeLong = "rope_factors_long.weight";
constexpr std::string_view kRopeShort = "rope_factors_short.weight";

// One tensor of the input and what it becomes (`form.experts` tensors where there are experts).
struct Planned {
  const GgufTensor* in = nullptr;
  HfTensor form;
  DType out = DType::kF32;
  int64_t values = 0;             // of a row
  int64_t rows = 0;               // of one expert
  std::vector<std::byte> folded;  // with minus_one: the whole tensor, ready to be written
};

// One tensor of the output.
struct Target {
  size_t planned;
  uint32_t expert;
};

class ToHf {
 public:
  ToHf(const GgufFile& in, const std::string& folder, const ConvertOptions& options,
       std::vector<std::string>* warnings)
      : in_(in), folder_(folder), options_(options), warnings_(warnings) {}

  Status Plan();
  Status Write(const std::vector<NamedText>& more_files);

 private:
  Status PlanTensor(const GgufTensor& tensor, const HfTensor& form);
  Status FoldMinusOne(Planned* planned);
  Status CheckNoOtherWeights(const std::vector<std::string>& paths) const;
  Result<std::vector<float>> ReadFactors(std::string_view name);
  Result<HfConfigExtras> Extras();
  Status WriteTensor(SafetensorsWriter& writer, const Planned& planned, uint32_t expert);
  Status Emit(SafetensorsWriter& writer, std::span<const std::byte> bytes);

  const GgufFile& in_;
  const std::string& folder_;
  const ConvertOptions& options_;
  std::vector<std::string>* warnings_;
  std::vector<Planned> planned_;
  std::vector<Target> targets_;
  std::string config_;
};

Status ToHf::Plan() {
  INK_ASSIGN_OR_RETURN(std::vector<HfTensor> forms, HfTensorsOf(in_.metadata()));
  std::unordered_set<std::string_view> used = {kRopeFreqs, kRopeLong, kRopeShort};
  for (const HfTensor& form : forms) {
    const GgufTensor* tensor = in_.Find(form.gguf);
    if (tensor == nullptr) continue;
    INK_RETURN_IF_ERROR(PlanTensor(*tensor, form));
    used.insert(tensor->name);
  }
  for (const GgufTensor& tensor : in_.tensors()) {
    if (used.count(tensor.name) == 0) {
      return Unsupported(Mismatch(in_.path(), "tensor " + Quoted(tensor.name),
                                  "one with a name in the Hugging Face form of the architecture",
                                  "none"));
    }
  }
  INK_RETURN_IF_ERROR(in_.Get("token_embd.weight").status());
  INK_ASSIGN_OR_RETURN(HfConfigExtras extras, Extras());
  INK_ASSIGN_OR_RETURN(config_, HfConfigText(in_.metadata(), extras));
  return OkStatus();
}

Status ToHf::PlanTensor(const GgufTensor& tensor, const HfTensor& form) {
  const std::string what = "tensor " + Quoted(tensor.name);
  Planned planned{.in = &tensor, .form = form};
  if (FindQuantFormat(tensor.type) == nullptr) {
    return Unsupported(Mismatch(in_.path(), what + ": type", "a floating-point or quantized type",
                                Info(tensor.type).name));
  }
  const int expected_dims = form.experts > 0 ? 3 : tensor.num_dims;
  if (tensor.num_dims != expected_dims || (form.experts == 0 && tensor.num_dims > 2) ||
      (form.experts > 0 && tensor.dims[2] != int64_t{form.experts})) {
    return Corrupt(Mismatch(in_.path(), what + ": shape",
                            form.experts > 0
                                ? "3 dimensions, the last " + std::to_string(form.experts)
                                : "1 or 2 dimensions",
                            tensor.ShapeString()));
  }
  // A bias whose values are permuted is a matrix of one column.
  const bool column = tensor.num_dims == 1 && form.permute_heads > 0;
  planned.values = column ? 1 : tensor.dims[0];
  planned.rows = column ? tensor.dims[0] : tensor.dims[1];
  const int64_t heads = form.permute_heads;
  if (heads > 0 && (planned.rows % heads != 0 || planned.rows / heads % 2 != 0)) {
    return Corrupt(Mismatch(in_.path(), what + ": rows",
                            std::to_string(heads) + " heads of an even number of rows",
                            std::to_string(planned.rows)));
  }
  if (column && Info(tensor.type).quantized) {
    return Unsupported(Mismatch(in_.path(), what + ": type", "f32, f16 or bf16 for a bias",
                                Info(tensor.type).name));
  }
  planned.out = Info(tensor.type).quantized ? options_.dequantized : tensor.type;
  if (form.minus_one) INK_RETURN_IF_ERROR(FoldMinusOne(&planned));
  for (uint32_t expert = 0; expert < std::max(form.experts, 1u); ++expert) {
    targets_.push_back({planned_.size(), expert});
  }
  planned_.push_back(std::move(planned));
  return OkStatus();
}

// The stored value is the factor minus one. In f32 that is exact unless the factor is below 0.5 and
// has bits beyond 2^-24; such a tensor is stored in f64, whose difference is exact.
Status ToHf::FoldMinusOne(Planned* planned) {
  const GgufTensor& tensor = *planned->in;
  if (tensor.num_dims != 1) {
    return Corrupt(Mismatch(in_.path(), "tensor " + Quoted(tensor.name) + ": shape", "1 dimension",
                            tensor.ShapeString()));
  }
  std::vector<float> factors(static_cast<size_t>(tensor.dims[0]));
  DecodeValues(tensor.type, tensor.data.data(), factors.data(), tensor.dims[0]);
  bool fits_f32 = true, fits_f64 = true;
  std::vector<float> narrow;
  std::vector<double> wide;
  for (float factor : factors) {
    narrow.push_back(factor - 1.0f);
    wide.push_back(static_cast<double>(factor) - 1.0);
    fits_f32 &= narrow.back() + 1.0f == factor;
    fits_f64 &= static_cast<float>(wide.back() + 1.0) == factor;
  }
  planned->out = fits_f32 ? DType::kF32 : DType::kF64;
  const auto bytes = fits_f32 ? std::as_bytes(std::span(narrow)) : std::as_bytes(std::span(wide));
  planned->folded.assign(bytes.begin(), bytes.end());
  if (!fits_f32 && !fits_f64 && warnings_ != nullptr) {
    warnings_->push_back(in_.path() + ": tensor " + Quoted(tensor.name) +
                         ": values near 0 lost bits, because the folder stores them minus one");
  }
  return OkStatus();
}

Result<std::vector<float>> ToHf::ReadFactors(std::string_view name) {
  std::vector<float> out;
  const GgufTensor* tensor = in_.Find(name);
  if (tensor == nullptr) return out;
  if (tensor->type != DType::kF32 || tensor->num_dims != 1) {
    return Corrupt(Mismatch(in_.path(), "tensor " + Quoted(name), "f32 of 1 dimension",
                            std::string(Info(tensor->type).name) + " " + tensor->ShapeString()));
  }
  out.resize(static_cast<size_t>(tensor->dims[0]));
  std::memcpy(out.data(), tensor->data.data(), tensor->size);
  for (float factor : out) {
    if (!(factor > 0) || !std::isfinite(factor)) {
      return Corrupt(Mismatch(in_.path(), "tensor " + Quoted(name), "finite numbers above 0",
                              std::to_string(factor)));
    }
  }
  return out;
}

Result<HfConfigExtras> ToHf::Extras() {
  HfConfigExtras extras;
  const int64_t vocabulary = in_.Find("token_embd.weight")->dims[1];
  if (vocabulary > int64_t{1} << 28) {
    return Corrupt(Mismatch(in_.path(), "rows of token_embd.weight", "at most 2^28",
                            std::to_string(vocabulary)));
  }
  extras.vocab_size = static_cast<uint32_t>(vocabulary);
  extras.tied_embeddings = in_.Find("output.weight") == nullptr;
  extras.attention_bias = in_.Find("blk.0.attn_q.bias") != nullptr;
  extras.mlp_bias = in_.Find("blk.0.ffn_up.bias") != nullptr;
  std::map<DType, int64_t> values;
  for (const Planned& planned : planned_) values[planned.out] += planned.in->num_values();
  int64_t most = 0;
  for (DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (values[type] > most) {
      most = values[type];
      extras.dtype = type;
    }
  }
  INK_ASSIGN_OR_RETURN(extras.rope_freqs, ReadFactors(kRopeFreqs));
  INK_ASSIGN_OR_RETURN(extras.rope_long, ReadFactors(kRopeLong));
  INK_ASSIGN_OR_RETURN(extras.rope_short, ReadFactors(kRopeShort));
  return extras;
}

Status ToHf::Emit(SafetensorsWriter& writer, std::span<const std::byte> bytes) {
  INK_RETURN_IF_ERROR(writer.Write(bytes));
  if (options_.progress && !options_.progress(writer.written_bytes(), writer.total_bytes())) {
    return Cancelled(folder_ + ": stopped; nothing was written");
  }
  return OkStatus();
}

Status ToHf::WriteTensor(SafetensorsWriter& writer, const Planned& planned, uint32_t expert) {
  if (planned.form.minus_one) return Emit(writer, planned.folded);
  const GgufTensor& in = *planned.in;
  const int64_t in_row = RowBytes(in.type, planned.values);
  const int64_t first = int64_t{expert} * planned.rows;
  const int64_t head_rows =
      planned.form.permute_heads > 0 ? planned.rows / planned.form.permute_heads : 0;
  const int64_t chunk = head_rows > 0 ? head_rows
                                      : std::min(ConvertChunkRows(in.type, planned.values),
                                                 ConvertChunkRows(planned.out, planned.values));
  std::vector<std::byte> converted, ordered;
  for (int64_t row = 0; row < planned.rows; row += chunk) {
    const int64_t rows = std::min(chunk, planned.rows - row);
    const int64_t at = (first + row) * in_row;
    ConvertRows(in.type, in.data.data() + at, planned.out, planned.values, rows, &converted);
    if (head_rows > 0) {
      ordered.resize(converted.size());
      PermuteHead(converted.data(), ordered.data(), head_rows,
                  static_cast<size_t>(RowBytes(planned.out, planned.values)), /*to_gguf=*/false);
    }
    INK_RETURN_IF_ERROR(Emit(writer, head_rows > 0 ? ordered : converted));
    in_.DropPages(in, static_cast<uint64_t>(at), static_cast<uint64_t>(rows * in_row));
  }
  return OkStatus();
}

// Files of an earlier model that this one does not replace.
Status ToHf::CheckNoOtherWeights(const std::vector<std::string>& paths) const {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".safetensors") && !name.ends_with(".safetensors.index.json")) continue;
    if (std::find(paths.begin(), paths.end(), folder_ + "/" + name) == paths.end()) {
      return InvalidArgument(Mismatch(folder_, "output folder", "no other weights in it", name));
    }
  }
  return OkStatus();
}

Status ToHf::Write(const std::vector<NamedText>& more_files) {
  SafetensorsWriter writer(folder_ + "/" + std::string(kSafetensorsName),
                           {.max_shard_bytes = options_.max_shard_bytes});
  writer.AddMetadata("format", "pt");
  for (const Target& target : targets_) {
    const Planned& planned = planned_[target.planned];
    std::vector<int64_t> shape = {planned.rows, planned.values};
    if (planned.in->num_dims == 1) shape = {planned.in->dims[0]};
    INK_RETURN_IF_ERROR(writer.AddTensor(planned.form.HfName(target.expert), planned.out, shape));
  }
  INK_RETURN_IF_ERROR(writer.Begin());
  INK_RETURN_IF_ERROR(CheckNoOtherWeights(writer.paths()));
  for (size_t i : writer.WriteOrder()) {
    INK_RETURN_IF_ERROR(WriteTensor(writer, planned_[targets_[i].planned], targets_[i].expert));
  }
  INK_RETURN_IF_ERROR(writer.Finish());
  for (const auto& [name, text] : more_files) {
    INK_RETURN_IF_ERROR(WriteFileAtomic(folder_ + "/" + name, text));
  }
  INK_RETURN_IF_ERROR(
      WriteFileAtomic(folder_ + "/generation_config.json", HfGenerationConfigText(in_.metadata())));
  return WriteFileAtomic(folder_ + "/config.json", config_);
}

}  // namespace

Status ConvertGgufToHf(const GgufFile& in, const std::string& folder,
                       const std::vector<NamedText>& more_files, const ConvertOptions& options,
                       std::vector<std::string>* warnings) {
  if (options.dequantized != DType::kF32 && options.dequantized != DType::kF16 &&
      options.dequantized != DType::kBF16) {
    return InvalidArgument(Mismatch(folder, "type of decoded weights", "f32, f16 or bf16",
                                    Info(options.dequantized).name));
  }
  ToHf conversion(in, folder, options, warnings);
  INK_RETURN_IF_ERROR(conversion.Plan());
  std::error_code error;
  const bool made = std::filesystem::create_directories(folder, error);
  if (error) return IoError(folder + ": cannot make the folder: " + error.message());
  Status status = conversion.Write(more_files);
  // A folder that this call made and could not fill goes again (only if it is empty).
  if (!status.ok() && made) std::filesystem::remove(folder, error);
  return status;
}

}  // namespace ink
