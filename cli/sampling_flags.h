// Flags of text generation, read alike by run and chat.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sampling/params.h"
#include "text/tokenizer.h"

namespace CLI {
class App;
}

namespace ink::cli {

struct SamplingFlags {
  SamplingParams params;
  std::string preset = "default";
  std::vector<std::string> chain;
  std::vector<std::string> logit_bias;  // "ID=VALUE"
  std::vector<std::string> bad_words;   // texts
  std::optional<uint64_t> seed;
};

/// Defaults for a person at a terminal: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05.
void AddSamplingFlags(CLI::App& app, SamplingFlags& flags);

/// The parameters; a random seed is drawn where none was given. Errors name the flag.
Result<SamplingParams> SamplingFrom(const SamplingFlags& flags, const Tokenizer& tokenizer);

}  // namespace ink::cli
