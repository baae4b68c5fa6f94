#include "kernels/cpu/adapt.h"

#include "kernels/cpu/elementwise_driver.h"

namespace ink::cpu {

void Adapt(const AdaptParams& params, const KernelContext& context) noexcept {
  auto row = [](const void* argument, int64_t r) {
    const AdaptParams& p = *static_cast<const AdaptParams*>(argument);
    float* y = p.y + r * p.y_stride;
    const float* delta = p.delta + r * p.dim;
    const float scale = p.scale;
    if (p.gain == nullptr) {
      for (int64_t i = 0; i < p.dim; ++i) y[i] += scale * delta[i];
    } else if (p.bias == nullptr) {
      for (int64_t i = 0; i < p.dim; ++i) y[i] = p.gain[i] * (y[i] + scale * delta[i]);
    } else {
      for (int64_t i = 0; i < p.dim; ++i) {
        y[i] = p.gain[i] * ((y[i] - p.bias[i]) + scale * delta[i]) + p.bias[i];
      }
    }
  };
  ForRows(params.num_rows, params.dim, row, &params, context);
}

}  // namespace ink::cpu
