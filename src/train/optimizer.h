// Optimizer steps over a ParameterStore.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "train/parameters.h"

namespace ink {

enum class OptimizerKind { kAdamW, kAdamW8, kMuon };

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::kAdamW;
  float lr = 1e-3f;
  float beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f;
  float weight_decay = 0.1f;
  bool decay_embeddings = true;  // vectors (norms, biases) never decay
  // Muon (Jordan et al. 2024): hidden matrices take momentum steps made orthogonal by Newton-Schulz
  // iterations, scaled to the size of an AdamW step (Liu et al. 2025: 0.2 sqrt(max(rows, cols)));
  // everything else takes AdamW with lr * adam_lr_scale.
  float momentum = 0.95f;
  int newton_schulz_steps = 5;
  float adam_lr_scale = 1.0f;
};

/// Bytes of optimizer state that these parameters need, for the plan.
int64_t OptimizerStateBytes(const OptimizerConfig& config, const ParameterStore& parameters);

class Optimizer {
 public:
  /// Errors: kOutOfMemory.
  static Result<std::unique_ptr<Optimizer>> Create(Device& device, ParameterStore& parameters,
                                                   const OptimizerConfig& config, bool bfloat16);

  /// The gradients' global norm, NaN or infinite where a gradient is.
  double GradientNorm();
  /// One step with gradients times `grad_scale` and learning rate config.lr * lr_scale; fills the
  /// panels anew.
  void Step(double lr_scale, double grad_scale);

  int64_t steps() const { return steps_; }
  int64_t state_bytes() const { return static_cast<int64_t>(state_.size()); }
  /// Everything a later run needs to go on exactly, in device memory; a later run fills it and
  /// tells the steps.
  std::span<std::byte> state() const { return {state_.data(), state_.size()}; }
  int64_t scratch_bytes() const { return static_cast<int64_t>(scratch_.size() + partial_.size()); }
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  Optimizer(Device& device, ParameterStore& parameters, const OptimizerConfig& config,
            bool bfloat16);
  struct Slot {
    Parameter* parameter;
    bool muon;
    float weight_decay;
    int64_t m = 0, v = 0, m_max = 0, v_max = 0;  // offsets in the state
  };
  float* At(int64_t offset) const { return reinterpret_cast<float*>(state_.data() + offset); }
  void Adam(const Slot& slot, float lr, float grad_scale);
  void Muon(const Slot& slot, float lr, float grad_scale);

  Device& device_;
  ParameterStore& parameters_;
  const OptimizerConfig config_;
  const bool bfloat16_;
  const TrainKernels& kernels_;
  std::vector<Slot> slots_;
  Buffer state_, scratch_, partial_;
  int64_t steps_ = 0;
};

}  // namespace ink
