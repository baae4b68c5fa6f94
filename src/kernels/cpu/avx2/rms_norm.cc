#include <immintrin.h>

#include "kernels/cpu/avx2/kernels_attn.h"
#include "kernels/cpu/avx2/vec_math.h"
#include "kernels/cpu/elementwise_driver.h"

namespace ink::avx2 {
namespace {

void Row(const void* raw, int64_t row) {
  const RmsNormParams& p = *static_cast<const RmsNormParams*>(raw);
  const float* x = p.x + row * p.x_stride;
  float* out = p.out + row * p.out_stride;
  __m256 s[8];
  for (__m256& v : s) v = _mm256_setzero_ps();
  for (int64_t i = 0; i < p.dim; i += 64) {
    for (int part = 0; part < 8; ++part) {
      const int64_t left = p.dim - i - 8 * part;
      const __m256 v = _mm256_maskload_ps(x + i + 8 * part, FirstLanes(left > 0 ? left : 0));
      s[part] = _mm256_fmadd_ps(v, v, s[part]);
    }
  }
  // Folded 32, 16, then 8, 4, 2, 1.
  for (int part = 0; part < 4; ++part) s[part] = _mm256_add_ps(s[part], s[part + 4]);
  for (int part = 0; part < 2; ++part) s[part] = _mm256_add_ps(s[part], s[part + 2]);
  const float mean = FoldSum(s[0], s[1]) / static_cast<float>(p.dim) + p.eps;
  const __m256 inverse = Set(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean))));
  for (int64_t i = 0; i < p.dim; i += 8) {
    const __m256i lanes = FirstLanes(p.dim - i);
    const __m256 scaled = _mm256_mul_ps(_mm256_maskload_ps(x + i, lanes), inverse);
    _mm256_maskstore_ps(out + i, lanes,
                        _mm256_mul_ps(scaled, _mm256_maskload_ps(p.weight + i, lanes)));
  }
}

}  // namespace

void RmsNorm(const RmsNormParams& params, const KernelContext& ctx) noexcept {
  ForRows(params.num_rows, params.dim, Row, &params, ctx);
}

}  // namespace ink::avx2
