// The pre-tokenizers that tokenizer.ggml.pre names. What a name means is llama.cpp's to say
// (src/llama-vocab.cpp), and where its rule differs from the published model's (gpt-4o, tekken:
// case is told apart for ASCII letters only, marks are not letters) its rule is the one here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer_spec.h"

namespace ink {

struct PreTokenizerInfo {
  std::vector<PreTokenizerStep> steps;
  bool byte_level = true;  // false: merges work on characters, with ▁ for spaces and byte fallback
  bool ignore_merges = false;
  bool add_bos = false;  // unless tokenizer.ggml.add_bos_token says otherwise
  bool newline_runs_whole = false;
};

/// `name` empty: the file states none, and "default" is meant. Errors: kUnsupported, naming it.
Result<PreTokenizerInfo> FindPreTokenizer(std::string_view name);

/// The name under which `spec`'s pre-tokenizer and ignore_merges are known; empty if there is none.
std::string NameOfPreTokenizer(const TokenizerSpec& spec);

/// Nearest known name for a tokenizer.json whose rule a GGUF name stands for, though not exactly
/// (gpt-4o, tekken); empty if none.
std::string NearNameOfPreTokenizer(const TokenizerSpec& spec);

/// All names, for messages and tests.
std::vector<std::string_view> PreTokenizerNames();

}  // namespace ink
