#pragma once

#include "ops/exec_context.h"
#include "ops/weight.h"

namespace ink {

struct MoeSpec {
  int top_k = 0;
  bool normalize = true;
  Activation activation = Activation::kSilu;
};

/// Routes x [num_tokens, dim] by `router_logits` [num_tokens, num_experts] to the experts' gated
/// MLPs: gate, up [experts][ffn, dim], down [experts][dim, ffn]. Result [num_tokens, dim].
Tensor MixtureOfExperts(ExecContext& context, Tensor x, Tensor router_logits, const Weight& gate,
                        const Weight& up, const Weight& down, const MoeSpec& spec);

}  // namespace ink
