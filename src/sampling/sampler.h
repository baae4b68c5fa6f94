// Chooses one token from one row of logits. Pure host code; the only state is the sequence's
// history.
//
// A result depends on (params, sample index, history, logits, mask) alone: not on the batch, on
// other draws or on the call before. Speculative verification is therefore plain decoding: Sample a
// row, Accept the result, and go on to the next row while it equals the draft's token.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "sampling/candidates.h"
#include "sampling/dry.h"
#include "sampling/params.h"
#include "sampling/penalties.h"

namespace ink {

struct TokenLogprob {
  int32_t id = -1;
  double logprob = 0.0;  // natural logarithm
  bool operator==(const TokenLogprob&) const = default;
};

struct TokenProb {
  int32_t id = -1;
  double p = 0.0;
};

struct SampleResult {
  int32_t token = -1;
  // Of `token`, by params.logprobs_mode; NaN where params.logprobs < 0.
  double logprob = std::numeric_limits<double>::quiet_NaN();
  // The params.logprobs most probable tokens, most probable first, ties to the lower id. Fewer
  // where fewer tokens have a probability above zero.
  std::vector<TokenLogprob> top_logprobs;
  // Mirostat: -log2 of the token's probability among the candidates; Accept() learns from it.
  double surprise = 0.0;
  // True where only end tokens were allowed by the mask though min_tokens or ignore_eos banned
  // them: the end is then chosen, since a text that the constraint has completed cannot go on.
  bool forced_end = false;
};

enum class FinishReason { kNone, kEndToken, kStopToken, kStopString, kLength };

/// Facts about the model that the parameters refer to.
struct SamplerModel {
  int32_t n_vocab = 0;
  std::vector<int32_t> end_token_ids;  // the model's end-of-generation tokens
  // params.dry_sequence_breakers as tokens (ResolveDryBreakers); needed where DRY is on and the
  // list of breakers is not empty. Shared by all sequences with the same list.
  std::shared_ptr<const DryBreakers> dry_breakers;
};

/// One sequence's sampler. Copying it forks the sequence.
class Sampler {
 public:
  /// Validates `params`. `prompt`: ids in [0, n_vocab). `sample_index` tells the n choices of one
  /// request apart.
  static Result<Sampler> Create(SamplingParams params, SamplerModel model,
                                std::span<const int32_t> prompt, uint64_t sample_index = 0);

  /// `logits`: [n_vocab] float32. `mask`: empty, or [ceil(n_vocab / 32)] words, bit t % 32 of word
  /// t / 32 set where token t is allowed; it applies before every stage. Errors: a NaN or +infinity
  /// (names the first index), sizes that differ from n_vocab, no token left. Does not change the
  /// sampler; `scratch` may be shared by all samplers of a thread.
  Result<SampleResult> Sample(std::span<const float> logits, std::span<const uint32_t> mask,
                              SamplerScratch& scratch) const;

  /// The distribution that Sample() draws from at this position, ids ascending, probabilities above
  /// zero in double; they sum to 1. The XTC draw of this position has been made.
  Result<std::vector<TokenProb>> Distribution(std::span<const float> logits,
                                              std::span<const uint32_t> mask,
                                              SamplerScratch& scratch) const;

  /// For beam search: the `n` best tokens by log-softmax of the logits, then the edits (bias, bad
  /// words, min tokens, penalties, DRY) and the mask, without renormalizing, as transformers'
  /// GenerationMixin._beam_search does. Best first, ties to the lower id; banned tokens are left
  /// out.
  Result<std::vector<TokenLogprob>> BeamScores(std::span<const float> logits,
                                               std::span<const uint32_t> mask, int32_t n,
                                               SamplerScratch& scratch) const;

  /// Appends a sampled token (and lets mirostat learn), or a token from elsewhere.
  void Accept(const SampleResult& result);
  void Accept(int32_t token);
  /// Takes back the last `n` accepted tokens, n <= num_output(). The state is exactly as before
  /// them.
  void Rewind(int32_t n);

  /// What the tokens accepted so far say: an end or stop token last (min_tokens respected), or
  /// max_tokens reached. Stop strings are StopChecker's.
  FinishReason Finish() const;
  /// Whether stop strings count in the text of the token just accepted: not in the first
  /// min_tokens.
  bool StopsArmed() const { return num_output() > params_.min_tokens; }

  const SamplingParams& params() const { return params_; }
  int32_t num_prompt() const { return num_prompt_; }
  int32_t num_output() const { return static_cast<int32_t>(history_.size()) - num_prompt_; }
  /// The position of the next token, which is the counter of its draw: prompt and output tokens.
  int64_t position() const { return static_cast<int64_t>(history_.size()); }
  /// Prompt, then accepted tokens.
  std::span<const int32_t> history() const { return history_; }

 private:
  Sampler() = default;
  bool IsEndToken(int32_t token) const;
  bool EndBanned() const;
  Status CheckRow(std::span<const float> logits, std::span<const uint32_t> mask) const;
  void ApplyEdits(Candidates& c, bool ban_end) const;
  void ApplyEditStage(SamplerStage stage, Candidates& c, bool ban_end) const;
  /// Runs mask and all stages; `forced_end` as in SampleResult.
  Status RunChain(std::span<const uint32_t> mask, Candidates& c, bool* forced_end) const;
  double Uniform(uint64_t purpose) const;

  SamplingParams params_;
  SamplerModel model_;
  std::vector<SamplerStage> stages_;
  uint64_t sample_index_ = 0;
  std::vector<int32_t> history_;
  int32_t num_prompt_ = 0;
  PenaltyState penalties_;
  std::vector<double> mu_;      // mirostat's mu before each output token, the current one last
  int64_t forced_end_at_ = -1;  // position() just after a token with forced_end
};

}  // namespace ink
