#include "text/charsmap.h"

#include <cstring>

namespace ink {
namespace {

// A unit: bits 0-7 label, bit 8 has a leaf child, bit 9 widens the offset, bits 10-30 offset; in a
// leaf, bits 0-30 are the value and bit 31 is set.
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
uint32_t Label(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & ((1u << 31) - 1); }

}  // namespace

Result<Charsmap> Charsmap::Parse(std::string_view blob) {
  uint32_t trie_bytes = 0;
  if (blob.size() < sizeof(trie_bytes)) {
    return Corrupt("precompiled charsmap: expected at least 4 bytes, found " +
                   std::to_string(blob.size()));
  }
  std::memcpy(&trie_bytes, blob.data(), sizeof(trie_bytes));
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > blob.size() - sizeof(trie_bytes)) {
    return Corrupt("precompiled charsmap: a trie of " + std::to_string(trie_bytes) +
                   " bytes in a blob of " + std::to_string(blob.size()));
  }
  Charsmap map;
  map.units_.resize(trie_bytes / 4);
  std::memcpy(map.units_.data(), blob.data() + 4, trie_bytes);
  map.replacements_ = blob.substr(4 + trie_bytes);
  return map;
}

std::optional<Charsmap::Match> Charsmap::Find(std::string_view text, bool first) const {
  std::optional<Match> found;
  size_t node = Offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const uint8_t c = static_cast<uint8_t>(text[i]);
    if (c == 0) break;
    node ^= c;
    if (node >= units_.size() || Label(units_[node]) != c) break;
    const uint32_t unit = units_[node];
    node ^= Offset(unit);
    if (!HasLeaf(unit)) continue;
    if (node >= units_.size()) break;
    const size_t index = Value(units_[node]);
    if (index >= replacements_.size()) break;
    const size_t end = replacements_.find('\0', index);
    found = Match{i + 1, std::string_view(replacements_)
                             .substr(index, end == std::string::npos ? end : end - index)};
    if (first) break;
  }
  return found;
}

}  // namespace ink
