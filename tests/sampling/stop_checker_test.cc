#include "sampling/stop_checker.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/rng.h"

namespace ink {
namespace {

struct Outcome {
  std::string text;
  bool stopped = false;
  std::string matched;
  bool operator==(const Outcome&) const = default;
};

// The definition: the shortest beginning of `text` that ends with a stop string, the longest such.
Outcome Slow(const std::string& text, const std::vector<std::string>& stops, bool include) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const std::string& s : stops) {
      if (s.size() > best.size() && s.size() <= end && text.substr(end - s.size(), s.size()) == s) {
        best = s;
      }
    }
    if (!best.empty()) {
      return {text.substr(0, include ? end : end - best.size()), true, best};
    }
  }
  return {text, false, ""};
}

// Feeds the pieces that the bits of `cuts` make, checking what is handed out on the way.
Outcome Feed(const std::string& text, const std::vector<std::string>& stops, bool include,
             uint64_t cuts, const Outcome& want) {
  StopChecker checker(stops, include);
  Outcome got;
  std::string piece;
  for (size_t i = 0; i < text.size(); ++i) {
    piece += text[i];
    if (((cuts >> (i % 64)) & 1) == 0 && i + 1 < text.size()) continue;
    got.text += checker.Append(piece);
    piece.clear();
    EXPECT_EQ(want.text.substr(0, got.text.size()), got.text) << "handed out too much";
  }
  got.stopped = checker.stopped();
  if (got.stopped) got.matched = checker.matched();
  got.text += checker.Flush();
  EXPECT_EQ(checker.held(), 0u);
  return got;
}

TEST(StopChecker, AllSplitsOfAllPositions) {
  const std::string text = "one STOP two STO STOOP ENDing.";
  for (const std::vector<std::string>& stops :
       std::vector<std::vector<std::string>>{{"STOP"},
                                             {"STOOP"},
                                             {"END", "ENDing"},
                                             {" two", "wo "},
                                             {"absent"},
                                             {"O ", "TO S"},
                                             {"o"},
                                             {}}) {
    for (bool include : {false, true}) {
      Outcome want = Slow(text, stops, include);
      for (size_t a = 0; a < text.size(); ++a) {
        for (size_t b = a; b < text.size(); ++b) {
          ASSERT_EQ(Feed(text, stops, include, (1ull << a) | (1ull << b), want), want);
        }
      }
      ASSERT_EQ(Feed(text, stops, include, ~0ull, want), want);
    }
  }
}

TEST(StopChecker, RandomOverlapsAgainstTheDefinition) {
  Rng rng(2);
  auto random = [&](size_t size) {
    std::string s;
    for (size_t i = 0; i < size; ++i) s += static_cast<char>('a' + rng.Below(2));
    return s;
  };
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (uint64_t i = 1 + rng.Below(3); i > 0; --i) stops.push_back(random(2 + rng.Below(7)));
    std::string text = random(rng.Below(40));
    bool include = rng.Below(2) == 1;
    Outcome want = Slow(text, stops, include);
    ASSERT_EQ(Feed(text, stops, include, rng.Next(), want), want) << text;
  }
}

TEST(StopChecker, HoldsBackNoMoreThanAPossibleBeginning) {
  std::vector<std::string> stops = {"###", "\nUser:"};
  StopChecker checker(stops);
  EXPECT_EQ(checker.Append("Hi #"), "Hi ");
  EXPECT_EQ(checker.Append("#"), "");
  EXPECT_EQ(checker.held(), 2u);
  EXPECT_EQ(checker.Append("1"), "##1");
  EXPECT_EQ(checker.Append("x\nUs"), "x");
  EXPECT_EQ(checker.Append("ing\nUser"), "\nUsing");
  EXPECT_EQ(checker.Append(": hello"), "");
  EXPECT_TRUE(checker.stopped());
  EXPECT_EQ(checker.matched(), "\nUser:");
  EXPECT_EQ(checker.Append("more"), "");
  EXPECT_EQ(checker.Flush(), "");
}

TEST(StopChecker, NothingBeginsBeforeItIsArmed) {
  std::vector<std::string> stops = {"ab"};
  StopChecker checker(stops);
  EXPECT_EQ(checker.Append("ab a", false), "ab a");
  EXPECT_EQ(checker.Append("b"), "b");
  EXPECT_EQ(checker.Append("a"), "");
  EXPECT_EQ(checker.Append("b", false), "ab");
  EXPECT_FALSE(checker.stopped());
}

TEST(StopChecker, CopiesAreIndependent) {
  std::vector<std::string> stops = {"xyz"};
  StopChecker a(stops);
  EXPECT_EQ(a.Append("xy"), "");
  StopChecker b = a;
  EXPECT_EQ(b.Append("q"), "xyq");
  EXPECT_EQ(a.Append("z"), "");
  EXPECT_TRUE(a.stopped());
  EXPECT_FALSE(b.stopped());
}

}  // namespace
}  // namespace ink
