#pragma once

#include <initializer_list>

#include "ops/exec_context.h"
#include "ops/weight.h"

namespace ink {

struct LinearTerm {
  const Weight* weight;
  const VectorWeight* bias = nullptr;
  Tensor* y;  // receives [x.rows, weight rows]
};

/// y_i = x W_i^T + b_i for up to kMaxLinearWeights weights that share x, which is packed once.
/// x [num_rows, cols]; every weight [rows_i, cols]; bias [rows_i].
void Linear(ExecContext& context, Tensor x, std::initializer_list<LinearTerm> terms);

/// One weight.
Tensor Linear(ExecContext& context, Tensor x, const Weight& weight,
              const VectorWeight* bias = nullptr);

/// Of a launch outside a model's forward pass: one weight's shapes, without x, y and workspace.
LinearParams LinearParamsOf(const PackedMatrix& matrix, int64_t num_rows);

}  // namespace ink
