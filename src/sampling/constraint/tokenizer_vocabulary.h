// A tokenizer's tokens as a VocabularyTrie.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sampling/constraint/vocabulary.h"
#include "text/tokenizer.h"

namespace ink {

/// Build once for each model: takes tens of milliseconds for 128k tokens. Control, unknown and
/// unused tokens are never allowed, end-of-generation tokens where the text is complete. `as_text`:
/// control tokens that count as their text all the same, e.g. the markers of tool calls.
inline std::shared_ptr<const VocabularyTrie> MakeVocabularyTrie(
    const Tokenizer& tokenizer, const std::vector<int32_t>& as_text = {}) {
  std::vector<std::string> bytes(static_cast<size_t>(tokenizer.vocab_size()));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const TokenType type = tokenizer.token_type(id);
    if (type == TokenType::kNormal || type == TokenType::kUserDefined || type == TokenType::kByte) {
      bytes[id] = std::string(tokenizer.TokenBytes(id));
    }
  }
  for (int32_t id : as_text) bytes[id] = std::string(tokenizer.TokenBytes(id));
  const auto ends = tokenizer.end_of_generation();
  return VocabularyTrie::Build(std::move(bytes), std::vector<int32_t>(ends.begin(), ends.end()));
}

}  // namespace ink
