#include "text/unicode.h"

#include <utf8proc.h>

#include <array>
#include <cstdlib>

#include "base/check.h"

namespace ink {
namespace {

constexpr char32_t kEscapeBase = 0x10FF00;  // the last 256 code points of plane 16, private use

utf8proc_category_t Category(char32_t c) { return utf8proc_category(static_cast<int32_t>(c)); }

// Other_Alphabetic characters outside L, Nl and M: circled and squared letters.
bool IsOtherAlphabeticSymbol(char32_t c) {
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
         (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

struct PrintableTable {
  std::array<char32_t, 256> to_char;
  std::array<int16_t, 512> to_byte;
};

PrintableTable MakePrintableTable() {
  PrintableTable table;
  table.to_byte.fill(-1);
  char32_t next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    const char32_t c = printable ? static_cast<char32_t>(b) : next++;
    table.to_char[b] = c;
    table.to_byte[c] = static_cast<int16_t>(b);
  }
  return table;
}

const PrintableTable& Printable() {
  static const PrintableTable table = MakePrintableTable();
  return table;
}

}  // namespace

int Utf8Length(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() < static_cast<size_t>(length)) return 0;
  // The second byte's range excludes overlong forms, surrogates and values above 10FFFF.
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 0;
  for (int i = 2; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  return length;
}

char32_t Utf8Decode(const char* bytes, int length) {
  const auto byte = [&](int i) { return static_cast<uint8_t>(bytes[i]); };
  switch (length) {
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1Fu) << 6 | (byte(1) & 0x3Fu);
    case 3:
      return (byte(0) & 0x0Fu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu);
    default:
      return (byte(0) & 0x07u) << 18 | (byte(1) & 0x3Fu) << 12 | (byte(2) & 0x3Fu) << 6 |
             (byte(3) & 0x3Fu);
  }
}

char32_t Utf8Next(std::string_view text, size_t* pos) {
  const int length = Utf8Length(text.substr(*pos));
  if (length == 0) {
    ++*pos;
    return kReplacementChar;
  }
  const char32_t c = Utf8Decode(text.data() + *pos, length);
  *pos += length;
  return c;
}

void AppendUtf8(char32_t c, std::string* out) {
  const auto put = [&](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

bool IsValidUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    if (static_cast<uint8_t>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    const int length = Utf8Length(text.substr(i));
    if (length == 0) return false;
    i += length;
  }
  return true;
}

int IncompleteUtf8Suffix(std::string_view text) {
  for (int n = 1; n <= 3 && static_cast<size_t>(n) <= text.size(); ++n) {
    const uint8_t lead = static_cast<uint8_t>(text[text.size() - n]);
    if ((lead & 0xC0) == 0x80) continue;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (n >= length) return 0;
    if (n == 1) return 1;
    // A second byte outside its range already rules a character out.
    const uint8_t second = static_cast<uint8_t>(text[text.size() - n + 1]);
    const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    return second >= low && second <= high ? n : 0;
  }
  return 0;
}

std::string RepairUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t i = 0;
  while (i < text.size()) {
    const int length = Utf8Length(text.substr(i));
    if (length > 0) {
      out.append(text, i, length);
      i += length;
      continue;
    }
    // The maximal part that begins a character counts as one error.
    size_t bad = 1;
    for (size_t n = 3; n >= 2; --n) {
      if (i + n <= text.size() && IncompleteUtf8Suffix(text.substr(i, n)) == static_cast<int>(n)) {
        bad = n;
        break;
      }
    }
    AppendUtf8(kReplacementChar, &out);
    i += bad;
  }
  return out;
}

std::string EscapeInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 16);
  size_t i = 0;
  while (i < text.size()) {
    const int length = Utf8Length(text.substr(i));
    if (length > 0 && Utf8Decode(text.data() + i, length) < kEscapeBase) {
      out.append(text, i, length);
      i += length;
      continue;
    }
    for (int n = length == 0 ? 1 : length; n > 0; --n, ++i) {
      AppendUtf8(kEscapeBase + static_cast<uint8_t>(text[i]), &out);
    }
  }
  return out;
}

