#include <immintrin.h>

#include "kernels/cpu/avx512/kernels_attn.h"
#include "kernels/cpu/avx512/vec_math.h"
#include "kernels/cpu/elementwise_driver.h"

namespace ink::avx512 {
namespace {

void AddSpan(const void* raw, int64_t first, int64_t count) {
  const AddParams& p = *static_cast<const AddParams*>(raw);
  for (int64_t i = first, end = first + count; i < end; i += 16) {
    const __mmask16 lanes = FirstLanes(end - i);
    _mm512_mask_storeu_ps(p.out + i, lanes,
                          _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, p.a + i),
                                        _mm512_maskz_loadu_ps(lanes, p.b + i)));
  }
}

void ScaleSpan(const void* raw, int64_t first, int64_t count) {
  const ScaleParams& p = *static_cast<const ScaleParams*>(raw);
  for (int64_t i = first, end = first + count; i < end; i += 16) {
    const __mmask16 lanes = FirstLanes(end - i);
    _mm512_mask_storeu_ps(p.out + i, lanes,
                          _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, p.x + i), Set(p.scale)));
  }
}

void SoftcapSpan(const void* raw, int64_t first, int64_t count) {
  const SoftcapParams& p = *static_cast<const SoftcapParams*>(raw);
  for (int64_t i = first, end = first + count; i < end; i += 16) {
    const __mmask16 lanes = FirstLanes(end - i);
    const __m512 x = _mm512_div_ps(_mm512_maskz_loadu_ps(lanes, p.x + i), Set(p.cap));
    _mm512_mask_storeu_ps(p.out + i, lanes, _mm512_mul_ps(Set(p.cap), Tanh(x)));
  }
}

INK_INLINE __m512 Silu(__m512 x) {
  const __m512 e = Exp(_mm512_sub_ps(_mm512_set1_ps(-0.0f), x));
  return _mm512_div_ps(x, _mm512_add_ps(Set(1.0f), e));
}

INK_INLINE __m512 GeluTanh(__m512 x) {
  const __m512 cubic = _mm512_mul_ps(_mm512_mul_ps(Set(kGeluCubic), x), x);
  const __m512 z = _mm512_mul_ps(Set(kGeluSqrt2OverPi), _mm512_fmadd_ps(cubic, x, x));
  const __m512 e = Exp(_mm512_mul_ps(Set(-2.0f), z));
  return _mm512_div_ps(x, _mm512_add_ps(Set(1.0f), e));
}

void GluRow(const void* raw, int64_t row) {
  const GluParams& p = *static_cast<const GluParams*>(raw);
  const float* gate = p.gate + row * p.gate_stride;
  const float* up = p.up + row * p.up_stride;
  float* out = p.out + row * p.dim;
  for (int64_t i = 0; i < p.dim; i += 16) {
    const __mmask16 lanes = FirstLanes(p.dim - i);
    const __m512 g = _mm512_maskz_loadu_ps(lanes, gate + i);
    const __m512 activated = p.activation == Activation::kSilu ? Silu(g) : GeluTanh(g);
    _mm512_mask_storeu_ps(out + i, lanes,
                          _mm512_mul_ps(activated, _mm512_maskz_loadu_ps(lanes, up + i)));
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

}  // namespace ink::avx512
