#include "sampling/params.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace ink {
namespace {

constexpr std::array<std::pair<SamplerStage, std::string_view>, 12> kStageNames = {{
    {SamplerStage::kLogitBias, "logit_bias"},
    {SamplerStage::kBadWords, "bad_words"},
    {SamplerStage::kMinTokens, "min_tokens"},
    {SamplerStage::kPenalties, "penalties"},
    {SamplerStage::kDry, "dry"},
    {SamplerStage::kTopNSigma, "top_n_sigma"},
    {SamplerStage::kTemperature, "temperature"},
    {SamplerStage::kTopK, "top_k"},
    {SamplerStage::kTopP, "top_p"},
    {SamplerStage::kMinP, "min_p"},
    {SamplerStage::kTypical, "typical"},
    {SamplerStage::kXtc, "xtc"},
}};

constexpr std::array<std::pair<ChainPreset, std::string_view>, 3> kPresetNames = {{
    {ChainPreset::kDefault, "default"},
    {ChainPreset::kLlamaCpp, "llamacpp"},
    {ChainPreset::kHf, "hf"},
}};

// exp((x - max) / T) stays a number for every float x up to here.
constexpr double kMaxTemperature = 1e6;

std::string Number(double v) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.9g", v);
  return text;
}

bool IsFixedStage(SamplerStage stage) {
  return stage == SamplerStage::kLogitBias || stage == SamplerStage::kBadWords ||
         stage == SamplerStage::kMinTokens;
}

bool OnlyRemoves(SamplerStage stage) {
  return stage == SamplerStage::kTopNSigma || stage == SamplerStage::kTopK ||
         stage == SamplerStage::kTopP || stage == SamplerStage::kMinP ||
         stage == SamplerStage::kTypical || stage == SamplerStage::kXtc;
}

// Whether the values turn the stage on, whatever the chain.
bool TurnedOn(const SamplingParams& p, SamplerStage stage) {
  switch (stage) {
    case SamplerStage::kLogitBias:
      return !p.logit_bias.empty();
    case SamplerStage::kBadWords:
      return !p.bad_words.empty();
    case SamplerStage::kMinTokens:
      return p.min_tokens > 0 || p.ignore_eos;
    case SamplerStage::kPenalties:
      return p.penalty_last_n != 0 && (p.repetition_penalty != 1.0 || p.frequency_penalty != 0.0 ||
                                       p.presence_penalty != 0.0);
    case SamplerStage::kDry:
      return p.dry_multiplier != 0.0 && p.dry_penalty_last_n != 0;
    case SamplerStage::kTopNSigma:
      return p.top_n_sigma > 0.0;
    case SamplerStage::kTemperature:
      return p.temperature != 1.0 || p.dynatemp_range > 0.0;
    case SamplerStage::kTopK:
      return p.top_k > 0;
    case SamplerStage::kTopP:
      return p.top_p < 1.0;
    case SamplerStage::kMinP:
      return p.min_p > 0.0;
    case SamplerStage::kTypical:
      return p.typical_p < 1.0;
    case SamplerStage::kXtc:
      return p.xtc_probability > 0.0 && p.xtc_threshold <= 0.5;
  }
  return false;
}

// Checks of one number: finite and in [low, high], or in (low, high] where `open`.
Status CheckNumber(std::string_view field, double v, double low, double high, bool open = false) {
  if (std::isfinite(v) && v <= high && (open ? v > low : v >= low)) return OkStatus();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::string range = "a finite number";
  if (high < kInfinity) {
    range =
        std::string("a number in ") + (open ? "(" : "[") + Number(low) + ", " + Number(high) + "]";
  } else if (low > -kInfinity) {
    range += (open ? " above " : " of at least ") + Number(low);
  }
  return InvalidArgument(std::string(field) + ": expected " + range + ", got " + Number(v));
}

Status CheckAtLeast(std::string_view field, int64_t v, int64_t low) {
  if (v >= low) return OkStatus();
  return InvalidArgument(std::string(field) + ": expected an integer of at least " +
                         std::to_string(low) + ", got " + std::to_string(v));
}

Status CheckId(std::string_view field, int32_t id, int32_t n_vocab) {
  if (id >= 0 && id < n_vocab) return OkStatus();
  return InvalidArgument(std::string(field) + ": expected token ids in [0, " +
                         std::to_string(n_vocab) + "), got " + std::to_string(id));
}

