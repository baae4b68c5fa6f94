#include "train/master_model.h"

#include <cmath>
#include <cstring>
#include <map>

#include "base/rng.h"
#include "formats/gguf_writer.h"
#include "quant/quant_format.h"

namespace ink {
namespace {

bool HasInterleavedHeads(std::string_view architecture) { return architecture == "llama"; }

class MasterSource : public WeightSource {
 public:
  MasterSource(const MasterModel& model, DType type) : model_(model), type_(type) {
    if (type == DType::kF32) return;
    const QuantFormat* format = FindQuantFormat(type);
    for (const MasterTensor& tensor : model.tensors) {
      if (tensor.is_vector) continue;
      std::vector<std::byte>& bytes = encoded_[tensor.name];
      bytes.resize(static_cast<size_t>(RowBytes(type, tensor.cols) * tensor.rows * tensor.experts));
      for (int64_t r = 0; r < tensor.rows * tensor.experts; ++r) {
        format->encode(tensor.values.data() + r * tensor.cols, nullptr,
                       bytes.data() + r * RowBytes(type, tensor.cols), tensor.cols);
      }
    }
  }
  const std::string& path() const override { return path_; }
  const Metadata& metadata() const override { return model_.metadata; }
  bool Has(std::string_view name) const override { return model_.Find(name) != nullptr; }
  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const MasterTensor& t : model_.tensors) names.push_back(t.name);
    return names;
  }
  Result<SourceTensor> Matrix(std::string_view name) const override {
    const MasterTensor* tensor = model_.Find(name);
    if (tensor == nullptr || tensor->is_vector) {
      return NotFound("the model has no matrix named " + std::string(name));
    }
    SourceTensor out;
    out.name = tensor->name;
    out.type = type_;
    out.rows = tensor->rows;
    out.cols = tensor->cols;
    auto* base = reinterpret_cast<const std::byte*>(tensor->values.data());
    if (type_ != DType::kF32) base = encoded_.find(name)->second.data();
    for (int e = 0; e < tensor->experts; ++e) {
      out.experts.push_back(base + e * tensor->rows * RowBytes(type_, tensor->cols));
    }
    return out;
  }
  Result<std::vector<float>> Vector(std::string_view name) const override {
    const MasterTensor* tensor = model_.Find(name);
    if (tensor == nullptr || !tensor->is_vector) {
      return NotFound("the model has no vector named " + std::string(name));
    }
    return tensor->values;
  }
  void DropPages(const SourceTensor&, int, int64_t, int64_t) const override {}

 private:
  const MasterModel& model_;
  DType type_;
  std::string path_ = "model in training";
  std::map<std::string, std::vector<std::byte>, std::less<>> encoded_;
};

// Adds tensors with their first values.
class Builder {
 public:
  Builder(MasterModel& model, uint64_t seed) : model_(model), seed_(seed) {}
  void Matrix(const std::string& name, int64_t rows, int64_t cols, float deviation,
              int experts = 1) {
    MasterTensor t{name, experts, rows, cols, false, {}};
    t.values.resize(static_cast<size_t>(t.size()));
    Rng rng(seed_, stream_++);
    for (float& v : t.values) v = deviation * rng.Normal();
    model_.tensors.push_back(std::move(t));
  }
  void Vector(const std::string& name, int64_t size, float value) {
    MasterTensor t{name, 1, 1, size, true, {}};
    t.values.assign(static_cast<size_t>(size), value);
    model_.tensors.push_back(std::move(t));
  }

 private:
  MasterModel& model_;
  uint64_t seed_;
  uint64_t stream_ = 0;
};

