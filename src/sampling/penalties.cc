#include "sampling/penalties.h"

#include <algorithm>

#include "base/check.h"

namespace ink {
namespace {

auto Position(std::vector<TokenCounts::Entry>& entries, int32_t id) {
  return std::lower_bound(entries.begin(), entries.end(), id,
                          [](const TokenCounts::Entry& e, int32_t v) { return e.id < v; });
}

}  // namespace

void TokenCounts::Assign(std::span<const int32_t> tokens) {
  std::vector<int32_t> sorted(tokens.begin(), tokens.end());
  std::sort(sorted.begin(), sorted.end());
  entries_.clear();
  for (int32_t id : sorted) {
    if (entries_.empty() || entries_.back().id != id) entries_.push_back({id, 0});
    ++entries_.back().count;
  }
}

void TokenCounts::Add(int32_t id) {
  auto it = Position(entries_, id);
  if (it == entries_.end() || it->id != id) it = entries_.insert(it, {id, 0});
  ++it->count;
}

void TokenCounts::Remove(int32_t id) {
  auto it = Position(entries_, id);
  INK_CHECK(it != entries_.end() && it->id == id);
  if (--it->count == 0) entries_.erase(it);
}

int32_t TokenCounts::Count(int32_t id) const {
  auto it = std::lower_bound(entries_.begin(), entries_.end(), id,
                             [](const Entry& e, int32_t v) { return e.id < v; });
  return it != entries_.end() && it->id == id ? it->count : 0;
}

PenaltyState::PenaltyState(const SamplingParams& params, std::span<const int32_t> prompt) {
  const auto size = static_cast<int64_t>(prompt.size());
  last_n_ = params.penalty_last_n < 0 ? INT64_MAX : params.penalty_last_n;
  track_repetition_ = last_n_ > 0 && params.repetition_penalty != 1.0;
  track_frequency_ =
      last_n_ > 0 && (params.frequency_penalty != 0.0 || params.presence_penalty != 0.0);
  frequency_start_ = params.preset == ChainPreset::kLlamaCpp ? 0 : size;
  auto window = [&](int64_t start) {
    int64_t begin = std::max(start, size - std::min(size, last_n_));
    return prompt.subspan(static_cast<size_t>(begin));
  };
  if (track_repetition_) repetition_.Assign(window(repetition_start_));
  if (track_frequency_) frequency_.Assign(window(frequency_start_));
}

void PenaltyState::Added(std::span<const int32_t> history) {
  const auto size = static_cast<int64_t>(history.size());
  auto add = [&](TokenCounts& counts, int64_t start) {
    counts.Add(history.back());
    int64_t leaving = last_n_ < size ? size - 1 - last_n_ : -1;
    if (leaving >= start) counts.Remove(history[static_cast<size_t>(leaving)]);
  };
  if (track_repetition_) add(repetition_, repetition_start_);
  if (track_frequency_) add(frequency_, frequency_start_);
}

void PenaltyState::Removing(std::span<const int32_t> history) {
  const auto size = static_cast<int64_t>(history.size());
  auto remove = [&](TokenCounts& counts, int64_t start) {
    int64_t returning = last_n_ < size ? size - 1 - last_n_ : -1;
    if (returning >= start) counts.Add(history[static_cast<size_t>(returning)]);
    counts.Remove(history.back());
  };
  if (track_repetition_) remove(repetition_, repetition_start_);
  if (track_frequency_) remove(frequency_, frequency_start_);
}

double PenalizedLogit(double logit, bool seen, int32_t count, const SamplingParams& params) {
  if (seen) {
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
  }
  if (count > 0) logit -= params.frequency_penalty * count + params.presence_penalty;
  return logit;
}

}  // namespace ink
