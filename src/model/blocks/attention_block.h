// Self-attention as decoder architectures share it: projections, optional head norms, rotation,
// paged attention, output projection.
#pragma once

#include <string>

#include "model/config.h"
#include "model/forward_batch.h"
#include "model/model_loader.h"
#include "model/rope_scaling.h"
#include "ops/attention.h"
#include "ops/weight.h"

namespace ink {

/// Rotation shared by the layers of one kind.
struct RopeTable {
  VectorWeight inv_freq;  // [rotary_dim / 2]
  float magnitude = 1.0f;
  int rotary_dim = 0;
};

struct AttentionBlock {
  struct Options {
    bool fused_qkv = false;   // one tensor attn_qkv (Phi-3)
    bool head_norms = false;  // RMS norm of every q and k head (Qwen3, Gemma 3)
    float scale = 0;          // 0: 1 / sqrt(head_dim)
    float softcap = 0;
    int64_t sliding_window = 0;
  };

  Weight q, k, v, qkv, output;
  VectorWeight q_bias, k_bias, v_bias, qkv_bias, output_bias;
  VectorWeight q_norm, k_norm;
  AttentionSpec spec;
  bool fused = false;
  float eps = 0;

  /// Declares the tensors of layer `layer`; biases are taken where the file has them.
  Status Declare(ModelLoader& loader, const DecoderConfig& config, int layer,
                 const Options& options);
  /// x [num_tokens, d_model], already normed -> [num_tokens, d_model].
  Tensor Forward(ExecContext& context, Tensor x, const RopeTable& rope, const ForwardBatch& batch,
                 const StateView::Layer& state) const;
};

/// "blk.<layer>.<name>".
std::string LayerName(int layer, const char* name);

/// Reads the model's rope scaling and declares its table.
Status DeclareRope(ModelLoader& loader, const DecoderConfig& config, RopeTable* out);
void DeclareRope(ModelLoader& loader, const RopeScaling& scaling, std::string name, RopeTable* out);

}  // namespace ink
