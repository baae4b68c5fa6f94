#include "text/jinja/utf8.h"

#include <utf8proc.h>

#include <cstring>

namespace ink::jinja {
namespace {

struct Range {
  char32_t first;
  char32_t last;
};

template <size_t N>
bool InRanges(const Range (&ranges)[N], char32_t c) {
  for (const Range& range : ranges) {
    if (c >= range.first && c <= range.last) return true;
  }
  return false;
}

// Numeric_Type=Digit outside of Nd (superscripts, circled digits, ...).
constexpr Range kOtherDigits[] = {
    {0xB2, 0xB3},       {0xB9, 0xB9},       {0x1369, 0x1371},   {0x19DA, 0x19DA},
    {0x2070, 0x2070},   {0x2074, 0x2079},   {0x2080, 0x2089},   {0x2460, 0x2468},
    {0x2474, 0x247C},   {0x2488, 0x2490},   {0x24EA, 0x24EA},   {0x24F5, 0x24FD},
    {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},   {0x278A, 0x2792},
    {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A}};
// Other_Lowercase and Other_Uppercase: cased although not of category Ll or Lu.
constexpr Range kOtherLower[] = {
    {0xAA, 0xAA},       {0xBA, 0xBA},       {0x2B0, 0x2B8},     {0x2C0, 0x2C1},    {0x2E0, 0x2E4},
    {0x345, 0x345},     {0x37A, 0x37A},     {0x1D2C, 0x1D6A},   {0x1D78, 0x1D78},  {0x1D9B, 0x1DBF},
    {0x2071, 0x2071},   {0x207F, 0x207F},   {0x2090, 0x209C},   {0x2170, 0x217F},  {0x24D0, 0x24E9},
    {0x2C7C, 0x2C7D},   {0xA69C, 0xA69D},   {0xA770, 0xA770},   {0xA7F8, 0xA7F9},  {0xAB5C, 0xAB5F},
    {0x10780, 0x10780}, {0x10783, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA}};
constexpr Range kOtherUpper[] = {
    {0x2160, 0x216F}, {0x24B6, 0x24CF}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};

utf8proc_category_t Category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

enum class Case { kUpper, kTitle, kLower };

void AppendMapped(char32_t c, Case which, std::string* out) {
  if (c < 0x80) {
    const auto byte = static_cast<char>(c);
    if (which == Case::kLower) {
      out->push_back(byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte + 32) : byte);
    } else {
      out->push_back(byte >= 'a' && byte <= 'z' ? static_cast<char>(byte - 32) : byte);
    }
    return;
  }
  if (const SpecialCase* special = FindSpecialCase(c)) {
    const char* mapped = which == Case::kUpper   ? special->upper
                         : which == Case::kTitle ? special->title
                                                 : special->lower;
    if (mapped != nullptr) {
      out->append(mapped);
      return;
    }
  }
  const auto code = static_cast<utf8proc_int32_t>(c);
  const utf8proc_int32_t mapped = which == Case::kUpper   ? utf8proc_toupper(code)
                                  : which == Case::kTitle ? utf8proc_totitle(code)
                                                          : utf8proc_tolower(code);
  AppendUtf8(static_cast<char32_t>(mapped), out);
}

// Case-ignorable characters do not end the word that the final-sigma rule looks at.
bool IsCaseIgnorable(char32_t c) {
  if (c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xA8 || c == 0xAD ||
      c == 0xB7 || c == 0x2019) {
    return true;
  }
  const utf8proc_category_t category = Category(c);
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_ME ||
         category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_LM ||
         category == UTF8PROC_CATEGORY_SK;
}

// Sigma is final after a cased letter and not before one.
void AppendLowerSigma(const std::u32string& text, size_t at, std::string* out) {
  size_t before = at;
  while (before > 0 && IsCaseIgnorable(text[before - 1])) --before;
  size_t after = at + 1;
  while (after < text.size() && IsCaseIgnorable(text[after])) ++after;
  const bool final_sigma =
      before > 0 && IsCased(text[before - 1]) && !(after < text.size() && IsCased(text[after]));
  AppendUtf8(final_sigma ? 0x3C2 : 0x3C3, out);
}

void AppendLower(const std::u32string& text, size_t at, std::string* out) {
  if (text[at] == 0x3A3) {
    AppendLowerSigma(text, at, out);
  } else {
    AppendMapped(text[at], Case::kLower, out);
  }
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    if (lead < 0xC2 || lead > 0xF4) return false;
    const size_t length = SequenceLength(text[i]);
    if (i + length > text.size()) return false;
    char32_t c = lead & (0xFFu >> (length + 1));
    for (size_t k = 1; k < length; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      if ((byte & 0xC0) != 0x80) return false;
      c = c << 6 | (byte & 0x3Fu);
    }
    if (length == 3 && (c < 0x800 || (c >= 0xD800 && c < 0xE000))) return false;
    if (length == 4 && (c < 0x10000 || c > 0x10FFFF)) return false;
    i += length;
  }
  return true;
}

bool IsAscii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

