// Cuts added tokens out of a text. Internal to src/text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/byte_trie.h"
#include "text/normalizer.h"
#include "text/split_regex.h"
#include "text/tokenizer_spec.h"

namespace ink {

/// A part of the text: an added token, or text (id == kNoToken).
struct TextPiece {
  Span span;
  int32_t id = kNoToken;
};

/// Immutable, safe to use from many threads.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  /// `spec` must outlive the matcher.
  AddedTokenMatcher(const TokenizerSpec& spec, const Normalizer& normalizer);

  /// Splits by the tokens that are matched verbatim. No piece is empty, except that a token whose
  /// neighbour swallowed white space may overlap it.
  std::vector<TextPiece> Split(std::string_view text, bool parse_special) const;
  /// Splits a normalized text by the tokens of normalized form.
  std::vector<TextPiece> SplitNormalized(std::string_view text, bool parse_special) const;
  bool has_normalized() const { return !normalized_.trie.empty(); }

 private:
  struct Group {
    std::vector<AddedToken> tokens;     // the trie's values index this
    std::vector<std::string> contents;  // what is matched
    ByteTrie trie;
  };
  static void Finish(Group* group);
  static std::vector<TextPiece> SplitLeftToRight(const Group& group, std::string_view text,
                                                 bool parse_special);
  static std::vector<TextPiece> SplitLongestFirst(const Group& group, std::string_view text,
                                                  bool parse_special);

  bool longest_first_ = false;
  Group verbatim_;
  Group normalized_;
};

}  // namespace ink
