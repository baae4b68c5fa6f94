// Tokenizers in Hugging Face folders: tokenizer.json with tokenizer_config.json
// (https://github.com/huggingface/tokenizers).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"
#include "text/tokenizer_spec.h"

namespace ink {

/// The files' texts; all but the first may be empty.
struct TokenizerFiles {
  std::string_view tokenizer_json;
  std::string_view tokenizer_config;   // bos, eos etc., add_bos_token, chat_template
  std::string_view generation_config;  // eos_token_id: more tokens that end generation
  std::string_view chat_template;      // chat_template.jinja, overrides tokenizer_config's
};

/// Errors: kCorrupt, or kUnsupported naming the component (truncation, padding and offsets are not
/// part of the text-to-ids mapping and are ignored).
Result<TokenizerSpec> SpecFromJson(const TokenizerFiles& files);
Result<std::shared_ptr<const Tokenizer>> TokenizerFromJson(const TokenizerFiles& files);

/// Reads tokenizer.json and what is beside it. Errors: kNotFound, kIo and those above, with path.
Result<TokenizerSpec> SpecFromFolder(const std::string& folder);
Result<std::shared_ptr<const Tokenizer>> TokenizerFromFolder(const std::string& folder);

struct WrittenTokenizer {
  std::string tokenizer_json;
  std::string tokenizer_config;
};

/// SpecFromJson of the result tokenizes as `spec` does. What Hugging Face has no component for is
/// kept in tokenizer_config.json (key "inkstone"), with the nearest components in tokenizer.json:
/// SentencePiece BPE becomes BPE with byte fallback and keeps its scores there, because merge lists
/// cannot express how it breaks ties. Errors: kUnsupported for a token that is not valid UTF-8.
Result<WrittenTokenizer> SpecToJson(const TokenizerSpec& spec);
/// Writes both files into an existing folder.
Status SpecToFolder(const TokenizerSpec& spec, const std::string& folder);

}  // namespace ink
