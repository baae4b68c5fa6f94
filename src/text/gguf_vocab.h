// Tokenizers in GGUF metadata (keys tokenizer.*,
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). A vocabulary read from a GGUF file
// tokenizes as llama.cpp does.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "formats/metadata.h"
#include "text/tokenizer.h"
#include "text/tokenizer_spec.h"

namespace ink {

/// Errors: kNotFound (no vocabulary), kCorrupt (sizes, ids, duplicates, merges; names the key),
/// kUnsupported (tokenizer.ggml.model or tokenizer.ggml.pre unknown; names it). What is odd but
/// usable goes to `warnings`, one sentence each, if given.
Result<TokenizerSpec> SpecFromGguf(const Metadata& metadata,
                                   std::vector<std::string>* warnings = nullptr);
/// SpecFromGguf and BuildTokenizer.
Result<std::shared_ptr<const Tokenizer>> TokenizerFromGguf(
    const Metadata& metadata, std::vector<std::string>* warnings = nullptr);

/// Sets the tokenizer.* keys. Where those alone would not tokenize as `spec` does, the key
/// inkstone.tokenizer holds the components of the definition (SpecFromGguf prefers it; other
/// programs will not know it), and `warnings` says so. Errors: kUnsupported for a vocabulary that
/// the format cannot hold.
Status SpecToGguf(const TokenizerSpec& spec, Metadata& metadata,
                  std::vector<std::string>* warnings = nullptr);

}  // namespace ink
