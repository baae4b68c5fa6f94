#include "engine/label_scoring.h"

#include <cmath>

#include "engine/harness.h"

namespace ink {
namespace {

using namespace testing_support;

constexpr int64_t kVocab = 40;

double LogProbability(const float* logits, int32_t token) {
  double sum = 0;
  for (int64_t i = 0; i < kVocab; ++i) sum += std::exp(double{logits[i]});
  return double{logits[token]} - std::log(sum);
}

// Every label's score is what the logits of prompt and label, run alone, say; labels that share
// tokens, that begin with another label and that have one token included.
TEST(LabelScoring, IsTheSumOfTheLabelsLogProbabilities) {
  Loaded loaded = Load(TinyPath(TinyModels()[0]));
  EngineConfig config;
  config.context = 96;
  config.max_seqs = 3;
  const std::vector<std::vector<int32_t>> labels = {{5, 6, 7}, {5, 6}, {9}, {5, 8, 1, 2}, {9, 4}};
  std::vector<std::vector<int32_t>> prompts;
  for (uint64_t i = 0; i < 8; ++i) {
    prompts.push_back(RandomIds(i, 1 + static_cast<int64_t>(i) * 11, kVocab));
  }
  prompts.push_back(prompts[4]);  // twice: from the prefix cache
  for (bool normalize : {false, true}) {
    auto engine = MakeEngine(loaded, config);
    LabelScoringOptions options;
    options.normalize_length = normalize;
    auto scores = ScoreLabels(*engine, prompts, labels, options);
    ASSERT_TRUE(scores.ok()) << scores.status().message();
    for (size_t p = 0; p < prompts.size(); ++p) {
      for (size_t l = 0; l < labels.size(); ++l) {
        std::vector<int32_t> ids = prompts[p];
        ids.insert(ids.end(), labels[l].begin(), labels[l].end());
        auto alone = MakeEngine(loaded, config);
        const std::vector<float> logits = ForcedLogits(*alone, ids, kVocab);
        double want = 0;
        for (size_t t = 0; t < labels[l].size(); ++t) {
          const size_t row = prompts[p].size() - 1 + t;
          want += LogProbability(logits.data() + row * kVocab, labels[l][t]);
        }
        if (normalize) want /= static_cast<double>(labels[l].size());
        EXPECT_NEAR((*scores)[p][l], want, 1e-5) << "prompt " << p << " label " << l;
      }
    }
  }
}

TEST(LabelScoring, NamesWhatDoesNotFit) {
  Loaded loaded = Load(TinyPath(TinyModels()[0]));
  EngineConfig config;
  config.context = 16;
  auto engine = MakeEngine(loaded, config);
  const std::vector<std::vector<int32_t>> labels = {{1}, {2, 3}};
  const std::vector<std::vector<int32_t>> prompts = {{4}, RandomIds(1, 15, kVocab)};
  auto scores = ScoreLabels(*engine, prompts, labels, {});
  ASSERT_FALSE(scores.ok());
  EXPECT_NE(scores.status().message().find("prompt 2: expected at most 16"), std::string::npos)
      << scores.status().message();
  const std::vector<std::vector<int32_t>> empty = {{}};
  EXPECT_FALSE(ScoreLabels(*engine, empty, labels, {}).ok());
  EXPECT_FALSE(ScoreLabels(*engine, prompts, empty, {}).ok());
}

TEST(LabelMetrics, AreWhatTheirDefinitionsSay) {
  // Answers 0, 1, 0, 1 with confidences 0.9, 0.6, 0.75, 0.9; truth 0, 1, 1, 1.
  auto row = [](double first) { return std::vector<double>{std::log(first), std::log(1 - first)}; };
  const std::vector<std::vector<double>> scores = {row(0.9), row(0.4), row(0.75), row(0.1)};
  const std::vector<int> truth = {0, 1, 1, 1};
  const LabelMetrics m = MeasureLabels(scores, truth);
  EXPECT_EQ(m.n, 4);
  EXPECT_DOUBLE_EQ(m.accuracy, 0.75);
  // Label 0: TP 1, FP 1, FN 0 -> 2/3; label 1: TP 2, FP 0, FN 1 -> 4/5.
  EXPECT_NEAR(m.macro_f1, (2.0 / 3 + 0.8) / 2, 1e-12);
  // Bins of width 1/15: 0.9 twice, both right: 0.2 off; 0.6 right: 0.4 off; 0.75 wrong: 0.75 off.
  EXPECT_NEAR(m.ece, (0.2 + 0.4 + 0.75) / 4, 1e-9);
}

}  // namespace
}  // namespace ink
