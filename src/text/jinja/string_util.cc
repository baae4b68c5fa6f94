#include "text/jinja/string_util.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

std::string Repeated(Interpreter& interpreter, std::string_view fill, int64_t count) {
  if (count <= 0) return "";
  // Four bytes is the longest code point, so the product cannot overflow below 2^60.
  interpreter.heap().Check(static_cast<uint64_t>(std::min<int64_t>(count, int64_t{1} << 60)) *
                           fill.size());
  std::string out;
  for (int64_t i = 0; i < count; ++i) out += fill;
  return out;
}

// Adds a part; many short ones take more memory than the text they came from.
void AddPart(Heap& heap, std::string_view part, std::vector<std::string>* parts) {
  parts->emplace_back(part);
  if (parts->size() % 1024 == 0) heap.Check(parts->size() * (sizeof(Value) + sizeof(StringObject)));
}

int64_t Missing(std::string_view text, int64_t width) {
  const auto length = static_cast<int64_t>(Length(text));
  return width > length ? width - length : 0;
}

}  // namespace

std::string_view StripSet(std::string_view text, std::string_view set, bool left, bool right) {
  const std::u32string wanted = Decode(set);
  size_t start = 0;
  while (left && start < text.size()) {
    size_t next = start;
    if (wanted.find(NextCodePoint(text, &next)) == std::u32string::npos) break;
    start = next;
  }
  size_t end = text.size();
  while (right && end > start) {
    size_t before = end - 1;
    while (before > start && (static_cast<unsigned char>(text[before]) & 0xC0) == 0x80) --before;
    size_t pos = before;
    if (wanted.find(NextCodePoint(text, &pos)) == std::u32string::npos) break;
    end = before;
  }
  return text.substr(start, end - start);
}

std::vector<std::string> SplitLines(Heap& heap, std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  size_t start = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t at = pos;
    const char32_t c = NextCodePoint(text, &pos);
    if (!IsLineBreak(c)) continue;
    if (c == '\r' && pos < text.size() && text[pos] == '\n') ++pos;
    AddPart(heap, text.substr(start, (keep_ends ? pos : at) - start), &lines);
    start = pos;
  }
  if (start < text.size()) AddPart(heap, text.substr(start), &lines);
  return lines;
}

std::vector<std::string> SplitWords(Heap& heap, std::string_view text, int64_t limit) {
  std::vector<std::string> words;
  text = StripLeft(text);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(words.size()) == limit) {
      AddPart(heap, text, &words);
      break;
    }
    size_t end = 0;
    for (size_t next = 0; next < text.size() && !IsSpace(NextCodePoint(text, &next));) end = next;
    AddPart(heap, text.substr(0, end), &words);
    text = StripLeft(text.substr(end));
  }
  return words;
}

std::vector<std::string> SplitWordsFromRight(Heap& heap, std::string_view text, int64_t limit) {
  std::vector<std::string> words;
  text = StripRight(text);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(words.size()) == limit) {
      AddPart(heap, text, &words);
      break;
    }
    size_t start = text.size();
    while (start > 0) {
      size_t before = start - 1;
      while (before > 0 && (static_cast<unsigned char>(text[before]) & 0xC0) == 0x80) --before;
      size_t pos = before;
      if (IsSpace(NextCodePoint(text, &pos))) break;
      start = before;
    }
    AddPart(heap, text.substr(start), &words);
    text = StripRight(text.substr(0, start));
  }
  std::reverse(words.begin(), words.end());
  return words;
}

std::vector<std::string> SplitAt(Heap& heap, std::string_view text, std::string_view separator,
                                 int64_t limit) {
  std::vector<std::string> parts;
  size_t start = 0;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t hit = Find(text, separator, start);
    if (hit == std::string_view::npos) break;
    AddPart(heap, text.substr(start, hit - start), &parts);
    start = hit + separator.size();
  }
  AddPart(heap, text.substr(start), &parts);
  return parts;
}

