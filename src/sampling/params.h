// What a request may say about sampling: every knob, its meaning, range and default; the checks;
// and the chain of stages that they amount to.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ink {

/// A step that edits logits or removes candidates. The first three always run first, in this order,
/// and cannot be listed in SamplingParams::chain: they are promises, not taste.
enum class SamplerStage {
  kLogitBias,
  kBadWords,
  kMinTokens,  // also bans the end tokens for ignore_eos
  kPenalties,
  kDry,
  kTopNSigma,
  kTemperature,  // dynamic temperature included
  kTopK,
  kTopP,
  kMinP,
  kTypical,
  kXtc,
};

/// The order of the stages after the first three, and whose definition of the presence and
/// frequency penalties applies where the peers differ.
enum class ChainPreset {
  // penalties, dry, top_n_sigma, temperature, top_k, top_p, min_p, typical, xtc.
  // top_p counts the probability that top_k left. Penalties as in vLLM: repetition over prompt and
  // output, frequency and presence over the output.
  kDefault,
  // llama.cpp's order (common/common.h, common_params_sampling::samplers), temperature LAST:
  // penalties, dry, top_n_sigma, top_k, typical, top_p, min_p, xtc, temperature.
  // All three penalties count prompt and output.
  kLlamaCpp,
  // transformers' order (GenerationMixin._get_logits_processor): penalties, dry, temperature,
  // top_k,
  // top_p, min_p, typical; then what transformers lacks: top_n_sigma, xtc. Penalties as kDefault.
  kHf,
};

enum class LogprobsMode {
  kRaw,        // log-softmax of the model's logits, before any stage and mask
  kProcessed,  // log-softmax of what the token was drawn from: after mask, stages and temperature
};

/// Plain data. Defaults change nothing about the model's distribution. Validate() checks it.
struct SamplingParams {
  // --- The draw ---
  // Divides logits. 0 (and anything below kGreedyTemperature) is greedy: the largest logit after
  // the edits, ties to the lowest id, whatever the seed; stages that only remove candidates are
  // then left out. Range: finite, >= 0. Default 1.
  double temperature = 1.0;
  // Half the width of the dynamic temperature's range: the temperature is
  // lo + (hi - lo) * (entropy / log(candidates))^dynatemp_exponent with lo = max(0, temperature -
  // range), hi = temperature + range. Range: finite, >= 0; needs temperature > 0. Default 0, off.
  double dynatemp_range = 0.0;
  // Range: finite, > 0. Default 1.
  double dynatemp_exponent = 1.0;
  // Key of the counter-based draws: a draw depends on (seed, sample index, position) alone. The
  // caller picks one where the user gave none, and reports it.
  uint64_t seed = 0;

  // --- Stages that remove candidates. A candidate is removed for good; ties go to the lower id ---
  // Keep the k largest logits. Range: >= 0. Default 0, off.
  int32_t top_k = 0;
  // Keep the smallest set of most probable candidates whose probability, among the candidates still
  // there, reaches top_p; at least one. Range: [0, 1]. Default 1, off.
  double top_p = 1.0;
  // Keep candidates with p >= min_p * p_max. Range: [0, 1]. Default 0, off.
  double min_p = 0.0;
  // Locally typical sampling (Meister et al. 2022): keep the smallest set of candidates, those
  // whose surprise is nearest to the entropy first, that reaches this probability. Range: (0, 1].
  // Default 1, off.
  double typical_p = 1.0;
  // Keep logits >= max - n * sigma, sigma being the standard deviation of the candidates' logits
  // (Tang et al. 2024, "Top-n-sigma"). Range: finite, >= 0. Default 0, off.
  double top_n_sigma = 0.0;
  // XTC ("exclude top choices"): with this probability per token, drop every candidate with
  // p >= xtc_threshold but the least probable of them. Range: [0, 1]. Default 0, off.
  double xtc_probability = 0.0;
  // Range: [0, 1]; above 0.5 nothing can be dropped. Default 0.1.
  double xtc_threshold = 0.1;
  // top_p, min_p, typical and xtc leave at least this many candidates (as far as there are any).
  // Range: >= 0. Default 0, which means one.
  int32_t min_keep = 0;
  // Mirostat version: 0 off, 2 (Basu et al. 2021, Algorithm 2 with a surprise ceiling mu). Replaces
  // the stages that remove candidates, so Validate() refuses it together with them.
  int32_t mirostat = 0;
  // Target surprise in bits. Range: finite, >= 0. Default 5.
  double mirostat_tau = 5.0;
  // Learning rate of mu. Range: finite, >= 0. Default 0.1.
  double mirostat_eta = 0.1;

