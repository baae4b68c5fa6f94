#include "text/word_boundaries.h"

#include "text/unicode.h"

namespace ink {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";
constexpr char32_t kSpaceChar = 0x2581;

// The character that ends at `end`; a stray byte counts as itself plus an offset no character has.
char32_t CharBefore(std::string_view text, size_t end) {
  size_t start = end - 1;
  while (start > 0 && end - start < 4 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) {
    --start;
  }
  const int length = Utf8Length(text.substr(start, end - start));
  if (length > 0 && start + length == end) return Utf8Decode(text.data() + start, length);
  return 0x200000 + static_cast<uint8_t>(text[end - 1]);
}

}  // namespace

WordBoundaries::WordBoundaries(const TokenizerSpec& spec) {
  const ModelSpec& model = spec.model;
  // Prefixes and suffixes depend on where the word ends, and so may fused unknown characters.
  enabled_ = model.continuing_subword_prefix.empty() && model.end_of_word_suffix.empty() &&
             !model.ignore_merges && !model.newline_runs_whole;
  bool has_space_token = false;
  joined_.insert(kSpaceChar);
  for (const TokenEntry& token : spec.tokens) {
    if (!token.in_model) continue;
    if (token.text == kSpace) has_space_token = true;
    for (size_t i = token.text.find(kSpace, 1); i != std::string::npos;
         i = token.text.find(kSpace, i + kSpace.size())) {
      joined_.insert(CharBefore(token.text, i));
    }
  }
  if (model.kind == ModelKind::kBpe) {
    // Unknown characters that vanish make neighbours of what stood on their two sides.
    enabled_ &= has_space_token && (model.unk != kNoToken || model.unknown_separates);
  }
}

size_t WordBoundaries::FirstPart(std::string_view text) const {
  if (!enabled_) return text.size();
  for (size_t i = text.find(kSpace, 1); i != std::string_view::npos;
       i = text.find(kSpace, i + kSpace.size())) {
    if (!joined_.contains(CharBefore(text, i))) return i;
  }
  return text.size();
}

}  // namespace ink
