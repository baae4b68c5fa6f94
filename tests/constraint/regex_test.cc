// Regular expressions against std::regex, and what is refused.
#include <gtest/gtest.h>

#include <regex>

#include "base/rng.h"
#include "sampling/constraint/language.h"

namespace ink::constraint {
namespace {

std::string RandomPattern(Rng& rng, int depth) {
  std::string out;
  for (uint64_t n = rng.Below(4); n > 0; --n) {
    switch (rng.Below(depth > 0 ? 12 : 8)) {
      case 0:
        out += "[ab]";
        break;
      case 1:
        out += "[^a]";
        break;
      case 2:
        out += ".";
        break;
      case 3:
        out += "\\d";
        break;
      case 4:
        out += rng.Below(3) == 0 ? "\\b" : "\\w";
        break;
      case 5:
        if (rng.Below(3) == 0) {
          out += rng.Below(2) == 0 ? "^" : "$";
          continue;
        }
        [[fallthrough]];
      case 6:
      case 7:
        out += static_cast<char>('a' + rng.Below(3));
        break;
      case 8:
        out += "(" + RandomPattern(rng, depth - 1) + "|" + RandomPattern(rng, depth - 1) + ")";
        break;
      default:
        out += "(?:" + RandomPattern(rng, depth - 1) + ")";
    }
    if (out.ends_with("\\b")) continue;
    static constexpr const char* kQuantifiers[] = {"*", "+", "?", "{2}", "{1,2}", "{0,3}", "+?"};
    if (rng.Below(3) == 0) out += kQuantifiers[rng.Below(7)];
  }
  return out;
}

TEST(Regex, AgreesWithStdRegex) {
  int matches = 0, misses = 0;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    Rng rng(seed, 3);
    const std::string pattern = RandomPattern(rng, 2);
    std::regex reference;
    try {
      reference = std::regex(pattern);
    } catch (const std::regex_error&) {
      continue;
    }
    const auto parsed = ParseRegex(pattern);
    ASSERT_TRUE(parsed.ok()) << pattern << ": " << parsed.status().message();
    const auto whole = RegexDfa(*parsed, false, 20000), search = RegexDfa(*parsed, true, 20000);
    ASSERT_TRUE(whole.ok() && search.ok()) << pattern;
    for (int i = 0; i < 30; ++i) {
      std::string text;
      for (uint64_t n = rng.Below(6); n > 0; --n) text += "abc1 d\n"[rng.Below(7)];
      const bool is_match = std::regex_match(text, reference);
      ASSERT_EQ(whole->Match(text) != 0, is_match) << pattern << " on '" << text << "'";
      ASSERT_EQ(search->Match(text) != 0, std::regex_search(text, reference))
          << pattern << " in '" << text << "'";
      ++(is_match ? matches : misses);
    }
  }
  EXPECT_GT(matches, 500);
  EXPECT_GT(misses, 500);
}

TEST(Regex, Unicode) {
  const auto matches = [](const char* pattern, const char* text) {
    const auto parsed = ParseRegex(pattern);
    EXPECT_TRUE(parsed.ok()) << pattern << ": " << parsed.status().message();
    const auto dfa = RegexDfa(*parsed, false, 1000);
    EXPECT_TRUE(dfa.ok());
    return dfa->Match(text) != 0;
  };
  EXPECT_TRUE(matches("\\p{L}+", "héÆπ"));
  EXPECT_FALSE(matches("\\p{L}+", "a1"));
  EXPECT_TRUE(matches("\\p{Lu}\\P{Lu}", "Éé"));
  EXPECT_TRUE(matches("[\\p{Letter}\\p{Nd}_]*", "aé٣_"));
  EXPECT_TRUE(matches("\\u00e9\\u{1F600}\\uD83D\\uDE00", "é😀😀"));
  EXPECT_TRUE(matches(".", "😀"));
  EXPECT_FALSE(matches(".", "\u2028"));
  EXPECT_TRUE(matches("(?s).", "\n"));
  EXPECT_TRUE(matches("(?i)straße", "STRAßE"));
  EXPECT_TRUE(matches("(?P<year>\\d{4})-(?<month>\\d\\d)", "2026-01"));
  EXPECT_TRUE(matches("[^]", "x"));
  EXPECT_FALSE(matches("a[]b", "ab"));
  EXPECT_TRUE(matches("a{,2}", "a{,2}"));
}

TEST(Regex, RefusesByName) {
  const auto message = [](const char* pattern) {
    const auto parsed = ParseRegex(pattern);
    EXPECT_FALSE(parsed.ok()) << pattern;
    return parsed.status().message();
  };
  EXPECT_NE(message("a(?=b)").find("look-ahead"), std::string::npos);
  EXPECT_NE(message("(?<!b)a").find("look-behind"), std::string::npos);
  EXPECT_NE(message("(a)\\1").find("back-reference"), std::string::npos);
  EXPECT_NE(message("(?<n>a)\\k<n>").find("back-reference"), std::string::npos);
  EXPECT_NE(message("\\p{Script=Greek}").find("Script=Greek"), std::string::npos);
  for (const char* bad : {"(", ")", "a)", "[a", "*a", "a**", "\\", "[b-a]", "a{3,2}", "\\x1"}) {
    EXPECT_FALSE(ParseRegex(bad).ok()) << bad;
  }
  EXPECT_FALSE(ParseRegex(std::string(5000, '(') + std::string(5000, ')')).ok());
}

TEST(Regex, BoundsItself) {
  for (const char* pattern : {"(a|b)*a(a|b){40}", "((a{1000}){1000}){1000}", "(\\w{1,500}x){1,500}",
                              "(x+x+)+y", "([a-z]*){50}"}) {
    const auto parsed = ParseRegex(pattern);
    ASSERT_TRUE(parsed.ok()) << pattern;
    const auto dfa = RegexDfa(*parsed, false, 20000);
    if (!dfa.ok()) EXPECT_EQ(dfa.status().code(), StatusCode::kUnsupported);
  }
}

TEST(Language, Combinations) {
  LanguagePool pool(20000);
  const LangId a = *pool.Search("^a"), b = *pool.Search("b$");
  const LangId both = pool.And(a, pool.Not(b)), some = pool.Or(pool.Literals({"ab", "x"}), both);
  EXPECT_TRUE(pool.Accepts(both, "ac"));
  EXPECT_FALSE(pool.Accepts(both, "ab"));
  EXPECT_EQ(pool.And(a, pool.Not(a)), LanguagePool::kNone);
  EXPECT_EQ(pool.And(pool.Literals({"ab", "bc"}), a), pool.Literals({"ab"}));
  const auto dfa = pool.ToDfa(some);
  ASSERT_TRUE(dfa.ok());
  for (const char* text : {"", "a", "ab", "ac", "x", "xb", "aab"}) {
    EXPECT_EQ((*dfa)->Match(text) != 0, pool.Accepts(some, text)) << text;
  }
  const auto set = MakeStringSet(pool, pool.And(*pool.Search("^(ab)*$"), pool.Length(1, 5)));
  ASSERT_TRUE(set.ok());
  EXPECT_EQ((*set)->cardinality, 2u);
  EXPECT_TRUE((*set)->Contains("abab"));
  EXPECT_FALSE((*set)->Contains("ababab"));
  const auto none = MakeStringSet(pool, pool.And(*pool.Search("^a{3}$"), pool.Length(4, 9)));
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE((*none)->empty());
}

}  // namespace
}  // namespace ink::constraint