Status CheckShape(const ModelShape& s) {
  auto positive = [](const char* what, int64_t value) {
    return value > 0 && value < (int64_t{1} << 24)
               ? OkStatus()
               : InvalidArgument(std::string("model.") + what + ": expected a positive size, got " +
                                 std::to_string(value));
  };
  INK_RETURN_IF_ERROR(positive("d_model", s.d_model));
  INK_RETURN_IF_ERROR(positive("ffn", s.ffn_dim));
  INK_RETURN_IF_ERROR(positive("layers", s.num_layers));
  INK_RETURN_IF_ERROR(positive("heads", s.num_heads));
  INK_RETURN_IF_ERROR(positive("vocabulary", s.n_vocab));
  INK_RETURN_IF_ERROR(positive("context", s.context));
  if (s.num_layers > 4096) {
    return InvalidArgument("model.layers: expected at most 4096, got " +
                           std::to_string(s.num_layers));
  }
  if (s.num_kv_heads < 0 || (s.num_kv_heads > 0 && s.num_heads % s.num_kv_heads != 0)) {
    return InvalidArgument("model.kv_heads: expected a divisor of " + std::to_string(s.num_heads) +
                           ", got " + std::to_string(s.num_kv_heads));
  }
  const int64_t head = s.head_dim > 0 ? s.head_dim : s.d_model / s.num_heads;
  if (head < 2 || head > 256 || head % 2 != 0) {
    return InvalidArgument("model.head_dim: expected an even number up to 256, got " +
                           std::to_string(head));
  }
  if (!s.share.empty() && static_cast<int>(s.share.size()) != s.num_layers) {
    return InvalidArgument("model.share: expected one entry per layer (" +
                           std::to_string(s.num_layers) + "), got " +
                           std::to_string(s.share.size()));
  }
  for (size_t i = 0; i < s.share.size(); ++i) {
    if (s.share[i] < 0 || s.share[i] > static_cast<int>(i) ||
        s.share[static_cast<size_t>(s.share[i])] != s.share[i]) {
      return InvalidArgument("model.share[" + std::to_string(i) +
                             "]: expected this layer or an earlier one that has its own weights, "
                             "got " +
                             std::to_string(s.share[i]));
    }
  }
  return OkStatus();
}

}  // namespace

MasterTensor* MasterModel::Find(std::string_view name) {
  for (MasterTensor& t : tensors) {
    if (t.name == name) return &t;
  }
  return nullptr;
}
const MasterTensor* MasterModel::Find(std::string_view name) const {
  return const_cast<MasterModel*>(this)->Find(name);
}

