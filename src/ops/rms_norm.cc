#include "ops/rms_norm.h"

#include "ops/recorder.h"

namespace ink {

Tensor RmsNorm(ExecContext& context, Tensor x, const VectorWeight& weight, float eps) {
  INK_CHECK_EQ(x.cols % weight.size, 0);
  Tensor y = context.NewTensor(x.rows, x.cols);
  RmsNormParams params;
  params.weight = weight.data;
  params.dim = weight.size;
  params.eps = eps;
  const int64_t groups = x.cols / weight.size;
  if (x.contiguous() || groups == 1) {
    // Heads of contiguous rows are rows of a taller matrix.
    params.x = x.data;
    params.out = y.data;
    params.num_rows = x.rows * groups;
    params.x_stride = groups == 1 ? x.stride : weight.size;
    params.out_stride = weight.size;
    context.Launch(context.device.ops().rms_norm, params);
  } else {
    for (int64_t g = 0; g < groups; ++g) {
      params.x = x.data + g * weight.size;
      params.out = y.data + g * weight.size;
      params.num_rows = x.rows;
      params.x_stride = x.stride;
      params.out_stride = y.stride;
      context.Launch(context.device.ops().rms_norm, params);
    }
  }
  if (context.recorder != nullptr) context.recorder->Record(RmsNormRecord{x, &weight, eps, y});
  return y;
}

}  // namespace ink
