#include <gtest/gtest.h>

#include <vector>

#include "train/data.h"
#include "train/model_step.h"

namespace ink {
namespace {

// Five tokens of text and template, then a label of two tokens and the end.
Document Labelled() {
  Document d;
  d.tokens = {10, 11, 12, 13, 14, 70, 71, 0};
  d.counts = {false, false, false, false, false, true, true, true};
  d.label = "good";
  d.prompt_tokens = 5;
  return d;
}

TrainBatch BatchOf(const std::vector<Document>& documents, const PieceOrder::Options& options) {
  PieceOrder order({{&documents, 1.0}}, 8, 1, options);
  TrainBatch batch;
  order.NextBatch(8, &batch);
  return batch;
}

TEST(PieceOrder, LabelLossMakesEveryPlaceLearnTheLabelsFirstToken) {
  PieceOrder::Options options;
  options.label_weight = 0.25;
  const TrainBatch batch = BatchOf({Labelled()}, options);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{10, 11, 12, 13, 14, 70, 71}));
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{70, 70, 70, 70, 70, 71, 0}));
  EXPECT_EQ(batch.weights, (std::vector<float>{0.25, 0.25, 0.25, 0.25, 1, 1, 1}));
  EXPECT_DOUBLE_EQ(batch.target_weight(), 4.0);
}

TEST(PieceOrder, PromptLossKeepsTheTextsOwnTokens) {
  PieceOrder::Options options;
  options.prompt_weight = 0.5;
  const TrainBatch batch = BatchOf({Labelled()}, options);
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{11, 12, 13, 14, 70, 71, 0}));
  EXPECT_EQ(batch.weights, (std::vector<float>{0.5, 0.5, 0.5, 0.5, 1, 1, 1}));
}

TEST(PieceOrder, WithoutWeightsOnlyTheLabelIsATarget) {
  const TrainBatch batch = BatchOf({Labelled()}, {});
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{-1, -1, -1, -1, 70, 71, 0}));
  EXPECT_TRUE(batch.weights.empty());
}

// A document without a label beside labelled ones has no label to learn.
TEST(PieceOrder, LabelLossLeavesOtherDocumentsAlone) {
  Document d = Labelled();
  d.label.clear();
  PieceOrder::Options options;
  options.label_weight = 0.25;
  const TrainBatch batch = BatchOf({d}, options);
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{-1, -1, -1, -1, 70, 71, 0}));
  EXPECT_DOUBLE_EQ(batch.target_weight(), 3.0);
}

TEST(PieceOrder, NoiseTouchesPromptTokensAloneAndIsTheSameAgain) {
  PieceOrder::Options options;
  options.noise = 0.9;
  options.n_vocab = 5;  // below every token of the text
  const TrainBatch batch = BatchOf({Labelled()}, options);
  int random = 0;
  for (size_t i = 0; i < 4; ++i) random += batch.tokens[i] < 5 ? 1 : 0;
  EXPECT_GE(random, 1);
  EXPECT_EQ(std::vector<int32_t>(batch.tokens.begin() + 4, batch.tokens.end()),
            (std::vector<int32_t>{14, 70, 71}));
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{-1, -1, -1, -1, 70, 71, 0}));
  EXPECT_EQ(BatchOf({Labelled()}, options).tokens, batch.tokens);
}

}  // namespace
}  // namespace ink
