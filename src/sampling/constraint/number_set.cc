#include "sampling/constraint/number_set.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "sampling/constraint/constraint.h"

namespace ink::constraint {
namespace {

constexpr int kMaxExponentDigits = 4;
// Between these magnitudes a double holds every number with full precision.
constexpr char kLargest[] = "1.7976931348623157e308";
constexpr char kSmallest[] = "1e-300";
constexpr int kMinExponent = -301, kMaxExponent = 310;  // of a Decimal within them

bool CommonMultiple(const DecimalStep& a, const DecimalStep& b, DecimalStep* out) {
  constexpr unsigned __int128 kLimit = static_cast<unsigned __int128>(1) << 62;
  unsigned __int128 x = a.numerator, y = b.numerator;
  const int32_t scale = std::max(a.scale, b.scale);
  for (int32_t i = a.scale; i < scale; ++i) {
    x *= 10;
    if (x >= kLimit) return false;
  }
  for (int32_t i = b.scale; i < scale; ++i) {
    y *= 10;
    if (y >= kLimit) return false;
  }
  const auto gcd = std::gcd(static_cast<uint64_t>(x), static_cast<uint64_t>(y));
  const unsigned __int128 lcm = x / gcd * y;
  if (lcm >= kLimit) return false;
  *out = {static_cast<uint64_t>(lcm), scale};
  return true;
}

bool Divides(const DecimalStep& step, const DecimalStep& multiple) {
  return IsMultiple(
      Decimal::FromDigits(false, std::to_string(multiple.numerator), -int64_t{multiple.scale}),
      step);
}

// Digits of `value` behind its first `count`.
int ExtraDigits(const Decimal& value, size_t count) {
  return std::max(0, static_cast<int>(value.digits.size()) - static_cast<int>(count));
}

std::string Incremented(std::string digits) {
  for (size_t i = digits.size(); i > 0; --i) {
    if (digits[i - 1] != '9') {
      ++digits[i - 1];
      return digits;
    }
    digits[i - 1] = '0';
  }
  return "1" + digits;
}

// The next multiple of 10^resolution above `value` >= 0.
Decimal NextAtResolution(const Decimal& value, int64_t resolution) {
  const int64_t keep = value.exponent - resolution;
  std::string digits = keep <= 0 ? "0" : value.digits.substr(0, static_cast<size_t>(keep));
  if (keep > 0) digits.resize(static_cast<size_t>(keep), '0');
  return Decimal::FromDigits(false, Incremented(std::move(digits)), resolution);
}

}  // namespace

bool NumberText::Append(char c) {
  const bool digit = c >= '0' && c <= '9';
  switch (phase) {
    case Phase::kStart:
      if (c == '-') {
        negative = true;
        phase = Phase::kSign;
        return true;
      }
      [[fallthrough]];
    case Phase::kSign:
      if (!digit) return false;
      digits += c;
      phase = c == '0' ? Phase::kZero : Phase::kInteger;
      return true;
    case Phase::kZero:
    case Phase::kInteger:
    case Phase::kFraction:
      if (digit && phase != Phase::kZero) {
        if (digits.size() >= static_cast<size_t>(kMaxNumberDigits)) return false;
        digits += c;
        if (phase == Phase::kFraction) ++fraction_digits;
        return true;
      }
      if (c == '.' && phase != Phase::kFraction) {
        phase = Phase::kPoint;
        return digits.size() < static_cast<size_t>(kMaxNumberDigits);
      }
      if (c != 'e' && c != 'E') return false;
      phase = Phase::kE;
      return true;
    case Phase::kPoint:
      if (!digit || digits.size() >= static_cast<size_t>(kMaxNumberDigits)) return false;
      digits += c;
      fraction_digits = 1;
      phase = Phase::kFraction;
      return true;
    case Phase::kE:
      if (c == '+' || c == '-') {
        exponent_negative = c == '-';
        phase = Phase::kESign;
        return true;
      }
      [[fallthrough]];
    case Phase::kESign:
    case Phase::kExponent:
      if (!digit || exponent_digits >= kMaxExponentDigits) return false;
      exponent = exponent * 10 + (c - '0');
      ++exponent_digits;
      phase = Phase::kExponent;
      return true;
  }
  return false;
}

Decimal NumberText::Value() const {
  return Decimal::FromDigits(negative, digits,
                             (exponent_negative ? -exponent : exponent) - fraction_digits);
}

NumberSet NumberSet::All() {
  NumberSet s;
  s.patterns_ = {1};
  return s;
}

NumberSet NumberSet::None() {
  NumberSet s;
  s.patterns_ = {0};
  return s;
}

NumberSet NumberSet::AtLeast(const Decimal& bound, bool exclusive) {
  NumberSet s;
  s.bounds_ = {bound};
  s.patterns_ = {0, exclusive ? 0u : 1u, 1};
  return s;
}

NumberSet NumberSet::AtMost(const Decimal& bound, bool exclusive) {
  NumberSet s;
  s.bounds_ = {bound};
  s.patterns_ = {1, exclusive ? 0u : 1u, 0};
  return s;
}

NumberSet NumberSet::Points(std::vector<Decimal> values) {
  NumberSet s;
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  s.bounds_ = std::move(values);
  s.patterns_ = {0};
  for (size_t i = 0; i < s.bounds_.size(); ++i) s.patterns_.insert(s.patterns_.end(), {1, 0});
  return s;
}

NumberSet NumberSet::Multiples(const DecimalStep& step) {
  NumberSet s;
  s.steps_ = {step};
  s.patterns_ = {2};
  return s;
}

NumberSet::Pattern NumberSet::AllPatterns() const {
  return static_cast<Pattern>((uint64_t{1} << (size_t{1} << steps_.size())) - 1);
}

NumberSet NumberSet::Not() const {
  NumberSet s = *this;
  for (Pattern& p : s.patterns_) p = ~p & AllPatterns();
  return s;
}

uint32_t NumberSet::Divisors(const Decimal& value) const {
  uint32_t m = 0;
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (IsMultiple(value, steps_[i])) m |= 1u << i;
  }
  return m;
}

