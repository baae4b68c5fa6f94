// Hugging Face config.json <-> GGUF metadata, so that model code reads one kind. Keys and values
// are those that llama.cpp's converter writes for the same model ("llama.block_count", ...); where
// a config.json omits a field, the default is that of the transformers library's configuration
// class.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "formats/metadata.h"
#include "tensor/dtype.h"

namespace ink {

/// What a config.json says.
struct HfConfig {
  // general.architecture, general.name (if the config names itself), ARCH.*
  Metadata metadata;
  // rope_freqs.weight: inverse frequencies are divided by these, [rope dimensions / 2]; empty when
  // there is none.
  std::vector<float> rope_freqs;
  // rope_factors_long.weight and rope_factors_short.weight, the same for long and short contexts.
  std::vector<float> rope_long, rope_short;
  bool tied_embeddings = false;  // no lm_head: the output is token_embd
  uint32_t vocab_size = 0;       // rows of the embedding
  // What the model does differently from the original, one sentence each.
  std::vector<std::string> warnings;
};

/// `json` is the text of a config.json, `path` begins messages. Architectures: llama, mistral,
/// mixtral, qwen2, qwen3, qwen3_moe, gemma2, gemma3_text (alone or as the text_config of another
/// model), phi3. Errors: kCorrupt (invalid JSON, a field of the wrong kind or range), kUnsupported
/// (another architecture, activation, rope kind, quantized weights).
Result<HfConfig> ParseHfConfig(std::string_view json, const std::string& path);
/// FOLDER/config.json. Errors: kNotFound, kIo and those above.
Result<HfConfig> ReadHfConfig(const std::string& folder);

/// What config.json needs besides the metadata.
struct HfConfigExtras {
  uint32_t vocab_size = 0;       // rows of the embedding
  bool tied_embeddings = false;  // there is no output.weight
  bool attention_bias = false;   // attn_q.bias exists
  bool mlp_bias = false;         // ffn_up.bias exists
  DType dtype = DType::kF32;     // of most weights: f32, f16 or bf16
  std::vector<float> rope_freqs;
  std::vector<float> rope_long, rope_short;
};

/// The text of a config.json that ParseHfConfig turns into metadata of the same meaning, the rope
/// factors bit for bit. Errors: kNotFound and kCorrupt from the metadata, kUnsupported for
/// architectures or values that the Hugging Face class cannot express.
Result<std::string> HfConfigText(const Metadata& metadata, const HfConfigExtras& extras);

/// The text of a generation_config.json: the begin and end tokens of the vocabulary.
std::string HfGenerationConfigText(const Metadata& metadata);

/// Inverse-frequency divisors of Llama 3's rope scaling, [rope_dim / 2], in single precision as
/// llama.cpp's converter computes them:
/// https://github.com/huggingface/transformers/blob/main/src/transformers/modeling_rope_utils.py
struct Llama3Rope {
  float theta = 10000.0f;
  float factor = 8.0f;
  float low_freq_factor = 1.0f;
  float high_freq_factor = 4.0f;
  float original_context = 8192.0f;
};
std::vector<float> Llama3RopeFactors(const Llama3Rope& rope, uint32_t rope_dim);

}  // namespace ink
