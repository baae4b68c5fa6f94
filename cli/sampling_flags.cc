#include "sampling_flags.h"

#include <CLI/CLI.hpp>
#include <random>

namespace ink::cli {

void AddSamplingFlags(CLI::App& app, SamplingFlags& f) {
  SamplingParams& p = f.params;
  p.temperature = 0.8;
  p.top_k = 40;
  p.top_p = 0.95;
  p.min_p = 0.05;
  const char* group = "Sampling";
  auto option = [&](const char* name, auto& value, const char* text) {
    app.add_option(name, value, text)->group(group)->capture_default_str();
  };
  option("--temp,--temperature", p.temperature, "temperature; 0 is greedy");
  option("--top-k", p.top_k, "keep the k most probable tokens; 0: off");
  option("--top-p", p.top_p, "then keep this much probability of them; 1: off");
  option("--min-p", p.min_p, "keep tokens with at least this share of the best; 0: off");
  option("--typical-p", p.typical_p, "locally typical sampling; 1: off");
  option("--top-n-sigma", p.top_n_sigma, "keep logits within n standard deviations; 0: off");
  option("--xtc-probability", p.xtc_probability, "chance to exclude the top choices");
  option("--xtc-threshold", p.xtc_threshold, "probability that counts as a top choice");
  option("--dynatemp-range", p.dynatemp_range, "half width of the dynamic temperature");
  option("--dynatemp-exponent", p.dynatemp_exponent, "its exponent");
  option("--mirostat", p.mirostat, "2: mirostat version 2; 0: off");
  option("--mirostat-tau", p.mirostat_tau, "target surprise in bits");
  option("--mirostat-eta", p.mirostat_eta, "learning rate");
  option("--repeat-penalty", p.repetition_penalty, "of tokens seen; 1: off");
  option("--frequency-penalty", p.frequency_penalty, "per occurrence");
  option("--presence-penalty", p.presence_penalty, "for having occurred");
  option("--penalty-last-n", p.penalty_last_n, "tokens the penalties see; -1: all");
  option("--dry-multiplier", p.dry_multiplier, "DRY penalty; 0: off");
  option("--dry-base", p.dry_base, "its base");
  option("--dry-allowed-length", p.dry_allowed_length, "repeats up to this length are free");
  option("--dry-penalty-last-n", p.dry_penalty_last_n, "tokens it sees; -1: all");
  option("--min-keep", p.min_keep, "candidates that always stay");
  option("--min-tokens", p.min_tokens, "tokens before the end may come");
  app.add_flag("--ignore-eos", p.ignore_eos, "never end by the model's end token")->group(group);
  app.add_option("--stop", p.stop, "text that ends generation (repeatable)")->group(group);
  app.add_option("--seed", f.seed, "seed of the draws (default: random, reported)")->group(group);
  app.add_option("--logit-bias", f.logit_bias, "ID=VALUE added to a token's logit; -inf bans")
      ->group(group);
  app.add_option("--bad-words", f.bad_words, "text that must not be generated (repeatable)")
      ->group(group);
  app.add_option("--sampler-preset", f.preset, "order of the stages: default, llamacpp or hf")
      ->group(group)
      ->capture_default_str();
  app.add_option("--sampler-chain", f.chain, "explicit order of the stages, comma separated")
      ->delimiter(',')
      ->group(group);
}

Result<SamplingParams> SamplingFrom(const SamplingFlags& flags, const Tokenizer& tokenizer) {
  SamplingParams p = flags.params;
  INK_ASSIGN_OR_RETURN(p.preset, ParseChainPreset(flags.preset));
  for (const std::string& name : flags.chain) {
    INK_ASSIGN_OR_RETURN(SamplerStage stage, ParseSamplerStage(name));
    p.chain.push_back(stage);
  }
  for (const std::string& entry : flags.logit_bias) {
    size_t equals = entry.find('=');
    try {
      if (equals == std::string::npos) throw std::invalid_argument("");
      size_t used = 0;
      int id = std::stoi(entry.substr(0, equals), &used);
      if (used != equals) throw std::invalid_argument("");
      p.logit_bias[id] = std::stof(entry.substr(equals + 1));
    } catch (const std::exception&) {
      return InvalidArgument("--logit-bias: expected ID=VALUE, got \"" + entry + "\"");
    }
  }
  for (const std::string& text : flags.bad_words) {
    std::vector<int32_t> ids = tokenizer.Encode(text);
    if (ids.empty()) return InvalidArgument("--bad-words: expected a text, got nothing");
    p.bad_words.push_back(std::move(ids));
  }
  if (flags.seed) {
    p.seed = *flags.seed;
  } else {
    std::random_device device;
    // 53 bits survive every JSON reader.
    p.seed = ((uint64_t{device()} << 32) | device()) >> 11;
  }
  return p;
}

}  // namespace ink::cli
