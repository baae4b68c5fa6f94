// The Hugging Face architectures that map onto GGUF ones, with the defaults of their configuration
// classes in the transformers library (configuration_*.py). Private to src/model/hf_*.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace ink {

struct HfArchitecture {
  std::string_view model_type;  // config.json's model_type
  std::string_view class_name;  // config.json's architectures[0]
  std::string_view gguf;        // general.architecture
  // Defaults where a config.json omits the field.
  uint32_t vocab_size;
  uint32_t hidden_size;
  uint32_t intermediate_size;
  uint32_t layers;
  uint32_t heads;
  uint32_t kv_heads;  // 0: as many as heads
  uint32_t head_dim;  // 0: hidden_size / heads
  uint32_t max_positions;
  float rms_eps;
  float rope_theta;
  bool tied;
  std::string_view activation;  // the only one that the GGUF architecture knows
  uint32_t swa_period;          // every n-th layer is full attention by default; 0: all layers
};

inline constexpr HfArchitecture kHfArchitectures[] = {
    {"llama", "LlamaForCausalLM", "llama", 32000, 4096, 11008, 32, 32, 0, 0, 2048, 1e-6f, 1e4f,
     false, "silu", 0},
    {"mistral", "MistralForCausalLM", "llama", 32000, 4096, 14336, 32, 32, 8, 0, 131072, 1e-6f,
     1e4f, false, "silu", 0},
    {"mixtral", "MixtralForCausalLM", "llama", 32000, 4096, 14336, 32, 32, 8, 0, 131072, 1e-5f,
     1e6f, false, "silu", 0},
    {"qwen2", "Qwen2ForCausalLM", "qwen2", 151936, 4096, 22016, 32, 32, 32, 0, 32768, 1e-6f, 1e4f,
     false, "silu", 0},
    {"qwen3", "Qwen3ForCausalLM", "qwen3", 151936, 4096, 22016, 32, 32, 32, 128, 32768, 1e-6f, 1e4f,
     false, "silu", 0},
    {"qwen3_moe", "Qwen3MoeForCausalLM", "qwen3moe", 151936, 2048, 6144, 24, 32, 4, 0, 32768, 1e-6f,
     1e4f, false, "silu", 0},
    {"gemma2", "Gemma2ForCausalLM", "gemma2", 256000, 2304, 9216, 26, 8, 4, 256, 8192, 1e-6f, 1e4f,
     true, "gelu_pytorch_tanh", 2},
    {"gemma3_text", "Gemma3ForCausalLM", "gemma3", 262208, 2304, 9216, 26, 8, 4, 256, 131072, 1e-6f,
     1e6f, true, "gelu_pytorch_tanh", 6},
    {"phi3", "Phi3ForCausalLM", "phi3", 32064, 3072, 8192, 32, 32, 0, 0, 4096, 1e-5f, 1e4f, false,
     "silu", 0},
};

/// Null when there is none.
inline const HfArchitecture* FindHfArchitecture(std::string_view model_type) {
  for (const HfArchitecture& row : kHfArchitectures) {
    if (row.model_type == model_type) return &row;
  }
  return nullptr;
}

// Fixed by the reference models and not stored in GGUF files: the 27B models of Gemma 2 (46 layers)
// and Gemma 3 (62 layers) scale queries by the width per head instead of the head dimension.
inline bool GemmaScalesByWidth(std::string_view gguf_architecture, uint32_t layers) {
  return (gguf_architecture == "gemma2" && layers == 46) ||
         (gguf_architecture == "gemma3" && layers == 62);
}

}  // namespace ink
