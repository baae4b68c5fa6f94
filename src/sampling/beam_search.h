// Beam search over host data: which beams go on with which tokens, and which texts are finished.
// The caller forks KV and samplers by the parents that Step() returns.
//
// Semantics of transformers' GenerationMixin._beam_search (4.50 and later, do_sample=False): a
// finished text scores sum(log-probabilities) / length^length_penalty, length counting the
// generated tokens with the end token; per step the best max(2, 1 + num_end_tokens) * width
// continuations are ranked, end tokens count among the first `width` of them only, and the others
// fill the live beams.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "sampling/sampler.h"

namespace ink {

enum class EarlyStopping {
  kFalse,  // stop when the best live beam, at its present length, cannot beat the worst finished
           // text
  kTrue,   // stop as soon as `width` texts are finished
  kNever,  // stop when no live beam can beat it at any length up to max_tokens
};

struct BeamParams {
  int32_t width = 4;            // [1, kMaxBeamWidth]
  double length_penalty = 1.0;  // finite; > 0 favours long texts
  EarlyStopping early_stopping = EarlyStopping::kFalse;
  int32_t max_tokens = 0;              // > 0; at this length live beams count as finished
  std::vector<int32_t> end_token_ids;  // at most kMaxBeamEndTokens; may be empty
};
inline constexpr int32_t kMaxBeamWidth = 1024;
inline constexpr size_t kMaxBeamEndTokens = 64;

struct Hypothesis {
  std::vector<int32_t> tokens;  // generated ones, the end token included
  double sum_logprob = 0.0;
  double score = 0.0;  // sum_logprob / length^length_penalty
  bool ended = false;  // by an end token; else by max_tokens
};

/// The next step's live beams: beam i continues beam parents[i] of this step with tokens[i].
struct BeamStep {
  std::vector<int32_t> parents;
  std::vector<int32_t> tokens;
  bool done = false;  // the search is over; parents and tokens are empty
};

class BeamSearch {
 public:
  static Result<BeamSearch> Create(BeamParams params);

  /// How many best tokens of each live beam Step() needs: fewer may change the result.
  int32_t num_candidates() const { return num_candidates_; }
  /// Live beams; 1 before the first step (all start from the same prompt).
  int32_t num_live() const { return static_cast<int32_t>(live_.size()); }
  bool done() const { return done_; }
  int32_t length() const { return length_; }

  /// `candidates` [num_live()]: of each live beam, its best tokens with log-probabilities, in any
  /// order (Sampler::BeamScores). Ties: the lower beam, then the lower id. Error: a NaN or
  /// +infinity, or a list count that is not num_live(). -infinity is a banned token.
  Result<BeamStep> Step(std::span<const std::vector<TokenLogprob>> candidates);

  /// The tokens of live beam i.
  std::vector<int32_t> LiveTokens(int32_t i) const;
  double LiveScore(int32_t i) const { return live_[i].sum; }

  /// The best `n` finished texts, best first, ties to the one finished earlier. Fewer where fewer
  /// finished. Before done(): what is finished so far.
  std::vector<Hypothesis> Best(int32_t n) const;

 private:
  struct Node {  // a token of a beam; beams share their beginnings
    int32_t parent = -1;
    int32_t token = -1;
  };
  struct Live {
    int32_t node = -1;
    double sum = 0.0;
  };
  explicit BeamSearch(BeamParams params);
  std::vector<int32_t> Tokens(int32_t node) const;
  bool IsEnd(int32_t token) const;
  double Score(double sum, int32_t length) const;
  void AddFinished(int32_t parent, int32_t token, double sum, bool ended);
  bool CanImprove() const;

  BeamParams params_;
  int32_t num_candidates_ = 0;
  std::vector<Node> nodes_;
  std::vector<Live> live_;
  std::vector<Hypothesis> finished_;  // at most width, best first
  int32_t length_ = 0;
  bool done_ = false;
};

}  // namespace ink
