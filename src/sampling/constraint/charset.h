// Sets of Unicode scalar values (code points without surrogates).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ink::constraint {

inline constexpr uint32_t kMaxCodePoint = 0x10FFFF;

/// Sorted, disjoint, non-adjacent closed ranges.
class CharSet {
 public:
  CharSet() = default;
  static CharSet Range(uint32_t low, uint32_t high);
  static CharSet Of(std::string_view ascii);
  static CharSet All();

  void Add(uint32_t low, uint32_t high);  // surrogates are left out
  void Add(const CharSet& other);
  CharSet Complement() const;
  CharSet Intersect(const CharSet& other) const;
  bool Contains(uint32_t c) const;
  bool empty() const { return ranges_.empty(); }
  const std::vector<std::pair<uint32_t, uint32_t>>& ranges() const { return ranges_; }
  bool operator==(const CharSet&) const = default;

 private:
  void Normalize();
  std::vector<std::pair<uint32_t, uint32_t>> ranges_;
};

/// ECMA-262: \d, \w, \s and the line terminators that `.` excludes.
CharSet DigitChars();
CharSet WordChars();
CharSet SpaceChars();
CharSet LineTerminators();
/// \p{...}: a general category, short or long name ("L", "Letter", "Lu", "gc=Lu"), "Any", "ASCII",
/// "White_Space". Nothing for other properties.
std::optional<CharSet> PropertyChars(std::string_view name);
/// The set with both cases of each simple case pair.
CharSet FoldCase(const CharSet& set);

void AppendUtf8Char(uint32_t c, std::string* out);
/// Decodes well-formed UTF-8; false where it is not.
bool DecodeUtf8(std::string_view text, std::vector<uint32_t>* out);

}  // namespace ink::constraint