Status CheckCount(std::string_view field, size_t count, size_t most, std::string_view unit) {
  if (count <= most) return OkStatus();
  return InvalidArgument(std::string(field) + ": expected at most " + std::to_string(most) + " " +
                         std::string(unit) + ", got " + std::to_string(count));
}

Status ValidateNumbers(const SamplingParams& p) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  INK_RETURN_IF_ERROR(CheckNumber("temperature", p.temperature, 0, kMaxTemperature));
  INK_RETURN_IF_ERROR(CheckNumber("dynatemp_range", p.dynatemp_range, 0, kMaxTemperature));
  INK_RETURN_IF_ERROR(CheckNumber("dynatemp_exponent", p.dynatemp_exponent, 0, kInfinity, true));
  INK_RETURN_IF_ERROR(CheckAtLeast("top_k", p.top_k, 0));
  INK_RETURN_IF_ERROR(CheckNumber("top_p", p.top_p, 0, 1));
  INK_RETURN_IF_ERROR(CheckNumber("min_p", p.min_p, 0, 1));
  INK_RETURN_IF_ERROR(CheckNumber("typical_p", p.typical_p, 0, 1, true));
  INK_RETURN_IF_ERROR(CheckNumber("top_n_sigma", p.top_n_sigma, 0, kInfinity));
  INK_RETURN_IF_ERROR(CheckNumber("xtc_probability", p.xtc_probability, 0, 1));
  INK_RETURN_IF_ERROR(CheckNumber("xtc_threshold", p.xtc_threshold, 0, 1));
  INK_RETURN_IF_ERROR(CheckAtLeast("min_keep", p.min_keep, 0));
  INK_RETURN_IF_ERROR(CheckNumber("mirostat_tau", p.mirostat_tau, 0, kInfinity));
  INK_RETURN_IF_ERROR(CheckNumber("mirostat_eta", p.mirostat_eta, 0, kInfinity));
  INK_RETURN_IF_ERROR(CheckNumber("repetition_penalty", p.repetition_penalty, 1e-3, 1e3));
  INK_RETURN_IF_ERROR(CheckNumber("frequency_penalty", p.frequency_penalty, -kInfinity, kInfinity));
  INK_RETURN_IF_ERROR(CheckNumber("presence_penalty", p.presence_penalty, -kInfinity, kInfinity));
  INK_RETURN_IF_ERROR(CheckAtLeast("penalty_last_n", p.penalty_last_n, -1));
  INK_RETURN_IF_ERROR(CheckNumber("dry_multiplier", p.dry_multiplier, 0, kInfinity));
  INK_RETURN_IF_ERROR(CheckNumber("dry_base", p.dry_base, 1, kInfinity));
  INK_RETURN_IF_ERROR(CheckAtLeast("dry_allowed_length", p.dry_allowed_length, 0));
  INK_RETURN_IF_ERROR(CheckAtLeast("dry_penalty_last_n", p.dry_penalty_last_n, -1));
  INK_RETURN_IF_ERROR(CheckAtLeast("min_tokens", p.min_tokens, 0));
  INK_RETURN_IF_ERROR(CheckAtLeast("max_tokens", p.max_tokens, -1));
  if (p.max_tokens >= 0 && p.min_tokens > p.max_tokens) {
    return InvalidArgument("min_tokens: expected at most max_tokens = " +
                           std::to_string(p.max_tokens) + ", got " + std::to_string(p.min_tokens));
  }
  if (IsGreedy(p) && p.dynatemp_range > 0) {
    return InvalidArgument("dynatemp_range: expected 0 where temperature is 0 (greedy), got " +
                           Number(p.dynatemp_range));
  }
  return OkStatus();
}

