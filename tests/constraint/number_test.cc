// Sets of numbers against integer arithmetic; prefixes against all their short completions.
#include <gtest/gtest.h>

#include <map>

#include "base/rng.h"
#include "sampling/constraint/number_set.h"

namespace ink::constraint {
namespace {

TEST(Decimal, ParsesAndCompares) {
  EXPECT_EQ(Decimal::Parse("100"), Decimal::Parse("1e2"));
  EXPECT_EQ(Decimal::Parse("-0"), Decimal::Parse("0.000e5"));
  EXPECT_EQ(Decimal::Parse("0.0010"), Decimal::Parse("1E-3"));
  EXPECT_LT(Decimal::Parse("-2"), Decimal::Parse("-1.999"));
  EXPECT_LT(Decimal::Parse("9.99e9"), Decimal::Parse("1e10"));
  EXPECT_GT(Decimal::Parse("0.1"), Decimal::Parse("-5e300"));
  EXPECT_EQ(Decimal::Parse("12.50").ToString(), "12.5");
  EXPECT_EQ(Decimal::Parse("-1e-9").ToString(), "-1e-9");
  EXPECT_TRUE(Decimal::Parse("1e2").IsInteger());
  EXPECT_FALSE(Decimal::Parse("1.5").IsInteger());
}

TEST(Decimal, Multiples) {
  const auto step = [](const char* text) {
    DecimalStep s;
    EXPECT_TRUE(DecimalStep::FromDecimal(Decimal::Parse(text), &s));
    return s;
  };
  EXPECT_TRUE(IsMultiple(Decimal::Parse("0.3"), step("0.1")));
  EXPECT_TRUE(IsMultiple(Decimal::Parse("19.99"), step("0.01")));
  EXPECT_FALSE(IsMultiple(Decimal::Parse("0.00751"), step("0.0001")));
  EXPECT_FALSE(IsMultiple(Decimal::Parse("1e308"), step("0.123456789")));
  EXPECT_TRUE(IsMultiple(Decimal::Parse("12391239123"), step("1e-8")));
  EXPECT_EQ(NextMultiple(Decimal::Parse("10"), step("7"), false), Decimal::Parse("14"));
  EXPECT_EQ(NextMultiple(Decimal::Parse("14"), step("7"), false), Decimal::Parse("14"));
  EXPECT_EQ(NextMultiple(Decimal::Parse("14"), step("7"), true), Decimal::Parse("21"));
  EXPECT_EQ(NextMultiple(Decimal::Parse("0.9999"), step("0.25"), false), Decimal::Parse("1"));
  EXPECT_EQ(NextMultiple(Decimal(), step("3"), true), Decimal::Parse("3"));
}

// A set and the same as a predicate on hundredths.
struct Pair {
  NumberSet set;
  std::function<bool(int64_t)> in;  // of 100 * value
};

Pair RandomSet(Rng& rng, int depth) {
  if (depth > 0 && rng.Below(3) != 0) {
    const Pair a = RandomSet(rng, depth - 1), b = RandomSet(rng, depth - 1);
    switch (rng.Below(3)) {
      case 0:
        return {a.set.And(b.set), [=](int64_t x) { return a.in(x) && b.in(x); }};
      case 1:
        return {a.set.Or(b.set), [=](int64_t x) { return a.in(x) || b.in(x); }};
      default:
        return {a.set.Not(), [=](int64_t x) { return !a.in(x); }};
    }
  }
  const int64_t bound = static_cast<int64_t>(rng.Below(60)) * 25 - 500;
  const Decimal d = Decimal::FromDigits(bound < 0, std::to_string(std::abs(bound)), -2);
  switch (rng.Below(5)) {
    case 0:
      return {NumberSet::AtLeast(d, false), [=](int64_t x) { return x >= bound; }};
    case 1:
      return {NumberSet::AtMost(d, true), [=](int64_t x) { return x < bound; }};
    case 2:
      return {NumberSet::Point(d), [=](int64_t x) { return x == bound; }};
    default: {
      static constexpr int64_t kSteps[] = {100, 50, 300, 25, 200};
      const int64_t step = kSteps[rng.Below(5)];
      DecimalStep s;
      DecimalStep::FromDecimal(Decimal::FromDigits(false, std::to_string(step), -2), &s);
      return {NumberSet::Multiples(s), [=](int64_t x) { return x % step == 0; }};
    }
  }
}

// All number texts of at most `length` bytes over a few characters, and whether they are complete.
void Texts(const NumberText& text, const std::string& so_far, size_t length,
           std::map<std::string, NumberText>& out) {
  out.emplace(so_far, text);
  if (so_far.size() == length) return;
  for (const char c : {'-', '0', '1', '2', '5', '7', '.', 'e'}) {
    NumberText next = text;
    if (next.Append(c)) Texts(next, so_far + c, length, out);
  }
}

TEST(NumberSet, AgreesWithIntegers) {
  std::map<std::string, NumberText> texts;
  Texts(NumberText(), "", 5, texts);
  int viable = 0, dead = 0;
  for (uint64_t seed = 0; seed < 250; ++seed) {
    Rng rng(seed, 1);
    Pair pair = RandomSet(rng, 3);
    ASSERT_FALSE(pair.set.overflow());
    ASSERT_TRUE(pair.set.Finish());
    for (int64_t x = -1200; x <= 1200; x += 5) {
      const Decimal d = Decimal::FromDigits(x < 0, std::to_string(std::abs(x)), -2);
      ASSERT_EQ(pair.set.Contains(d), pair.in(x)) << seed << " " << x;
    }
    // Texts in order: a completion stands behind its prefix.
    std::map<std::string, bool> completed;
    for (const auto& [text, state] : texts) {
      if (!state.Complete() || !pair.set.Contains(state.Value())) continue;
      for (size_t n = 0; n <= text.size(); ++n) completed[text.substr(0, n)] = true;
    }
    for (const auto& [text, state] : texts) {
      std::string rest;
      const bool is_viable = pair.set.Viable(state, &rest);
      if (completed.contains(text)) ASSERT_TRUE(is_viable) << seed << " '" << text << "'";
      if (!is_viable) {
        ++dead;
        continue;
      }
      ++viable;
      NumberText end = state;
      for (char c : rest) ASSERT_TRUE(end.Append(c)) << text << " + " << rest;
      ASSERT_TRUE(end.Complete()) << text << " + " << rest;
      ASSERT_TRUE(pair.set.Contains(end.Value())) << seed << " " << text << " + " << rest;
    }
  }
  EXPECT_GT(viable, 1000);
  EXPECT_GT(dead, 1000);
}

// Following any viable byte, a viable text never gets stuck.
TEST(NumberSet, NoDeadEnds) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Rng rng(seed, 2);
    Pair pair = RandomSet(rng, 3);
    if (!pair.set.Finish() || pair.set.empty()) continue;
    NumberText text;
    std::string written;
    for (int i = 0; i < 130; ++i) {
      std::string choices;
      for (const char c : std::string_view("-+0123456789.e")) {
        NumberText next = text;
        if (next.Append(c) && pair.set.Viable(next)) choices += c;
      }
      if (choices.empty()) {
        ASSERT_TRUE(text.Complete() && pair.set.Contains(text.Value())) << seed << " " << written;
        break;
      }
      const char c = choices[rng.Below(choices.size())];
      text.Append(c);
      written += c;
    }
  }
}

TEST(NumberSet, ListsFewValues) {
  NumberSet set = NumberSet::AtLeast(Decimal::Parse("-1"), false)
                      .And(NumberSet::AtMost(Decimal::Parse("2.5"), false))
                      .And(NumberSet::Multiples({5, 1}));
  ASSERT_TRUE(set.Finish());
  const auto values = set.Values(100);
  ASSERT_TRUE(values.has_value());
  std::string text;
  for (const Decimal& d : *values) text += d.ToString() + " ";
  EXPECT_EQ(text, "-1 -0.5 0 0.5 1 1.5 2 2.5 ");
  EXPECT_FALSE(set.Values(7).has_value());
  NumberSet range =
      NumberSet::AtLeast(Decimal(), false).And(NumberSet::AtMost(Decimal::FromInt(1), false));
  ASSERT_TRUE(range.Finish());
  EXPECT_FALSE(range.Values(1000).has_value());
}

}  // namespace
}  // namespace ink::constraint
