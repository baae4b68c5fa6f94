#include <immintrin.h>

#include "kernels/cpu/avx512/kernels_attn.h"
#include "kernels/cpu/avx512/vec_math.h"
#include "kernels/cpu/rope_driver.h"

namespace ink::avx512 {
namespace {

void RotateHalves(const RotateCall& call) {
  const int pairs = call.rotary_dim / 2;
  for (int h = 0; h < call.num_heads; ++h) {
    const float* x = call.x + int64_t{h} * call.head_dim;
    float* out = call.out + int64_t{h} * call.head_dim;
    for (int i = 0; i < pairs; i += 16) {
      const __mmask16 lanes = FirstLanes(pairs - i);
      const __m512 c = _mm512_maskz_loadu_ps(lanes, call.cosines + i);
      const __m512 s = _mm512_maskz_loadu_ps(lanes, call.sines + i);
      const __m512 a = _mm512_maskz_loadu_ps(lanes, x + i);
      const __m512 b = _mm512_maskz_loadu_ps(lanes, x + i + pairs);
      _mm512_mask_storeu_ps(out + i, lanes, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
      _mm512_mask_storeu_ps(out + i + pairs, lanes, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
  }
}

void RotateNeighbours(const RotateCall& call) {
  for (int h = 0; h < call.num_heads; ++h) {
    const float* x = call.x + int64_t{h} * call.head_dim;
    float* out = call.out + int64_t{h} * call.head_dim;
    for (int i = 0; i < call.rotary_dim; i += 16) {
      const __mmask16 lanes = FirstLanes(call.rotary_dim - i);
      const __m512 c = _mm512_maskz_loadu_ps(lanes, call.cosines + i);
      const __m512 s = _mm512_maskz_loadu_ps(lanes, call.sines + i);
      const __m512 v = _mm512_maskz_loadu_ps(lanes, x + i);
      const __m512 swapped = _mm512_permute_ps(v, 0xb1);
      // Even lanes subtract, odd lanes add.
      _mm512_mask_storeu_ps(out + i, lanes, _mm512_fmaddsub_ps(v, c, _mm512_mul_ps(swapped, s)));
    }
  }
}

void Rotate(const RotateCall& call) {
  if (call.interleaved) {
    RotateNeighbours(call);
  } else {
    RotateHalves(call);
  }
}

}  // namespace

void Rope(const RopeParams& params, const KernelContext& ctx) noexcept {
  RunRope(Rotate, params, ctx);
}

}  // namespace ink::avx512
