#include "formats/quote.h"

namespace ink {

std::string Quoted(std::string_view text, size_t max_bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (size_t i = 0; i < text.size() && i < max_bytes; ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7f) {
      out += "\\x";
      out += kHex[c >> 4];
      out += kHex[c & 15];
    } else {
      out += text[i];
    }
  }
  out += text.size() > max_bytes ? "\"..." : "\"";
  return out;
}

std::string Mismatch(std::string_view path, std::string_view what, std::string_view expected,
                     std::string_view actual) {
  std::string out(path);
  out += ": ";
  out += what;
  out += ": expected ";
  out += expected;
  out += ", found ";
  out += actual;
  return out;
}

}  // namespace ink
