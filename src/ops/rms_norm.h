#pragma once

#include "ops/exec_context.h"
#include "ops/weight.h"

namespace ink {

/// Normalizes each group of weight.size columns of each row (the whole row, or every head of it).
/// x.cols is a multiple of weight.size.
Tensor RmsNorm(ExecContext& context, Tensor x, const VectorWeight& weight, float eps);

}  // namespace ink
