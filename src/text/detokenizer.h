// Token ids to text, one at a time: what comes out is always whole UTF-8 characters.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace ink {

struct DetokenizerOptions {
  bool skip_special = true;  // control tokens add no text
  // False for text that continues other text (a completion): the first token keeps its leading
  // space then.
  bool starts_text = true;
};

/// Holds the beginning of a character back until the rest has come. Bytes that cannot become a
/// character turn into U+FFFD (one for each maximal invalid part, as Unicode recommends), so the
/// concatenated output is valid UTF-8 and does not depend on how the ids were grouped.
class Detokenizer {
 public:
  explicit Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, DetokenizerOptions options = {});

  /// The text that has become certain with this token; may be empty.
  std::string Add(int32_t id);
  /// What was still held back, as U+FFFD where it is half a character. The object then starts
  /// anew.
  std::string Flush();
  /// Bytes held back now.
  std::string_view pending() const { return pending_; }

 private:
  std::string TakeComplete();

  std::shared_ptr<const Tokenizer> tokenizer_;
  DetokenizerOptions options_;
  std::string pending_;
  bool at_start_;
};

/// All of it at once, as valid UTF-8.
std::string Decode(const std::shared_ptr<const Tokenizer>& tokenizer, std::span<const int32_t> ids,
                   DetokenizerOptions options = {});
/// The exact bytes, without repair: for byte-level vocabularies Encode's inverse.
std::string DecodeBytes(const Tokenizer& tokenizer, std::span<const int32_t> ids,
                        DetokenizerOptions options = {});

}  // namespace ink
