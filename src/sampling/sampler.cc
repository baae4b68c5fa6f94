#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/rng.h"

namespace ink {
namespace {

// What a draw is for; each purpose has its own stream, so none shifts another.
constexpr uint64_t kTokenDraw = 0;
constexpr uint64_t kXtcDraw = 1;

std::vector<TokenLogprob> Logprobs(Candidates& c, int32_t n, const LogNorm& norm) {
  std::vector<TokenLogprob> list;
  for (const Candidates::Scored& s : c.Top(n)) list.push_back({s.id, norm.Logprob(c.ToZ(s.logit))});
  return list;
}

}  // namespace

Result<Sampler> Sampler::Create(SamplingParams params, SamplerModel model,
                                std::span<const int32_t> prompt, uint64_t sample_index) {
  INK_RETURN_IF_ERROR(Validate(params, model.n_vocab));
  auto check_ids = [&](std::span<const int32_t> ids, const char* what) -> Status {
    for (int32_t id : ids) {
      if (id < 0 || id >= model.n_vocab) {
        return InvalidArgument(std::string(what) + ": expected token ids in [0, " +
                               std::to_string(model.n_vocab) + "), got " + std::to_string(id));
      }
    }
    return OkStatus();
  };
  INK_RETURN_IF_ERROR(check_ids(prompt, "prompt"));
  INK_RETURN_IF_ERROR(check_ids(model.end_token_ids, "end tokens"));
  Sampler s;
  s.stages_ = ActiveStages(params);
  bool dry = std::find(s.stages_.begin(), s.stages_.end(), SamplerStage::kDry) != s.stages_.end();
  if (dry && !params.dry_sequence_breakers.empty() && model.dry_breakers == nullptr) {
    return InvalidArgument(
        "dry_sequence_breakers: expected them resolved to tokens (SamplerModel::dry_breakers), "
        "got texts only");
  }
  s.penalties_ = PenaltyState(params, prompt);
  s.sample_index_ = sample_index;
  s.history_.assign(prompt.begin(), prompt.end());
  s.num_prompt_ = static_cast<int32_t>(prompt.size());
  if (params.mirostat == 2) s.mu_.push_back(2.0 * params.mirostat_tau);
  s.params_ = std::move(params);
  s.model_ = std::move(model);
  return s;
}

double Sampler::Uniform(uint64_t purpose) const {
  return RandomUniform(params_.seed, (sample_index_ << 1) | purpose,
                       static_cast<uint64_t>(position()));
}

bool Sampler::IsEndToken(int32_t token) const {
  return std::find(model_.end_token_ids.begin(), model_.end_token_ids.end(), token) !=
         model_.end_token_ids.end();
}

bool Sampler::EndBanned() const { return params_.ignore_eos || num_output() < params_.min_tokens; }

Status Sampler::CheckRow(std::span<const float> logits, std::span<const uint32_t> mask) const {
  if (static_cast<int64_t>(logits.size()) != model_.n_vocab) {
    return InvalidArgument("logits: expected " + std::to_string(model_.n_vocab) + " values, got " +
                           std::to_string(logits.size()));
  }
  const int64_t words = (int64_t{model_.n_vocab} + 31) / 32;
  if (!mask.empty() && static_cast<int64_t>(mask.size()) != words) {
    return InvalidArgument("token mask: expected " + std::to_string(words) +
                           " words of 32 bits, got " + std::to_string(mask.size()));
  }
  return OkStatus();
}

void Sampler::ApplyEditStage(SamplerStage stage, Candidates& c, bool ban_end) const {
  switch (stage) {
    case SamplerStage::kLogitBias:
      for (auto [id, bias] : params_.logit_bias) {
        if (std::isinf(bias)) {
          c.Ban(id);
        } else {
          c.Edit(id, [bias = bias](double z) { return z + static_cast<double>(bias); });
        }
      }
      break;
    case SamplerStage::kBadWords:
      for (const std::vector<int32_t>& word : params_.bad_words) {
        size_t before = word.size() - 1;
        if (before <= history_.size() &&
            std::equal(word.begin(), word.end() - 1,
                       history_.end() - static_cast<int64_t>(before))) {
          c.Ban(word.back());
        }
      }
      break;
    case SamplerStage::kMinTokens:
      if (!ban_end) break;
      for (int32_t id : model_.end_token_ids) c.Ban(id);
      if (num_output() < params_.min_tokens) {
        for (int32_t id : params_.stop_token_ids) c.Ban(id);
      }
      break;
    case SamplerStage::kPenalties: {
      // Both counts ascend by id: one walk edits each token once.
      auto repeated = penalties_.repetition().entries();
      auto counted = penalties_.frequency().entries();
      size_t i = 0;
      size_t j = 0;
      while (i < repeated.size() || j < counted.size()) {
        bool seen = i < repeated.size() && (j == counted.size() || repeated[i].id <= counted[j].id);
        bool has_count =
            j < counted.size() && (i == repeated.size() || counted[j].id <= repeated[i].id);
        int32_t id = seen ? repeated[i].id : counted[j].id;
        int32_t count = has_count ? counted[j].count : 0;
        c.Edit(id, [&](double z) { return PenalizedLogit(z, seen, count, params_); });
        i += seen ? 1 : 0;
        j += has_count ? 1 : 0;
      }
      break;
    }
    case SamplerStage::kDry:
      for (const DryPenalty& p : DryPenalties(history_, params_, model_.dry_breakers.get())) {
        c.Edit(p.id, [&](double z) { return z - static_cast<double>(p.penalty); });
      }
      break;
    default:
      INK_CHECK(false);
  }
  c.FinishEdits();
}

Status Sampler::RunChain(std::span<const uint32_t> mask, Candidates& c, bool* forced_end) const {
  *forced_end = false;
  if (!mask.empty()) c.ApplyMask(mask);
  if (c.empty()) {
    return InvalidArgument(
        mask.empty() ? "logits: expected a finite number among them, got -infinity only"
                     : "token mask: expected an allowed token with a finite logit, got none");
  }
  auto is_fixed = [](SamplerStage stage) { return stage <= SamplerStage::kMinTokens; };
  bool ban_end = EndBanned();
  for (int attempt = 0; attempt < 2; ++attempt) {
    for (SamplerStage stage : stages_) {
      if (is_fixed(stage)) ApplyEditStage(stage, c, ban_end);
    }
    if (!c.empty() || !ban_end || mask.empty()) break;
    // The mask leaves end tokens only: the text is complete, and min_tokens yields.
    ban_end = false;
    *forced_end = true;
    c.Reset();
    c.ApplyMask(mask);
  }
  if (c.empty()) {
    return InvalidArgument(
        "sampling: no token is left, since logit_bias, bad_words, min_tokens and ignore_eos ban "
        "all "
        "that the mask allows");
  }
  const int64_t min_keep = std::max<int64_t>(1, params_.min_keep);
  for (SamplerStage stage : stages_) {
    switch (stage) {
      case SamplerStage::kLogitBias:
      case SamplerStage::kBadWords:
      case SamplerStage::kMinTokens:
        break;
      case SamplerStage::kPenalties:
      case SamplerStage::kDry:
        ApplyEditStage(stage, c, ban_end);
        break;
      case SamplerStage::kTopNSigma:
        c.TopNSigma(params_.top_n_sigma);
        break;
      case SamplerStage::kTemperature:
        if (params_.dynatemp_range > 0) {
          c.DynamicTemperature(std::max(0.0, params_.temperature - params_.dynatemp_range),
                               params_.temperature + params_.dynatemp_range,
                               params_.dynatemp_exponent);
        } else {
          c.Temperature(params_.temperature);
        }
        break;
      case SamplerStage::kTopK:
        c.TopK(params_.top_k);
        break;
      case SamplerStage::kTopP:
        c.TopP(params_.top_p, min_keep);
        break;
      case SamplerStage::kMinP:
        c.MinP(params_.min_p, min_keep);
        break;
      case SamplerStage::kTypical:
        c.Typical(params_.typical_p, min_keep);
        break;
      case SamplerStage::kXtc:
        if (Uniform(kXtcDraw) < params_.xtc_probability) c.Xtc(params_.xtc_threshold, min_keep);
        break;
    }
  }
  if (params_.mirostat == 2 && !IsGreedy(params_)) c.SurpriseCeiling(mu_.back());
  return OkStatus();
}

Result<SampleResult> Sampler::Sample(std::span<const float> logits, std::span<const uint32_t> mask,
                                     SamplerScratch& scratch) const {
  INK_RETURN_IF_ERROR(CheckRow(logits, mask));
  Candidates c(scratch);
  INK_RETURN_IF_ERROR(c.Load(logits));
  SampleResult result;
  const bool raw = params_.logprobs >= 0 && params_.logprobs_mode == LogprobsMode::kRaw;
  LogNorm raw_norm;
  if (raw && !c.empty()) {
    raw_norm = c.Norm();
    result.top_logprobs = Logprobs(c, params_.logprobs, raw_norm);
  }
  INK_RETURN_IF_ERROR(RunChain(mask, c, &result.forced_end));
  result.token = IsGreedy(params_) ? c.ArgMax() : c.Draw(Uniform(kTokenDraw));

  const bool mirostat = params_.mirostat == 2 && !IsGreedy(params_);
  const bool processed = params_.logprobs >= 0 && !raw;
  if (mirostat || processed) {
    const LogNorm norm = c.Norm();
    double logprob = norm.Logprob(c.Z(result.token));
    if (mirostat) result.surprise = -logprob / std::log(2.0);
    if (processed) {
      result.logprob = logprob;
      result.top_logprobs = Logprobs(c, params_.logprobs, norm);
    }
  }
  if (raw) {
    result.logprob =
        raw_norm.Logprob(static_cast<double>(logits[static_cast<size_t>(result.token)]));
  }
  return result;
}

Result<std::vector<TokenProb>> Sampler::Distribution(std::span<const float> logits,
                                                     std::span<const uint32_t> mask,
                                                     SamplerScratch& scratch) const {
  INK_RETURN_IF_ERROR(CheckRow(logits, mask));
  Candidates c(scratch);
  INK_RETURN_IF_ERROR(c.Load(logits));
  bool forced_end;
  INK_RETURN_IF_ERROR(RunChain(mask, c, &forced_end));
  if (IsGreedy(params_)) c.KeepOnlyBest();
  std::vector<TokenProb> list;
  for (auto [id, p] : c.Probabilities()) list.push_back({id, p});
  return list;
}

Result<std::vector<TokenLogprob>> Sampler::BeamScores(std::span<const float> logits,
                                                      std::span<const uint32_t> mask, int32_t n,
                                                      SamplerScratch& scratch) const {
  INK_RETURN_IF_ERROR(CheckRow(logits, mask));
  Candidates c(scratch);
  INK_RETURN_IF_ERROR(c.Load(logits));
  if (c.empty()) return std::vector<TokenLogprob>();
  // The penalties act on log-probabilities here, which are never positive.
  const LogNorm norm = c.Norm();
  if (!mask.empty()) c.ApplyMask(mask);
  c.SetEditOffset(-(norm.z_max + norm.log_mass));
  for (SamplerStage stage : stages_) {
    if (stage <= SamplerStage::kDry) ApplyEditStage(stage, c, EndBanned());
  }
  return Logprobs(c, n, norm);
}

void Sampler::Accept(int32_t token) {
  INK_CHECK(token >= 0 && token < model_.n_vocab);
  history_.push_back(token);
  penalties_.Added(history_);
  if (!mu_.empty()) mu_.push_back(mu_.back());
}

void Sampler::Accept(const SampleResult& result) {
  Accept(result.token);
  if (result.forced_end) forced_end_at_ = position();
  if (!mu_.empty()) {
    mu_.back() -= params_.mirostat_eta * (result.surprise - params_.mirostat_tau);
  }
}

void Sampler::Rewind(int32_t n) {
  INK_CHECK(n >= 0 && n <= num_output());
  for (int32_t i = 0; i < n; ++i) {
    penalties_.Removing(history_);
    history_.pop_back();
    if (!mu_.empty()) mu_.pop_back();
  }
  if (forced_end_at_ > position()) forced_end_at_ = -1;
}

FinishReason Sampler::Finish() const {
  if (num_output() == 0) {
    return params_.max_tokens == 0 ? FinishReason::kLength : FinishReason::kNone;
  }
  if (forced_end_at_ == position()) return FinishReason::kEndToken;
  int32_t last = history_.back();
  if (num_output() > params_.min_tokens) {
    if (IsEndToken(last) && !params_.ignore_eos) return FinishReason::kEndToken;
    const auto& stops = params_.stop_token_ids;
    if (std::find(stops.begin(), stops.end(), last) != stops.end()) return FinishReason::kStopToken;
  }
  if (params_.max_tokens >= 0 && num_output() >= params_.max_tokens) return FinishReason::kLength;
  return FinishReason::kNone;
}

}  // namespace ink