NumberSet::Pattern NumberSet::PatternAt(const Decimal& value) const {
  const auto it = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  const size_t i = static_cast<size_t>(it - bounds_.begin());
  return patterns_[it != bounds_.end() && *it == value ? 2 * i + 1 : 2 * i];
}

bool NumberSet::Contains(const Decimal& value) const {
  const Pattern p = PatternAt(value);
  if (p == 0) return false;
  return (p >> Divisors(value) & 1) != 0;
}

NumberSet NumberSet::Combine(const NumberSet& other, bool both) const {
  NumberSet s;
  s.overflow_ = overflow_ || other.overflow_;
  s.steps_ = steps_;
  std::vector<size_t> map_b(other.steps_.size());
  for (size_t i = 0; i < other.steps_.size(); ++i) {
    const auto it = std::find(s.steps_.begin(), s.steps_.end(), other.steps_[i]);
    map_b[i] = static_cast<size_t>(it - s.steps_.begin());
    if (it == s.steps_.end()) s.steps_.push_back(other.steps_[i]);
  }
  if (s.steps_.size() > kMaxSteps) {
    s = None();
    s.overflow_ = true;
    return s;
  }
  std::set_union(bounds_.begin(), bounds_.end(), other.bounds_.begin(), other.bounds_.end(),
                 std::back_inserter(s.bounds_));
  const uint32_t masks = 1u << s.steps_.size();
  const uint32_t own = (1u << steps_.size()) - 1;
  const auto widen = [&](Pattern a, Pattern b) {
    Pattern out = 0;
    for (uint32_t m = 0; m < masks; ++m) {
      uint32_t mb = 0;
      for (size_t i = 0; i < map_b.size(); ++i) mb |= (m >> map_b[i] & 1) << i;
      const bool in_a = (a >> (m & own) & 1) != 0, in_b = (b >> mb & 1) != 0;
      if (both ? in_a && in_b : in_a || in_b) out |= 1u << m;
    }
    return out;
  };
  // The pattern of a set between (or on) the merged boundaries.
  const auto between = [](const NumberSet& set, const std::vector<Decimal>& merged, size_t i) {
    if (i % 2 == 1) return set.PatternAt(merged[i / 2]);
    if (i / 2 == merged.size()) return set.patterns_.back();
    const auto it = std::lower_bound(set.bounds_.begin(), set.bounds_.end(), merged[i / 2]);
    return set.patterns_[2 * static_cast<size_t>(it - set.bounds_.begin())];
  };
  for (size_t i = 0; i < 2 * s.bounds_.size() + 1; ++i) {
    s.patterns_.push_back(widen(between(*this, s.bounds_, i), between(other, s.bounds_, i)));
  }
  // Boundaries at which nothing changes go.
  for (size_t i = s.bounds_.size(); i > 0; --i) {
    const size_t at = 2 * (i - 1);
    if (s.patterns_[at] == s.patterns_[at + 1] && s.patterns_[at + 1] == s.patterns_[at + 2]) {
      s.patterns_.erase(s.patterns_.begin() + static_cast<ptrdiff_t>(at),
                        s.patterns_.begin() + static_cast<ptrdiff_t>(at) + 2);
      s.bounds_.erase(s.bounds_.begin() + static_cast<ptrdiff_t>(i) - 1);
    }
  }
  return s;
}