Status ValidateLists(const SamplingParams& p, int32_t n_vocab) {
  for (const std::string& text : p.dry_sequence_breakers) {
    if (text.empty())
      return InvalidArgument("dry_sequence_breakers: expected texts, got an empty one");
    INK_RETURN_IF_ERROR(
        CheckCount("dry_sequence_breakers", text.size(), kMaxDryBreakerBytes, "bytes in each"));
  }
  INK_RETURN_IF_ERROR(CheckCount("dry_sequence_breakers", p.dry_sequence_breakers.size(),
                                 kMaxDryBreakers, "texts"));
  for (auto [id, bias] : p.logit_bias) {
    INK_RETURN_IF_ERROR(CheckId("logit_bias", id, n_vocab));
    if (std::isnan(bias) || bias > std::numeric_limits<float>::max()) {
      return InvalidArgument("logit_bias: expected a finite number or -infinity for token " +
                             std::to_string(id) + ", got " + Number(static_cast<double>(bias)));
    }
  }
  INK_RETURN_IF_ERROR(CheckCount("bad_words", p.bad_words.size(), kMaxBadWords, "sequences"));
  for (const std::vector<int32_t>& word : p.bad_words) {
    if (word.empty())
      return InvalidArgument("bad_words: expected token sequences, got an empty one");
    INK_RETURN_IF_ERROR(CheckCount("bad_words", word.size(), kMaxBadWordTokens, "tokens in each"));
    for (int32_t id : word) INK_RETURN_IF_ERROR(CheckId("bad_words", id, n_vocab));
  }
  for (int32_t id : p.stop_token_ids) INK_RETURN_IF_ERROR(CheckId("stop_token_ids", id, n_vocab));
  INK_RETURN_IF_ERROR(CheckCount("stop", p.stop.size(), kMaxStopStrings, "texts"));
  for (const std::string& text : p.stop) {
    if (text.empty()) return InvalidArgument("stop: expected texts, got an empty one");
    INK_RETURN_IF_ERROR(CheckCount("stop", text.size(), kMaxStopBytes, "bytes in each"));
    // Text is handed out up to where a stop string may begin, which must not be inside a character.
    if ((static_cast<unsigned char>(text[0]) & 0xC0) == 0x80) {
      return InvalidArgument("stop: expected UTF-8, got a text that begins inside a character");
    }
  }
  return OkStatus();
}

Status ValidateChain(const SamplingParams& p) {
  for (size_t i = 0; i < p.chain.size(); ++i) {
    std::string name(SamplerStageName(p.chain[i]));
    if (IsFixedStage(p.chain[i])) {
      return InvalidArgument("chain: " + name + " always runs first and cannot be listed");
    }
    if (std::find(p.chain.begin(), p.chain.begin() + static_cast<int64_t>(i), p.chain[i]) !=
        p.chain.begin() + static_cast<int64_t>(i)) {
      return InvalidArgument("chain: expected each stage at most once, got " + name + " twice");
    }
  }
  for (auto [stage, name] : kStageNames) {
    if (!TurnedOn(p, stage) || IsFixedStage(stage)) continue;
    if (p.mirostat == 2 && OnlyRemoves(stage)) {
      return InvalidArgument("mirostat: it replaces " + std::string(name) +
                             ", which the parameters turn on; expected one of them");
    }
    // Greedy decoding needs neither temperature nor the stages that leave the best candidate alone.
    if (IsGreedy(p) && (OnlyRemoves(stage) || stage == SamplerStage::kTemperature)) continue;
    if (!p.chain.empty() && std::find(p.chain.begin(), p.chain.end(), stage) == p.chain.end()) {
      return InvalidArgument("chain: expected " + std::string(name) +
                             " to be listed, since the parameters turn it on");
    }
  }
  return OkStatus();
}

}  // namespace

std::string_view SamplerStageName(SamplerStage stage) {
  for (auto [value, name] : kStageNames) {
    if (value == stage) return name;
  }
  return "unknown";
}

