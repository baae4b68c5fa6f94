// Metadata shared by decoder architectures, checked before anything is computed from it.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "formats/metadata.h"

namespace ink {

class ModelLoader;

/// The common part; what only one architecture has is read in its own file.
struct DecoderConfig {
  std::string prefix;  // the architecture's key prefix, "llama"
  int num_layers = 0;
  int64_t d_model = 0;
  int64_t ffn_dim = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;
  float eps = 1e-5f;
  int64_t context_length = 0;
  int64_t n_vocab = 0;
  int64_t sliding_window = 0;
  int num_experts = 0;
  int experts_per_token = 0;
  int64_t expert_ffn_dim = 0;
};

/// Reads and bounds every value. Errors name key, expected and actual.
Result<DecoderConfig> ReadDecoderConfig(const ModelLoader& loader);

}  // namespace ink
