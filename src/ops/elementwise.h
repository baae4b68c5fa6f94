#pragma once

#include "ops/exec_context.h"
#include "ops/weight.h"

namespace ink {

/// a + b, both [rows, cols] and contiguous.
Tensor Add(ExecContext& context, Tensor a, Tensor b);
/// a += b without a recorder; a new tensor with one (no op writes in place then).
Tensor AddInPlace(ExecContext& context, Tensor a, Tensor b);
/// x * scale; x contiguous.
Tensor Scale(ExecContext& context, Tensor x, float scale);
/// cap * tanh(x / cap); x contiguous.
Tensor Softcap(ExecContext& context, Tensor x, float cap);
/// activation(gate) * up; both [rows, cols], any stride.
Tensor Glu(ExecContext& context, Tensor gate, Tensor up, Activation activation);

/// y [rows, cols] in place: += scale * delta, or with `gain` [cols] gain * (y - bias + scale *
/// delta)
/// + bias (AdaptParams). `delta` [rows, cols] is contiguous. Not recorded: training has its own
/// rule.
void Adapt(ExecContext& context, Tensor y, const float* delta, float scale, const float* gain,
           const VectorWeight* bias);

}  // namespace ink
