// A whole training run: data, model, steps, validation, checkpoints, and the files it leaves.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "model/weight_source.h"
#include "text/tokenizer.h"
#include "train/checkpoint.h"
#include "train/data.h"
#include "train/model_step.h"
#include "train/optimizer.h"
#include "train/recipe.h"

namespace ink {

/// Bytes by purpose, known before the first step.
struct TrainPlan {
  std::vector<std::pair<std::string, int64_t>> entries;
  int64_t total() const;
};

/// What the caller hears of. All may be empty.
struct TrainEvents {
  std::function<void(const TrainPlan&, int64_t parameters, int64_t steps)> planned;
  struct Step {
    int64_t step, steps;
    double loss, norm, lr, tokens_per_second, flops_per_second;
    int64_t tokens;
    double seconds_left;
    bool skipped;
  };
  std::function<void(const Step&)> step;
  struct Validation {
    int64_t step;
    const char* metric;  // "bits per byte", or "loss" in nats per token that counts
    double value;
    double accuracy;  // labelled data, else 0
    bool best;
  };
  std::function<void(const Validation&)> validated;
  std::function<void(int64_t step, const std::string& text)> sampled;
  std::function<void(const std::string& what)> note;
  /// Asked after each step; true stops after a checkpoint, with kCancelled.
  std::function<bool()> stop;
};

struct TrainRun {
  TrainRecipe recipe;
  std::string recipe_text;
  std::string data_folder;  // relative paths of the recipe are under it; may be empty
  std::string out_folder;
  bool resume = false;
  // Fine-tuning: the base (outlives the run) and where the result goes, a GGUF file (model or
  // adapter) or the folder of a PEFT adapter. out_folder holds checkpoints and log.
  bool finetune = false;
  const WeightSource* base = nullptr;
  std::shared_ptr<const Tokenizer> base_tokenizer;
  std::string base_name;
  std::string result_path;
  int64_t program_bytes = 0;  // resident before the run, for the plan
};

/// Leaves in out_folder: tokenizer.gguf, checkpoints/, log.jsonl, curves.svg, best.gguf (lowest
/// validation so far) and model.gguf (the last weights); fine-tuning leaves its result at
/// result_path instead: the best by validation, the last where there is none. Errors: those of the
/// recipe's parts; kInvalidArgument when the loss or a gradient is no number (says the step; the
/// last checkpoint stays), when a tokenizer does not fit the model, and when `resume` finds another
/// recipe.
Status RunTraining(Device& device, const TrainRun& run, const TrainEvents& events);

/// Trains a tokenizer on the recipe's data: byte-level BPE with one special token, <|endoftext|>,
/// that ends a text.
Result<std::shared_ptr<const Tokenizer>> TrainTokenizer(
    const std::vector<DataSource>& data, int32_t vocabulary, const std::string& pre,
    const std::function<bool(int64_t, int64_t)>& progress);
/// A vocabulary alone as a GGUF file, and back.
Status WriteTokenizer(const Tokenizer& tokenizer, const std::string& path);
Result<std::shared_ptr<const Tokenizer>> ReadTokenizer(const std::string& path);

/// An SVG drawing of the curves in a log.jsonl. Errors: kInvalidArgument (no steps in it).
Result<std::string> DrawCurves(const std::string& log);

}  // namespace ink
