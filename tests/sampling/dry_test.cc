#include "sampling/dry.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "base/rng.h"
#include "sampling/slow_reference.h"

namespace ink {
namespace {

std::map<int32_t, double> Penalties(const std::vector<int32_t>& history, const SamplingParams& p,
                                    const DryBreakers& breakers = {}) {
  std::map<int32_t, double> result;
  for (const DryPenalty& d : DryPenalties(history, p, &breakers)) {
    result[d.id] = static_cast<double>(d.penalty);
  }
  return result;
}

SamplingParams Params(double multiplier, double base, int32_t allowed, int32_t last_n) {
  SamplingParams p;
  p.dry_multiplier = multiplier;
  p.dry_base = base;
  p.dry_allowed_length = allowed;
  p.dry_penalty_last_n = last_n;
  return p;
}

// The penalties behind the probabilities of llama.cpp's tests/test-sampling.cpp, test_dry.
TEST(Dry, PublishedCases) {
  EXPECT_TRUE(Penalties({0, 1}, Params(1, 1.1, 2, 4)).empty());
  auto got = Penalties({0, 1, 2, 0, 1}, Params(1, 1.1, 2, 5));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_NEAR(got[2], 1.0, 1e-6);  // 0.109232 / 0.296923 = exp(-1)
  DryBreakers three;
  three.Add(3, {});
  EXPECT_TRUE(Penalties({0, 1, 3, 4, 0, 1}, Params(1, 1.1, 2, 6), three).empty());
  got = Penalties({0, 1, 2, 0, 1}, Params(2, 1.1, 2, 5));
  EXPECT_NEAR(got[2], 2.0, 1e-6);
  EXPECT_TRUE(Penalties({0, 1, 2, 3, 4, 0, 1}, Params(1, 1.1, 4, 7)).empty());
}

TEST(Dry, GrowsWithTheRepeat) {
  auto got = Penalties({5, 6, 7, 8, 9, 5, 6, 7, 8}, Params(0.8, 1.75, 2, -1));
  EXPECT_NEAR(got[9], 0.8 * 1.75 * 1.75, 1e-6);
  got = Penalties({5, 6, 7, 8, 9, 5, 6, 7, 8}, Params(0.8, 1.75, 2, 8));  // 6 7 8 | 9 5 6 7 8
  EXPECT_NEAR(got[9], 0.8 * 1.75, 1e-6);
}

TEST(Dry, EqualsTheQuadraticDefinition) {
  Rng rng(17);
  for (int round = 0; round < 3000; ++round) {
    std::vector<int32_t> history(rng.Below(60));
    uint64_t alphabet = 1 + rng.Below(5);
    for (int32_t& id : history) id = static_cast<int32_t>(rng.Below(alphabet));
    SamplingParams p =
        Params(0.1 + rng.Uniform(), 1 + rng.Uniform(), static_cast<int32_t>(rng.Below(5)),
               static_cast<int32_t>(rng.Below(50)) - 1);
    DryBreakers breakers;
    std::set<int32_t> set;
    if (rng.Uniform() < 0.5) {
      auto id = static_cast<int32_t>(rng.Below(alphabet));
      breakers.Add(id, {});
      set.insert(id);
    }
    auto got = Penalties(history, p, breakers);
    auto want = slow::Dry(history, p, set);
    ASSERT_EQ(got.size(), want.size()) << round;
    for (auto [id, penalty] : want) {
      if (penalty < 1e38) ASSERT_NEAR(got[id], penalty, 1e-6 * penalty) << round;
    }
  }
}

TEST(Dry, HugeRepeatsStayFinite) {
  std::vector<int32_t> history(2000, 1);
  auto got = Penalties(history, Params(1, 5, 2, -1));
  EXPECT_TRUE(std::isfinite(got[1]));
  EXPECT_GT(got[1], 1e38);
}

TEST(Dry, MultiTokenBreakers) {
  // A breaker 3 then 4: what comes before and within it is not followed.
  DryBreakers breakers;
  breakers.Add(3, {4});
  std::vector<int32_t> history = {3, 4, 1, 9, 3, 4, 1};
  EXPECT_TRUE(Penalties(history, Params(1, 2, 2, -1), breakers).empty());
  auto got = Penalties(history, Params(1, 2, 1, -1), breakers);
  EXPECT_NEAR(got[9], 1.0, 1e-6);  // one token after the breaker
  got = Penalties(history, Params(1, 2, 1, -1));
  EXPECT_NEAR(got[9], 4.0, 1e-6);  // three tokens without it
  // A head without its tail breaks nothing.
  history = {3, 5, 1, 9, 3, 5, 1};
  got = Penalties(history, Params(1, 2, 1, -1), breakers);
  EXPECT_NEAR(got[9], 4.0, 1e-6);
}

TEST(Dry, ResolvesBreakersInTheVocabulary) {
  const std::vector<std::string> pieces = {"a", "\n", "x\n", "ab", "b", "cab", "", "abc!"};
  auto piece = [&](int32_t id) { return pieces[static_cast<size_t>(id)]; };
  auto tokenize = [](std::string_view text) {
    return std::vector<int32_t>(text.begin(), text.end());
  };
  std::vector<std::string> texts = {"\n", "abc"};
  DryBreakers breakers =
      ResolveDryBreakers(texts, static_cast<int32_t>(pieces.size()), piece, tokenize);
  EXPECT_TRUE(breakers.IsSingleToken(1));
  EXPECT_TRUE(breakers.IsSingleToken(2));
  EXPECT_TRUE(breakers.IsSingleToken(7));  // holds "abc"
  auto tails = [&](int32_t id) {
    auto t = breakers.Tails(id);
    return std::vector<std::vector<int32_t>>(t.begin(), t.end());
  };
  EXPECT_EQ(tails(0), (std::vector<std::vector<int32_t>>{{'b', 'c'}}));
  EXPECT_EQ(tails(3), (std::vector<std::vector<int32_t>>{{'c'}}));
  EXPECT_EQ(tails(5), (std::vector<std::vector<int32_t>>{{'c'}}));
  EXPECT_TRUE(tails(4).empty());
  EXPECT_TRUE(tails(6).empty());
}

}  // namespace
}  // namespace ink
