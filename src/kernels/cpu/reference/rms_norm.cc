#include <cmath>

#include "kernels/cpu/elementwise_driver.h"
#include "kernels/cpu/reference/kernels_attn.h"

namespace ink::reference {
namespace {

// 64 interleaved partial sums, folded 32, 16, .. 1: the order of the vector versions, and more
// accurate than one chain.
constexpr int kLanes = 64;

void Row(const void* raw, int64_t row) {
  const RmsNormParams& p = *static_cast<const RmsNormParams*>(raw);
  const float* x = p.x + row * p.x_stride;
  float* out = p.out + row * p.out_stride;
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < p.dim; ++i) lanes[i % kLanes] = std::fma(x[i], x[i], lanes[i % kLanes]);
  for (int width = kLanes / 2; width >= 1; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  const float inverse = 1.0f / std::sqrt(lanes[0] / static_cast<float>(p.dim) + p.eps);
  for (int64_t i = 0; i < p.dim; ++i) out[i] = x[i] * inverse * p.weight[i];
}

}  // namespace

void RmsNorm(const RmsNormParams& params, const KernelContext& ctx) noexcept {
  ForRows(params.num_rows, params.dim, Row, &params, ctx);
}

}  // namespace ink::reference
