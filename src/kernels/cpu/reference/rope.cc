#include <cmath>

#include "kernels/cpu/reference/kernels_attn.h"
#include "kernels/cpu/rope_driver.h"

namespace ink::reference {
namespace {

void Rotate(const RotateCall& call) {
  const int pairs = call.rotary_dim / 2;
  for (int h = 0; h < call.num_heads; ++h) {
    const float* x = call.x + int64_t{h} * call.head_dim;
    float* out = call.out + int64_t{h} * call.head_dim;
    for (int i = 0; i < pairs; ++i) {
      const int first = call.interleaved ? 2 * i : i;
      const int second = call.interleaved ? 2 * i + 1 : i + pairs;
      const float c = call.cosines[first];
      const float s = call.sines[first];
      const float a = x[first];
      const float b = x[second];
      out[first] = std::fma(a, c, -(b * s));
      out[second] = std::fma(b, c, a * s);
    }
  }
}

}  // namespace

void Rope(const RopeParams& params, const KernelContext& ctx) noexcept {
  RunRope(Rotate, params, ctx);
}

}  // namespace ink::reference
