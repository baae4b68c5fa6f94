#include "sampling/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "base/check.h"

namespace ink {

Result<BeamSearch> BeamSearch::Create(BeamParams params) {
  if (params.width < 1 || params.width > kMaxBeamWidth) {
    return InvalidArgument("beam width: expected an integer in [1, " +
                           std::to_string(kMaxBeamWidth) + "], got " +
                           std::to_string(params.width));
  }
  if (!std::isfinite(params.length_penalty)) {
    return InvalidArgument("beam length penalty: expected a finite number, got " +
                           std::to_string(params.length_penalty));
  }
  if (params.max_tokens < 1) {
    return InvalidArgument("beam max_tokens: expected at least 1, got " +
                           std::to_string(params.max_tokens));
  }
  if (params.end_token_ids.size() > kMaxBeamEndTokens) {
    return InvalidArgument("beam end tokens: expected at most " +
                           std::to_string(kMaxBeamEndTokens) + ", got " +
                           std::to_string(params.end_token_ids.size()));
  }
  return BeamSearch(std::move(params));
}

BeamSearch::BeamSearch(BeamParams params) : params_(std::move(params)), live_(1) {
  auto ends = static_cast<int32_t>(params_.end_token_ids.size());
  num_candidates_ = std::max(2, 1 + ends) * params_.width;
}

bool BeamSearch::IsEnd(int32_t token) const {
  return std::find(params_.end_token_ids.begin(), params_.end_token_ids.end(), token) !=
         params_.end_token_ids.end();
}

double BeamSearch::Score(double sum, int32_t length) const {
  return sum / std::pow(static_cast<double>(length), params_.length_penalty);
}

std::vector<int32_t> BeamSearch::Tokens(int32_t node) const {
  std::vector<int32_t> tokens;
  for (; node >= 0; node = nodes_[static_cast<size_t>(node)].parent) {
    tokens.push_back(nodes_[static_cast<size_t>(node)].token);
  }
  std::reverse(tokens.begin(), tokens.end());
  return tokens;
}

std::vector<int32_t> BeamSearch::LiveTokens(int32_t i) const {
  INK_CHECK(i >= 0 && i < num_live());
  return Tokens(live_[static_cast<size_t>(i)].node);
}

void BeamSearch::AddFinished(int32_t parent, int32_t token, double sum, bool ended) {
  const auto width = static_cast<size_t>(params_.width);
  Hypothesis h;
  h.sum_logprob = sum;
  h.score = Score(sum, length_);
  h.ended = ended;
  if (finished_.size() == width && !(h.score > finished_.back().score)) return;
  h.tokens = Tokens(parent);
  h.tokens.push_back(token);
  auto place = std::upper_bound(finished_.begin(), finished_.end(), h.score,
                                [](double score, const Hypothesis& f) { return score > f.score; });
  finished_.insert(place, std::move(h));
  if (finished_.size() > width) finished_.pop_back();
}

bool BeamSearch::CanImprove() const {
  if (finished_.size() < static_cast<size_t>(params_.width)) return true;
  if (params_.early_stopping == EarlyStopping::kTrue) return false;
  // Sums only fall. With a penalty above zero the longest text dilutes the sum most.
  bool any_length = params_.early_stopping == EarlyStopping::kNever && params_.length_penalty > 0.0;
  int32_t length = any_length ? params_.max_tokens : length_;
  return Score(live_.front().sum, length) > finished_.back().score;
}

Result<BeamStep> BeamSearch::Step(std::span<const std::vector<TokenLogprob>> candidates) {
  INK_CHECK(!done_);
  if (candidates.size() != live_.size()) {
    return InvalidArgument("beam step: expected candidates of " + std::to_string(live_.size()) +
                           " live beams, got " + std::to_string(candidates.size()));
  }
  struct Continuation {
    double sum;
    int32_t beam;
    int32_t token;
  };
  std::vector<Continuation> ranked;
  for (size_t b = 0; b < candidates.size(); ++b) {
    for (const TokenLogprob& c : candidates[b]) {
      if (std::isnan(c.logprob) || c.logprob == std::numeric_limits<double>::infinity()) {
        return InvalidArgument("beam step: beam " + std::to_string(b) + ", token " +
                               std::to_string(c.id) + ": expected a log-probability, got " +
                               std::to_string(c.logprob));
      }
      if (std::isinf(c.logprob)) continue;
      ranked.push_back({live_[b].sum + c.logprob, static_cast<int32_t>(b), c.id});
    }
  }
  const size_t keep = std::min(ranked.size(), static_cast<size_t>(num_candidates_));
  std::partial_sort(ranked.begin(), ranked.begin() + static_cast<int64_t>(keep), ranked.end(),
                    [](const Continuation& a, const Continuation& b) {
                      if (a.sum != b.sum) return a.sum > b.sum;
                      return a.beam != b.beam ? a.beam < b.beam : a.token < b.token;
                    });
  ranked.resize(keep);

  ++length_;
  const bool last_step = length_ >= params_.max_tokens;
  const auto width = static_cast<size_t>(params_.width);
  std::vector<Live> next;
  BeamStep step;
  for (size_t rank = 0; rank < ranked.size(); ++rank) {
    const Continuation& c = ranked[rank];
    const int32_t parent = live_[static_cast<size_t>(c.beam)].node;
    if (const bool ended = IsEnd(c.token); ended || last_step) {
      if (rank < width) AddFinished(parent, c.token, c.sum, ended);
    } else if (next.size() < width) {
      next.push_back({static_cast<int32_t>(nodes_.size()), c.sum});
      nodes_.push_back({parent, c.token});
      step.parents.push_back(c.beam);
      step.tokens.push_back(c.token);
    }
  }
  live_ = std::move(next);
  // Without live beams nothing can follow; the texts finished so far are the result.
  done_ = live_.empty() || !CanImprove();
  if (done_) {
    live_.clear();
    step = BeamStep{};
    step.done = true;
  }
  return step;
}

std::vector<Hypothesis> BeamSearch::Best(int32_t n) const {
  auto count = std::min(finished_.size(), static_cast<size_t>(std::max(n, 0)));
  return {finished_.begin(), finished_.begin() + static_cast<int64_t>(count)};
}

}  // namespace ink