Result<MasterModel> InitModel(const ModelShape& s, uint64_t seed) {
  INK_RETURN_IF_ERROR(CheckShape(s));
  const std::string& a = s.architecture;
  const bool gemma = a == "gemma2" || a == "gemma3";
  const bool qwen3 = a == "qwen3" || a == "qwen3moe";
  if (a != "llama" && a != "qwen2" && a != "phi3" && !gemma && !qwen3) {
    return Unsupported(
        "model.architecture: expected one of llama, qwen2, qwen3, qwen3moe, gemma2, "
        "gemma3, phi3, got \"" +
        a + "\"");
  }
  if (!s.share.empty() && a != "llama") {
    return Unsupported("model.share: expected architecture llama, got \"" + a + "\"");
  }
  const bool experts = s.num_experts > 0;
  if (experts && a != "llama" && a != "qwen3moe") {
    return Unsupported("model.experts: architecture " + a + " has none");
  }
  if (!experts && a == "qwen3moe") {
    return InvalidArgument("model.experts: expected at least 1 for qwen3moe, got 0");
  }
  const int64_t d = s.d_model, f = s.ffn_dim;
  const int64_t head = s.head_dim > 0 ? s.head_dim : d / s.num_heads;
  const int kv_heads = s.num_kv_heads > 0 ? s.num_kv_heads : s.num_heads;
  const int64_t q = s.num_heads * head, kv = kv_heads * head;
  MasterModel model;
  Metadata& m = model.metadata;
  m.SetString("general.architecture", a);
  m.SetString("general.name", s.name);
  m.SetU32(a + ".block_count", static_cast<uint32_t>(s.num_layers));
  m.SetU32(a + ".context_length", static_cast<uint32_t>(s.context));
  m.SetU32(a + ".embedding_length", static_cast<uint32_t>(d));
  m.SetU32(a + ".feed_forward_length", static_cast<uint32_t>(f));
  m.SetU32(a + ".attention.head_count", static_cast<uint32_t>(s.num_heads));
  m.SetU32(a + ".attention.head_count_kv", static_cast<uint32_t>(kv_heads));
  m.SetU32(a + ".attention.key_length", static_cast<uint32_t>(head));
  m.SetU32(a + ".attention.value_length", static_cast<uint32_t>(head));
  m.SetU32(a + ".rope.dimension_count", static_cast<uint32_t>(head));
  m.SetF32(a + ".rope.freq_base", s.rope_base);
  m.SetF32(a + ".attention.layer_norm_rms_epsilon", s.eps);
  m.SetU32(a + ".vocab_size", static_cast<uint32_t>(s.n_vocab));
  if (s.sliding_window > 0) {
    m.SetU32(a + ".attention.sliding_window", static_cast<uint32_t>(s.sliding_window));
  }
  if (experts) {
    m.SetU32(a + ".expert_count", static_cast<uint32_t>(s.num_experts));
    m.SetU32(a + ".expert_used_count", static_cast<uint32_t>(s.experts_per_token));
    m.SetU32(a + ".expert_feed_forward_length", static_cast<uint32_t>(f));
  }
  if (!s.share.empty()) {
    std::vector<int32_t> share(s.share.begin(), s.share.end());
    m.SetI32s("inkstone.shared_layers", share);
  }
  Builder b(model, seed);
  const float in = 0.02f, out = 0.02f / std::sqrt(2.0f * static_cast<float>(s.num_layers));
  b.Matrix("token_embd.weight", s.n_vocab, d, in);
  if (!s.tied) b.Matrix("output.weight", s.n_vocab, d, in);
  b.Vector("output_norm.weight", d, 1.0f);
  for (int i = 0; i < s.num_layers; ++i) {
    if (!s.share.empty() && s.share[static_cast<size_t>(i)] != i) continue;
    const std::string l = "blk." + std::to_string(i) + ".";
    b.Vector(l + "attn_norm.weight", d, 1.0f);
    b.Vector(l + "ffn_norm.weight", d, 1.0f);
    if (gemma) {
      b.Vector(l + "post_attention_norm.weight", d, 1.0f);
      b.Vector(l + "post_ffw_norm.weight", d, 1.0f);
    }
    if (a == "phi3") {
      b.Matrix(l + "attn_qkv.weight", q + 2 * kv, d, in);
      b.Matrix(l + "ffn_up.weight", 2 * f, d, in);
    } else {
      b.Matrix(l + "attn_q.weight", q, d, in);
      b.Matrix(l + "attn_k.weight", kv, d, in);
      b.Matrix(l + "attn_v.weight", kv, d, in);
      if (a == "qwen2") {
        b.Vector(l + "attn_q.bias", q, 0.0f);
        b.Vector(l + "attn_k.bias", kv, 0.0f);
        b.Vector(l + "attn_v.bias", kv, 0.0f);
      }
      if (qwen3 || a == "gemma3") {
        b.Vector(l + "attn_q_norm.weight", head, 1.0f);
        b.Vector(l + "attn_k_norm.weight", head, 1.0f);
      }
    }
    b.Matrix(l + "attn_output.weight", d, q, out);
    if (experts) {
      b.Matrix(l + "ffn_gate_inp.weight", s.num_experts, d, in);
      b.Matrix(l + "ffn_gate_exps.weight", f, d, in, s.num_experts);
      b.Matrix(l + "ffn_up_exps.weight", f, d, in, s.num_experts);
      b.Matrix(l + "ffn_down_exps.weight", d, f, out, s.num_experts);
    } else {
      if (a != "phi3") {
        b.Matrix(l + "ffn_gate.weight", f, d, in);
        b.Matrix(l + "ffn_up.weight", f, d, in);
      }
      b.Matrix(l + "ffn_down.weight", d, f, out);
    }
  }
  return model;
}

Result<MasterModel> ReadMasterModel(const WeightSource& source) {
  MasterModel model;
  model.metadata.CopyFrom(source.metadata());
  for (const std::string& name : source.Names()) {
    MasterTensor t;
    t.name = name;
    auto vector = source.Vector(name);
    if (vector.ok()) {
      t.is_vector = true;
      t.cols = static_cast<int64_t>(vector->size());
      t.values = std::move(*vector);
    } else {
      INK_ASSIGN_OR_RETURN(SourceTensor tensor, source.Matrix(name));
      const QuantFormat* format = FindQuantFormat(tensor.type);
      if (format == nullptr)
        return Unsupported(source.path() + ": tensor " + name + ": no decoder");
      t.experts = tensor.num_experts();
      t.rows = tensor.rows;
      t.cols = tensor.cols;
      t.values.resize(static_cast<size_t>(t.size()));
      float* to = t.values.data();
      for (int e = 0; e < t.experts; ++e) {
        for (int64_t r = 0; r < t.rows; ++r, to += t.cols)
          format->decode(tensor.Row(e, r), to, t.cols);
        source.DropPages(tensor, e, 0, t.rows);
      }
    }
    model.tensors.push_back(std::move(t));
  }
  return model;
}

