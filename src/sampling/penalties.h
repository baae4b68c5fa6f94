// Token counts over a window of the history, for the repetition, frequency and presence penalties.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/params.h"

namespace ink {

/// A multiset of ids as (id, count) sorted by id: copying it, for a fork, is one block of memory.
class TokenCounts {
 public:
  struct Entry {
    int32_t id;
    int32_t count;
  };
  /// Counts `tokens` anew.
  void Assign(std::span<const int32_t> tokens);
  void Add(int32_t id);
  void Remove(int32_t id);
  int32_t Count(int32_t id) const;
  std::span<const Entry> entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
};

/// The counts that one sequence's penalties see, kept up to date with its history.
class PenaltyState {
 public:
  PenaltyState() = default;
  /// Counts nothing where `params` have no penalty on.
  PenaltyState(const SamplingParams& params, std::span<const int32_t> prompt);

  /// `history` ends with the token just added.
  void Added(std::span<const int32_t> history);
  /// `history` still ends with the token to take back.
  void Removing(std::span<const int32_t> history);

  /// The tokens that repetition_penalty sees.
  const TokenCounts& repetition() const { return repetition_; }
  /// The tokens that frequency_penalty and presence_penalty see.
  const TokenCounts& frequency() const { return frequency_; }

 private:
  bool track_repetition_ = false;
  bool track_frequency_ = false;
  int64_t repetition_start_ = 0;  // tokens before this index of the history are never counted
  int64_t frequency_start_ = 0;
  int64_t last_n_ = 0;
  TokenCounts repetition_;
  TokenCounts frequency_;
};

/// The penalties of `params` on one logit; `seen` and `count` from the two counts.
double PenalizedLogit(double logit, bool seen, int32_t count, const SamplingParams& params);

}  // namespace ink
