// UTF-8 and character properties for tokenizers. Properties are utf8proc's, named as Unicode names
// them; a function whose set is another library's convention says so.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ink {

inline constexpr char32_t kReplacementChar = 0xFFFD;

/// Length in bytes of the well-formed character at the start of `text`, or 0 (also for an empty
/// text, surrogates and overlong forms).
int Utf8Length(std::string_view text);
/// The character of `length` bytes (as Utf8Length says) at `bytes`.
char32_t Utf8Decode(const char* bytes, int length);
/// Decodes at `*pos` and moves past it; a byte that begins no character gives kReplacementChar and
/// moves by one.
char32_t Utf8Next(std::string_view text, size_t* pos);
void AppendUtf8(char32_t c, std::string* out);
bool IsValidUtf8(std::string_view text);
/// How many bytes at the end of `text` begin a character that may still be completed, 0 to 3.
int IncompleteUtf8Suffix(std::string_view text);
/// `text` with each maximal ill-formed part replaced by U+FFFD (Unicode 15, section 3.9).
std::string RepairUtf8(std::string_view text);

/// Any bytes as valid UTF-8 in which regexes and normalizers can work: a byte that is no part of a
/// character becomes the private-use character U+10FF00 + byte, and so does each byte of a
/// character of that range, so that UnescapeInvalid is the exact inverse.
std::string EscapeInvalidUtf8(std::string_view text);
std::string UnescapeInvalidUtf8(std::string_view text);

/// Property White_Space: \s of regexes, char::is_whitespace of Rust.
bool IsWhiteSpace(char32_t c);
/// \w as UTS 18 defines it: Alphabetic, M, Nd, Pc, Join_Control.
bool IsWordChar(char32_t c);
bool IsNumeric(char32_t c);         // N
bool IsDecimalDigit(char32_t c);    // Nd
bool IsMark(char32_t c);            // M
bool IsNonspacingMark(char32_t c);  // Mn
bool IsPunctuation(char32_t c);     // P, and the ASCII symbols
bool IsOther(char32_t c);           // Cc, Cf, Co, Cs: what BERT calls control
/// Ideographs as BERT counts them (with the range 2B920 that its Rust form has instead of 2B820).
bool IsBertIdeograph(char32_t c);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
/// `text` must be valid UTF-8.
std::string NormalizeUnicode(std::string_view text, NormalForm form);
/// Full lower case of each character, without context.
std::string LowercaseUnicode(std::string_view text);
char32_t LowercaseChar(char32_t c);  // simple mapping
/// The first code point of the canonical decomposition.
char32_t FirstOfDecomposition(char32_t c);

/// GPT-2's printable form of bytes: ! to ~, ¡ to ¬ and ® to ÿ stand for themselves, the rest are
/// U+0100 and up in order.
char32_t ByteToPrintable(uint8_t byte);
/// The inverse, or -1.
int PrintableToByte(char32_t c);
std::string BytesToPrintable(std::string_view bytes);
/// False if a character is not one of the 256; `out` is then unspecified.
bool PrintableToBytes(std::string_view text, std::string* out);

/// The byte of a token text "<0xXX>" (two hexadecimal digits), or -1; and the text of a byte.
int ParseByteToken(std::string_view text);
std::string ByteTokenText(uint8_t byte);

/// Offset behind the grapheme cluster that starts at `pos` (UAX 29).
size_t NextGrapheme(std::string_view text, size_t pos);

}  // namespace ink