std::unique_ptr<WeightSource> MakeSource(const MasterModel& model, DType matrix_type) {
  return std::make_unique<MasterSource>(model, matrix_type);
}

Status WriteMasterModel(const MasterModel& model, const std::string& path, DType type) {
  return WriteMasterModel(
      model, path, [&](const MasterTensor&) { return type; },
      [](const MasterTensor& t) { return t.values; });
}

Status WriteMasterModel(const MasterModel& model, const std::string& path,
                        const std::function<DType(const MasterTensor&)>& wanted,
                        const std::function<std::vector<float>(const MasterTensor&)>& values_of) {
  INK_ASSIGN_OR_RETURN(std::string_view arch, model.metadata.GetString("general.architecture"));
  const std::string prefix(arch);
  INK_ASSIGN_OR_RETURN(uint32_t heads, model.metadata.GetU32(prefix + ".attention.head_count", 0));
  INK_ASSIGN_OR_RETURN(uint32_t kv_heads,
                       model.metadata.GetU32(prefix + ".attention.head_count_kv", heads));
  const bool interleaved = HasInterleavedHeads(arch);
  GgufWriter writer(path);
  writer.metadata().CopyFrom(model.metadata);
  auto type_of = [&](const MasterTensor& t) {
    if (t.is_vector) return DType::kF32;
    // Routers decide which expert runs: as everywhere, they stay in float32.
    if (t.name.find("ffn_gate_inp") != std::string::npos) return DType::kF32;
    const DType type = wanted(t);
    return t.cols % Info(type).block_values == 0 ? type : DType::kF16;
  };
  for (const MasterTensor& t : model.tensors) {
    std::vector<int64_t> dims = {t.cols};
    if (!t.is_vector) dims.push_back(t.rows);
    if (t.experts > 1) dims.push_back(t.experts);
    INK_RETURN_IF_ERROR(writer.AddTensor(t.name, type_of(t), dims));
  }
  INK_RETURN_IF_ERROR(writer.Begin());
  for (const MasterTensor& t : model.tensors) {
    const DType stored = type_of(t);
    const QuantFormat* format = FindQuantFormat(stored);
    int64_t n = 0;
    if (interleaved && t.name.find(".attn_q.") != std::string::npos) n = heads;
    if (interleaved && t.name.find(".attn_k.") != std::string::npos) n = kv_heads;
    const int64_t rows = t.is_vector ? 1 : t.rows * t.experts;
    const std::vector<float> values = values_of(t);
    std::vector<std::byte> bytes(static_cast<size_t>(RowBytes(stored, t.cols)));
    for (int64_t stored_row = 0; stored_row < rows; ++stored_row) {
      int64_t row = stored_row;
      std::vector<float> swapped;
      const float* from = nullptr;
      if (n > 0 && !t.is_vector) {
        // Canonical row h * d + half * d / 2 + i is stored row h * d + 2 * i + half.
        const int64_t d = t.rows / n, in_head = stored_row % d;
        row = stored_row - in_head + in_head % 2 * (d / 2) + in_head / 2;
      } else if (n > 0) {
        const int64_t d = t.cols / n;
        swapped.resize(values.size());
        for (int64_t c = 0; c < t.cols; ++c) {
          swapped[c] = values[c - c % d + c % d % 2 * (d / 2) + c % d / 2];
        }
        from = swapped.data();
      }
      if (from == nullptr) from = values.data() + row * t.cols;
      format->encode(from, nullptr, bytes.data(), t.cols);
      INK_RETURN_IF_ERROR(writer.Write(bytes));
    }
  }
  return writer.Finish();
}

}  // namespace ink