std::vector<std::string> SplitAtFromRight(Heap& heap, std::string_view text,
                                          std::string_view separator, int64_t limit) {
  // The mirrored text split from the left: the same hits, in linear time.
  const std::string mirrored(text.rbegin(), text.rend());
  const std::string mirrored_separator(separator.rbegin(), separator.rend());
  std::vector<std::string> parts = SplitAt(heap, mirrored, mirrored_separator, limit);
  for (std::string& part : parts) std::reverse(part.begin(), part.end());
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::string ReplaceAll(Interpreter& interpreter, std::string_view text, std::string_view old,
                       std::string_view replacement, int64_t count) {
  Heap& heap = interpreter.heap();
  heap.Step(1 + text.size() / 64);
  std::string out;
  size_t start = 0;
  int64_t done = 0;
  const auto more = [&] { return count < 0 || done < count; };
  if (old.empty()) {
    for (size_t pos = 0; more() && pos <= text.size(); ++done) {
      out += replacement;
      heap.Check(out.size());
      if (pos == text.size()) {
        start = pos;
        ++pos;
        continue;
      }
      start = pos + SequenceLength(text[pos]);
      out += text.substr(pos, start - pos);
      pos = start;
    }
    out += text.substr(start);
    return out;
  }
  for (; more(); ++done) {
    const size_t hit = Find(text, old, start);
    if (hit == std::string_view::npos) break;
    out += text.substr(start, hit - start);
    out += replacement;
    start = hit + old.size();
    heap.Step(1 + replacement.size() / 64);
    heap.Check(out.size());
  }
  out += text.substr(start);
  return out;
}

std::string Center(Interpreter& interpreter, std::string_view text, int64_t width,
                   std::string_view fill) {
  const int64_t missing = Missing(text, width);
  // CPython puts the odd blank on the left if the width is odd, else on the right.
  const int64_t left = missing / 2 + (missing & width & 1);
  return Repeated(interpreter, fill, left) + std::string(text) +
         Repeated(interpreter, fill, missing - left);
}

std::string PadLeft(Interpreter& interpreter, std::string_view text, int64_t width,
                    std::string_view fill) {
  return Repeated(interpreter, fill, Missing(text, width)) + std::string(text);
}

std::string PadRight(Interpreter& interpreter, std::string_view text, int64_t width,
                     std::string_view fill) {
  return std::string(text) + Repeated(interpreter, fill, Missing(text, width));
}

std::optional<Int> ParseInt(std::string_view text, int base) {
  text = Strip(text);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  const auto prefix_is = [&text](char mark) {
    return text.size() > 1 && text[0] == '0' && (text[1] | 0x20) == mark;
  };
  bool prefixed = false;
  for (const auto& [mark, prefix_base] :
       {std::pair('x', 16), std::pair('o', 8), std::pair('b', 2)}) {
    if (!prefixed && (base == prefix_base || base == 0) && prefix_is(mark)) {
      base = prefix_base;
      text.remove_prefix(2);
      prefixed = true;
      if (!text.empty() && text[0] == '_') text.remove_prefix(1);
    }
  }
  if (base == 0) {
    // Without a prefix only zeros may begin with a zero.
    base = 10;
    if (text.size() > 1 && text[0] == '0' &&
        text.find_first_not_of("0_") != std::string_view::npos) {
      return std::nullopt;
    }
  }
  Int value = 0;
  bool after_digit = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '_') {
      if (!after_digit) return std::nullopt;
      after_digit = false;
      continue;
    }
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 10
                      : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                             : 99;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, Int{base}, &value) ||
        __builtin_add_overflow(value, Int{digit}, &value)) {
      Fail("an integer is too large");
    }
    after_digit = true;
  }
  if (!after_digit) return std::nullopt;
  return negative ? -value : value;
}

std::optional<double> ParseFloat(std::string_view text) {
  text = Strip(text);
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_') {
      const auto is_digit = [&](size_t at) {
        return at < text.size() && text[at] >= '0' && text[at] <= '9';
      };
      if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return std::nullopt;
      continue;
    }
    digits += text[i];
  }
  // strtod also takes hexadecimal and "nan(...)", which Python does not.
  if (digits.empty() || digits.find_first_of("xX(pP") != std::string::npos) return std::nullopt;
  if (IsSpace(static_cast<unsigned char>(digits[0]))) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  if (end != digits.c_str() + digits.size()) return std::nullopt;
  return value;
}

double RoundFloat(double value, int digits) {
  if (!std::isfinite(value)) return value;
  // The exact decimal expansion rounded half to even is what printf produces.
  if (digits >= 0) {
    if (digits > 323) return value;
    std::vector<char> buffer(static_cast<size_t>(digits) + 330);
    std::snprintf(buffer.data(), buffer.size(), "%.*f", digits, value);
    return std::strtod(buffer.data(), nullptr);
  }
  if (digits < -308) return std::copysign(0.0, value);
  const double unit = std::pow(10.0, -digits);
  return std::nearbyint(value / unit) * unit;
}

}  // namespace ink::jinja
