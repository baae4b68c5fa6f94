// The recorder of training (ops/recorder.h): results live in an arena, every result has a gradient
// at the same offset of a second arena, and Backward walks the recorded ops in reverse.
//
// With recomputation, what a layer computes lives in one of two zones that layers take in turn;
// only its input is kept. Backward runs the layer's ops again before it needs them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "kernels/train_kernels.h"
#include "ops/recorder.h"
#include "train/low_rank.h"
#include "train/parameters.h"

namespace ink {

struct TapeOptions {
  bool bfloat16 = true;
  bool recompute = false;
  double dropout = 0;        // of the embedding and of what each block adds to the stream
  double token_dropout = 0;  // of whole tokens of the embedding
};

class Tape : public Recorder, public LinearHook {
 public:
  /// `parameters` outlives the tape; weights it does not know are constants.
  /// `adapters` (may be null) outlives it too; the tape is then the context's LinearHook.
  Tape(Device& device, const ParameterStore* parameters, const TapeOptions& options,
       const LowRankSet* adapters = nullptr);

  // A plan pass comes first: run the forward pass once with a measuring ExecContext between
  // BeginPlan and EndPlan, which allocates what the pass needed. Errors: kOutOfMemory.
  void BeginPlan();
  Status EndPlan();
  int64_t activation_bytes() const { return activation_bytes_; }
  int64_t gradient_bytes() const { return activation_bytes_; }
  int64_t workspace_bytes() const {
    return static_cast<int64_t>(workspace_bytes_) + static_cast<int64_t>(frozen_ids_.size());
  }

  /// Whether dropout acts, and the seed of its choices, until the next call.
  void SetTraining(bool training, uint64_t seed) {
    training_ = training;
    dropout_seed_ = seed;
  }
  /// Forgets everything recorded.
  void Reset();
  /// Where the tape stands, to run and forget a part of it (the loss, chunk by chunk).
  struct Mark {
    size_t records, allocations, used;
  };
  Mark Here() const;
  /// Runs the records made since `mark` backwards, then forgets them and their results. Only
  /// outside layers.
  void BackwardTo(const Mark& mark);
  void Backward() { BackwardTo({0, 0, 0}); }

  /// Forgets the records made since `mark`, and their results.
  void Forget(const Mark& mark);

  /// The gradient of a whole result that the caller writes all of.
  Tensor FreshGradient(Tensor x);
  /// The gradient of a result: same shape and stride. Zeroed if nothing was added to it yet.
  Tensor Gradient(Tensor x);

  // Recorder
  Tensor Allocate(int64_t rows, int64_t cols) override;
  void Record(const OpRecord& record) override;
  void Attention(const AttentionRecord& record) override;
  void MixtureOfExperts(const MoeRecord& record) override;
  void BeginLayer(int layer, Tensor input) override;
  void EndLayer(int layer, Tensor output) override;
  // LinearHook
  void AfterLinear(ExecContext& context, const Weight& weight, const VectorWeight* bias, Tensor x,
                   Tensor y) override;

 private:
  static constexpr int kOutside = -1;
  struct Allocation {
    float* data;
    int64_t size;
    bool has_gradient;
    int layer;
  };
  struct Node {
    OpRecord record;
    int layer;
    Tensor extra;  // attention: log-sum-exp; experts: see moe; adapters: scale * A x
    const LowRank* low_rank = nullptr;  // set: what an adapter adds to the record's result
    int64_t stream = 0;                 // of dropout
  };
  struct LayerState {
    Tensor input;  // where the layer's ops read it
    Tensor kept;   // its copy, empty when the input itself is kept
    size_t first_record = 0, end_record = 0;
    bool resident = true;  // whether its results are in memory
  };
  struct Zone {
    int64_t base = 0;  // bytes from the arena's start
    int64_t used = 0, peak = 0;
  };

  Tensor AllocateIn(int zone, int64_t rows, int64_t cols, int layer);
  Allocation* Owner(const float* data);
  /// A gradient to add to. `fresh` (if given) is set when it holds nothing yet and the caller will
  /// write all of it; else it is zeroed.
  Tensor GradientFor(Tensor x, bool* fresh);
  bool HasGradient(Tensor y);
  /// The gradient of an op's result.
  Tensor Incoming(Tensor y);

  void RunForward(Node& node);
  /// Brings a layer's results and input back before its gradients.
  void Restore(int layer);
  void RunBackward(Node& node);
  void NeedWorkspace(size_t bytes);
  void PlanRecord(const OpRecord& record);
  DenseAttentionParams AttentionCall(const AttentionRecord& record, Tensor lse);

  void Back(const LinearRecord& r);
  void Back(const EmbedRecord& r);
  void Back(const TakeRowsRecord& r);
  void Back(const RmsNormRecord& r);
  void Back(const AddRecord& r);
  void Back(const ScaleRecord& r);
  void Back(const SoftcapRecord& r);
  void Back(const GluRecord& r);
  void Back(const RopeRecord& r);
  void BackAttention(const AttentionRecord& r, Tensor lse);
  void BackMoe(const MoeRecord& r, Tensor extra);
  void ForwardMoe(const MoeRecord& r, Tensor extra);
  void ForwardLowRank(const Node& node);
  void BackLowRank(const Node& node);
  /// dx (+)= dy W of a frozen weight, or of an expert of a stack.
  void FrozenGradInput(const PackedMatrix& weight, Tensor dy, Tensor dx, bool accumulate,
                       std::byte* workspace);
  Tensor AdapterInput(const Node& node, Tensor x);
  bool DropsOut(double rate) const;
  void Drop(Tensor x, double rate, int64_t stream, bool whole_rows);
  void DropResult(const Node& node, Tensor result_or_gradient);
  void AddGradient(Tensor x, Tensor dy, float scale);

  Device& device_;
  const TrainKernels& kernels_;
  const ParameterStore* parameters_;
  const TapeOptions options_;
  const LowRankSet* adapters_;
  bool training_ = false;
  uint64_t dropout_seed_ = 0;
  int64_t frozen_rows_ = 0;  // of the largest frozen matrix
  Buffer frozen_ids_;        // 0, 1, 2, ..
  bool planning_ = false;
  Zone zones_[3];  // kept, and the two that layers take in turn
  int layer_ = kOutside;
  std::vector<Allocation> allocations_;
  std::vector<Node> nodes_;
  std::vector<LayerState> layers_;
  Buffer activations_, gradients_, workspace_;
  int64_t activation_bytes_ = 0;
  size_t workspace_bytes_ = 0;
};

}  // namespace ink
