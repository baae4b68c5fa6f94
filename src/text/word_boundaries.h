// Cuts a long text where no BPE merge can reach across, so that each part can be encoded alone with
// the same result. Internal to src/text.
#pragma once

#include <string_view>
#include <unordered_set>

#include "text/tokenizer_spec.h"

namespace ink {

/// SentencePiece vocabularies have no white space splitting, yet nearly all their tokens hold
/// U+2581 (a space) only in front. A token that joins a character c and a following U+2581 would
/// have "c▁" inside; so before a U+2581 behind a character for which there is no such token is a
/// border.
class WordBoundaries {
 public:
  WordBoundaries() = default;
  explicit WordBoundaries(const TokenizerSpec& spec);

  /// The length of the first part of `text` (all of it if there is no border).
  size_t FirstPart(std::string_view text) const;

 private:
  bool enabled_ = false;
  std::unordered_set<char32_t> joined_;  // characters that some token has before a U+2581
};

}  // namespace ink
