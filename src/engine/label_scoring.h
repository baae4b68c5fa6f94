// Classification without free text: each label's tokens are scored after the prompt, and the
// answer is the label that the model finds most likely.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"

namespace ink {

struct LabelScoringOptions {
  /// Divides a label's log-probability by its number of tokens.
  bool normalize_length = false;
  /// Called with prompts done and in total.
  std::function<void(int64_t done, int64_t total)> progress;
};

/// log p of each label's tokens after each prompt: [prompts][labels], natural logarithms. Labels
/// share what they have in common, and prompts run side by side as the engine's configuration
/// allows. Errors: an empty prompt or label, a prompt that does not fit the context with the
/// longest label (named by index), logits that are no numbers.
Result<std::vector<std::vector<double>>> ScoreLabels(Engine& engine,
                                                     std::span<const std::vector<int32_t>> prompts,
                                                     std::span<const std::vector<int32_t>> labels,
                                                     const LabelScoringOptions& options);

struct LabelMetrics {
  int64_t n = 0;
  double accuracy = 0;
  /// Mean over the labels of 2 TP / (2 TP + FP + FN); a label that occurs neither in the truth nor
  /// in the answers counts as 0.
  double macro_f1 = 0;
  /// Expected calibration error (Guo et al. 2017): the confidence is the softmax over the labels'
  /// scores; sum over kCalibrationBins equal bins of n_b / n * |accuracy_b - confidence_b|.
  double ece = 0;
};
inline constexpr int kCalibrationBins = 15;

/// `scores` [n][labels], `truth` [n] in [0, labels). The first of equal scores is the answer.
LabelMetrics MeasureLabels(std::span<const std::vector<double>> scores, std::span<const int> truth);

}  // namespace ink