Result<SamplerStage> ParseSamplerStage(std::string_view name) {
  std::string known;
  for (auto [value, text] : kStageNames) {
    if (text == name) return value;
    if (IsFixedStage(value)) continue;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  return InvalidArgument("sampler stage: expected one of " + known + ", got \"" +
                         std::string(name) + "\"");
}

std::string_view ChainPresetName(ChainPreset preset) {
  for (auto [value, name] : kPresetNames) {
    if (value == preset) return name;
  }
  return "unknown";
}

Result<ChainPreset> ParseChainPreset(std::string_view name) {
  for (auto [value, text] : kPresetNames) {
    if (text == name) return value;
  }
  return InvalidArgument("sampler preset: expected one of default, llamacpp, hf, got \"" +
                         std::string(name) + "\"");
}

std::vector<SamplerStage> PresetStages(ChainPreset preset) {
  using enum SamplerStage;
  switch (preset) {
    case ChainPreset::kDefault:
      return {kPenalties, kDry, kTopNSigma, kTemperature, kTopK, kTopP, kMinP, kTypical, kXtc};
    case ChainPreset::kLlamaCpp:
      return {kPenalties, kDry, kTopNSigma, kTopK, kTypical, kTopP, kMinP, kXtc, kTemperature};
    case ChainPreset::kHf:
      return {kPenalties, kDry, kTemperature, kTopK, kTopP, kMinP, kTypical, kTopNSigma, kXtc};
  }
  return {};
}

std::vector<SamplerStage> ActiveStages(const SamplingParams& p) {
  std::vector<SamplerStage> order = {SamplerStage::kLogitBias, SamplerStage::kBadWords,
                                     SamplerStage::kMinTokens};
  std::vector<SamplerStage> rest = p.chain.empty() ? PresetStages(p.preset) : p.chain;
  order.insert(order.end(), rest.begin(), rest.end());
  std::erase_if(order, [&](SamplerStage stage) {
    if (IsGreedy(p) && (OnlyRemoves(stage) || stage == SamplerStage::kTemperature)) return true;
    return !TurnedOn(p, stage);
  });
  return order;
}

Status Validate(const SamplingParams& params, int32_t n_vocab) {
  if (n_vocab <= 0) {
    return InvalidArgument("n_vocab: expected at least 1, got " + std::to_string(n_vocab));
  }
  INK_RETURN_IF_ERROR(ValidateNumbers(params));
  if (params.mirostat != 0 && params.mirostat != 2) {
    return InvalidArgument("mirostat: expected 0 or 2, got " + std::to_string(params.mirostat));
  }
  INK_RETURN_IF_ERROR(ValidateLists(params, n_vocab));
  if (params.logprobs < -1 || params.logprobs > n_vocab) {
    return InvalidArgument("logprobs: expected an integer in [-1, " + std::to_string(n_vocab) +
                           "], got " + std::to_string(params.logprobs));
  }
  return ValidateChain(params);
}

nlohmann::ordered_json ChainToJson(const SamplingParams& p) {
  using Json = nlohmann::ordered_json;
  Json list = Json::array();
  for (SamplerStage stage : ActiveStages(p)) {
    Json entry = {{"stage", SamplerStageName(stage)}};
    switch (stage) {
      case SamplerStage::kLogitBias:
        entry["tokens"] = p.logit_bias.size();
        break;
      case SamplerStage::kBadWords:
        entry["sequences"] = p.bad_words.size();
        break;
      case SamplerStage::kMinTokens:
        entry["min_tokens"] = p.min_tokens;
        entry["ignore_eos"] = p.ignore_eos;
        break;
      case SamplerStage::kPenalties:
        entry["repetition_penalty"] = p.repetition_penalty;
        entry["frequency_penalty"] = p.frequency_penalty;
        entry["presence_penalty"] = p.presence_penalty;
        entry["last_n"] = p.penalty_last_n;
        break;
      case SamplerStage::kDry:
        entry["multiplier"] = p.dry_multiplier;
        entry["base"] = p.dry_base;
        entry["allowed_length"] = p.dry_allowed_length;
        entry["last_n"] = p.dry_penalty_last_n;
        break;
      case SamplerStage::kTopNSigma:
        entry["n"] = p.top_n_sigma;
        break;
      case SamplerStage::kTemperature:
        entry["temperature"] = p.temperature;
        if (p.dynatemp_range > 0) {
          entry["range"] = p.dynatemp_range;
          entry["exponent"] = p.dynatemp_exponent;
        }
        break;
      case SamplerStage::kTopK:
        entry["k"] = p.top_k;
        break;
      case SamplerStage::kTopP:
        entry["p"] = p.top_p;
        break;
      case SamplerStage::kMinP:
        entry["p"] = p.min_p;
        break;
      case SamplerStage::kTypical:
        entry["p"] = p.typical_p;
        break;
      case SamplerStage::kXtc:
        entry["probability"] = p.xtc_probability;
        entry["threshold"] = p.xtc_threshold;
        break;
    }
    if (p.min_keep > 1 && OnlyRemoves(stage) && stage != SamplerStage::kTopK &&
        stage != SamplerStage::kTopNSigma) {
      entry["min_keep"] = p.min_keep;
    }
    list.push_back(std::move(entry));
  }
  if (IsGreedy(p)) {
    list.push_back({{"stage", "greedy"}});
  } else if (p.mirostat == 2) {
    list.push_back({{"stage", "mirostat"},
                    {"version", 2},
                    {"tau", p.mirostat_tau},
                    {"eta", p.mirostat_eta},
                    {"seed", p.seed}});
  } else {
    list.push_back({{"stage", "draw"}, {"seed", p.seed}});
  }
  return list;
}

}  // namespace ink
