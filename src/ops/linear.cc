#include "ops/linear.h"

#include "ops/recorder.h"

namespace ink {

void Linear(ExecContext& context, Tensor x, std::initializer_list<LinearTerm> terms) {
  INK_CHECK_LE(terms.size(), size_t{kMaxLinearWeights});
  LinearParams params;
  params.x = x.data;
  params.x_stride = x.stride;
  params.num_rows = x.rows;
  params.cols = x.cols;
  for (const LinearTerm& term : terms) {
    const PackedMatrix& packed = term.weight->packed;
    INK_CHECK_EQ(packed.cols, x.cols);
    INK_CHECK_EQ(packed.experts, 1);
    *term.y = context.NewTensor(x.rows, packed.rows);
    int i = params.num_weights++;
    params.weights[i] = packed;
    params.y[i] = term.y->data;
    params.y_stride[i] = term.y->stride;
    if (term.bias != nullptr && term.bias->data != nullptr) {
      INK_CHECK_EQ(term.bias->size, packed.rows);
      params.bias[i] = term.bias->data;
    }
  }
  {
    ArenaScope scope(context);
    params.workspace = context.Scratch(LinearWorkspaceBytes(params));
    context.Launch(context.device.ops().linear, params);
  }
  for (const LinearTerm& term : terms) {
    if (context.recorder != nullptr) {
      context.recorder->Record(LinearRecord{x, term.weight, term.bias, *term.y});
    }
    if (context.linear_hook != nullptr) {
      const VectorWeight* bias =
          term.bias != nullptr && term.bias->data != nullptr ? term.bias : nullptr;
      context.linear_hook->AfterLinear(context, *term.weight, bias, x, *term.y);
    }
  }
}

Tensor Linear(ExecContext& context, Tensor x, const Weight& weight, const VectorWeight* bias) {
  Tensor y;
  Linear(context, x, {{&weight, bias, &y}});
  return y;
}

LinearParams LinearParamsOf(const PackedMatrix& matrix, int64_t num_rows) {
  LinearParams params;
  params.num_rows = num_rows;
  params.cols = matrix.cols;
  params.num_weights = 1;
  params.weights[0] = matrix;
  return params;
}

}  // namespace ink
