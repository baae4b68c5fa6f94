#include "ops/moe.h"

#include "ops/recorder.h"

namespace ink {

Tensor MixtureOfExperts(ExecContext& context, Tensor x, Tensor router_logits, const Weight& gate,
                        const Weight& up, const Weight& down, const MoeSpec& spec) {
  INK_CHECK(x.contiguous() && router_logits.contiguous());
  INK_CHECK_EQ(router_logits.cols, gate.packed.experts);
  INK_CHECK_EQ(gate.packed.cols, x.cols);
  INK_CHECK_EQ(down.packed.rows, x.cols);
  INK_CHECK_EQ(down.packed.cols, gate.packed.rows);
  Tensor y = context.NewTensor(x.rows, x.cols);
  if (context.recorder != nullptr) {
    context.recorder->MixtureOfExperts(MoeRecord{x, router_logits, y, &gate, &up, &down, spec.top_k,
                                                 spec.normalize, spec.activation});
    return y;
  }
  ArenaScope scope(context);
  auto* experts = reinterpret_cast<int32_t*>(context.Scratch(x.rows * spec.top_k * 4));
  auto* weights = reinterpret_cast<float*>(context.Scratch(x.rows * spec.top_k * 4));
  context.Launch(context.device.ops().moe_route,
                 MoeRouteParams{router_logits.data, experts, weights, x.rows,
                                static_cast<int>(router_logits.cols), spec.top_k, spec.normalize});
  MoeExpertsParams params;
  params.x = x.data;
  params.out = y.data;
  params.num_tokens = x.rows;
  params.dim = x.cols;
  params.ffn_dim = gate.packed.rows;
  params.experts = experts;
  params.weights = weights;
  params.top_k = spec.top_k;
  params.gate = gate.packed;
  params.up = up.packed;
  params.down = down.packed;
  params.activation = spec.activation;
  params.workspace = context.Scratch(MoeWorkspaceBytes(params));
  context.Launch(context.device.ops().moe_experts, params);
  if (context.linear_hook != nullptr) {
    context.linear_hook->AfterExperts(context, params, gate, up, down);
  }
  return y;
}

}  // namespace ink
