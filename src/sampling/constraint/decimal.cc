#include "sampling/constraint/decimal.h"

#include <algorithm>
#include <cstdlib>

namespace ink::constraint {
namespace {

constexpr int64_t kExponentLimit = 100000000;

uint64_t MulMod(uint64_t a, uint64_t b, uint64_t m) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b % m);
}

uint64_t PowMod10(int64_t exponent, uint64_t m) {
  uint64_t result = 1 % m, base = 10 % m;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result = MulMod(result, base, m);
    base = MulMod(base, base, m);
  }
  return result;
}

// The first `count` digits of 0.DIGITS * 10^count, zeros behind, modulo m.
uint64_t LeadingDigitsMod(const std::string& digits, int64_t count, uint64_t m) {
  uint64_t r = 0;
  const int64_t given = std::min<int64_t>(count, static_cast<int64_t>(digits.size()));
  for (int64_t i = 0; i < given; ++i) {
    r = static_cast<uint64_t>((static_cast<unsigned __int128>(r) * 10 + (digits[i] - '0')) % m);
  }
  return count > given ? MulMod(r, PowMod10(count - given, m), m) : r;
}

}  // namespace

Decimal Decimal::FromDigits(bool negative, std::string_view text, int64_t scale) {
  Decimal d;
  const size_t first = text.find_first_not_of('0');
  if (first == std::string_view::npos) return d;
  const size_t last = text.find_last_not_of('0');
  d.negative = negative;
  d.digits = std::string(text.substr(first, last - first + 1));
  d.exponent = static_cast<int32_t>(std::clamp<int64_t>(
      static_cast<int64_t>(text.size() - first) + scale, -kExponentLimit, kExponentLimit));
  return d;
}

Decimal Decimal::Parse(std::string_view text) {
  bool negative = false;
  size_t i = 0;
  if (i < text.size() && text[i] == '-') {
    negative = true;
    ++i;
  }
  std::string digits;
  int64_t scale = 0;
  bool fraction = false;
  for (; i < text.size(); ++i) {
    if (text[i] == '.') {
      fraction = true;
    } else if (text[i] >= '0' && text[i] <= '9') {
      digits += text[i];
      if (fraction) --scale;
    } else {
      break;
    }
  }
  if (i < text.size()) {  // e or E
    ++i;
    bool negative_exponent = false;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) negative_exponent = text[i++] == '-';
    int64_t exponent = 0;
    for (; i < text.size(); ++i)
      exponent = std::min(exponent * 10 + (text[i] - '0'), kExponentLimit);
    scale += negative_exponent ? -exponent : exponent;
  }
  return FromDigits(negative, digits, scale);
}

Decimal Decimal::FromInt(int64_t value) { return Parse(std::to_string(value)); }

Decimal Decimal::Negated() const {
  Decimal d = *this;
  if (!d.IsZero()) d.negative = !negative;
  return d;
}

int32_t Decimal::FractionDigits() const {
  return std::max<int32_t>(0, static_cast<int32_t>(digits.size()) - exponent);
}

std::string Decimal::ToString() const {
  if (IsZero()) return "0";
  std::string out = negative ? "-" : "";
  const int32_t n = static_cast<int32_t>(digits.size());
  if (exponent >= n && exponent <= 21) {
    out += digits + std::string(exponent - n, '0');
  } else if (exponent > 0 && exponent < n) {
    out += digits.substr(0, exponent) + "." + digits.substr(exponent);
  } else if (exponent <= 0 && exponent > -6) {
    out += "0." + std::string(-exponent, '0') + digits;
  } else {
    out += digits.substr(0, 1);
    if (n > 1) out += "." + digits.substr(1);
    out += "e" + std::to_string(exponent - 1);
  }
  return out;
}

bool Decimal::ToUint64(uint64_t* value) const {
  if (negative || !IsInteger() || exponent > 19) return false;
  unsigned __int128 v = 0;
  for (int32_t i = 0; i < exponent; ++i) {
    v = v * 10 + (i < static_cast<int32_t>(digits.size()) ? digits[i] - '0' : 0);
  }
  if (v > UINT64_MAX) return false;
  *value = static_cast<uint64_t>(v);
  return true;
}

std::strong_ordering CompareMagnitude(const Decimal& a, const Decimal& b) {
  if (a.IsZero() || b.IsZero()) return !a.IsZero() <=> !b.IsZero();
  if (a.exponent != b.exponent) return a.exponent <=> b.exponent;
  return a.digits.compare(b.digits) <=> 0;
}

std::strong_ordering Decimal::operator<=>(const Decimal& other) const {
  if (negative != other.negative) {
    return negative ? std::strong_ordering::less : std::strong_ordering::greater;
  }
  return negative ? CompareMagnitude(other, *this) : CompareMagnitude(*this, other);
}

bool DecimalStep::FromDecimal(const Decimal& d, DecimalStep* step) {
  if (d.negative || d.IsZero() || d.digits.size() > 18) return false;
  step->numerator = std::stoull(d.digits);
  step->scale = static_cast<int32_t>(d.digits.size()) - d.exponent;
  // Zeros that belong to an integer step are part of the numerator where they fit.
  while (step->scale < 0 && step->numerator < UINT64_MAX / 100) {
    step->numerator *= 10;
    ++step->scale;
  }
  return step->scale >= 0 && step->scale <= 400 && step->numerator < uint64_t{1} << 62;
}

bool IsMultiple(const Decimal& value, const DecimalStep& step) {
  if (value.IsZero()) return true;
  const int64_t length = static_cast<int64_t>(value.exponent) + step.scale;
  if (length < static_cast<int64_t>(value.digits.size()))
    return false;  // finer than the step's grid
  return LeadingDigitsMod(value.digits, length, step.numerator) == 0;
}

Decimal NextMultiple(const Decimal& value, const DecimalStep& step, bool strictly) {
  const int64_t length = static_cast<int64_t>(value.exponent) + step.scale;
  // The value in units of the grid, rounded up to an integer.
  std::string units;
  bool remainder = false;
  if (length <= 0) {
    units = "0";
    remainder = !value.IsZero();
  } else {
    units = value.digits.substr(0, static_cast<size_t>(length));
    remainder = static_cast<int64_t>(value.digits.size()) > length;
    units.resize(static_cast<size_t>(length), '0');
  }
  uint64_t mod = 0;
  for (char c : units) {
    mod = static_cast<uint64_t>((static_cast<unsigned __int128>(mod) * 10 + (c - '0')) %
                                step.numerator);
  }
  uint64_t add = remainder || mod != 0 || strictly ? step.numerator - mod : 0;
  for (size_t i = units.size(); add > 0 && i > 0; --i) {
    add += static_cast<uint64_t>(units[i - 1] - '0');
    units[i - 1] = static_cast<char>('0' + add % 10);
    add /= 10;
  }
  if (add > 0) units.insert(0, std::to_string(add));
  return Decimal::FromDigits(false, units, -static_cast<int64_t>(step.scale));
}

}  // namespace ink::constraint
