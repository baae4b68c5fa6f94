#include "engine/perplexity.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace ink {
namespace {

double NegativeLogProbability(std::span<const float> logits, int32_t token) {
  float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float l : logits) sum += std::exp(static_cast<double>(l - max));
  return std::log(sum) - (static_cast<double>(logits[token]) - max);
}

}  // namespace

double PerplexityResult::perplexity() const { return std::exp(nll / static_cast<double>(tokens)); }

double PerplexityResult::standard_error() const {
  if (tokens < 2) return 0;
  const double n = static_cast<double>(tokens);
  const double mean = nll / n;
  const double variance = std::max(0.0, nll_squares / n - mean * mean);
  return perplexity() * std::sqrt(variance / (n - 1));
}

Result<PerplexityResult> Perplexity(Engine& engine, std::span<const int32_t> tokens,
                                    const PerplexityOptions& options) {
  const int64_t total = static_cast<int64_t>(tokens.size());
  const Tokenizer& tokenizer = engine.tokenizer();
  const int64_t bos = tokenizer.add_bos() && tokenizer.bos_id() >= 0 ? 1 : 0;
  if (options.window < 4 || options.window > engine.config().context) {
    return InvalidArgument("--context: expected 4 to " + std::to_string(engine.config().context) +
                           " tokens, got " + std::to_string(options.window));
  }
  if (total < 2) {
    return InvalidArgument("text: expected at least 2 tokens, got " + std::to_string(total));
  }
  if (options.disjoint && total < options.window) {
    return InvalidArgument("text: expected at least one window of " +
                           std::to_string(options.window) + " tokens, got " +
                           std::to_string(total));
  }
  PerplexityResult result;
  Status failure;
  // Scores tokens [score, end) of a window whose text tokens are [start, end).
  auto run_window = [&](int64_t start, int64_t end, int64_t score, bool replace_first) -> Status {
    GenerationRequest request;
    if (bos) request.prompt.push_back(tokenizer.bos_id());
    int64_t first = start + (replace_first ? bos : 0);
    request.prompt.insert(request.prompt.end(), tokens.begin() + first, tokens.begin() + end);
    const int64_t offset = bos - first;  // text token i is at position i + offset
    request.sampling.max_tokens = 0;
    request.prompt_logits_from = score + offset - 1;
    request.prompt_logits = [&, offset, end](int64_t position, std::span<const float> logits) {
      const int64_t next = position + 1 - offset;
      if (next < score || next >= end) return;
      const double nll = NegativeLogProbability(logits, tokens[next]);
      result.nll += nll;
      result.nll_squares += nll * nll;
      ++result.tokens;
    };
    request.on_event = [&](const GenerationEvent& event) {
      if (!event.error.ok()) failure = event.error;
    };
    INK_RETURN_IF_ERROR(engine.Submit(std::move(request)).status());
    while (engine.Step()) {
    }
    if (options.progress) options.progress(end, total);
    return failure;
  };
  if (options.disjoint) {
    for (int64_t start = 0; start + options.window <= total; start += options.window) {
      INK_RETURN_IF_ERROR(run_window(start, start + options.window, start + options.window / 2 + 1,
                                     /*replace_first=*/true));
    }
  } else {
    const int64_t length = options.window - bos;  // text tokens per window
    int64_t scored = bos ? 0 : 1;
    for (int64_t start = 0; scored < total; start += options.window / 2) {
      int64_t end = std::min(total, start + length);
      INK_RETURN_IF_ERROR(run_window(start, end, scored, /*replace_first=*/false));
      scored = end;
    }
  }
  if (!std::isfinite(result.nll)) {
    return Corrupt("the model gives logits that are not numbers");
  }
  return result;
}

}  // namespace ink