bool NumberSet::Finish() {
  if (overflow_) return false;
  step_classes_.clear();
  all_ = std::all_of(patterns_.begin(), patterns_.end(),
                     [&](Pattern p) { return p == AllPatterns(); });
  const Decimal largest = Decimal::Parse(kLargest), smallest = Decimal::Parse(kSmallest);
  NumberSet limits = AtLeast(smallest, false).And(AtMost(largest, false));
  limits = limits.Or(AtLeast(largest.Negated(), false).And(AtMost(smallest.Negated(), false)));
  limits = limits.Or(Point(Decimal()));
  const bool all = all_;
  *this = And(limits);
  all_ = all;
  // Every region now lies on one side of zero, or is cut off.
  Pattern feasible = 1;
  for (uint32_t m = 1; m < 1u << steps_.size(); ++m) {
    DecimalStep lcm;
    bool fits = true, first = true;
    for (size_t i = 0; i < steps_.size() && fits; ++i) {
      if ((m >> i & 1) == 0) continue;
      if (first) {
        lcm = steps_[i];
      } else {
        fits = CommonMultiple(lcm, steps_[i], &lcm);
      }
      first = false;
    }
    bool used = false;
    for (Pattern p : patterns_) used = used || (p >> m & 1) != 0;
    if (!fits) {
      if (used) return false;
      continue;
    }
    // Every multiple of lcm is one of step j if lcm is; else lcm itself shows the pattern.
    bool possible = true;
    for (size_t j = 0; j < steps_.size(); ++j) {
      if ((m >> j & 1) == 0 && Divides(steps_[j], lcm)) possible = false;
    }
    if (!possible) continue;
    feasible |= 1u << m;
    step_classes_.push_back({m, lcm});
  }
  for (size_t i = 0; i < patterns_.size(); i += 2) patterns_[i] &= feasible;
  return true;
}

bool NumberSet::FindAtScale(const std::string& p, int room, int64_t scale, const Decimal& low,
                            const Decimal& high, Pattern pattern, Witness* witness) const {
  const size_t n = p.size();
  const auto found = [&](const Decimal& value) {
    if (ExtraDigits(value, n) > room) return false;
    witness->digits = value.digits.size() > n ? value.digits.substr(n) : "";
    witness->scale = static_cast<int64_t>(value.exponent) -
                     static_cast<int64_t>(std::max(n, value.digits.size()));
    return true;
  };
  const Decimal start = Decimal::FromDigits(false, p, scale);
  const Decimal end = Decimal::FromDigits(false, Incremented(p), scale);
  const bool from_start = start > low;  // else from `low`, exclusive
  const Decimal& lower = from_start ? start : low;
  const Decimal& upper = end < high ? end : high;
  if (!(lower < upper)) return false;
  if (from_start && (pattern >> Divisors(start) & 1) != 0 && found(start)) return true;
  if ((pattern & 1) != 0) {
    // The fewest digits that fall between, and on no step that is excluded.
    for (int64_t resolution = scale - 1; resolution >= scale - room; --resolution) {
      Decimal c = NextAtResolution(lower, resolution);
      for (int tries = 0; tries < 12 && c < upper; ++tries) {
        if ((pattern >> Divisors(c) & 1) != 0 && found(c)) return true;
        c = NextAtResolution(c, resolution);
      }
    }
    return false;
  }
  for (const StepClass& c : step_classes_) {
    if ((pattern >> c.divisors & 1) == 0) continue;
    Decimal value = NextMultiple(lower, c.step, !from_start);
    // Few multiples in a row are multiples of another step too (Jacobsthal's function).
    for (int tries = 0; tries < 100 && value < upper; ++tries) {
      if (Divisors(value) == c.divisors) {
        if (found(value)) return true;
        break;
      }
      value = NextMultiple(value, c.step, true);
    }
  }
  return false;
}

