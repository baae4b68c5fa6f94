// Rotation frequencies of a model: base, and how they are stretched for long contexts.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "formats/metadata.h"
#include "model/weight_source.h"

namespace ink {

struct RopeFrequencies {
  std::vector<float> inv_freq;  // [rotary_dim / 2]
  float magnitude = 1.0f;       // multiplies cos and sin
};

struct RopeScaling {
  enum class Kind { kNone, kLinear, kYarn, kLongRope };
  Kind kind = Kind::kNone;
  float base = 10000.0f;
  int rotary_dim = 0;
  float factor = 1.0f;
  int64_t original_context = 0;
  float attention_factor = 0;  // 0: derived from `factor`
  float beta_fast = 32.0f;
  float beta_slow = 1.0f;
  // Per-frequency divisors: Llama 3's (rope_freqs.weight) or the chosen long-rope set; may be
  // empty.
  std::vector<float> factors;
};

/// Reads PREFIX.rope.* and the factor tensors. `context` chooses the long-rope set: long factors
/// are used when it exceeds the original context (0: the trained length).
Result<RopeScaling> ReadRopeScaling(const WeightSource& source, const std::string& prefix,
                                    int rotary_dim, int64_t context);

/// Linear: Chen et al. 2023; YaRN: Peng et al. 2023 ("YaRN: efficient context window extension of
/// large language models", section 3, with attention factor 0.1 ln(s) + 1); long-rope: Ding et al.
/// 2024; Llama 3's factors divide the frequency.
RopeFrequencies ComputeRopeFrequencies(const RopeScaling& scaling);

}  // namespace ink
