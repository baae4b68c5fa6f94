// SentencePiece's precompiled character map: a double-array trie (darts-clone's units) from byte
// sequences to replacements
// (https://github.com/google/sentencepiece/blob/master/src/normalizer.cc).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ink {

class Charsmap {
 public:
  /// `blob`: u32 trie bytes, trie, NUL-terminated replacements. Errors: kCorrupt.
  static Result<Charsmap> Parse(std::string_view blob);

  struct Match {
    size_t length = 0;  // bytes of the text that are replaced
    std::string_view replacement;
  };
  /// The longest / shortest key that `text` starts with.
  std::optional<Match> Longest(std::string_view text) const { return Find(text, false); }
  std::optional<Match> Shortest(std::string_view text) const { return Find(text, true); }

 private:
  std::optional<Match> Find(std::string_view text, bool first) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace ink
