// Numbers and text laid out by a format specification, shared by "%" and str.format().
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace ink::jinja {

/// Longest precision of a number: every double's exact expansion is shorter.
inline constexpr int64_t kMaxPrecision = 1100;

struct FormatSpec {
  char32_t fill = U' ';
  char align = '\0';  // '<' '>' '^' '=' or unset
  char sign = '-';    // '-' only for negatives, '+' always, ' ' a blank for the others
  bool alternate = false;
  char grouping = '\0';  // ',' or '_' between thousands
  int64_t width = 0;
  int64_t precision = -1;  // unset
  char type = '\0';
};

/// `digits` (no sign) with its sign and prefix ("0x"), grouped and padded; default align right.
std::string LayOutNumber(Interpreter& interpreter, const FormatSpec& spec, bool negative,
                         std::string_view prefix, std::string digits);
/// `text` cut to the precision and padded; default align left.
std::string LayOutText(Interpreter& interpreter, const FormatSpec& spec, std::string_view text);

/// The digits of |value| in base 2, 8, 10 or 16.
std::string IntDigits(Int value, int base, bool upper_case);
/// |value| by printf's e, f, g (or E, F, G), or '%'.
std::string FloatDigits(double value, char type, int64_t precision, bool alternate);

}  // namespace ink::jinja
