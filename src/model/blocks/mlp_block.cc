#include "model/blocks/mlp_block.h"

#include "model/blocks/attention_block.h"
#include "ops/elementwise.h"
#include "ops/linear.h"

namespace ink {

Status MlpBlock::Declare(ModelLoader& loader, const DecoderConfig& config, int layer) {
  const int64_t d = config.d_model;
  if (fused_gate_up) {
    INK_RETURN_IF_ERROR(
        loader.Matrix(LayerName(layer, "ffn_up.weight"), 2 * config.ffn_dim, d, &up));
  } else {
    INK_RETURN_IF_ERROR(
        loader.Matrix(LayerName(layer, "ffn_gate.weight"), config.ffn_dim, d, &gate));
    INK_RETURN_IF_ERROR(loader.Matrix(LayerName(layer, "ffn_up.weight"), config.ffn_dim, d, &up));
  }
  return loader.Matrix(LayerName(layer, "ffn_down.weight"), d, config.ffn_dim, &down);
}

Tensor MlpBlock::Forward(ExecContext& context, Tensor x) const {
  Tensor g, u;
  if (fused_gate_up) {
    Tensor both = Linear(context, x, up);
    g = both.Columns(0, both.cols / 2);
    u = both.Columns(both.cols / 2, both.cols / 2);
  } else {
    Linear(context, x, {{&gate, nullptr, &g}, {&up, nullptr, &u}});
  }
  return Linear(context, Glu(context, g, u, activation), down);
}

Status MoeBlock::Declare(ModelLoader& loader, const DecoderConfig& config, int layer) {
  const int n = config.num_experts;
  spec.top_k = config.experts_per_token;
  INK_RETURN_IF_ERROR(
      loader.Matrix(LayerName(layer, "ffn_gate_inp.weight"), n, config.d_model, &router));
  INK_RETURN_IF_ERROR(loader.Matrix(LayerName(layer, "ffn_gate_exps.weight"), config.expert_ffn_dim,
                                    config.d_model, &gate, n));
  INK_RETURN_IF_ERROR(loader.Matrix(LayerName(layer, "ffn_up_exps.weight"), config.expert_ffn_dim,
                                    config.d_model, &up, n));
  return loader.Matrix(LayerName(layer, "ffn_down_exps.weight"), config.d_model,
                       config.expert_ffn_dim, &down, n);
}

Tensor MoeBlock::Forward(ExecContext& context, Tensor x) const {
  Tensor logits = Linear(context, x, router);
  return MixtureOfExperts(context, x, logits, gate, up, down, spec);
}

}  // namespace ink