bool NumberSet::FindInRegion(const std::string& p, int room, int natural, const Decimal& low,
                             const Decimal& high, Pattern pattern, Witness* witness) const {
  const auto n = static_cast<int64_t>(p.size());
  int64_t first = static_cast<int64_t>(low.exponent) - n - 1;
  const int64_t last = static_cast<int64_t>(high.exponent) - n + 1;
  if ((pattern & 1) == 0) {
    // Below the smallest step there is no positive multiple.
    int64_t least = INT64_MAX;
    for (const StepClass& c : step_classes_) {
      if ((pattern >> c.divisors & 1) == 0) continue;
      const auto digits = static_cast<int64_t>(std::to_string(c.step.numerator).size());
      least = std::min(least, digits - c.step.scale);
    }
    if (least == INT64_MAX) return false;
    first = std::max(first, least - n - 1);
  }
  if (first > last) return false;
  const int64_t middle = std::clamp<int64_t>(natural, first, last);
  for (int64_t scale = middle; scale <= last; ++scale) {
    if (FindAtScale(p, room, scale, low, high, pattern, witness)) return true;
  }
  for (int64_t scale = middle - 1; scale >= first; --scale) {
    if (FindAtScale(p, room, scale, low, high, pattern, witness)) return true;
  }
  return false;
}

bool NumberSet::FindWitness(bool negative, const std::string& p, int room, int natural,
                            Witness* witness) const {
  for (size_t i = 0; i < bounds_.size(); ++i) {
    const Decimal& bound = bounds_[i];
    // On the boundary.
    if (!bound.IsZero() && bound.negative == negative && patterns_[2 * i + 1] != 0 &&
        Contains(bound)) {
      std::string digits = bound.digits;
      if (digits.size() < p.size()) digits.resize(p.size(), '0');
      if (digits.compare(0, p.size(), p) == 0 &&
          static_cast<int>(digits.size() - p.size()) <= room) {
        witness->digits = digits.substr(p.size());
        witness->scale = static_cast<int64_t>(bound.exponent) - static_cast<int64_t>(digits.size());
        return true;
      }
    }
    // Between it and the next.
    if (i + 1 == bounds_.size() || patterns_[2 * i + 2] == 0) continue;
    const bool below_zero = bounds_[i + 1].negative || bounds_[i + 1].IsZero();
    if (below_zero != negative) continue;
    Decimal low = bound, high = bounds_[i + 1];
    if (negative) {
      std::swap(low, high);
      low.negative = high.negative = false;
    }
    if (FindInRegion(p, room, natural, low, high, patterns_[2 * i + 2], witness)) return true;
  }
  return false;
}

bool NumberSet::FindExponent(const NumberText& text, std::string* completion) const {
  const Decimal mantissa = Decimal::FromDigits(text.negative, text.digits, -text.fraction_digits);
  const bool started = text.phase == NumberText::Phase::kExponent;
  if (mantissa.IsZero()) {
    if (!Contains(mantissa)) return false;
    if (completion != nullptr) *completion = started ? "" : "0";
    return true;
  }
  const int64_t low = kMinExponent - static_cast<int64_t>(mantissa.exponent);
  const int64_t high = kMaxExponent - static_cast<int64_t>(mantissa.exponent);
  const auto fits = [&](int64_t exponent) {
    if (exponent < low || exponent > high) return false;
    Decimal value = mantissa;
    value.exponent += static_cast<int32_t>(exponent);
    return Contains(value);
  };
  if (text.phase == NumberText::Phase::kE) {
    for (int64_t e = 0; e <= std::max(std::abs(low), std::abs(high)); ++e) {
      for (const int64_t exponent : {e, -e}) {
        if (!fits(exponent)) continue;
        if (completion != nullptr) *completion = std::to_string(exponent);
        return true;
      }
    }
    return false;
  }
  // Digits so far, then 0 or more further ones.
  int64_t power = 1;
  for (int k = 0; text.exponent_digits + k <= kMaxExponentDigits; ++k, power *= 10) {
    if (k == 0 && !started) continue;
    const int64_t base = text.exponent * power;
    // |exponent| = base + t, 0 <= t < power, where the signed exponent is within low .. high.
    int64_t from = base, to = base + power - 1;
    if (text.exponent_negative) {
      from = std::max(from, -high);
      to = std::min(to, -low);
    } else {
      from = std::max(from, low);
      to = std::min(to, high);
    }
    for (int64_t e = from; e <= to; ++e) {
      if (!fits(text.exponent_negative ? -e : e)) continue;
      if (completion != nullptr) {
        std::string rest = k == 0 ? "" : std::to_string(e - base);
        *completion = std::string(static_cast<size_t>(k) - rest.size(), '0') + rest;
      }
      return true;
    }
  }
  return false;
}

