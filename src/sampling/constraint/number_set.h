// Sets of numbers (Boolean combinations of ranges and multipleOf) and their JSON texts.
//
// A set is a list of boundaries; between two of them, and on each, membership depends only on which
// of the set's steps divide the number.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sampling/constraint/decimal.h"

namespace ink::constraint {

/// A JSON number's text so far, already known to follow the grammar.
struct NumberText {
  enum class Phase { kStart, kSign, kZero, kInteger, kPoint, kFraction, kE, kESign, kExponent };
  Phase phase = Phase::kStart;
  bool negative = false;
  bool exponent_negative = false;
  std::string digits;  // of the mantissa, as written
  int fraction_digits = 0;
  int exponent_digits = 0;
  int exponent = 0;  // without sign

  /// False where the byte does not continue a number (or a digit limit is reached).
  bool Append(char c);
  bool Complete() const {
    return phase == Phase::kZero || phase == Phase::kInteger || phase == Phase::kFraction ||
           phase == Phase::kExponent;
  }
  Decimal Value() const;
};

class NumberSet {
 public:
  static NumberSet All();
  static NumberSet None();
  static NumberSet AtLeast(const Decimal& bound, bool exclusive);
  static NumberSet AtMost(const Decimal& bound, bool exclusive);
  static NumberSet Multiples(const DecimalStep& step);
  static NumberSet Point(const Decimal& value) { return Points({value}); }
  static NumberSet Points(std::vector<Decimal> values);

  NumberSet And(const NumberSet& other) const { return Combine(other, true); }
  NumberSet Or(const NumberSet& other) const { return Combine(other, false); }
  NumberSet Not() const;

  bool Contains(const Decimal& value) const;
  /// Limits the set to what may be written and drops divisibility patterns that cannot occur.
  /// False where the steps have no manageable common multiple.
  bool Finish();
  /// Whether any text of a finished set exists.
  bool empty() const { return !Viable(NumberText()); }
  /// True where every number is in the (finished) set.
  bool all() const { return all_; }
  /// Whether the text can be completed, and (if asked) one way to do so.
  bool Viable(const NumberText& text, std::string* completion = nullptr) const;
  /// The values of a finished set with at most `limit` of them.
  std::optional<std::vector<Decimal>> Values(size_t limit) const;
  /// More steps than this have no set.
  static constexpr size_t kMaxSteps = 5;
  bool overflow() const { return overflow_; }

  bool operator==(const NumberSet&) const = default;

 private:
  using Pattern = uint32_t;  // bit m: numbers divided by exactly the steps in m are members

  NumberSet Combine(const NumberSet& other, bool both) const;
  Pattern PatternAt(const Decimal& value) const;
  uint32_t Divisors(const Decimal& value) const;
  Pattern AllPatterns() const;
  // The number p * 10^n, ..., up to (p+1) * 10^n exclusive, that is a member with the fewest digits
  // behind p; false where there is none within `room` digits.
  struct Witness {
    std::string digits;  // behind those of p
    int64_t scale = 0;   // value = (p digits) * 10^scale
  };
  // Scales are tried from `natural` up, then down: the usual way to write the number first.
  bool FindWitness(bool negative, const std::string& p, int room, int natural,
                   Witness* witness) const;
  bool FindInRegion(const std::string& p, int room, int natural, const Decimal& low,
                    const Decimal& high, Pattern pattern, Witness* witness) const;
  bool FindAtScale(const std::string& p, int room, int64_t scale, const Decimal& low,
                   const Decimal& high, Pattern pattern, Witness* witness) const;
  bool FindExponent(const NumberText& text, std::string* completion) const;

  std::vector<Decimal> bounds_;    // ascending
  std::vector<Pattern> patterns_;  // 2 * bounds + 1: below, on, between, on, ..., above
  std::vector<DecimalStep> steps_;
  // Filled by Finish: each set of steps that can divide a number while the others do not, and the
  // least common multiple of the set.
  struct StepClass {
    uint32_t divisors = 0;
    DecimalStep step;
    bool operator==(const StepClass&) const = default;
  };
  std::vector<StepClass> step_classes_;
  bool all_ = false;
  bool overflow_ = false;  // too many steps
};

}  // namespace ink::constraint
