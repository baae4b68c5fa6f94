#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"

namespace ink {
namespace {

constexpr float kNegInf = -std::numeric_limits<float>::infinity();

std::vector<float> RandomLogits(uint64_t seed, int32_t n, float spread = 3.0f) {
  Rng rng(seed);
  std::vector<float> logits(static_cast<size_t>(n));
  for (float& l : logits) l = spread * rng.Normal();
  return logits;
}

std::vector<uint32_t> Mask(int32_t n, const std::set<int32_t>& allowed) {
  std::vector<uint32_t> mask((static_cast<size_t>(n) + 31) / 32, 0);
  for (int32_t id : allowed) mask[static_cast<size_t>(id) / 32] |= 1u << (id % 32);
  return mask;
}

Sampler Make(const SamplingParams& params, int32_t n, std::vector<int32_t> prompt = {},
             std::vector<int32_t> ends = {}, uint64_t sample_index = 0) {
  auto s = Sampler::Create(params, {n, std::move(ends), std::make_shared<DryBreakers>()}, prompt,
                           sample_index);
  EXPECT_TRUE(s.ok()) << s.status().message();
  return *s;
}

SampleResult Draw(const Sampler& s, const std::vector<float>& logits,
                  const std::vector<uint32_t>& mask = {}) {
  SamplerScratch scratch;
  auto r = s.Sample(logits, mask, scratch);
  EXPECT_TRUE(r.ok()) << r.status().message();
  return *r;
}

std::string Failure(const Sampler& s, const std::vector<float>& logits,
                    const std::vector<uint32_t>& mask = {}) {
  SamplerScratch scratch;
  auto r = s.Sample(logits, mask, scratch);
  EXPECT_FALSE(r.ok());
  return r.status().message();
}

SamplingParams Greedy() {
  SamplingParams p;
  p.temperature = 0;
  return p;
}

TEST(Greedy, LargestLogitTiesToTheLowestId) {
  for (int32_t n : {1, 7, 63, 64, 65, 128, 1000}) {
    std::vector<float> logits = RandomLogits(static_cast<uint64_t>(n), n);
    auto best =
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    for (uint64_t seed : {0u, 1u, 2u}) {
      SamplingParams p = Greedy();
      p.seed = seed;
      EXPECT_EQ(Draw(Make(p, n), logits).token, best);
    }
    std::fill(logits.begin(), logits.end(), -5.0f);
    EXPECT_EQ(Draw(Make(Greedy(), n), logits).token, 0);
    logits[static_cast<size_t>(n / 2)] = logits.back() = -4.0f;
    EXPECT_EQ(Draw(Make(Greedy(), n), logits).token, n / 2);
  }
}

TEST(Greedy, NoStageThatRemovesChangesIt) {
  std::vector<float> logits = RandomLogits(3, 100);
  SamplingParams p = Greedy();
  int32_t best = Draw(Make(p, 100), logits).token;
  p.xtc_probability = 1;
  p.xtc_threshold = 0;
  p.typical_p = 0.01;
  p.top_k = 5;
  EXPECT_EQ(Draw(Make(p, 100), logits).token, best);
  p.logit_bias[best] = -100;
  EXPECT_NE(Draw(Make(p, 100), logits).token, best);
}

TEST(Errors, BadRowsAreNamed) {
  Sampler s = Make({}, 200);
  std::vector<float> logits = RandomLogits(1, 200);
  logits[130] = NAN;
  logits[150] = NAN;
  EXPECT_EQ(Failure(s, logits), "logits: index 130 is NaN, expected a finite number or -infinity");
  // Also where the mask leaves it out, and for greedy.
  EXPECT_EQ(Failure(Make(Greedy(), 200), logits, Mask(200, {1, 2})),
            "logits: index 130 is NaN, expected a finite number or -infinity");
  logits[64] = INFINITY;
  EXPECT_EQ(Failure(s, logits),
            "logits: index 64 is +infinity, expected a finite number or -infinity");
  logits[199] = NAN;  // in the last, partial block
  logits[64] = logits[130] = logits[150] = 0;
  EXPECT_EQ(Failure(s, logits), "logits: index 199 is NaN, expected a finite number or -infinity");
  std::fill(logits.begin(), logits.end(), NAN);
  EXPECT_EQ(Failure(s, logits), "logits: index 0 is NaN, expected a finite number or -infinity");
  std::fill(logits.begin(), logits.end(), kNegInf);
  EXPECT_EQ(Failure(s, logits), "logits: expected a finite number among them, got -infinity only");
  logits.pop_back();
  EXPECT_EQ(Failure(s, logits), "logits: expected 200 values, got 199");
  EXPECT_EQ(Failure(s, RandomLogits(1, 200), std::vector<uint32_t>(6, ~0u)),
            "token mask: expected 7 words of 32 bits, got 6");
}

TEST(Errors, CreateChecksIds) {
  auto code = [](const std::vector<int32_t>& prompt, const std::vector<int32_t>& ends) {
    return Sampler::Create({}, {10, ends, nullptr}, prompt).status().message();
  };
  EXPECT_EQ(code({3, 10}, {}), "prompt: expected token ids in [0, 10), got 10");
  EXPECT_EQ(code({}, {-1}), "end tokens: expected token ids in [0, 10), got -1");
  SamplingParams p;
  p.top_p = 2;
  EXPECT_FALSE(Sampler::Create(p, {10, {}, nullptr}, {}).ok());
  p = {};
  p.dry_multiplier = 1;
  EXPECT_NE(
      Sampler::Create(p, {10, {}, nullptr}, {}).status().message().find("dry_sequence_breakers"),
      std::string::npos);
  p.dry_sequence_breakers.clear();
  EXPECT_TRUE(Sampler::Create(p, {10, {}, nullptr}, {}).ok());
}

TEST(Mask, OnlyAllowedTokensAreDrawn) {
  Rng rng(8);
  for (int32_t n : {5, 32, 33, 257}) {
    for (double density : {0.02, 0.3, 0.9}) {
      std::set<int32_t> allowed = {n - 1};
      for (int32_t i = 0; i < n; ++i) {
        if (rng.Uniform() < density) allowed.insert(i);
      }
      std::vector<uint32_t> mask = Mask(n, allowed);
      if (n % 32 != 0) mask.back() |= ~0u << (n % 32);  // bits beyond the vocabulary mean nothing
      std::vector<float> logits = RandomLogits(rng.Next(), n);
      for (uint64_t i = 0; i < 50; ++i) {
        SamplingParams p;
        if (i % 2) p.top_p = 0.9;
        EXPECT_TRUE(allowed.contains(Draw(Make(p, n, {}, {}, i), logits, mask).token));
      }
      int32_t best = *std::max_element(allowed.begin(), allowed.end(), [&](int32_t a, int32_t b) {
        return logits[static_cast<size_t>(a)] < logits[static_cast<size_t>(b)];
      });
      EXPECT_EQ(Draw(Make(Greedy(), n), logits, mask).token, best);
    }
  }
}

TEST(Mask, NothingLeftIsAnError) {
  std::vector<float> logits = RandomLogits(1, 40);
  EXPECT_EQ(Failure(Make({}, 40), logits, Mask(40, {})),
            "token mask: expected an allowed token with a finite logit, got none");
  logits[7] = kNegInf;
  EXPECT_EQ(Failure(Make({}, 40), logits, Mask(40, {7})),
            "token mask: expected an allowed token with a finite logit, got none");
  SamplingParams p;
  p.logit_bias = {{3, kNegInf}};
  EXPECT_NE(Failure(Make(p, 40), logits, Mask(40, {3})).find("no token is left"),
            std::string::npos);
  p = {};
  p.bad_words = {{3}, {9, 4}};
  EXPECT_NE(Failure(Make(p, 40, {9}), logits, Mask(40, {3, 4})).find("no token is left"),
            std::string::npos);
}

TEST(Draws, DependOnSeedSampleIndexAndPositionAlone) {
  std::vector<float> logits = RandomLogits(4, 300, 1.0f);
  SamplingParams p;
  p.seed = 11;
  SamplerScratch shared;
  // The same position gives the same token whatever was drawn between, and whether tokens are
  // prompt or output.
  Sampler a = Make(p, 300, {1, 2, 3});
  auto first = a.Sample(logits, {}, shared);
  ASSERT_TRUE(first.ok());
  Sampler other = Make({}, 300);
  (void)other.Sample(RandomLogits(9, 300), {}, shared);
  auto again = a.Sample(logits, {}, shared);
  EXPECT_EQ(first->token, again->token);
  Sampler b = Make(p, 300, {1});
  b.Accept(2);
  b.Accept(3);
  EXPECT_EQ(Draw(b, logits).token, first->token);
  // And each of the three changes it, somewhere among many draws.
  auto differs = [&](auto make) {
    int different = 0;
    for (int i = 0; i < 20; ++i) {
      different += Draw(make(i, 0), logits).token != Draw(make(i, 1), logits).token ? 1 : 0;
    }
    return different;
  };
  EXPECT_GT(differs([&](int i, int v) {
              SamplingParams q = p;
              q.seed = static_cast<uint64_t>(100 * v + i);
              return Make(q, 300);
            }),
            10);
  EXPECT_GT(differs([&](int i, int v) {
              return Make(p, 300, {}, {}, static_cast<uint64_t>(100 * v + i));
            }),
            10);
  EXPECT_GT(differs([&](int i, int v) {
              return Make(p, 300, std::vector<int32_t>(static_cast<size_t>(30 * v + i), 5));
            }),
            10);
}

SamplingParams Busy() {
  SamplingParams p;
  p.seed = 5;
  p.repetition_penalty = 1.3;
  p.frequency_penalty = 0.4;
  p.presence_penalty = 0.2;
  p.penalty_last_n = 6;
  p.dry_multiplier = 0.7;
  p.dry_allowed_length = 1;
  p.bad_words = {{1, 2, 3}, {4, 4}};
  p.min_tokens = 9;
  return p;
}

TEST(State, RewindEqualsNeverHavingAccepted) {
  for (bool mirostat : {false, true}) {
    SamplingParams p = Busy();
    if (mirostat) p.mirostat = 2;
    std::vector<float> logits = RandomLogits(2, 10, 1.0f);
    Rng rng(1);
    Sampler straight = Make(p, 10, {1, 2, 1}, {0});
    Sampler wandering = straight;
    for (int step = 0; step < 60; ++step) {
      int detour = static_cast<int>(rng.Below(8));
      for (int i = 0; i < detour; ++i) {
        if (i % 2) {
          wandering.Accept(static_cast<int32_t>(rng.Below(10)));
        } else {
          wandering.Accept(Draw(wandering, logits));
        }
      }
      wandering.Rewind(detour);
      SampleResult a = Draw(straight, logits);
      SampleResult b = Draw(wandering, logits);
      ASSERT_EQ(a.token, b.token) << step;
      ASSERT_EQ(a.surprise, b.surprise) << step;
      SamplerScratch scratch;
      auto da = straight.Distribution(logits, {}, scratch);
      auto db = wandering.Distribution(logits, {}, scratch);
      ASSERT_TRUE(da.ok() && db.ok());
      ASSERT_EQ(da->size(), db->size());
      for (size_t i = 0; i < da->size(); ++i) ASSERT_EQ((*da)[i].p, (*db)[i].p);
      straight.Accept(a);
      wandering.Accept(b);
    }
  }
}

TEST(State, CopiesAreIndependent) {
  std::vector<float> logits = RandomLogits(2, 10, 1.0f);
  Sampler a = Make(Busy(), 10, {1}, {0});
  a.Accept(3);
  Sampler b = a;
  b.Accept(4);
  EXPECT_EQ(a.num_output(), 1);
  EXPECT_EQ(b.num_output(), 2);
  EXPECT_EQ(b.history()[2], 4);
  Sampler c = Make(Busy(), 10, {1}, {0});
  c.Accept(3);
  EXPECT_EQ(Draw(a, logits).token, Draw(c, logits).token);
}

TEST(State, SpeculativeVerificationIsPlainDecoding) {
  // A draft that is right about half of the time; rows are those of a fixed "model" of the last
  // token.
  auto row = [](int32_t last) { return RandomLogits(static_cast<uint64_t>(last) + 50, 10, 1.0f); };
  SamplingParams p = Busy();
  p.mirostat = 2;
  Sampler plain = Make(p, 10, {1}, {0});
  std::vector<int32_t> want;
  while (want.size() < 200) {
    plain.Accept(Draw(plain, row(plain.history().back())));
    want.push_back(plain.history().back());
  }
  Rng rng(3);
  Sampler s = Make(p, 10, {1}, {0});
  while (s.num_output() < 200) {
    auto done = static_cast<size_t>(s.num_output());
    std::vector<int32_t> draft;
    for (size_t i = done; i < done + 4 && i < want.size(); ++i) {
      draft.push_back(rng.Uniform() < 0.5 ? want[i] : static_cast<int32_t>(rng.Below(10)));
    }
    int32_t input = s.history().back();
    for (size_t i = 0; i <= draft.size(); ++i) {
      s.Accept(Draw(s, row(input)));
      if (i == draft.size() || s.history().back() != draft[i]) break;
      input = draft[i];
    }
  }
  for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(s.history()[i + 1], want[i]);
}

TEST(Mirostat, CeilingAndLearning) {
  // Two bits of ceiling: of {0.5, 0.3, 0.15, 0.05} those of at least a quarter stay.
  std::vector<float> logits;
  for (double v : {0.5, 0.3, 0.15, 0.05}) logits.push_back(static_cast<float>(std::log(v)));
  SamplingParams p;
  p.mirostat = 2;
  p.mirostat_tau = 1;
  p.mirostat_eta = 0.5;
  Sampler s = Make(p, 4);
  SamplerScratch scratch;
  auto list = s.Distribution(logits, {}, scratch);
  ASSERT_TRUE(list.ok());
  ASSERT_EQ(list->size(), 2u);
  EXPECT_NEAR((*list)[0].p, 0.625, 1e-6);
  SampleResult r = Draw(s, logits);
  double probability = r.token == 0 ? 0.625 : 0.375;
  EXPECT_NEAR(r.surprise, -std::log2(probability), 1e-6);
  // mu = 2 - 0.5 * (surprise - 1): after token 0 (0.678 bits) 2.161, after token 1 (1.415) 1.79.
  s.Accept(r);
  list = s.Distribution(logits, {}, scratch);
  double mu = 2 - 0.5 * (r.surprise - 1);
  size_t expected = 0;
  for (double v : {0.5, 0.3, 0.15, 0.05}) expected += -std::log2(v) <= mu ? 1 : 0;
  EXPECT_EQ(list->size(), expected);
  // The best token stays however low the ceiling sinks.
  p.mirostat_tau = 0;
  EXPECT_EQ(Make(p, 4).Distribution(logits, {}, scratch)->size(), 1u);
}

TEST(Mirostat, HoldsItsTargetSurprise) {
  std::vector<float> logits = RandomLogits(3, 2000, 1.5f);
  SamplingParams p;
  p.mirostat = 2;
  p.mirostat_tau = 4;
  Sampler s = Make(p, 2000);
  double sum = 0;
  for (int i = 0; i < 2000; ++i) {
    SampleResult r = Draw(s, logits);
    if (i >= 500) sum += r.surprise;
    s.Accept(r);
  }
  EXPECT_NEAR(sum / 1500, 4.0, 0.1);
}

TEST(EndTokens, BannedUntilMinTokens) {
  std::vector<float> logits(20, 0.0f);
  logits[2] = 50;  // end
  logits[5] = 49;  // stop token
  SamplingParams p = Greedy();
  p.min_tokens = 3;
  p.stop_token_ids = {5};
  Sampler s = Make(p, 20, {1}, {2});
  for (int i = 0; i < 3; ++i) {
    SampleResult r = Draw(s, logits);
    EXPECT_EQ(r.token, 0);
    s.Accept(r);
    EXPECT_FALSE(s.StopsArmed());
    EXPECT_EQ(s.Finish(), FinishReason::kNone);
  }
  SampleResult r = Draw(s, logits);
  EXPECT_EQ(r.token, 2);
  s.Accept(r);
  EXPECT_TRUE(s.StopsArmed());
  EXPECT_EQ(s.Finish(), FinishReason::kEndToken);
  s.Rewind(1);
  s.Accept(5);
  EXPECT_EQ(s.Finish(), FinishReason::kStopToken);
  s.Rewind(1);
  s.Accept(7);
  EXPECT_EQ(s.Finish(), FinishReason::kNone);
}

TEST(EndTokens, IgnoreEosAndLength) {
  std::vector<float> logits(20, 0.0f);
  logits[2] = 50;
  SamplingParams p = Greedy();
  p.ignore_eos = true;
  p.max_tokens = 2;
  Sampler s = Make(p, 20, {}, {2});
  EXPECT_EQ(Draw(s, logits).token, 0);
  s.Accept(2);
  EXPECT_EQ(s.Finish(), FinishReason::kNone);
  s.Accept(2);
  EXPECT_EQ(s.Finish(), FinishReason::kLength);
  p.max_tokens = 0;
  EXPECT_EQ(Make(p, 20).Finish(), FinishReason::kLength);
}

TEST(EndTokens, ACompleteConstraintEndsInSpiteOfMinTokens) {
  std::vector<float> logits(20, 0.0f);
  SamplingParams p;
  p.min_tokens = 5;
  Sampler s = Make(p, 20, {}, {2, 3});
  SampleResult r = Draw(s, logits, Mask(20, {2}));
  EXPECT_EQ(r.token, 2);
  EXPECT_TRUE(r.forced_end);
  s.Accept(r);
  EXPECT_EQ(s.Finish(), FinishReason::kEndToken);
  s.Rewind(1);
  s.Accept(4);
  EXPECT_EQ(s.Finish(), FinishReason::kNone);
  s.Rewind(1);
  r = Draw(s, logits, Mask(20, {2, 9}));
  EXPECT_EQ(r.token, 9);
  EXPECT_FALSE(r.forced_end);
}

TEST(BadWords, LastTokenBannedAfterItsBeginning) {
  std::vector<float> logits(10, 0.0f);
  logits[3] = 5;
  SamplingParams p = Greedy();
  p.bad_words = {{1, 2, 3}};
  EXPECT_EQ(Draw(Make(p, 10, {1, 2}), logits).token, 0);
  EXPECT_EQ(Draw(Make(p, 10, {2, 2}), logits).token, 3);
  EXPECT_EQ(Draw(Make(p, 10, {2}), logits).token, 3);
  Sampler s = Make(p, 10, {1});
  s.Accept(2);
  EXPECT_EQ(Draw(s, logits).token, 0);
  p.bad_words = {{3}};
  EXPECT_EQ(Draw(Make(p, 10), logits).token, 0);
}

TEST(LogitBias, AddsAndBans) {
  std::vector<float> logits = {1, 2, 3, 4};
  SamplingParams p = Greedy();
  p.logit_bias = {{3, kNegInf}, {0, 1.5f}};
  EXPECT_EQ(Draw(Make(p, 4), logits).token, 2);
  p.logit_bias = {{0, 3.5f}};
  EXPECT_EQ(Draw(Make(p, 4), logits).token, 0);
  p.logit_bias = {{0, 3e38f}};
  logits[0] = 3e38f;  // the sum is beyond float32: clamped, not infinite
  SamplingParams sampled;
  sampled.logit_bias = p.logit_bias;
  EXPECT_EQ(Draw(Make(sampled, 4), logits).token, 0);
}

TEST(Penalties, ScopeByPreset) {
  // Prompt 1 1, output 2: what frequency and presence see differs, repetition does not.
  std::vector<float> logits = {1, 1, 1, 1};
  auto ratio = [&](ChainPreset preset, int32_t id, double rep, double freq, double presence) {
    SamplingParams p;
    p.preset = preset;
    p.repetition_penalty = rep;
    p.frequency_penalty = freq;
    p.presence_penalty = presence;
    Sampler s = Make(p, 4, {1, 1});
    s.Accept(2);
    SamplerScratch scratch;
    auto d = s.Distribution(logits, {}, scratch);
    return std::log((*d)[static_cast<size_t>(id)].p / (*d)[0].p);
  };
  for (ChainPreset preset : {ChainPreset::kDefault, ChainPreset::kHf, ChainPreset::kLlamaCpp}) {
    EXPECT_NEAR(ratio(preset, 1, 2, 0, 0), -0.5, 1e-6);
    EXPECT_NEAR(ratio(preset, 2, 2, 0, 0), -0.5, 1e-6);
    EXPECT_NEAR(ratio(preset, 2, 1, 0.25, 0.5), -0.75, 1e-6);
    double prompt = preset == ChainPreset::kLlamaCpp ? -1.0 : 0.0;
    EXPECT_NEAR(ratio(preset, 1, 1, 0.25, 0.5), prompt, 1e-6);
  }
}

TEST(Logprobs, RawAreTheModelsOwn) {
  std::vector<float> logits = RandomLogits(6, 1000);
  double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float l : logits) sum += std::exp(static_cast<double>(l) - max);
  SamplingParams p;
  p.logprobs = 5;
  p.temperature = 0.3;
  p.top_k = 2;
  p.logit_bias = {{10, kNegInf}};
  std::set<int32_t> allowed;
  for (int32_t i = 0; i < 1000; i += 2) allowed.insert(i);
  SampleResult r = Draw(Make(p, 1000), logits, Mask(1000, allowed));
  auto logprob = [&](int32_t id) {
    return static_cast<double>(logits[static_cast<size_t>(id)]) - max - std::log(sum);
  };
  EXPECT_NEAR(r.logprob, logprob(r.token), 1e-12);
  std::vector<int32_t> order(1000);
  for (int32_t i = 0; i < 1000; ++i) order[static_cast<size_t>(i)] = i;
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  ASSERT_EQ(r.top_logprobs.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(r.top_logprobs[i].id, order[i]);
    EXPECT_NEAR(r.top_logprobs[i].logprob, logprob(order[i]), 1e-12);
  }
}

TEST(Logprobs, ProcessedAreTheDistribution) {
  std::vector<float> logits = RandomLogits(6, 1000);
  for (bool sparse : {false, true}) {
    SamplingParams p;
    p.logprobs = 20;
    p.logprobs_mode = LogprobsMode::kProcessed;
    p.temperature = 0.7;
    if (sparse) p.top_k = 7;
    Sampler s = Make(p, 1000);
    SampleResult r = Draw(s, logits);
    SamplerScratch scratch;
    auto d = s.Distribution(logits, {}, scratch);
    ASSERT_TRUE(d.ok());
    std::sort(d->begin(), d->end(), [](auto& a, auto& b) { return a.p > b.p; });
    ASSERT_EQ(r.top_logprobs.size(), sparse ? 7u : 20u);
    for (size_t i = 0; i < r.top_logprobs.size(); ++i) {
      EXPECT_EQ(r.top_logprobs[i].id, (*d)[i].id);
      EXPECT_NEAR(r.top_logprobs[i].logprob, std::log((*d)[i].p), 1e-12);
    }
    for (const TokenProb& t : *d) {
      if (t.id == r.token) EXPECT_NEAR(r.logprob, std::log(t.p), 1e-12);
    }
  }
}

TEST(Logprobs, HugeLogitsKeepTheirDifferences) {
  for (LogprobsMode mode : {LogprobsMode::kRaw, LogprobsMode::kProcessed}) {
    SamplingParams p;
    p.logprobs = 4;
    p.logprobs_mode = mode;
    SampleResult r = Draw(Make(p, 4), {1e30f, -1e30f, 1e30f, 0.0f});
    EXPECT_NEAR(r.logprob, std::log(0.5), 1e-12);
    ASSERT_GE(r.top_logprobs.size(), 2u);
    EXPECT_EQ(r.top_logprobs[0].id, 0);
    EXPECT_EQ(r.top_logprobs[1].id, 2);
  }
}

TEST(Logprobs, OffAndChosenOnly) {
  SamplingParams p;
  std::vector<float> logits = RandomLogits(6, 100);
  EXPECT_TRUE(std::isnan(Draw(Make(p, 100), logits).logprob));
  p.logprobs = 0;
  SampleResult r = Draw(Make(p, 100), logits);
  EXPECT_LT(r.logprob, 0);
  EXPECT_TRUE(r.top_logprobs.empty());
}

TEST(Logprobs, ReportingNeverChangesTheDraw) {
  std::vector<float> logits = RandomLogits(6, 3000, 1.0f);
  for (uint64_t i = 0; i < 30; ++i) {
    SamplingParams p;
    p.top_p = 0.9;
    int32_t token = Draw(Make(p, 3000, {}, {}, i), logits).token;
    p.logprobs = 50;
    EXPECT_EQ(Draw(Make(p, 3000, {}, {}, i), logits).token, token);
    p.logprobs_mode = LogprobsMode::kProcessed;
    EXPECT_EQ(Draw(Make(p, 3000, {}, {}, i), logits).token, token);
  }
}

TEST(BeamScores, LogSoftmaxThenEditsWithoutRenormalizing) {
  std::vector<float> logits = RandomLogits(9, 500);
  double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float l : logits) sum += std::exp(static_cast<double>(l) - max);
  SamplingParams p;
  p.repetition_penalty = 1.5;
  p.min_tokens = 1;
  p.bad_words = {{7}};
  Sampler s = Make(p, 500, {3, 4}, {11});
  std::set<int32_t> allowed;
  for (int32_t i = 0; i < 400; ++i) allowed.insert(i);
  SamplerScratch scratch;
  auto list = s.BeamScores(logits, Mask(500, allowed), 500, scratch);
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(list->size(), 398u);
  for (size_t i = 0; i < list->size(); ++i) {
    auto [id, logprob] = (*list)[i];
    EXPECT_TRUE(id < 400 && id != 7 && id != 11);
    double want = static_cast<double>(logits[static_cast<size_t>(id)]) - max - std::log(sum);
    if (id == 3 || id == 4) want *= 1.5;
    EXPECT_NEAR(logprob, want, 2e-6);
    if (i > 0) EXPECT_LE(logprob, (*list)[i - 1].logprob);
  }
}

}  // namespace
}  // namespace ink