bool NumberSet::Viable(const NumberText& text, std::string* completion) const {
  using Phase = NumberText::Phase;
  if (text.phase == Phase::kE || text.phase == Phase::kESign || text.phase == Phase::kExponent) {
    return FindExponent(text, completion);
  }
  if (text.Complete() && Contains(text.Value())) {
    if (completion != nullptr) completion->clear();
    return true;
  }
  if (text.phase == Phase::kStart || text.phase == Phase::kSign) {
    // Any first byte; the shortest completion of all.
    bool viable = false;
    for (const char c : {'0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '-'}) {
      if (c == '-' && (text.phase == Phase::kSign || (viable && completion == nullptr))) continue;
      NumberText next = text;
      next.Append(c);
      std::string rest;
      if (!Viable(next, &rest)) continue;
      if (completion == nullptr) return true;
      if (!viable || rest.size() + 1 < completion->size()) *completion = c + rest;
      viable = true;
    }
    return viable;
  }
  const int room = kMaxNumberDigits - static_cast<int>(text.digits.size());
  const size_t first = text.digits.find_first_not_of('0');
  if (text.phase == Phase::kPoint && room < 1) return false;
  Witness witness;
  if (first == std::string::npos) {
    // Only zeros so far: any number may follow behind the point, zero too.
    const std::string point = text.phase == Phase::kZero ? "." : "";
    if (text.phase == Phase::kPoint && Contains(Decimal())) {
      if (completion != nullptr) *completion = "0";
      return true;
    }
    if (room < 1) return false;
    for (char c = '1'; c <= '9'; ++c) {
      if (!FindWitness(text.negative, std::string(1, c), room - 1, -(text.fraction_digits + 1),
                       &witness))
        continue;
      if (completion != nullptr) {
        const int64_t fraction =
            text.fraction_digits + 1 + static_cast<int64_t>(witness.digits.size());
        *completion = point + c + witness.digits;
        const int64_t exponent = witness.scale + fraction;
        if (exponent != 0) *completion += "e" + std::to_string(exponent);
      }
      return true;
    }
    return false;
  }
  if (!FindWitness(text.negative, text.digits.substr(first), room, -text.fraction_digits, &witness))
    return false;
  if (completion == nullptr) return true;
  std::string rest = witness.digits;
  int64_t scale = witness.scale;
  if (text.phase == Phase::kInteger) {
    const auto behind = static_cast<int64_t>(rest.size());
    if (scale > 0 && scale <= 20 && behind + scale <= room) {
      rest.append(static_cast<size_t>(scale), '0');
      scale = 0;
    } else if (scale < 0 && -scale <= behind) {
      rest.insert(static_cast<size_t>(behind + scale), ".");
      scale = 0;
    }
  } else {
    if (text.phase == Phase::kPoint && rest.empty()) {
      rest = "0";
      --scale;
    }
    scale += text.fraction_digits + static_cast<int64_t>(rest.size());
  }
  if (scale != 0) rest += "e" + std::to_string(scale);
  *completion = std::move(rest);
  return true;
}

std::optional<std::vector<Decimal>> NumberSet::Values(size_t limit) const {
  std::vector<Decimal> values;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    if (Contains(bounds_[i])) values.push_back(bounds_[i]);
    if (i + 1 == bounds_.size()) break;
    const Pattern pattern = patterns_[2 * i + 2];
    if (pattern == 0) continue;
    if ((pattern & 1) != 0) return std::nullopt;
    const bool negative = bounds_[i + 1].negative || bounds_[i + 1].IsZero();
    Decimal low = bounds_[i], high = bounds_[i + 1];
    if (negative) {
      std::swap(low, high);
      low.negative = high.negative = false;
    }
    for (const StepClass& c : step_classes_) {
      if ((pattern >> c.divisors & 1) == 0) continue;
      size_t tries = 0;
      for (Decimal v = NextMultiple(low, c.step, true); v < high;
           v = NextMultiple(v, c.step, true)) {
        if (++tries > limit * 100 || values.size() > limit) return std::nullopt;
        if (Divisors(v) == c.divisors) values.push_back(negative ? v.Negated() : v);
      }
    }
  }
  if (values.size() > limit) return std::nullopt;
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

}  // namespace ink::constraint