char32_t NextCodePoint(std::string_view text, size_t* pos) {
  const auto lead = static_cast<unsigned char>(text[*pos]);
  const size_t length = SequenceLength(text[*pos]);
  char32_t c = length == 1 ? lead : lead & (0xFFu >> (length + 1));
  for (size_t k = 1; k < length && *pos + k < text.size(); ++k) {
    c = c << 6 | (static_cast<unsigned char>(text[*pos + k]) & 0x3Fu);
  }
  *pos += length;
  return c;
}

std::u32string Decode(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) out.push_back(NextCodePoint(text, &pos));
  return out;
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
    return;
  }
  if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | c >> 6));
  } else {
    if (c < 0x10000) {
      out->push_back(static_cast<char>(0xE0 | c >> 12));
    } else {
      out->push_back(static_cast<char>(0xF0 | c >> 18));
      out->push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    }
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
  }
  out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
}

std::string Encode(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) AppendUtf8(c, &out);
  return out;
}

size_t Length(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
  return count;
}

size_t ByteOffset(std::string_view text, size_t index) {
  size_t pos = 0;
  while (index > 0 && pos < text.size()) {
    pos += SequenceLength(text[pos]);
    --index;
  }
  return pos < text.size() ? pos : text.size();
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsLineBreak(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool IsAlpha(char32_t c) {
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}

bool IsDecimal(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_ND; }
bool IsDigit(char32_t c) { return IsDecimal(c) || InRanges(kOtherDigits, c); }
bool IsNumeric(char32_t c) {
  const utf8proc_category_t category = Category(c);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO || IsDigit(c);
}
bool IsLower(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  return Category(c) == UTF8PROC_CATEGORY_LL || InRanges(kOtherLower, c);
}
bool IsUpper(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z';
  return Category(c) == UTF8PROC_CATEGORY_LU || InRanges(kOtherUpper, c);
}
bool IsTitle(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LT; }

bool IsPrintable(char32_t c) {
  if (c == ' ') return true;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool IsIdentifierStart(char32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  return IsAlpha(c) || Category(c) == UTF8PROC_CATEGORY_NL;
}

bool IsIdentifierPart(char32_t c) {
  if (c < 0x80) return IsIdentifierStart(c) || (c >= '0' && c <= '9');
  const utf8proc_category_t category = Category(c);
  return IsIdentifierStart(c) || category == UTF8PROC_CATEGORY_ND ||
         category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
         category == UTF8PROC_CATEGORY_PC;
}

std::string ToUpper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    AppendMapped(NextCodePoint(text, &pos), Case::kUpper, &out);
  }
  return out;
}

std::string ToLower(std::string_view text) {
  const std::u32string points = Decode(text);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < points.size(); ++i) AppendLower(points, i, &out);
  return out;
}

std::string ToTitle(std::string_view text) {
  const std::u32string points = Decode(text);
  std::string out;
  out.reserve(text.size());
  bool inside_word = false;
  for (size_t i = 0; i < points.size(); ++i) {
    if (inside_word) {
      AppendLower(points, i, &out);
    } else {
      AppendMapped(points[i], Case::kTitle, &out);
    }
    inside_word = IsCased(points[i]);
  }
  return out;
}

std::string Capitalize(std::string_view text) {
  const std::u32string points = Decode(text);
  std::string out;
  for (size_t i = 0; i < points.size(); ++i) {
    if (i == 0) {
      AppendMapped(points[i], Case::kTitle, &out);
    } else {
      AppendLower(points, i, &out);
    }
  }
  return out;
}

std::string SwapCase(std::string_view text) {
  const std::u32string points = Decode(text);
  std::string out;
  for (size_t i = 0; i < points.size(); ++i) {
    if (IsUpper(points[i])) {
      AppendLower(points, i, &out);
    } else if (IsLower(points[i])) {
      AppendMapped(points[i], Case::kUpper, &out);
    } else {
      AppendUtf8(points[i], &out);
    }
  }
  return out;
}

std::string CaseFold(std::string_view text) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = NextCodePoint(text, &pos);
    utf8proc_int32_t folded[8];
    int boundary = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), folded,
                                                           8, UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < count && i < 8; ++i) {
      AppendUtf8(static_cast<char32_t>(folded[i]), &out);
    }
  }
  return out;
}

std::string_view StripLeft(std::string_view text) {
  size_t start = 0;
  while (start < text.size()) {
    size_t next = start;
    if (!IsSpace(NextCodePoint(text, &next))) break;
    start = next;
  }
  return text.substr(start);
}

std::string_view StripRight(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t start = end - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    size_t pos = start;
    if (!IsSpace(NextCodePoint(text, &pos))) break;
    end = start;
  }
  return text.substr(0, end);
}

size_t Find(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  // For long needles memmem is linear, which std::string_view::find is not.
  constexpr size_t kShortNeedle = 16;
  if (needle.size() <= kShortNeedle) return text.find(needle, from);
  const void* hit = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (hit == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(hit) - text.data());
}

size_t FindLast(std::string_view text, std::string_view needle) {
  if (needle.empty()) return text.size();
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const size_t hit = Find(reversed_text, reversed_needle);
  return hit == std::string_view::npos ? hit : text.size() - hit - needle.size();
}

}  // namespace ink::jinja
