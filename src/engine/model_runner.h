// Runs one step of a model: host data in, logits out. Owns the activation arena, the input buffer
// and the KV storage; knows nothing of requests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/kv_storage.h"
#include "model/model.h"
#include "ops/exec_context.h"
#include "ops/recorder.h"

namespace ink {

struct RunnerConfig {
  int64_t max_tokens = 512;     // per step
  int max_seqs = 16;            // per step
  int64_t max_context = 0;      // positions of one sequence
  int64_t max_logit_rows = 16;  // logits computed at a time; more rows take several passes
  KvTypes kv_types;
  std::vector<int64_t> blocks;       // device blocks per group
  std::vector<int64_t> host_blocks;  // for swapping, per group; may be empty
};

/// One sequence's part of a step.
struct RunSequence {
  std::span<const int32_t> tokens;  // at positions [start, start + tokens.size())
  int64_t start = 0;
  std::vector<std::span<const BlockId>> block_tables;  // per group
  /// The last `num_logits` tokens' logits are wanted.
  int64_t num_logits = 0;
  MaskKind mask = MaskKind::kCausal;
  int32_t adapter = -1;       // a number that the linear hook knows
  bool wants_hidden = false;  // its tokens' hidden states are handed out
};

/// Called with each wanted row: (sequence, row 0 .. num_logits - 1, logits [n_vocab]). The span is
/// valid during the call.
using LogitsFn = std::function<void(size_t sequence, int64_t row, std::span<const float> logits)>;

/// Called with each wanted hidden state: (sequence, row of its tokens, hidden [d_model]).
using HiddenFn = std::function<void(size_t sequence, int64_t row, std::span<const float> hidden)>;

class ModelRunner {
 public:
  /// Sizes of everything a runner allocates, without allocating: the plan.
  struct Plan {
    int64_t activations = 0;
    int64_t inputs = 0;
    int64_t kv = 0;
    int64_t logits_host = 0;
  };
  static Result<Plan> MakePlan(const Model& model, Device& device, const RunnerConfig& config);

  /// `model` and `device` outlive the runner.
  static Result<std::unique_ptr<ModelRunner>> Create(const Model& model, Device& device,
                                                     const RunnerConfig& config);

  /// One forward pass. The sequences' blocks cover their positions.
  void Run(std::span<const RunSequence> sequences, const LogitsFn& logits,
           const HiddenFn& hidden_rows = {});

  void Apply(std::span<const BlockOp> ops) { storage_.Apply(ops); }
  KvStorage& storage() { return storage_; }
  const Model& model() const { return model_; }
  const RunnerConfig& config() const { return config_; }
  /// Adapters and the like; null for none.
  void set_linear_hook(LinearHook* hook) { hook_ = hook; }

 private:
  // Device and host images of one step's inputs, laid out alike.
  struct InputLayout {
    size_t token_ids, positions, sequences, cu_seqlens, rows, total;
    std::vector<size_t> slots, tables;  // per group
    int64_t table_stride;
  };
  static InputLayout LayoutInputs(const ModelInfo& info, const RunnerConfig& config);
  static Result<int64_t> MeasureArena(const Model& model, Device& device,
                                      const RunnerConfig& config);

  ModelRunner(const Model& model, Device& device, const RunnerConfig& config)
      : model_(model), device_(device), config_(config) {}
  ForwardBatch FillBatch(std::span<const RunSequence> sequences);

  const Model& model_;
  Device& device_;
  RunnerConfig config_;
  KvStorage storage_;
  Buffer arena_buffer_;
  Buffer input_buffer_;
  InputLayout layout_;
  std::vector<std::byte> staging_;
  std::vector<float> host_logits_;
  std::vector<float> host_hidden_;  // of one sequence of a step; empty until asked for
  LinearHook* hook_ = nullptr;
  std::vector<SequenceRows> hook_rows_;
};

}  // namespace ink
