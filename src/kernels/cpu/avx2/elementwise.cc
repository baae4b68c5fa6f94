#include <immintrin.h>

#include "kernels/cpu/avx2/kernels_attn.h"
#include "kernels/cpu/avx2/vec_math.h"
#include "kernels/cpu/elementwise_driver.h"

namespace ink::avx2 {
namespace {

void AddSpan(const void* raw, int64_t first, int64_t count) {
  const AddParams& p = *static_cast<const AddParams*>(raw);
  for (int64_t i = first, end = first + count; i < end; i += 8) {
    const __m256i lanes = FirstLanes(end - i);
    _mm256_maskstore_ps(
        p.out + i, lanes,
        _mm256_add_ps(_mm256_maskload_ps(p.a + i, lanes), _mm256_maskload_ps(p.b + i, lanes)));
  }
}

void ScaleSpan(const void* raw, int64_t first, int64_t count) {
  const ScaleParams& p = *static_cast<const ScaleParams*>(raw);
  for (int64_t i = first, end = first + count; i < end; i += 8) {
    const __m256i lanes = FirstLanes(end - i);
    _mm256_maskstore_ps(p.out + i, lanes,
                        _mm256_mul_ps(_mm256_maskload_ps(p.x + i, lanes), Set(p.scale)));
  }
}

void SoftcapSpan(const void* raw, int64_t first, int64_t count) {
  const SoftcapParams& p = *static_cast<const SoftcapParams*>(raw);
  for (int64_t i = first, end = first + count; i < end; i += 8) {
    const __m256i lanes = FirstLanes(end - i);
    const __m256 x = _mm256_div_ps(_mm256_maskload_ps(p.x + i, lanes), Set(p.cap));
    _mm256_maskstore_ps(p.out + i, lanes, _mm256_mul_ps(Set(p.cap), Tanh(x)));
  }
}

INK_AVX2_INLINE __m256 Silu(__m256 x) {
  const __m256 e = Exp(_mm256_sub_ps(_mm256_set1_ps(-0.0f), x));
  return _mm256_div_ps(x, _mm256_add_ps(Set(1.0f), e));
}

INK_AVX2_INLINE __m256 GeluTanh(__m256 x) {
  const __m256 cubic = _mm256_mul_ps(_mm256_mul_ps(Set(kGeluCubic), x), x);
  const __m256 z = _mm256_mul_ps(Set(kGeluSqrt2OverPi), _mm256_fmadd_ps(cubic, x, x));
  const __m256 e = Exp(_mm256_mul_ps(Set(-2.0f), z));
  return _mm256_div_ps(x, _mm256_add_ps(Set(1.0f), e));
}

void GluRow(const void* raw, int64_t row) {
  const GluParams& p = *static_cast<const GluParams*>(raw);
  const float* gate = p.gate + row * p.gate_stride;
  const float* up = p.up + row * p.up_stride;
  float* out = p.out + row * p.dim;
  for (int64_t i = 0; i < p.dim; i += 8) {
    const __m256i lanes = FirstLanes(p.dim - i);
    const __m256 g = _mm256_maskload_ps(gate + i, lanes);
    const __m256 activated = p.activation == Activation::kSilu ? Silu(g) : GeluTanh(g);
    _mm256_maskstore_ps(out + i, lanes,
                        _mm256_mul_ps(activated, _mm256_maskload_ps(up + i, lanes)));
  }
}

}  // namespace

void Add(const AddParams& params, const KernelContext& ctx) noexcept {
  ForElements(params.count, AddSpan, &params, ctx);
}

void Scale(const ScaleParams& params, const KernelContext& ctx) noexcept {
  ForElements(params.count, ScaleSpan, &params, ctx);
}

void Softcap(const SoftcapParams& params, const KernelContext& ctx) noexcept {
  ForElements(params.count, SoftcapSpan, &params, ctx);
}

void Glu(const GluParams& params, const KernelContext& ctx) noexcept {
  ForRows(params.num_rows, params.dim, GluRow, &params, ctx);
}

}  // namespace ink::avx2