std::string UnescapeInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t i = 0;
  while (i < text.size()) {
    const int length = Utf8Length(text.substr(i));
    const char32_t c = length == 0 ? 0 : Utf8Decode(text.data() + i, length);
    if (c >= kEscapeBase) {
      out.push_back(static_cast<char>(c - kEscapeBase));
    } else {
      out.append(text, i, length == 0 ? 1 : length);
    }
    i += length == 0 ? 1 : length;
  }
  return out;
}

bool IsWhiteSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsWordChar(char32_t c) {
  if (c < 0x80) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  }
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return c == 0x200C || c == 0x200D || IsOtherAlphabeticSymbol(c);
  }
}

bool IsNumeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const utf8proc_category_t category = Category(c);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

bool IsDecimalDigit(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return Category(c) == UTF8PROC_CATEGORY_ND;
}

bool IsMark(char32_t c) {
  if (c < 0x300) return false;
  const utf8proc_category_t category = Category(c);
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
         category == UTF8PROC_CATEGORY_ME;
}

bool IsNonspacingMark(char32_t c) { return c >= 0x300 && Category(c) == UTF8PROC_CATEGORY_MN; }

bool IsPunctuation(char32_t c) {
  if (c < 0x80) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  }
  const utf8proc_category_t category = Category(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool IsOther(char32_t c) {
  const utf8proc_category_t category = Category(c);
  return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
         category == UTF8PROC_CATEGORY_CO || category == UTF8PROC_CATEGORY_CS;
}

bool IsBertIdeograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

std::string NormalizeUnicode(std::string_view text, NormalForm form) {
  int options = UTF8PROC_STABLE;
  switch (form) {
    case NormalForm::kNfc:
      options |= UTF8PROC_COMPOSE;
      break;
    case NormalForm::kNfd:
      options |= UTF8PROC_DECOMPOSE;
      break;
    case NormalForm::kNfkc:
      options |= UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
      break;
    case NormalForm::kNfkd:
      options |= UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
      break;
  }
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &result,
                                             static_cast<utf8proc_option_t>(options));
  if (size < 0) return std::string(text);  // not UTF-8, or out of memory: left as it is
  std::string out(reinterpret_cast<const char*>(result), static_cast<size_t>(size));
  std::free(result);
  return out;
}

std::string LowercaseUnicode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t i = 0;
  while (i < text.size()) {
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    if (byte < 0x80) {
      out.push_back(byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte + 32) : text[i]);
      ++i;
      continue;
    }
    const char32_t c = Utf8Next(text, &i);
    if (c == 0x130) {  // the only unconditional multi-character lower case
      out += "i\xCC\x87";
    } else {
      AppendUtf8(LowercaseChar(c), &out);
    }
  }
  return out;
}

char32_t LowercaseChar(char32_t c) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<int32_t>(c)));
}

char32_t FirstOfDecomposition(char32_t c) {
  if (c < 0xC0) return c;
  std::array<utf8proc_int32_t, 32> buffer;
  int boundclass = 0;
  const utf8proc_ssize_t n =
      utf8proc_decompose_char(static_cast<int32_t>(c), buffer.data(), buffer.size(),
                              static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE), &boundclass);
  return n > 0 ? static_cast<char32_t>(buffer[0]) : c;
}

char32_t ByteToPrintable(uint8_t byte) { return Printable().to_char[byte]; }

int PrintableToByte(char32_t c) { return c < 512 ? Printable().to_byte[c] : -1; }

std::string BytesToPrintable(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 2);
  for (const char b : bytes) AppendUtf8(ByteToPrintable(static_cast<uint8_t>(b)), &out);
  return out;
}

bool PrintableToBytes(std::string_view text, std::string* out) {
  out->clear();
  size_t i = 0;
  while (i < text.size()) {
    const int byte = PrintableToByte(Utf8Next(text, &i));
    if (byte < 0) return false;
    out->push_back(static_cast<char>(byte));
  }
  return true;
}

int ParseByteToken(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

std::string ByteTokenText(uint8_t byte) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
}

size_t NextGrapheme(std::string_view text, size_t pos) {
  utf8proc_int32_t state = 0;
  char32_t previous = Utf8Next(text, &pos);
  while (pos < text.size()) {
    size_t next = pos;
    const char32_t c = Utf8Next(text, &next);
    if (utf8proc_grapheme_break_stateful(static_cast<int32_t>(previous), static_cast<int32_t>(c),
                                         &state)) {
      break;
    }
    previous = c;
    pos = next;
  }
  return pos;
}

}  // namespace ink
