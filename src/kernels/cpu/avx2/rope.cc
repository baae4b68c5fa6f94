#include <immintrin.h>

#include "kernels/cpu/avx2/kernels_attn.h"
#include "kernels/cpu/avx2/vec_math.h"
#include "kernels/cpu/rope_driver.h"

namespace ink::avx2 {
namespace {

void RotateHalves(const RotateCall& call) {
  const int pairs = call.rotary_dim / 2;
  for (int h = 0; h < call.num_heads; ++h) {
    const float* x = call.x + int64_t{h} * call.head_dim;
    float* out = call.out + int64_t{h} * call.head_dim;
    for (int i = 0; i < pairs; i += 8) {
      const __m256i lanes = FirstLanes(pairs - i);
      const __m256 c = _mm256_maskload_ps(call.cosines + i, lanes);
      const __m256 s = _mm256_maskload_ps(call.sines + i, lanes);
      const __m256 a = _mm256_maskload_ps(x + i, lanes);
      const __m256 b = _mm256_maskload_ps(x + i + pairs, lanes);
      _mm256_maskstore_ps(out + i, lanes, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
      _mm256_maskstore_ps(out + i + pairs, lanes, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
    }
  }
}

void RotateNeighbours(const RotateCall& call) {
  for (int h = 0; h < call.num_heads; ++h) {
    const float* x = call.x + int64_t{h} * call.head_dim;
    float* out = call.out + int64_t{h} * call.head_dim;
    for (int i = 0; i < call.rotary_dim; i += 8) {
      const __m256i lanes = FirstLanes(call.rotary_dim - i);
      const __m256 c = _mm256_maskload_ps(call.cosines + i, lanes);
      const __m256 s = _mm256_maskload_ps(call.sines + i, lanes);
      const __m256 v = _mm256_maskload_ps(x + i, lanes);
      const __m256 swapped = _mm256_permute_ps(v, 0xb1);
      // Even lanes subtract, odd lanes add.
      _mm256_maskstore_ps(out + i, lanes, _mm256_fmaddsub_ps(v, c, _mm256_mul_ps(swapped, s)));
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

}  // namespace ink::avx2
