// DRY: a penalty that grows with the length of the repeat that a token would continue. Definition
// of llama.cpp's llama_sampler_dry (after KoboldCpp, after p-e-w's proposal in
// text-generation-webui).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sampling/params.h"

namespace ink {

/// Sequence breakers as tokens: a head token and the tokens that must follow it. No tail: the token
/// alone is a breaker.
class DryBreakers {
 public:
  /// A tail longer than kMaxTail is cut to it (the definition's own bound).
  void Add(int32_t head, std::vector<int32_t> tail);
  /// The tails of `head`; empty where it is no head.
  std::span<const std::vector<int32_t>> Tails(int32_t head) const;
  bool IsSingleToken(int32_t token) const;
  bool empty() const { return tails_.empty(); }
  static constexpr size_t kMaxTail = 20;

 private:
  std::unordered_map<int32_t, std::vector<std::vector<int32_t>>> tails_;
};

/// Finds every token that contains a breaker, or whose end begins one (then the tail is the rest of
/// the breaker, tokenized). `piece`: a token's bytes. `tokenize`: text to ids, without specials.
/// Reads the whole vocabulary once per breaker: share the result between requests.
DryBreakers ResolveDryBreakers(
    std::span<const std::string> breakers, int32_t n_vocab,
    const std::function<std::string(int32_t)>& piece,
    const std::function<std::vector<int32_t>(std::string_view)>& tokenize);

struct DryPenalty {
  int32_t id;
  float penalty;  // to subtract from the logit
};

/// The penalties after `history`, ids ascending. Time linear in the window; `breakers` may be null.
std::vector<DryPenalty> DryPenalties(std::span<const int32_t> history, const SamplingParams& params,
                                     const DryBreakers* breakers);

}  // namespace ink
