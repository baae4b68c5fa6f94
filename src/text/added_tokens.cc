#include "text/added_tokens.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "text/unicode.h"

namespace ink {
namespace {

// Where the white space at the end of text[0, end) begins.
size_t SpaceStart(std::string_view text, size_t end, bool ascii) {
  while (end > 0) {
    size_t start = end - 1;
    while (!ascii && start > 0 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    size_t next = start;
    const char32_t c = ascii ? static_cast<uint8_t>(text[start]) : Utf8Next(text, &next);
    if (!IsWhiteSpace(c) || (ascii && c >= 0x80)) break;
    end = start;
  }
  return end;
}

// Where the white space that starts at `begin` ends.
size_t SpaceEnd(std::string_view text, size_t begin, bool ascii) {
  while (begin < text.size()) {
    size_t next = begin + 1;
    char32_t c = static_cast<uint8_t>(text[begin]);
    if (!ascii) {
      next = begin;
      c = Utf8Next(text, &next);
    }
    if (!IsWhiteSpace(c) || (ascii && c >= 0x80)) break;
    begin = next;
  }
  return begin;
}

bool EndsWithWord(std::string_view text) {
  if (text.empty()) return false;
  size_t start = text.size() - 1;
  while (start > 0 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
  return IsWordChar(Utf8Next(text, &start));
}

bool StartsWithWord(std::string_view text) {
  size_t pos = 0;
  return !text.empty() && IsWordChar(Utf8Next(text, &pos));
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(const TokenizerSpec& spec, const Normalizer& normalizer)
    : longest_first_(spec.added_longest_first) {
  for (const AddedToken& token : spec.added) {
    const std::string& text = spec.tokens[token.id].text;
    const bool normalized = token.normalized && !normalizer.empty();
    Group& group = normalized ? normalized_ : verbatim_;
    std::string content = normalized ? normalizer.Apply(text) : text;
    if (content.empty()) continue;
    group.tokens.push_back(token);
    group.contents.push_back(std::move(content));
  }
  Finish(&verbatim_);
  Finish(&normalized_);
}

void AddedTokenMatcher::Finish(Group* group) {
  std::vector<std::pair<std::string_view, int32_t>> keys;
  std::unordered_set<std::string_view> seen;
  for (size_t i = 0; i < group->contents.size(); ++i) {
    // Different tokens may have one normalized form: the first one has it.
    if (seen.insert(group->contents[i]).second) {
      keys.emplace_back(group->contents[i], static_cast<int32_t>(i));
    }
  }
  group->trie = ByteTrie(keys);
}

std::vector<TextPiece> AddedTokenMatcher::Split(std::string_view text, bool parse_special) const {
  if (verbatim_.trie.empty()) return {{{0, text.size()}, kNoToken}};
  return longest_first_ ? SplitLongestFirst(verbatim_, text, parse_special)
                        : SplitLeftToRight(verbatim_, text, parse_special);
}

std::vector<TextPiece> AddedTokenMatcher::SplitNormalized(std::string_view text,
                                                          bool parse_special) const {
  if (normalized_.trie.empty()) return {{{0, text.size()}, kNoToken}};
  return SplitLeftToRight(normalized_, text, parse_special);
}

std::vector<TextPiece> AddedTokenMatcher::SplitLeftToRight(const Group& group,
                                                           std::string_view text,
                                                           bool parse_special) {
  std::vector<TextPiece> pieces;
  size_t done = 0;
  size_t i = 0;
  while (i < text.size()) {
    if (!group.trie.StartsKey(text[i])) {
      ++i;
      continue;
    }
    const auto [length, index] = group.trie.Longest(text.substr(i));
    if (index < 0) {
      ++i;
      continue;
    }
    size_t begin = i, end = i + length;
    i = end;
    const AddedToken& token = group.tokens[index];
    if (token.special && !parse_special) continue;
    if (token.single_word &&
        (EndsWithWord(text.substr(0, begin)) || StartsWithWord(text.substr(end)))) {
      continue;
    }
    if (token.lstrip) begin = std::max(SpaceStart(text, begin, false), done);
    if (token.rstrip) end = SpaceEnd(text, end, false);
    if (done < begin) pieces.push_back({{done, begin}, kNoToken});
    pieces.push_back({{begin, end}, token.id});
    done = end;
  }
  if (done < text.size()) pieces.push_back({{done, text.size()}, kNoToken});
  return pieces;
}

std::vector<TextPiece> AddedTokenMatcher::SplitLongestFirst(const Group& group,
                                                            std::string_view text,
                                                            bool parse_special) {
  // Which tokens occur at all, in one pass: mostly none or few of many.
  std::vector<bool> occurs(group.tokens.size());
  std::vector<int32_t> found;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!group.trie.StartsKey(text[i])) continue;
    group.trie.ForEachPrefix(text.substr(i), [&](size_t, int32_t index) {
      if (occurs[index]) return;
      occurs[index] = true;
      if (parse_special || !group.tokens[index].special) found.push_back(index);
    });
  }
  std::sort(found.begin(), found.end(), [&](int32_t a, int32_t b) {
    const size_t size_a = group.contents[a].size(), size_b = group.contents[b].size();
    return size_a != size_b ? size_a > size_b : group.tokens[a].id < group.tokens[b].id;
  });

  std::vector<TextPiece> pieces;
  if (!text.empty()) pieces.push_back({{0, text.size()}, kNoToken});
  for (const int32_t index : found) {
    const AddedToken& token = group.tokens[index];
    const std::string& content = group.contents[index];
    std::vector<TextPiece> next;
    next.reserve(pieces.size() + 2);
    for (const TextPiece& piece : pieces) {
      if (piece.id != kNoToken) {
        next.push_back(piece);
        continue;
      }
      const std::string_view view = text.substr(0, piece.span.end);
      size_t begin = piece.span.begin;
      while (begin < view.size()) {
        const size_t hit = view.find(content, begin);
        if (hit == std::string_view::npos) break;
        size_t left = hit;
        if (token.lstrip) left = std::max(begin, SpaceStart(view, hit, true));
        if (left > begin) next.push_back({{begin, left}, kNoToken});
        next.push_back({{hit, hit + content.size()}, token.id});
        begin = hit + content.size();
        if (token.rstrip) begin = SpaceEnd(view, begin, true);
      }
      if (begin < view.size()) next.push_back({{begin, view.size()}, kNoToken});
    }
    pieces = std::move(next);
  }
  return pieces;
}

}  // namespace ink
