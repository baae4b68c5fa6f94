// The distribution after the chain: against the slow definitions, against published values, and the
// draws against the distribution.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/rng.h"
#include "sampling/sampler.h"
#include "sampling/slow_reference.h"

namespace ink {
namespace {

std::vector<float> RandomLogits(Rng& rng, int32_t n, float spread) {
  std::vector<float> logits(static_cast<size_t>(n));
  for (float& l : logits) l = spread * rng.Normal();
  return logits;
}

std::vector<float> Logs(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

Sampler Make(const SamplingParams& params, int32_t n_vocab, const std::vector<int32_t>& prompt = {},
             const std::vector<int32_t>& end_tokens = {},
             std::shared_ptr<const DryBreakers> breakers = std::make_shared<DryBreakers>(),
             uint64_t sample_index = 0) {
  auto sampler = Sampler::Create(params, {n_vocab, end_tokens, breakers}, prompt, sample_index);
  EXPECT_TRUE(sampler.ok()) << sampler.status().message();
  return *sampler;
}

std::map<int32_t, double> Reported(const Sampler& sampler, const std::vector<float>& logits,
                                   const std::vector<uint32_t>& mask = {}) {
  SamplerScratch scratch;
  auto list = sampler.Distribution(logits, mask, scratch);
  EXPECT_TRUE(list.ok()) << list.status().message();
  std::map<int32_t, double> result;
  double sum = 0;
  for (const TokenProb& t : *list) {
    result[t.id] = t.p;
    sum += t.p;
  }
  EXPECT_NEAR(sum, 1.0, 1e-12);
  return result;
}

void ExpectSame(const std::map<int32_t, double>& got, const std::map<int32_t, double>& want,
                double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (auto [id, p] : want) {
    ASSERT_TRUE(got.contains(id)) << what << ": token " << id << " is missing, p = " << p;
    ASSERT_NEAR(got.at(id), p, tolerance * p + 1e-15) << what << ": token " << id;
  }
}

std::vector<uint32_t> RandomMask(Rng& rng, int32_t n, double density) {
  std::vector<uint32_t> mask((static_cast<size_t>(n) + 31) / 32, 0);
  for (int32_t i = 0; i < n; ++i) {
    if (rng.Uniform() < density) mask[static_cast<size_t>(i) / 32] |= 1u << (i % 32);
  }
  mask[0] |= 1u;  // at least one
  return mask;
}

// Every stage on with probability one half, values drawn from their useful ranges.
SamplingParams RandomParams(Rng& rng, int32_t n) {
  auto coin = [&](double p = 0.5) { return rng.Uniform() < p; };
  SamplingParams p;
  p.preset = static_cast<ChainPreset>(rng.Below(3));
  p.seed = rng.Next();
  if (coin()) p.temperature = 0.2 + 2 * rng.Uniform();
  if (coin(0.2)) p.dynatemp_range = 0.5 * rng.Uniform(), p.dynatemp_exponent = 0.5 + rng.Uniform();
  if (coin()) p.top_k = static_cast<int32_t>(1 + rng.Below(static_cast<uint64_t>(n) * 5 / 4));
  if (coin()) p.top_p = rng.Uniform();
  if (coin(0.3)) p.min_p = 0.5 * rng.Uniform() * rng.Uniform();
  if (coin(0.3)) p.typical_p = 0.05 + 0.9 * rng.Uniform();
  if (coin(0.3)) p.top_n_sigma = 3 * rng.Uniform();
  if (coin(0.3)) p.xtc_probability = rng.Uniform(), p.xtc_threshold = 0.3 * rng.Uniform();
  if (coin(0.3)) p.min_keep = static_cast<int32_t>(rng.Below(8));
  if (coin()) p.repetition_penalty = 0.5 + 1.5 * rng.Uniform();
  if (coin()) p.frequency_penalty = 2 * rng.Uniform() - 0.5;
  if (coin()) p.presence_penalty = 2 * rng.Uniform() - 0.5;
  if (coin()) p.penalty_last_n = static_cast<int32_t>(rng.Below(40));
  if (coin()) p.dry_multiplier = rng.Uniform(), p.dry_base = 1 + rng.Uniform();
  p.dry_allowed_length = static_cast<int32_t>(rng.Below(4));
  if (coin()) p.dry_penalty_last_n = static_cast<int32_t>(rng.Below(40)) - 1;
  if (coin(0.3)) {
    for (int i = 0; i < 5; ++i) {
      auto id = static_cast<int32_t>(rng.Below(static_cast<uint64_t>(n)));
      p.logit_bias[id] = coin(0.3) ? -INFINITY : 4 * rng.Normal();
    }
  }
  if (coin(0.3)) {
    for (int i = 0; i < 4; ++i) {
      std::vector<int32_t> word(1 + rng.Below(3));
      for (int32_t& id : word) id = static_cast<int32_t>(rng.Below(static_cast<uint64_t>(n)));
      p.bad_words.push_back(word);
    }
  }
  if (coin(0.3)) p.min_tokens = static_cast<int32_t>(rng.Below(30));
  if (coin(0.2)) p.ignore_eos = true;
  if (coin(0.3)) {
    p.chain = PresetStages(p.preset);
    for (size_t i = p.chain.size(); i > 1; --i) std::swap(p.chain[i - 1], p.chain[rng.Below(i)]);
  }
  return p;
}

// Without edits probabilities agree as doubles do. Edited logits are stored as float32: below 32
// they are off by 2^-20 at most, the temperature may be as low as 0.2, and the norm has its own
// share.
void CompareWithSlow(uint64_t seed, int32_t n, int rounds) {
  constexpr double kExact = 1e-12;
  constexpr double kRounded = 2 * 0x1p-20 / 0.2;
  Rng rng(seed);
  for (int round = 0; round < rounds; ++round) {
    slow::Case c;
    c.params = RandomParams(rng, n);
    c.end_tokens = {0, n / 2};
    auto breakers = std::make_shared<DryBreakers>();
    for (int32_t id = 0; id < n; ++id) {
      if (rng.Uniform() < 0.1) breakers->Add(id, {}), c.dry_breakers.insert(id);
    }
    std::vector<float> logits = RandomLogits(rng, n, 3.0f);
    for (float& l : logits) {
      if (rng.Uniform() < 0.02) l = -INFINITY;
    }
    logits[1] = 1.0f;  // in the random masks below, and never banned
    c.params.logit_bias.erase(1);
    std::erase_if(c.params.bad_words, [](const auto& word) { return word.back() == 1; });
    std::vector<uint32_t> mask;
    if (rng.Uniform() < 0.5) {
      mask = RandomMask(rng, n, rng.Uniform() < 0.5 ? 0.05 : 0.8);
      mask[0] |= 2u;
    }
    // A small alphabet repeats itself, which DRY and the penalties need.
    for (uint64_t i = rng.Below(40); i > 0; --i) {
      c.history.push_back(static_cast<int32_t>(rng.Below(static_cast<uint64_t>(std::min(n, 6)))));
    }
    c.num_prompt = rng.Below(c.history.size() + 1);
    std::vector<int32_t> prompt(c.history.begin(),
                                c.history.begin() + static_cast<int64_t>(c.num_prompt));
    Sampler sampler = Make(c.params, n, prompt, c.end_tokens, breakers);
    for (size_t i = c.num_prompt; i < c.history.size(); ++i) sampler.Accept(c.history[i]);

    // Which way XTC's coin falls is the sampler's choice: the result must equal one of the two, and
    // the share of the two is tested by XtcProbability.
    auto got = Reported(sampler, logits, mask);
    auto want = slow::Distribution(logits, mask, c);
    if (c.params.xtc_probability > 0 &&
        RandomUniform(c.params.seed, 1, c.history.size()) < c.params.xtc_probability) {
      c.xtc_fires = true;
      want = slow::Distribution(logits, mask, c);
    }
    const bool rounded = c.params.dynatemp_range > 0 || !c.params.logit_bias.empty() ||
                         c.params.repetition_penalty != 1 || c.params.frequency_penalty != 0 ||
                         c.params.presence_penalty != 0 || c.params.dry_multiplier != 0;
    ExpectSame(got, want, rounded ? kRounded : kExact,
               "round " + std::to_string(round) + " " + ChainToJson(c.params).dump());
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(Distribution, EqualsTheSlowDefinitionsOnSmallVocabularies) { CompareWithSlow(1, 11, 5000); }
TEST(Distribution, EqualsTheSlowDefinitionsAcrossBlocks) { CompareWithSlow(2, 300, 2000); }
TEST(Distribution, EqualsTheSlowDefinitionsOnLargeVocabularies) { CompareWithSlow(3, 5003, 200); }

// Expected values of llama.cpp's tests/test-sampling.cpp: p in, p out, most probable first.
TEST(Distribution, PublishedValues) {
  const std::vector<double> p = {0.1, 0.2, 0.3, 0.4};
  auto check = [&](const std::vector<double>& in, const std::map<int32_t, double>& want, auto set) {
    SamplingParams params;
    set(params);
    auto got = Reported(Make(params, static_cast<int32_t>(in.size())), Logs(in));
    ASSERT_EQ(got.size(), want.size());
    for (auto [id, v] : want) EXPECT_NEAR(got[id], v, 1e-5);
  };
  using P = SamplingParams&;
  check(p, {{3, 1.0}}, [](P q) { q.top_k = 1; });
  check(p, {{3, 0.44444}, {2, 0.33333}, {1, 0.22222}}, [](P q) { q.top_k = 3; });
  check(p, {{0, 0.1}, {1, 0.2}, {2, 0.3}, {3, 0.4}}, [](P q) { q.top_k = 4; });
  check(p, {{3, 1.0}}, [](P q) { q.top_p = 0; });
  check(p, {{3, 0.571429}, {2, 0.428571}}, [](P q) { q.top_p = 0.69; });
  check(p, {{3, 0.44444}, {2, 0.33333}, {1, 0.22222}}, [](P q) { q.top_p = 0.8; });
  check(p, {{0, 0.1}, {1, 0.2}, {2, 0.3}, {3, 0.4}}, [](P q) { q.min_p = 0.24; });
  check(p, {{1, 0.2 / 0.9}, {2, 0.3 / 0.9}, {3, 0.4 / 0.9}}, [](P q) { q.min_p = 0.26; });
  check(p, {{2, 0.3 / 0.7}, {3, 0.4 / 0.7}}, [](P q) { q.min_p = 0.51; });
  check(p, {{3, 1.0}}, [](P q) { q.min_p = 1.0; });
  auto xtc = [](double threshold) {
    return [threshold](P q) { q.xtc_probability = 1, q.xtc_threshold = threshold; };
  };
  check(p, {{0, 1.0}}, xtc(0.09));
  check(p, {{0, 0.1 / 0.3}, {1, 0.2 / 0.3}}, xtc(0.19));
  check(p, {{0, 0.1 / 0.6}, {1, 0.2 / 0.6}, {2, 0.3 / 0.6}}, xtc(0.29));
  check(p, {{0, 0.1}, {1, 0.2}, {2, 0.3}, {3, 0.4}}, xtc(0.39));
  check({0.97, 0.01, 0.01, 0.01}, {{0, 1.0}}, [](P q) { q.typical_p = 0.5; });
  check({0.4, 0.2, 0.2, 0.2}, {{1, 1 / 3.0}, {2, 1 / 3.0}, {3, 1 / 3.0}},
        [](P q) { q.typical_p = 0.5; });
  check(p, {{2, 0.428571}, {3, 0.571429}}, [](P q) { q.top_n_sigma = 1; });
  check(p, {{0, 0.1}, {1, 0.2}, {2, 0.3}, {3, 0.4}}, [](P q) { q.top_n_sigma = 3; });
}

TEST(Distribution, PublishedPenaltyValues) {
  const std::vector<float> logits = Logs({0.2, 0.2, 0.2, 0.2, 0.2});
  auto check = [&](const std::vector<int32_t>& history, const std::vector<double>& want, double rep,
                   double freq, double presence) {
    SamplingParams params;
    params.preset = ChainPreset::kLlamaCpp;
    params.repetition_penalty = rep;
    params.frequency_penalty = freq;
    params.presence_penalty = presence;
    auto got = Reported(Make(params, 5, history), logits);
    for (int32_t i = 0; i < 5; ++i) EXPECT_NEAR(got[i], want[static_cast<size_t>(i)], 1e-5);
  };
  check({0}, {0, 0.25, 0.25, 0.25, 0.25}, 50, 0, 0);
  check({0, 1, 2}, {0, 0, 0, 0.5, 0.5}, 50, 0, 0);
  check({0, 1, 2, 0, 0}, {0, 0, 0, 0.5, 0.5}, 50, 0, 0);
  check({0}, {0.000011, 0.249997, 0.249997, 0.249997, 0.249997}, 1, 5, 5);
  check({0, 1, 2}, {0.000023, 0.000023, 0.000023, 0.499966, 0.499966}, 1, 5, 5);
  check({0, 1, 2, 0, 0}, {0, 0.000023, 0.000023, 0.499977, 0.499977}, 1, 5, 5);
}

TEST(Distribution, TopPCountsWhatTopKLeft) {
  // Of {0.4, 0.3} renormalized, 0.571 alone reaches 0.55; of all four, 0.4 alone does not.
  SamplingParams params;
  params.top_k = 2;
  params.top_p = 0.55;
  std::vector<float> logits = Logs({0.1, 0.2, 0.3, 0.4});
  for (ChainPreset preset : {ChainPreset::kDefault, ChainPreset::kLlamaCpp, ChainPreset::kHf}) {
    params.preset = preset;
    EXPECT_EQ(Reported(Make(params, 4), logits).size(), 1u) << ChainPresetName(preset);
  }
  params.chain = {SamplerStage::kTopP, SamplerStage::kTopK};
  EXPECT_EQ(Reported(Make(params, 4), logits).size(), 2u);
}

TEST(Distribution, PresetsPlaceTemperatureDifferently) {
  // At temperature 2 the nucleus is wider; llama.cpp cuts it before the temperature.
  SamplingParams params;
  params.temperature = 2;
  params.top_p = 0.65;
  std::vector<float> logits = Logs({0.1, 0.2, 0.3, 0.4});
  EXPECT_EQ(Reported(Make(params, 4), logits).size(), 3u);
  params.preset = ChainPreset::kHf;
  EXPECT_EQ(Reported(Make(params, 4), logits).size(), 3u);
  params.preset = ChainPreset::kLlamaCpp;
  auto got = Reported(Make(params, 4), logits);
  EXPECT_EQ(got.size(), 2u);
  double a = std::sqrt(0.4);
  double b = std::sqrt(0.3);
  EXPECT_NEAR(got[3], a / (a + b), 1e-6);
}

TEST(Distribution, TiesGoToTheLowerId) {
  std::vector<float> logits(200, 1.0f);
  logits[150] = 2.0f;
  SamplingParams params;
  params.top_k = 3;
  auto got = Reported(Make(params, 200), logits);
  EXPECT_TRUE(got.contains(150) && got.contains(0) && got.contains(1));
  params = {};
  params.top_p = 0.0135;  // e / (e + 199) = 0.01348
  got = Reported(Make(params, 200), logits);
  EXPECT_EQ(got.size(), 2u);
  EXPECT_TRUE(got.contains(150) && got.contains(0));
}

TEST(Distribution, WideAndFlatRows) {
  // All equal: the nucleus is exactly the first p * n ids, found without a sort of everything.
  std::vector<float> logits(4096, 0.25f);
  SamplingParams params;
  params.top_p = 0.5;
  auto got = Reported(Make(params, 4096), logits);
  EXPECT_EQ(got.size(), 2048u);
  EXPECT_EQ(got.rbegin()->first, 2047);
  // Extremes of float32 neither overflow nor divide by zero.
  logits[7] = 3.4e38f;
  logits[8] = -3.4e38f;
  for (double temperature : {1e-5, 1.0, 1e6}) {
    params.temperature = temperature;
    params.top_p = 0.9;
    got = Reported(Make(params, 4096), logits);
    EXPECT_EQ(got.size(), 1u);
    EXPECT_TRUE(got.contains(7));
  }
}

// Pearson's statistic of counts against the distribution; cells expecting under 5 are pooled.
void ExpectDrawsFit(const std::map<int32_t, double>& p, const std::map<int32_t, int64_t>& counts,
                    int64_t total) {
  double statistic = 0;
  double pooled_p = 0;
  int64_t pooled_count = 0;
  int cells = 0;
  auto add = [&](double expected, int64_t observed) {
    double d = static_cast<double>(observed) - expected;
    statistic += d * d / expected;
    ++cells;
  };
  for (auto [id, n] : counts) ASSERT_TRUE(p.contains(id)) << "drew impossible token " << id;
  for (auto [id, q] : p) {
    auto it = counts.find(id);
    int64_t n = it == counts.end() ? 0 : it->second;
    double expected = q * static_cast<double>(total);
    if (expected < 5) {
      pooled_p += q;
      pooled_count += n;
    } else {
      add(expected, n);
    }
  }
  if (pooled_p * static_cast<double>(total) >= 5) {
    add(pooled_p * static_cast<double>(total), pooled_count);
  }
  // Wilson and Hilferty's normal approximation at 4.5 sigma; the seeds are fixed.
  double k = std::max(1, cells - 1);
  double z = (std::cbrt(statistic / k) - (1 - 2 / (9 * k))) / std::sqrt(2 / (9 * k));
  EXPECT_LT(z, 4.5) << "chi-square " << statistic << " with " << k << " degrees of freedom";
}

// Draws at 200,000 positions by moving the sample index, which keys the draw as a position does.
void DrawMany(SamplingParams params, const std::vector<float>& logits, int64_t total) {
  auto n = static_cast<int32_t>(logits.size());
  SamplerScratch scratch;
  std::map<int32_t, int64_t> counts;
  for (int64_t i = 0; i < total; ++i) {
    auto sampler = Sampler::Create(params, {n, {}, nullptr}, {}, static_cast<uint64_t>(i));
    ASSERT_TRUE(sampler.ok());
    auto result = sampler->Sample(logits, {}, scratch);
    ASSERT_TRUE(result.ok());
    ++counts[result->token];
  }
  ExpectDrawsFit(Reported(Make(params, n), logits), counts, total);
}

TEST(Draws, FitTheDistribution) {
  Rng rng(5);
  SamplingParams params;
  params.seed = 99;
  DrawMany(params, RandomLogits(rng, 50, 1.5f), 200000);   // dense
  DrawMany(params, RandomLogits(rng, 700, 1.0f), 100000);  // dense, many blocks
  params.top_k = 20;
  params.temperature = 0.8;
  DrawMany(params, RandomLogits(rng, 500, 1.0f), 200000);  // sparse
  params.top_p = 0.9;
  params.preset = ChainPreset::kLlamaCpp;
  DrawMany(params, RandomLogits(rng, 500, 1.0f), 200000);
}

TEST(Draws, PositionsFitTheDistributionToo) {
  Rng rng(6);
  std::vector<float> logits = RandomLogits(rng, 12, 1.0f);
  SamplingParams params;
  params.seed = 3;
  Sampler sampler = Make(params, 12);
  auto p = Reported(sampler, logits);
  SamplerScratch scratch;
  std::map<int32_t, int64_t> counts;
  for (int i = 0; i < 200000; ++i) {
    auto result = sampler.Sample(logits, {}, scratch);
    ASSERT_TRUE(result.ok());
    ++counts[result->token];
    sampler.Accept(*result);
  }
  ExpectDrawsFit(p, counts, 200000);
}

TEST(Draws, XtcFiresWithItsProbability) {
  // Token 3 is dropped when XTC fires, and is drawn with 0.4 otherwise; 0, 1, 2 likewise by hand.
  SamplingParams params;
  params.xtc_probability = 0.3;
  params.xtc_threshold = 0.25;
  params.seed = 4;
  std::vector<float> logits = Logs({0.1, 0.2, 0.3, 0.4});
  std::map<int32_t, double> p;
  const double plain[] = {0.1, 0.2, 0.3, 0.4};
  for (int32_t i = 0; i < 4; ++i) p[i] = 0.7 * plain[i] + (i < 3 ? 0.3 * plain[i] / 0.6 : 0.0);
  SamplerScratch scratch;
  std::map<int32_t, int64_t> counts;
  for (uint64_t i = 0; i < 200000; ++i) {
    auto sampler = Sampler::Create(params, {4, {}, nullptr}, {}, i);
    ASSERT_TRUE(sampler.ok());
    ++counts[sampler->Sample(logits, {}, scratch)->token];
  }
  ExpectDrawsFit(p, counts, 200000);
}

}  // namespace
}  // namespace ink
