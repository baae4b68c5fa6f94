// The model stage of a tokenizer: one word to ids. Internal to src/text.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "text/tokenizer_spec.h"

namespace ink {

/// Immutable, safe to use from many threads.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the ids of `word`, which is not empty: UTF-8, except where the input was not; for a
  /// model that takes_bytes, the bytes that ByteToPrintable writes.
  virtual void Encode(std::string_view word, std::vector<int32_t>* out) const = 0;
  /// The length of a first part of `word` that can be encoded apart from the rest, with the same
  /// result. Shorter words are met more often, and can be remembered.
  virtual size_t FirstPart(std::string_view word) const { return word.size(); }
  virtual bool takes_bytes() const { return false; }
  virtual uint64_t memory_bytes() const = 0;
};

/// `byte_level`: words come from a ByteLevel pre-tokenizer. `spec` must be valid (ValidateSpec) and
/// outlive the model.
std::unique_ptr<TokenModel> MakeBpeModel(const TokenizerSpec& spec, bool byte_level);
std::unique_ptr<TokenModel> MakeSentencePieceBpeModel(const TokenizerSpec& spec);
std::unique_ptr<TokenModel> MakeUnigramModel(const TokenizerSpec& spec);
std::unique_ptr<TokenModel> MakeWordPieceModel(const TokenizerSpec& spec);

}  // namespace ink
