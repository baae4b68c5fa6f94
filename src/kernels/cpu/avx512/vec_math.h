// Elementary functions on 16 floats, the same operations in the same order as reference/vec_math.h.
// Nothing here may be included outside the AVX-512 folder.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/avx512/simd.h"
#include "kernels/cpu/math_constants.h"

namespace ink::avx512 {

INK_INLINE __m512 Set(float x) { return _mm512_set1_ps(x); }

/// 2^f for f in [-0.5, 0.5].
INK_INLINE __m512 Exp2Fraction(__m512 f) {
  __m512 p = _mm512_fmadd_ps(Set(kExp2C5), f, Set(kExp2C4));
  p = _mm512_fmadd_ps(p, f, Set(kExp2C3));
  p = _mm512_fmadd_ps(p, f, Set(kExp2C2));
  p = _mm512_fmadd_ps(p, f, Set(kExp2C1));
  return _mm512_fmadd_ps(p, f, Set(1.0f));
}

/// 2^(x * scale) for x * scale <= 0, zero where x < lowest = kExp2Lowest / scale.
INK_INLINE __m512 Exp2Scaled(__m512 x, __m512 scale, __m512 lowest) {
  // "Not less" keeps NaN, so that it reaches the result.
  const __mmask16 counts = _mm512_cmp_ps_mask(x, lowest, _CMP_NLT_UQ);
  const __m512 shifted = _mm512_fmadd_ps(x, scale, Set(kRoundMagic));
  const __m512 n = _mm512_sub_ps(shifted, Set(kRoundMagic));
  const __m512 p = Exp2Fraction(_mm512_fmsub_ps(x, scale, n));
  return _mm512_castsi512_ps(_mm512_maskz_add_epi32(
      counts, _mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
}

/// e^x, x clamped to [kExpLowest, kExpHighest]; NaN stays.
INK_INLINE __m512 Exp(__m512 x) {
  // The second operand of min and max is the result where one is NaN.
  x = _mm512_min_ps(Set(kExpHighest), _mm512_max_ps(Set(kExpLowest), x));
  const __m512 shifted = _mm512_fmadd_ps(x, Set(kLog2E), Set(kRoundMagic));
  const __m512 n = _mm512_sub_ps(shifted, Set(kRoundMagic));
  __m512 r = _mm512_fnmadd_ps(n, Set(kLn2High), x);
  r = _mm512_fnmadd_ps(n, Set(kLn2Low), r);
  const __m512 p = Exp2Fraction(_mm512_mul_ps(r, Set(kLog2E)));
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p),
                                              _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
}

INK_INLINE __m512 Tanh(__m512 x) {
  const __m512 sign_bit = _mm512_castsi512_ps(_mm512_set1_epi32(INT32_MIN));
  const __m512 sign = _mm512_and_ps(x, sign_bit);
  const __m512 a = _mm512_andnot_ps(sign_bit, x);
  const __m512 e = Exp(_mm512_add_ps(a, a));
  const __m512 large =
      _mm512_sub_ps(Set(1.0f), _mm512_div_ps(Set(2.0f), _mm512_add_ps(e, Set(1.0f))));
  const __m512 square = _mm512_mul_ps(a, a);
  __m512 p = _mm512_fmadd_ps(Set(kTanhC4), square, Set(kTanhC3));
  p = _mm512_fmadd_ps(p, square, Set(kTanhC2));
  p = _mm512_fmadd_ps(p, square, Set(kTanhC1));
  p = _mm512_fmadd_ps(p, square, Set(kTanhC0));
  const __m512 small = _mm512_fmadd_ps(_mm512_mul_ps(p, square), a, a);
  const __mmask16 is_small = _mm512_cmp_ps_mask(a, Set(kTanhPolynomialLimit), _CMP_LT_OQ);
  return _mm512_or_ps(_mm512_mask_blend_ps(is_small, large, small), sign);
}

/// Lanes folded 8, 4, 2, 1.
INK_INLINE float FoldSum(__m512 x) {
  const __m256 y = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  const __m128 z = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  const __m128 w = _mm_add_ps(z, _mm_movehl_ps(z, z));
  return _mm_cvtss_f32(_mm_add_ss(w, _mm_movehdup_ps(w)));
}

INK_INLINE float FoldMax(__m512 x) {
  const __m256 y = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  const __m128 z = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  const __m128 w = _mm_max_ps(z, _mm_movehl_ps(z, z));
  return _mm_cvtss_f32(_mm_max_ss(w, _mm_movehdup_ps(w)));
}

/// The first `count` (0 to 16) lanes.
INK_INLINE __mmask16 FirstLanes(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffffu : (1u << count) - 1u);
}

}  // namespace ink::avx512
