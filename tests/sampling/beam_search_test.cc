#include "sampling/beam_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "base/rng.h"

namespace ink {
namespace {

using Tokens = std::vector<int32_t>;

// A "model": log-probabilities of every next token, a function of the tokens so far.
struct Model {
  int32_t n_vocab;
  uint64_t seed;
  std::vector<double> Next(const Tokens& tokens) const {
    uint64_t stream = 1;
    for (int32_t t : tokens) stream = stream * 1000003 + static_cast<uint64_t>(t) + 1;
    Rng rng(seed, stream);
    std::vector<double> lp(static_cast<size_t>(n_vocab));
    double sum = 0;
    for (double& v : lp) v = 1.5 * static_cast<double>(rng.Normal()), sum += std::exp(v);
    for (double& v : lp) v -= std::log(sum);
    return lp;
  }
};

bool Contains(const Tokens& list, int32_t id) {
  return std::find(list.begin(), list.end(), id) != list.end();
}

std::vector<Hypothesis> RunSearch(const Model& model, const BeamParams& params,
                                  bool all_tokens = true) {
  auto search = BeamSearch::Create(params);
  EXPECT_TRUE(search.ok()) << search.status().message();
  std::vector<Tokens> beams(1);
  while (!search->done()) {
    std::vector<std::vector<TokenLogprob>> candidates;
    for (int32_t b = 0; b < search->num_live(); ++b) {
      EXPECT_EQ(search->LiveTokens(b), beams[static_cast<size_t>(b)]);
      std::vector<double> lp = model.Next(beams[static_cast<size_t>(b)]);
      std::vector<TokenLogprob> list;
      for (int32_t t = 0; t < model.n_vocab; ++t) list.push_back({t, lp[static_cast<size_t>(t)]});
      if (!all_tokens) {
        std::stable_sort(list.begin(), list.end(),
                         [](auto& x, auto& y) { return x.logprob > y.logprob; });
        list.resize(std::min(list.size(), static_cast<size_t>(search->num_candidates())));
      }
      candidates.push_back(list);
    }
    auto step = search->Step(candidates);
    EXPECT_TRUE(step.ok());
    std::vector<Tokens> next;
    for (size_t i = 0; i < step->parents.size(); ++i) {
      next.push_back(beams[static_cast<size_t>(step->parents[i])]);
      next.back().push_back(step->tokens[i]);
    }
    beams = std::move(next);
    EXPECT_EQ(step->done, search->done());
  }
  return search->Best(params.width);
}

// Every text that ends with an end token or at max_tokens, best score first.
std::vector<Hypothesis> Exhaustive(const Model& model, const BeamParams& p) {
  std::vector<Hypothesis> all;
  std::function<void(Tokens&, double)> visit = [&](Tokens& tokens, double sum) {
    std::vector<double> lp = model.Next(tokens);
    for (int32_t t = 0; t < model.n_vocab; ++t) {
      tokens.push_back(t);
      double s = sum + lp[static_cast<size_t>(t)];
      bool ended = Contains(p.end_token_ids, t);
      if (ended || static_cast<int32_t>(tokens.size()) == p.max_tokens) {
        double length = static_cast<double>(tokens.size());
        all.push_back({tokens, s, s / std::pow(length, p.length_penalty), ended});
      } else {
        visit(tokens, s);
      }
      tokens.pop_back();
    }
  };
  Tokens tokens;
  visit(tokens, 0);
  std::stable_sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.score > b.score; });
  return all;
}

TEST(BeamSearch, EqualsExhaustiveSearchWhenWide) {
  Rng rng(1);
  for (int round = 0; round < 60; ++round) {
    Model model{static_cast<int32_t>(2 + rng.Below(3)), rng.Next()};
    BeamParams p;
    p.width = 400;
    p.max_tokens = static_cast<int32_t>(1 + rng.Below(4));
    p.early_stopping = EarlyStopping::kNever;
    p.length_penalty = 3 * rng.Uniform() - 1;
    p.end_token_ids = {0};
    if (rng.Below(3) == 0) p.end_token_ids = {0, 1};
    auto want = Exhaustive(model, p);
    auto got = RunSearch(model, p);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].tokens, want[i].tokens);
      EXPECT_NEAR(got[i].score, want[i].score, 1e-12);
      EXPECT_EQ(got[i].ended, want[i].ended);
    }
  }
}

