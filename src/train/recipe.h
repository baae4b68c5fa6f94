// A training recipe: a TOML file whose every key is known (docs/training.md describes them).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "train/data.h"
#include "train/low_rank.h"
#include "train/master_model.h"
#include "train/optimizer.h"

namespace ink {

enum class TuneMethod { kFull, kLora, kRsLora, kDora, kQLora };

enum class ScheduleKind { kConstant, kCosine, kWsd };

struct TrainRecipe {
  // [model]: sizes of a new model, or `from`, a GGUF file or Hugging Face folder to go on from.
  ModelShape shape;
  std::string from;
  // [tokenizer]: `file` (GGUF vocabulary), else one is trained on the data.
  std::string tokenizer_file;
  int32_t vocabulary = 4096;
  std::string pre_tokenizer = "gpt-2";
  // [[data]] and [validation]
  std::vector<DataSource> data;
  DataSource validation;
  int64_t validation_every = 250;  // steps; 0: never
  int64_t validation_context = 0;  // 0: the model's
  int64_t validation_bytes = 0;    // at most so much text; 0: all
  double validation_share = 0;     // of the training documents, held back from training
  // [train]
  int64_t steps = 0;
  double epochs = 0;             // used when steps is 0
  int64_t batch_tokens = 16384;  // of a step
  int64_t micro_batch_tokens = 4096;
  uint64_t seed = 1;
  bool bfloat16 = true;
  bool recompute = false;
  double dropout = 0;        // residual (TapeOptions)
  double token_dropout = 0;  // of whole input tokens
  double prompt_loss = 0;    // how much a prompt's own tokens count beside the completion's
  double token_noise = 0;    // share of a prompt's tokens that are read as random ones
  double label_loss = 0;     // how much each token before a label counts, learning that label
  double clip = 1.0;         // global norm; 0: no clipping
  double skip_spike = 0;     // skips a step whose loss exceeds the mean by so many deviations
  // [optimizer], [schedule]
  OptimizerConfig optimizer;
  ScheduleKind schedule = ScheduleKind::kCosine;
  int64_t warmup = 100;      // steps
  double decay = 0.2;        // WSD: share of the steps that decay
  double final_ratio = 0.1;  // last learning rate over the highest
  // [checkpoint]
  int64_t checkpoint_every = 500;  // steps
  double checkpoint_minutes = 0;   // or minutes, whichever comes first; 0: never by time
  int keep = 2;
  // [output]
  std::string output_type;  // empty: bf16, or when fine-tuning the base's types
  // [adapter], fine-tuning only
  TuneMethod method = TuneMethod::kFull;
  LowRankConfig adapter;
  // [sample]
  std::string sample_prompt;
  int64_t sample_tokens = 48;
};

/// Errors: kInvalidArgument with `name` and line: not TOML, an unknown key, a value of the wrong
/// type or out of range.
/// `finetune`: [model] may be absent and names no sizes; [adapter] is allowed.
Result<TrainRecipe> ParseRecipe(std::string_view text, const std::string& name,
                                bool finetune = false);

/// The learning rate at step `step` (from 0) of `steps`, as a share of the highest.
double ScheduleAt(const TrainRecipe& recipe, int64_t step, int64_t steps);

}  // namespace ink
