#include "text/jinja/number_format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/jinja/interpreter.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

// "1234567" or "1234567.89" with `separator` between each `group` integer digits; zero-filled on
// the left to at least `width` characters, separators included, if `zero_fill`.
std::string Group(std::string_view digits, char separator, size_t group, bool zero_fill,
                  size_t width) {
  size_t integers = 0;
  while (integers < digits.size() && std::isalnum(static_cast<unsigned char>(digits[integers]))) {
    if (digits[integers] == 'e' || digits[integers] == 'E') break;
    ++integers;
  }
  const std::string_view rest = digits.substr(integers);
  std::string reversed;
  size_t count = 0;
  const auto add = [&](char c) {
    if (count > 0 && count % group == 0) reversed += separator;
    reversed += c;
    ++count;
  };
  for (size_t i = integers; i > 0; --i) add(digits[i - 1]);
  while (zero_fill && reversed.size() + rest.size() < width) add('0');
  std::reverse(reversed.begin(), reversed.end());
  return reversed + std::string(rest);
}

std::string Pad(Interpreter& interpreter, const FormatSpec& spec, std::string_view head,
                std::string_view body, char default_align) {
  const auto length = static_cast<int64_t>(Length(head) + Length(body));
  const int64_t missing = std::max<int64_t>(0, spec.width - length);
  interpreter.heap().Check(static_cast<uint64_t>(std::min(missing, int64_t{1} << 60)) * 4);
  const char align = spec.align == '\0' ? default_align : spec.align;
  const int64_t left = align == '<' || align == '=' ? 0 : align == '>' ? missing : missing / 2;
  std::string fill;
  AppendUtf8(spec.fill, &fill);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += head;
  for (int64_t i = 0; align == '=' && i < missing; ++i) out += fill;
  out += body;
  for (int64_t i = left; align != '=' && i < missing; ++i) out += fill;
  return out;
}

}  // namespace

std::string LayOutNumber(Interpreter& interpreter, const FormatSpec& spec, bool negative,
                         std::string_view prefix, std::string digits) {
  std::string head;
  if (negative) {
    head = "-";
  } else if (spec.sign != '-') {
    head = std::string(1, spec.sign);
  }
  head += prefix;
  if (spec.grouping != '\0') {
    const bool zero_fill = spec.fill == U'0' && spec.align == '=';
    const size_t group =
        spec.type == 'x' || spec.type == 'X' || spec.type == 'o' || spec.type == 'b' ? 4 : 3;
    interpreter.heap().Check(static_cast<uint64_t>(std::max<int64_t>(0, spec.width)));
    const int64_t width = std::max<int64_t>(0, spec.width - static_cast<int64_t>(head.size()));
    digits = Group(digits, spec.grouping, group, zero_fill, static_cast<size_t>(width));
  }
  return Pad(interpreter, spec, head, digits, '>');
}

std::string LayOutText(Interpreter& interpreter, const FormatSpec& spec, std::string_view text) {
  if (spec.precision >= 0) {
    text = text.substr(0, ByteOffset(text, static_cast<size_t>(spec.precision)));
  }
  return Pad(interpreter, spec, "", text, '<');
}

std::string IntDigits(Int value, int base, bool upper_case) {
  auto magnitude = static_cast<unsigned __int128>(value);
  if (value < 0) magnitude = ~magnitude + 1;
  if (magnitude == 0) return "0";
  std::string digits;
  for (; magnitude != 0; magnitude /= static_cast<unsigned>(base)) {
    const auto digit = static_cast<size_t>(magnitude % static_cast<unsigned>(base));
    digits += (upper_case ? "0123456789ABCDEF" : "0123456789abcdef")[digit];
  }
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string FloatDigits(double value, char type, int64_t precision, bool alternate) {
  if (precision > kMaxPrecision) {
    Fail("a precision of " + std::to_string(precision) + " is over the limit of " +
         std::to_string(kMaxPrecision));
  }
  const bool percent = type == '%';
  value = std::abs(percent ? value * 100 : value);
  const std::string format = std::string(alternate ? "%#" : "%") + ".*" + (percent ? 'f' : type);
  std::vector<char> buffer(static_cast<size_t>(kMaxPrecision) + 400);
  std::snprintf(buffer.data(), buffer.size(), format.c_str(),
                static_cast<int>(precision < 0 ? 6 : precision), value);
  std::string digits = buffer.data();
  if (percent) digits += '%';
  return digits;
}

}  // namespace ink::jinja
