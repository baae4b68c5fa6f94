#include "sampling/dry.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <map>

namespace ink {
namespace {

// The number of tokens at the end of `window` over which repeats may be followed: up to the last
// sequence breaker, whose own tokens do not count.
int64_t RepeatLimit(std::span<const int32_t> window, const DryBreakers* breakers) {
  const auto size = static_cast<int64_t>(window.size());
  if (breakers == nullptr || breakers->empty()) return size;
  for (int64_t after = 0; after < size; ++after) {  // tokens behind the head
    auto head = window.begin() + (size - 1 - after);
    int64_t longest = -1;
    for (const std::vector<int32_t>& tail : breakers->Tails(*head)) {
      const auto length = static_cast<int64_t>(tail.size());
      if (length > longest && length <= after && std::equal(tail.begin(), tail.end(), head + 1)) {
        longest = length;
      }
    }
    if (longest >= 0) return after - longest;
  }
  return size;
}

// z[k]: how many tokens at the end of window[.. size - k] equal those at the end of the window
// (the Z function of the reversed window).
std::vector<int32_t> SuffixMatches(std::span<const int32_t> window) {
  const auto size = static_cast<int32_t>(window.size());
  auto at = [&](int32_t i) { return window[static_cast<size_t>(size - 1 - i)]; };
  std::vector<int32_t> z(static_cast<size_t>(size), 0);
  int32_t left = 0;
  int32_t right = 0;  // [left, right) is the match that reaches furthest
  for (int32_t k = 1; k < size; ++k) {
    int32_t n = k < right ? std::min(right - k, z[static_cast<size_t>(k - left)]) : 0;
    while (k + n < size && at(n) == at(k + n)) ++n;
    z[static_cast<size_t>(k)] = n;
    if (k + n > right) {
      left = k;
      right = k + n;
    }
  }
  return z;
}

}  // namespace

void DryBreakers::Add(int32_t head, std::vector<int32_t> tail) {
  if (tail.size() > kMaxTail) tail.resize(kMaxTail);
  auto& tails = tails_[head];
  if (std::find(tails.begin(), tails.end(), tail) == tails.end()) tails.push_back(std::move(tail));
}

std::span<const std::vector<int32_t>> DryBreakers::Tails(int32_t head) const {
  auto it = tails_.find(head);
  if (it == tails_.end()) return {};
  return it->second;
}

bool DryBreakers::IsSingleToken(int32_t token) const {
  for (const auto& tail : Tails(token)) {
    if (tail.empty()) return true;
  }
  return false;
}

DryBreakers ResolveDryBreakers(
    std::span<const std::string> breakers, int32_t n_vocab,
    const std::function<std::string(int32_t)>& piece,
    const std::function<std::vector<int32_t>(std::string_view)>& tokenize) {
  DryBreakers resolved;
  for (int32_t id = 0; id < n_vocab; ++id) {
    const std::string word = piece(id);
    for (const std::string& breaker : breakers) {
      if (breaker.empty()) continue;
      if (word.find(breaker) != std::string::npos) {
        resolved.Add(id, {});
        continue;
      }
      // Every way in which the word's end is the breaker's beginning.
      for (size_t length = 1; length < breaker.size() && length <= word.size(); ++length) {
        if (std::string_view(word).substr(word.size() - length) ==
            std::string_view(breaker).substr(0, length)) {
          resolved.Add(id, tokenize(std::string_view(breaker).substr(length)));
        }
      }
    }
  }
  return resolved;
}

std::vector<DryPenalty> DryPenalties(std::span<const int32_t> history, const SamplingParams& params,
                                     const DryBreakers* breakers) {
  if (params.dry_multiplier == 0.0 || params.dry_penalty_last_n == 0) return {};
  std::span<const int32_t> window = history;
  if (params.dry_penalty_last_n > 0) {
    auto last_n = static_cast<size_t>(params.dry_penalty_last_n);
    window = history.last(std::min(history.size(), last_n));
  }
  const int32_t allowed = params.dry_allowed_length;
  if (static_cast<int64_t>(window.size()) <= allowed) return {};
  const int64_t limit = RepeatLimit(window, breakers);
  if (limit < allowed) return {};

  const std::vector<int32_t> matches = SuffixMatches(window);
  std::map<int32_t, int64_t> longest;  // by the token that would continue the repeat
  for (size_t k = 1; k < window.size(); ++k) {
    int64_t repeat = std::min<int64_t>(matches[k], limit);
    if (repeat < allowed) continue;
    int64_t& best = longest[window[window.size() - k]];
    best = std::max(best, repeat);
  }
  std::vector<DryPenalty> penalties;
  for (auto [id, repeat] : longest) {
    if (breakers != nullptr && breakers->IsSingleToken(id)) continue;
    double penalty =
        params.dry_multiplier * std::pow(params.dry_base, static_cast<double>(repeat - allowed));
    penalties.push_back({id, static_cast<float>(std::min(penalty, double{FLT_MAX}))});
  }
  return penalties;
}

}  // namespace ink
