// One forward and backward pass over a batch of packed sequences.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "model/model.h"
#include "ops/arena.h"
#include "train/tape.h"

namespace ink {

/// Tokens of several sequences side by side. Attention does not cross a sequence's border.
struct TrainBatch {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;  // from 0 in each sequence
  std::vector<int32_t> targets;    // the token to predict at each place, -1: none
  std::vector<float> weights;      // how much each target counts; empty: all of them 1
  std::vector<int64_t> lengths;    // of the sequences, adding up to tokens.size()

  void Clear();
  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t num_targets() const;
  /// Sum of the targets' weights.
  double target_weight() const;
};

struct StepLoss {
  double sum = 0;       // of weight * -log p over the targets, in nats
  int64_t targets = 0;  // tokens counted
};

class ModelStep {
 public:
  struct Options {
    bool bfloat16 = true;
    bool recompute = false;
    int64_t max_tokens = 0;                 // of a batch
    int64_t loss_chunk_bytes = 8 << 20;     // logits that exist at a time
    double dropout = 0, token_dropout = 0;  // see TapeOptions
  };
  /// Plans and allocates. Errors: kOutOfMemory.
  static Result<std::unique_ptr<ModelStep>> Create(Device& device, const Model& model,
                                                   const ParameterStore& parameters,
                                                   const Options& options,
                                                   const LowRankSet* adapters = nullptr);

  /// Adds gradients of grad_scale * (sum of weight * -log p) to the parameters' gradients. `seed`
  /// chooses what dropout takes away.
  StepLoss ForwardBackward(const TrainBatch& batch, float grad_scale, uint64_t seed = 0);
  /// The loss alone; per-token losses [num_tokens] (0 without target) to `losses` if given.
  StepLoss Evaluate(const TrainBatch& batch, std::vector<float>* losses = nullptr);

  /// Logits [n_vocab] after the batch's last token.
  std::vector<float> LastLogits(const TrainBatch& batch);

  int64_t activation_bytes() const { return tape_.activation_bytes(); }
  int64_t workspace_bytes() const { return tape_.workspace_bytes() + scratch_bytes_; }
  int64_t loss_bytes() const;
  int64_t loss_rows() const { return loss_rows_; }

 private:
  ModelStep(Device& device, const Model& model, const ParameterStore& parameters,
            const Options& options, const LowRankSet* adapters);
  StepLoss Run(const TrainBatch& batch, bool backward, float grad_scale,
               std::vector<float>* losses);
  Tensor RunModel(ExecContext& context, const ForwardBatch& batch);
  /// Copies the batch to the device; `spans` backs the result.
  ForwardBatch Upload(const TrainBatch& batch, std::vector<SequenceSpan>* spans);

  Device& device_;
  const Model& model_;
  const TrainKernels& kernels_;
  const Options options_;
  Tape tape_;
  const bool adapted_;
  StateView state_;
  Buffer scratch_, losses_, ids_;
  int64_t scratch_bytes_ = 0;
  int64_t loss_rows_ = 0;
};

}  // namespace ink
