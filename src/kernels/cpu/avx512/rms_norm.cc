#include <immintrin.h>

#include "kernels/cpu/avx512/kernels_attn.h"
#include "kernels/cpu/avx512/vec_math.h"
#include "kernels/cpu/elementwise_driver.h"

namespace ink::avx512 {
namespace {

void Row(const void* raw, int64_t row) {
  const RmsNormParams& p = *static_cast<const RmsNormParams*>(raw);
  const float* x = p.x + row * p.x_stride;
  float* out = p.out + row * p.out_stride;
  __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                    _mm512_setzero_ps()};
  for (int64_t i = 0; i < p.dim; i += 64) {
    Unroll<4>([&](auto part) {
      const int64_t left = p.dim - i - 16 * part.value;
      const __m512 v =
          _mm512_maskz_loadu_ps(FirstLanes(left > 0 ? left : 0), x + i + 16 * part.value);
      sums[part.value] = _mm512_fmadd_ps(v, v, sums[part.value]);
    });
  }
  const float sum =
      FoldSum(_mm512_add_ps(_mm512_add_ps(sums[0], sums[2]), _mm512_add_ps(sums[1], sums[3])));
  const float mean = sum / static_cast<float>(p.dim) + p.eps;
  const __m512 inverse = Set(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean))));
  for (int64_t i = 0; i < p.dim; i += 16) {
    const __mmask16 lanes = FirstLanes(p.dim - i);
    const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), inverse);
    _mm512_mask_storeu_ps(out + i, lanes,
                          _mm512_mul_ps(scaled, _mm512_maskz_loadu_ps(lanes, p.weight + i)));
  }
}

}  // namespace

void RmsNorm(const RmsNormParams& params, const KernelContext& ctx) noexcept {
  ForRows(params.num_rows, params.dim, Row, &params, ctx);
}

}  // namespace ink::avx512