TEST(BeamSearch, WidthOneIsGreedy) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Model model{6, seed};
    BeamParams p;
    p.width = 1;
    p.max_tokens = 8;
    Tokens tokens;
    double sum = 0;
    while (static_cast<int32_t>(tokens.size()) < p.max_tokens) {
      auto lp = model.Next(tokens);
      auto best = std::max_element(lp.begin(), lp.end());
      tokens.push_back(static_cast<int32_t>(best - lp.begin()));
      sum += *best;
    }
    auto got = RunSearch(model, p);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].tokens, tokens);
    EXPECT_NEAR(got[0].sum_logprob, sum, 1e-12);
    EXPECT_FALSE(got[0].ended);
  }
}

// transformers' _beam_search for one sequence, as its own text says it: fixed arrays of `width`
// rows, -1e9 for "not there", merged and cut by top-k.
std::vector<Hypothesis> Transformers(const Model& model, const BeamParams& p) {
  const auto width = static_cast<size_t>(p.width);
  struct Row {
    Tokens tokens;
    double score = -1e9;
    bool finished = false;
    double sum = 0;
    bool ended = false;
  };
  std::vector<Row> running(width);
  running[0].score = 0;
  std::vector<Row> kept(width);
  const size_t keep = std::max<size_t>(2, 1 + p.end_token_ids.size()) * width;
  bool heuristic = true;
  for (int32_t length = 1;; ++length) {
    std::vector<Row> all;
    for (const Row& r : running) {
      auto lp = model.Next(r.tokens);
      for (int32_t t = 0; t < model.n_vocab; ++t) {
        Row next = r;
        next.tokens.push_back(t);
        next.score += lp[static_cast<size_t>(t)];
        all.push_back(next);
      }
    }
    auto best_first = [](const Row& a, const Row& b) { return a.score > b.score; };
    std::stable_sort(all.begin(), all.end(), best_first);
    all.resize(std::min(all.size(), keep));
    std::vector<Row> continued;
    std::vector<Row> merged = kept;
    const bool full = std::all_of(kept.begin(), kept.end(), [](auto& r) { return r.finished; }) &&
                      p.early_stopping == EarlyStopping::kTrue;
    bool all_hit = true;
    for (size_t i = 0; i < all.size(); ++i) {
      bool ended = Contains(p.end_token_ids, all[i].tokens.back());
      bool hit = ended || length == p.max_tokens;
      all_hit = all_hit && hit;
      Row r = all[i];
      if (hit) r.score -= 1e9;
      continued.push_back(r);
      Row f = all[i];
      f.sum = f.score;
      f.ended = ended;
      f.score /= std::pow(length, p.length_penalty);
      if (full) f.score -= 1e9;
      f.finished = hit && i < width;
      if (!f.finished) f.score -= 1e9;
      merged.push_back(f);
    }
    std::stable_sort(continued.begin(), continued.end(), best_first);
    continued.resize(std::min(continued.size(), width));
    running = continued;
    std::stable_sort(merged.begin(), merged.end(), best_first);
    merged.resize(width);
    kept = merged;
    double at =
        p.early_stopping == EarlyStopping::kNever && p.length_penalty > 0 ? p.max_tokens : length;
    double hope = running[0].score / std::pow(at, p.length_penalty);
    double worst = 1e300;
    for (const Row& r : kept) worst = std::min(worst, r.finished ? r.score : -1e9);
    heuristic = heuristic && hope > worst;
    bool open = !(p.early_stopping == EarlyStopping::kTrue &&
                  std::all_of(kept.begin(), kept.end(), [](auto& r) { return r.finished; }));
    if (!heuristic || !open || all_hit) break;
  }
  std::vector<Hypothesis> result;
  for (const Row& r : kept) {
    if (r.finished && r.score > -1e8) result.push_back({r.tokens, r.sum, r.score, r.ended});
  }
  return result;
}

