// Text as Python's str sees it: code points, Unicode case, white space. All strings are UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ink::jinja {

/// True if `text` is well-formed UTF-8 (no surrogates, no overlong forms).
bool IsValidUtf8(std::string_view text);
bool IsAscii(std::string_view text);

/// The code points of valid UTF-8.
std::u32string Decode(std::string_view text);
void AppendUtf8(char32_t c, std::string* out);
std::string Encode(std::u32string_view text);

/// Bytes of the code point that starts with `lead`.
inline size_t SequenceLength(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}
/// The code point at `text[*pos]`; advances `*pos` past it.
char32_t NextCodePoint(std::string_view text, size_t* pos);
/// Number of code points.
size_t Length(std::string_view text);
/// Byte offset of code point `index`; text.size() if there are fewer.
size_t ByteOffset(std::string_view text, size_t index);

// Character classes of str.isspace(), str.isalpha() and so on.
bool IsSpace(char32_t c);
bool IsLineBreak(char32_t c);  // what str.splitlines() splits at
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);
bool IsNumeric(char32_t c);
bool IsLower(char32_t c);
bool IsUpper(char32_t c);
bool IsTitle(char32_t c);
bool IsPrintable(char32_t c);
bool IsIdentifierStart(char32_t c);
bool IsIdentifierPart(char32_t c);
inline bool IsCased(char32_t c) { return IsLower(c) || IsUpper(c) || IsTitle(c); }

/// Full case mappings (one code point may become three; final sigma is handled).
std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);
std::string ToTitle(std::string_view text);  // str.title()
std::string Capitalize(std::string_view text);
std::string SwapCase(std::string_view text);
std::string CaseFold(std::string_view text);

/// Strips white space (Python's) at the left, the right or both ends.
std::string_view StripLeft(std::string_view text);
std::string_view StripRight(std::string_view text);
inline std::string_view Strip(std::string_view text) { return StripLeft(StripRight(text)); }

/// First (last) occurrence of `needle` at or after `from` (before `end`), npos if none; linear
/// time whatever the texts.
size_t Find(std::string_view text, std::string_view needle, size_t from = 0);
size_t FindLast(std::string_view text, std::string_view needle);

// One row of the unconditional special casing rules: mappings that take more than one code point.
struct SpecialCase {
  char32_t code_point;
  const char* upper;  // null: the simple mapping applies
  const char* title;
  const char* lower;
};
const SpecialCase* FindSpecialCase(char32_t c);

}  // namespace ink::jinja
