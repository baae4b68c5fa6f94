// Exact decimal numbers, as JSON writes them.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace ink::constraint {

/// value = (-1)^negative * 0.DIGITS * 10^exponent, DIGITS without leading or trailing zeros; zero
/// has no digits, exponent 0 and no sign.
struct Decimal {
  bool negative = false;
  std::string digits;
  int32_t exponent = 0;

  /// `text` is a JSON number. Exponents beyond +-10^8 are clamped there.
  static Decimal Parse(std::string_view text);
  static Decimal FromInt(int64_t value);
  /// `digits` * 10^scale; the digits may have zeros at both ends.
  static Decimal FromDigits(bool negative, std::string_view digits, int64_t scale);

  bool IsZero() const { return digits.empty(); }
  Decimal Negated() const;
  /// How many digits follow the decimal point, 0 for an integer.
  int32_t FractionDigits() const;
  bool IsInteger() const { return FractionDigits() == 0; }
  /// A JSON number of this value, without exponent where that is short.
  std::string ToString() const;
  /// The integer value if it fits.
  bool ToUint64(uint64_t* value) const;

  bool operator==(const Decimal&) const = default;
  std::strong_ordering operator<=>(const Decimal& other) const;
};

/// |value| compared with |other|.
std::strong_ordering CompareMagnitude(const Decimal& value, const Decimal& other);

/// A positive step `numerator` * 10^-scale, for multipleOf.
struct DecimalStep {
  uint64_t numerator = 1;
  int32_t scale = 0;
  bool operator==(const DecimalStep&) const = default;
  /// False where the numerator does not fit (more than 18 digits).
  static bool FromDecimal(const Decimal& d, DecimalStep* step);
};
bool IsMultiple(const Decimal& value, const DecimalStep& step);
/// The smallest multiple of `step` that is >= `value` (`strictly`: above it), which must not be
/// negative.
Decimal NextMultiple(const Decimal& value, const DecimalStep& step, bool strictly);

}  // namespace ink::constraint