TEST(BeamSearch, EqualsTransformersProcedure) {
  Rng rng(7);
  int ended = 0;
  for (int round = 0; round < 400; ++round) {
    Model model{static_cast<int32_t>(6 + rng.Below(10)), rng.Next()};
    BeamParams p;
    p.width = static_cast<int32_t>(1 + rng.Below(5));
    p.max_tokens = static_cast<int32_t>(1 + rng.Below(10));
    p.early_stopping = static_cast<EarlyStopping>(rng.Below(3));
    p.length_penalty = std::round(8 * rng.Uniform()) / 4 - 0.5;
    p.end_token_ids = {0};
    if (rng.Below(2)) p.end_token_ids.push_back(3);
    auto want = Transformers(model, p);
    auto got = RunSearch(model, p, false);
    ASSERT_EQ(got.size(), want.size()) << round;
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(got[i].tokens, want[i].tokens) << round;
      ASSERT_NEAR(got[i].score, want[i].score, 1e-6) << round;
      ASSERT_EQ(got[i].ended, want[i].ended);
      ended += got[i].ended ? 1 : 0;
    }
  }
  EXPECT_GT(ended, 200);
}

TEST(BeamSearch, TiesGoToTheLowerBeamThenTheLowerToken) {
  BeamParams p;
  p.width = 2;
  p.max_tokens = 3;
  auto search = BeamSearch::Create(p);
  ASSERT_TRUE(search.ok());
  std::vector<TokenLogprob> flat = {{3, -1.0}, {1, -1.0}, {2, -1.0}, {0, -1.0}};
  auto step = search->Step(std::vector<std::vector<TokenLogprob>>{flat});
  ASSERT_TRUE(step.ok());
  EXPECT_EQ(step->tokens, (Tokens{0, 1}));
  EXPECT_EQ(step->parents, (Tokens{0, 0}));
  step = search->Step(std::vector<std::vector<TokenLogprob>>{flat, flat});
  ASSERT_TRUE(step.ok());
  EXPECT_EQ(step->tokens, (Tokens{0, 1}));
  EXPECT_EQ(step->parents, (Tokens{0, 0}));
  step = search->Step(std::vector<std::vector<TokenLogprob>>{flat, flat});
  ASSERT_TRUE(step.ok());
  EXPECT_TRUE(step->done);
  auto best = search->Best(5);
  ASSERT_EQ(best.size(), 2u);
  EXPECT_EQ(best[0].tokens, (Tokens{0, 0, 0}));
  EXPECT_EQ(best[1].tokens, (Tokens{0, 0, 1}));
}

TEST(BeamSearch, BannedTokensEndTheSearch) {
  BeamParams p;
  p.width = 3;
  p.max_tokens = 5;
  p.end_token_ids = {0};
  auto search = BeamSearch::Create(p);
  ASSERT_TRUE(search.ok());
  auto step = search->Step(
      std::vector<std::vector<TokenLogprob>>{{{0, -0.5}, {1, -INFINITY}, {2, -INFINITY}}});
  ASSERT_TRUE(step.ok());
  EXPECT_TRUE(step->done);
  ASSERT_EQ(search->Best(3).size(), 1u);
  EXPECT_EQ(search->Best(3)[0].tokens, (Tokens{0}));
}

TEST(BeamSearch, Errors) {
  auto message = [](auto set) {
    BeamParams p;
    p.max_tokens = 5;
    set(p);
    return BeamSearch::Create(p).status().message();
  };
  EXPECT_EQ(message([](auto& p) { p.width = 0; }),
            "beam width: expected an integer in [1, 1024], got 0");
  EXPECT_EQ(message([](auto& p) { p.length_penalty = NAN; }),
            "beam length penalty: expected a finite number, got nan");
  EXPECT_EQ(message([](auto& p) { p.max_tokens = 0; }),
            "beam max_tokens: expected at least 1, got 0");
  EXPECT_EQ(message([](auto& p) { p.end_token_ids.assign(65, 1); }),
            "beam end tokens: expected at most 64, got 65");
  BeamParams p;
  p.max_tokens = 5;
  auto search = BeamSearch::Create(p);
  ASSERT_TRUE(search.ok());
  EXPECT_EQ(search->Step({}).status().message(),
            "beam step: expected candidates of 1 live beams, got 0");
  EXPECT_EQ(search->Step(std::vector<std::vector<TokenLogprob>>{{{4, NAN}}}).status().message(),
            "beam step: beam 0, token 4: expected a log-probability, got nan");
}

}  // namespace
}  // namespace ink
