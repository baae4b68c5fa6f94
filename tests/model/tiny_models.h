// Small random GGUF models of every architecture with a Hugging Face form, with all optional parts
// (biases, rope factors, untied heads) that the architecture knows.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/rng.h"
#include "formats/gguf_writer.h"
#include "quant/quant_format.h"

namespace ink::testing_support {

struct TinyModel {
  std::string name;
  std::string arch;
  DType type = DType::kF32;  // of matrices
  bool tied = false;
  bool biases = false;
  bool qk_norm = false;
  bool experts = false;
  bool rope_freqs = false;
  bool long_rope = false;
  float size = 1.0f;  // of the values of matrices
};

inline std::vector<TinyModel> TinyModels() {
  return {
      {.name = "llama", .arch = "llama", .type = DType::kBF16},
      {.name = "llama-tied-rope",
       .arch = "llama",
       .type = DType::kF16,
       .tied = true,
       .rope_freqs = true},
      {.name = "llama-bias", .arch = "llama", .biases = true},
      {.name = "llama-q4_0", .arch = "llama", .type = DType::kQ4_0},
      {.name = "mixtral", .arch = "llama", .type = DType::kBF16, .experts = true},
      {.name = "qwen2", .arch = "qwen2", .type = DType::kF16, .tied = true, .biases = true},
      {.name = "qwen3", .arch = "qwen3", .qk_norm = true},
      {.name = "qwen3moe",
       .arch = "qwen3moe",
       .type = DType::kF16,
       .qk_norm = true,
       .experts = true},
      {.name = "gemma2", .arch = "gemma2", .type = DType::kBF16, .tied = true},
      {.name = "gemma3", .arch = "gemma3", .tied = true, .qk_norm = true},
      {.name = "phi3", .arch = "phi3", .type = DType::kF16},
      {.name = "phi3-long", .arch = "phi3", .long_rope = true},
  };
}

/// Writes the model to `path`: 2 layers, width 64, 4 heads of 32 with 2 for keys, 3 experts, 40
/// tokens. Norm values cover the whole range, below 0.5 too.
inline void WriteTinyModel(const TinyModel& model, const std::string& path) {
  constexpr int64_t kWidth = 64, kHeads = 4, kFf = 96, kExperts = 3, kVocab = 40;
  const int64_t head = model.arch == "phi3" ? kWidth / kHeads : 32;
  const int64_t kv_heads = 2;
  const std::string& a = model.arch;
  GgufWriter writer(path);
  Metadata& m = writer.metadata();
  m.SetString("general.architecture", a);
  m.SetString("general.name", "tiny");
  m.SetU32(a + ".context_length", 256);
  m.SetU32(a + ".embedding_length", kWidth);
  m.SetU32(a + ".block_count", 2);
  m.SetU32(a + ".feed_forward_length", kFf);
  m.SetU32(a + ".attention.head_count", kHeads);
  m.SetU32(a + ".attention.head_count_kv", kv_heads);
  m.SetF32(a + ".attention.layer_norm_rms_epsilon", 1e-5f);
  m.SetF32(a + ".rope.freq_base", 12345.0f);
  if (a != "phi3") {
    m.SetU32(a + ".attention.key_length", static_cast<uint32_t>(head));
    m.SetU32(a + ".attention.value_length", static_cast<uint32_t>(head));
  }
  if (model.experts) {
    m.SetU32(a + ".expert_count", kExperts);
    m.SetU32(a + ".expert_used_count", 2);
    m.SetU32(a + ".expert_feed_forward_length", kFf);
  }
  if (a.starts_with("gemma")) m.SetU32(a + ".attention.sliding_window", 16);
  if (a == "phi3") m.SetU32(a + ".rope.scaling.original_context_length", 64);
  if (model.long_rope) m.SetF32(a + ".rope.scaling.attn_factor", 1.25f);

  struct Tensor {
    std::string name;
    std::vector<int64_t> dims;
    bool f32;
  };
  std::vector<Tensor> tensors;
  auto matrix = [&](const std::string& name, int64_t in, int64_t out) {
    tensors.push_back({name, {in, out}, false});
  };
  auto vector = [&](const std::string& name, int64_t n) { tensors.push_back({name, {n}, true}); };
  matrix("token_embd.weight", kWidth, kVocab);
  vector("output_norm.weight", kWidth);
  if (!model.tied) matrix("output.weight", kWidth, kVocab);
  const int64_t half = head / 2;
  if (model.rope_freqs) vector("rope_freqs.weight", half);
  if (model.long_rope) {
    vector("rope_factors_long.weight", half);
    vector("rope_factors_short.weight", half);
  }
  for (int layer = 0; layer < 2; ++layer) {
    const std::string b = "blk." + std::to_string(layer) + ".";
    vector(b + "attn_norm.weight", kWidth);
    vector(b + "ffn_norm.weight", kWidth);
    if (a.starts_with("gemma")) {
      vector(b + "post_attention_norm.weight", kWidth);
      vector(b + "post_ffw_norm.weight", kWidth);
    }
    if (a == "phi3") {
      matrix(b + "attn_qkv.weight", kWidth, (kHeads + 2 * kv_heads) * head);
    } else {
      matrix(b + "attn_q.weight", kWidth, kHeads * head);
      matrix(b + "attn_k.weight", kWidth, kv_heads * head);
      matrix(b + "attn_v.weight", kWidth, kv_heads * head);
    }
    if (model.biases) {
      vector(b + "attn_q.bias", kHeads * head);
      vector(b + "attn_k.bias", kv_heads * head);
      vector(b + "attn_v.bias", kv_heads * head);
    }
    if (model.qk_norm) {
      vector(b + "attn_q_norm.weight", head);
      vector(b + "attn_k_norm.weight", head);
    }
    matrix(b + "attn_output.weight", kHeads * head, kWidth);
    if (model.experts) {
      tensors.push_back({b + "ffn_gate_inp.weight", {kWidth, kExperts}, true});
      tensors.push_back({b + "ffn_gate_exps.weight", {kWidth, kFf, kExperts}, false});
      tensors.push_back({b + "ffn_up_exps.weight", {kWidth, kFf, kExperts}, false});
      tensors.push_back({b + "ffn_down_exps.weight", {kFf, kWidth, kExperts}, false});
    } else if (a == "phi3") {
      matrix(b + "ffn_up.weight", kWidth, 2 * kFf);
      matrix(b + "ffn_down.weight", kFf, kWidth);
    } else {
      matrix(b + "ffn_gate.weight", kWidth, kFf);
      matrix(b + "ffn_up.weight", kWidth, kFf);
      matrix(b + "ffn_down.weight", kFf, kWidth);
    }
  }

  for (const Tensor& t : tensors) {
    ASSERT_TRUE(writer.AddTensor(t.name, t.f32 ? DType::kF32 : model.type, t.dims).ok()) << t.name;
  }
  ASSERT_TRUE(writer.Begin().ok());
  Rng rng(11);
  for (const Tensor& t : tensors) {
    int64_t count = 1;
    for (int64_t dim : t.dims) count *= dim;
    const DType type = t.f32 ? DType::kF32 : model.type;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) {
      value = model.size * rng.Normal();
      if (t.f32 && t.dims.size() == 1) value = 0.01f + 3 * static_cast<float>(rng.Uniform());
    }
    std::vector<std::byte> bytes(static_cast<size_t>(RowBytes(type, count)));
    FindQuantFormat(type)->encode(values.data(), nullptr, bytes.data(), count);
    ASSERT_TRUE(writer.Write(bytes).ok());
  }
  Status status = writer.Finish();
  ASSERT_TRUE(status.ok()) << status.message();
}

}  // namespace ink::testing_support
