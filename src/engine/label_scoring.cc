#include "engine/label_scoring.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

namespace ink {
namespace {

double LogSumExp(std::span<const float> logits) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float l : logits) sum += std::exp(double{l} - double{max});
  return double{max} + std::log(sum);
}

// The labels' tokens except the last of each are what the model reads; one pass over a path gives
// the scores of every label that begins with it.
std::vector<std::vector<int32_t>> ReadPaths(std::span<const std::vector<int32_t>> labels) {
  std::vector<std::vector<int32_t>> paths;
  for (const auto& label : labels) paths.emplace_back(label.begin(), label.end() - 1);
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  // In sorted order a path that another one begins with stands right before such a one.
  std::vector<std::vector<int32_t>> out;
  for (size_t i = 0; i < paths.size(); ++i) {
    const auto& path = paths[i];
    const bool covered = i + 1 < paths.size() && paths[i + 1].size() > path.size() &&
                         std::equal(path.begin(), path.end(), paths[i + 1].begin());
    if (!covered) out.push_back(path);
  }
  return out;
}

}  // namespace

Result<std::vector<std::vector<double>>> ScoreLabels(Engine& engine,
                                                     std::span<const std::vector<int32_t>> prompts,
                                                     std::span<const std::vector<int32_t>> labels,
                                                     const LabelScoringOptions& options) {
  if (labels.empty()) return InvalidArgument("labels: expected at least one, got none");
  size_t longest = 0;
  for (const auto& label : labels) {
    if (label.empty()) return InvalidArgument("labels: expected every label to have a token");
    longest = std::max(longest, label.size());
  }
  const int64_t context = engine.config().context;
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty()) {
      return InvalidArgument("prompt " + std::to_string(i + 1) + ": expected at least one token");
    }
    if (static_cast<int64_t>(prompts[i].size() + longest) > context) {
      return InvalidArgument("prompt " + std::to_string(i + 1) + ": expected at most " +
                             std::to_string(context) + " tokens with its label, got " +
                             std::to_string(prompts[i].size() + longest));
    }
  }
  const std::vector<std::vector<int32_t>> paths = ReadPaths(labels);
  std::vector<std::vector<double>> scores(prompts.size(), std::vector<double>(labels.size(), 0));
  Status failure;
  auto submit = [&](size_t index, const std::vector<int32_t>& path) {
    const int64_t before = static_cast<int64_t>(prompts[index].size());
    GenerationRequest request;
    request.prompt = prompts[index];
    request.prompt.insert(request.prompt.end(), path.begin(), path.end());
    request.sampling.max_tokens = 0;
    request.prompt_logits_from = before - 1;
    request.prompt_logits = [&, index, before](int64_t position, std::span<const float> logits) {
      const auto depth = static_cast<size_t>(position - (before - 1));
      const double total = LogSumExp(logits);
      for (size_t l = 0; l < labels.size(); ++l) {
        const auto& label = labels[l];
        if (depth >= label.size() || depth > path.size() ||
            !std::equal(label.begin(), label.begin() + static_cast<std::ptrdiff_t>(depth),
                        path.begin())) {
          continue;
        }
        // The same node may lie on several paths: the first path through it counts.
        bool first = true;
        for (const auto& other : paths) {
          if (&other == &path) break;
          first =
              first && !(other.size() >= depth &&
                         std::equal(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(depth),
                                    other.begin()));
        }
        if (first) scores[index][l] += double{logits[static_cast<size_t>(label[depth])]} - total;
      }
    };
    request.on_event = [&](const GenerationEvent& event) {
      if (!event.error.ok() && failure.ok()) failure = event.error;
    };
    return engine.Submit(std::move(request)).status();
  };
  // In waves: the first path of each prompt fills the prefix cache, the others find it there.
  const size_t wave = static_cast<size_t>(std::max<int32_t>(1, engine.config().max_seqs));
  for (size_t begin = 0; begin < prompts.size(); begin += wave) {
    const size_t end = std::min(prompts.size(), begin + wave);
    for (const auto& path : paths) {
      for (size_t i = begin; i < end; ++i) INK_RETURN_IF_ERROR(submit(i, path));
      while (engine.Step()) {
      }
      INK_RETURN_IF_ERROR(failure);
    }
    if (options.progress) {
      options.progress(static_cast<int64_t>(end), static_cast<int64_t>(prompts.size()));
    }
  }
  for (auto& row : scores) {
    for (size_t l = 0; l < labels.size(); ++l) {
      if (!std::isfinite(row[l])) return Corrupt("the model gives logits that are not numbers");
      if (options.normalize_length) row[l] /= static_cast<double>(labels[l].size());
    }
  }
  return scores;
}

LabelMetrics MeasureLabels(std::span<const std::vector<double>> scores,
                           std::span<const int> truth) {
  INK_CHECK_EQ(scores.size(), truth.size());
  LabelMetrics metrics;
  metrics.n = static_cast<int64_t>(scores.size());
  if (metrics.n == 0) return metrics;
  const size_t labels = scores[0].size();
  std::vector<int64_t> right(labels), answered(labels), present(labels);
  struct Bin {
    int64_t count = 0, right = 0;
    double confidence = 0;
  };
  std::vector<Bin> bins(kCalibrationBins);
  int64_t correct = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto best = std::max_element(scores[i].begin(), scores[i].end());
    const auto answer = static_cast<size_t>(best - scores[i].begin());
    const auto actual = static_cast<size_t>(truth[i]);
    double sum = 0;
    for (double s : scores[i]) sum += std::exp(s - *best);
    const double confidence = 1 / sum;
    ++answered[answer];
    ++present[actual];
    const bool hit = answer == actual;
    if (hit) ++right[answer];
    correct += hit ? 1 : 0;
    // Bins are (b / B, (b + 1) / B].
    const int b = std::clamp(static_cast<int>(std::ceil(confidence * kCalibrationBins)) - 1, 0,
                             kCalibrationBins - 1);
    Bin& bin = bins[static_cast<size_t>(b)];
    ++bin.count;
    bin.right += hit ? 1 : 0;
    bin.confidence += confidence;
  }
  const auto n = static_cast<double>(metrics.n);
  metrics.accuracy = static_cast<double>(correct) / n;
  for (size_t l = 0; l < labels; ++l) {
    const int64_t both = answered[l] + present[l];
    if (both > 0)
      metrics.macro_f1 += 2.0 * static_cast<double>(right[l]) / static_cast<double>(both);
  }
  metrics.macro_f1 /= static_cast<double>(labels);
  for (const Bin& bin : bins) {
    metrics.ece += std::abs(static_cast<double>(bin.right) - bin.confidence) / n;
  }
  return metrics;
}

}  // namespace ink
