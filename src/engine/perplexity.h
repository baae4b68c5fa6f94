// How well a model predicts a text.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "base/status.h"
#include "engine/engine.h"

namespace ink {

struct PerplexityOptions {
  int64_t window = 512;
  /// llama.cpp's convention: windows side by side, only the second half of each is scored.
  bool disjoint = false;
  /// Called with tokens scored and in total.
  std::function<void(int64_t done, int64_t total)> progress;
};

struct PerplexityResult {
  double nll = 0;  // sum of -ln p
  double nll_squares = 0;
  int64_t tokens = 0;  // scored
  double perplexity() const;
  /// Standard error of the perplexity, by that of the mean negative log-likelihood.
  double standard_error() const;
};

/// Windows advance by half; each token is scored once: the first window whole, then second halves.
/// A window begins with the begin token where the vocabulary adds one; without, the text's first
/// token has nothing before it and is not scored. Errors: a text of fewer than two tokens, a window
/// that the engine's context does not hold.
Result<PerplexityResult> Perplexity(Engine& engine, std::span<const int32_t> tokens,
                                    const PerplexityOptions& options);

}  // namespace ink