  // --- Stages that edit logits ---
  // Of a token seen: logit / penalty if the logit is positive, else logit * penalty (Keskar et al.
  // 2019, as corrected by transformers' RepetitionPenaltyLogitsProcessor). Range: [1e-3, 1e3].
  // Default 1, off.
  double repetition_penalty = 1.0;
  // logit -= frequency_penalty * count + presence_penalty * (count > 0) (OpenAI's definition).
  // Range: finite. Default 0, off.
  double frequency_penalty = 0.0;
  double presence_penalty = 0.0;
  // How many of the last tokens the three penalties see. Range: >= -1; -1 is all of them, 0 none.
  // Default -1.
  int32_t penalty_last_n = -1;
  // DRY ("don't repeat yourself", p-e-w; llama.cpp's llama_sampler_dry): a token that would extend
  // a repeat of n >= allowed_length tokens loses multiplier * base^(n - allowed_length). Range:
  // finite, >= 0. Default 0, off.
  double dry_multiplier = 0.0;
  // Range: finite, >= 1. Default 1.75.
  double dry_base = 1.75;
  // Range: >= 0. Default 2.
  int32_t dry_allowed_length = 2;
  // Range: >= -1; -1 is the whole sequence, 0 off. Default 64.
  int32_t dry_penalty_last_n = 64;
  // Texts over which no repeat is followed. At most kMaxDryBreakers of at most kMaxDryBreakerBytes.
  std::vector<std::string> dry_sequence_breakers = {"\n", ":", "\"", "*"};
  // Added to the logit of an id; -infinity bans it. Ids in [0, n_vocab), values not NaN or +inf.
  std::map<int32_t, float> logit_bias;
  // Token sequences that must not come to be: the last token of one is banned whenever the tokens
  // before it are the end of the sequence (prompt included). At most kMaxBadWords of at most
  // kMaxBadWordTokens.
  std::vector<std::vector<int32_t>> bad_words;

  // --- Where to stop ---
  // No end token and no stop string counts before this many output tokens; end tokens are banned
  // until then. Range: >= 0. Default 0.
  int32_t min_tokens = 0;
  // Output tokens at most. Range: >= -1; -1 leaves it to the context. Default -1.
  int32_t max_tokens = -1;
  // Ban the model's end tokens; generation ends by stop tokens, stop strings or length.
  bool ignore_eos = false;
  // Ids that end generation like an end token. In [0, n_vocab).
  std::vector<int32_t> stop_token_ids;
  // Texts that end generation. Not empty, at most kMaxStopStrings of at most kMaxStopBytes.
  std::vector<std::string> stop;
  // Whether the text keeps the stop string that ended it. Default false.
  bool include_stop = false;

  // --- What to report ---
  // -1: no log-probabilities; 0: the chosen token's; N: also those of the N most probable tokens.
  // Range: [-1, n_vocab]. Default -1.
  int32_t logprobs = -1;
  LogprobsMode logprobs_mode = LogprobsMode::kRaw;

  // --- The chain ---
  ChainPreset preset = ChainPreset::kDefault;
  // Replaces the preset's order where not empty. Each stage at most once; a stage that the values
  // above turn on must be listed.
  std::vector<SamplerStage> chain;
};

/// Temperatures below this are greedy (vLLM's _SAMPLING_EPS): dividing by them overflows.
inline constexpr double kGreedyTemperature = 1e-5;
inline constexpr size_t kMaxDryBreakers = 64;
inline constexpr size_t kMaxDryBreakerBytes = 40;  // as llama.cpp, which truncates silently
inline constexpr size_t kMaxBadWords = 16384;
inline constexpr size_t kMaxBadWordTokens = 256;
inline constexpr size_t kMaxStopStrings = 256;
inline constexpr size_t kMaxStopBytes = 4096;

inline bool IsGreedy(const SamplingParams& p) { return p.temperature < kGreedyTemperature; }

/// OK, or a sentence naming the first field out of range, its value and what is allowed.
Status Validate(const SamplingParams& params, int32_t n_vocab);

/// "logit_bias", "bad_words", "min_tokens", "penalties", "dry", "top_n_sigma", "temperature",
/// "top_k", "top_p", "min_p", "typical", "xtc".
std::string_view SamplerStageName(SamplerStage stage);
Result<SamplerStage> ParseSamplerStage(std::string_view name);
/// "default", "llamacpp", "hf".
std::string_view ChainPresetName(ChainPreset preset);
Result<ChainPreset> ParseChainPreset(std::string_view name);

/// The stages of a preset in order, active or not, without the three that always come first.
std::vector<SamplerStage> PresetStages(ChainPreset preset);

/// The stages that `params` turn on, in the order in which they run, the fixed ones first.
std::vector<SamplerStage> ActiveStages(const SamplingParams& params);

/// The same as a JSON list for `--json` and responses, the draw at its end:
/// [{"stage":"top_k","k":40}, {"stage":"temperature","temperature":0.8},
/// {"stage":"draw","seed":1}]; the last is {"stage":"greedy"} or {"stage":"mirostat",...} where
/// those apply.
nlohmann::ordered_json ChainToJson(const SamplingParams& params);

}  // namespace ink
