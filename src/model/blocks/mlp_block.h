// Feed-forward parts: the gated MLP, and a mixture of them.
#pragma once

#include "model/config.h"
#include "model/model_loader.h"
#include "ops/moe.h"
#include "ops/weight.h"

namespace ink {

/// down(activation(gate x) * up x).
struct MlpBlock {
  Weight gate, up, down;
  bool fused_gate_up = false;  // `up` holds gate and up rows one after the other (Phi-3)
  Activation activation = Activation::kSilu;

  Status Declare(ModelLoader& loader, const DecoderConfig& config, int layer);
  /// x [num_tokens, d_model] -> the same.
  Tensor Forward(ExecContext& context, Tensor x) const;
};

/// A router and experts (Mixtral, Qwen3-MoE).
struct MoeBlock {
  Weight router, gate, up, down;
  MoeSpec spec;

  Status Declare(ModelLoader& loader, const DecoderConfig& config, int layer);
  Tensor Forward(ExecContext& context, Tensor x) const;
};

}  // namespace ink
