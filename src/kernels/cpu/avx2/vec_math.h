// Elementary functions on 8 floats, the same operations in the same order as reference/vec_math.h.
// Nothing here may be included outside the AVX2 folder.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/math_constants.h"

namespace ink::avx2 {

#define INK_AVX2_INLINE inline __attribute__((always_inline))

INK_AVX2_INLINE __m256 Set(float x) { return _mm256_set1_ps(x); }

/// 2^f for f in [-0.5, 0.5].
INK_AVX2_INLINE __m256 Exp2Fraction(__m256 f) {
  __m256 p = _mm256_fmadd_ps(Set(kExp2C5), f, Set(kExp2C4));
  p = _mm256_fmadd_ps(p, f, Set(kExp2C3));
  p = _mm256_fmadd_ps(p, f, Set(kExp2C2));
  p = _mm256_fmadd_ps(p, f, Set(kExp2C1));
  return _mm256_fmadd_ps(p, f, Set(1.0f));
}

/// p * 2^n, n in the low bits of `shifted`.
INK_AVX2_INLINE __m256 ScaleByShifted(__m256 p, __m256 shifted) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p),
                                              _mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
}

/// 2^(x * scale) for x * scale <= 0, zero where x < lowest = kExp2Lowest / scale; NaN stays.
INK_AVX2_INLINE __m256 Exp2Scaled(__m256 x, __m256 scale, __m256 lowest) {
  const __m256 counts = _mm256_cmp_ps(x, lowest, _CMP_NLT_UQ);
  const __m256 shifted = _mm256_fmadd_ps(x, scale, Set(kRoundMagic));
  const __m256 n = _mm256_sub_ps(shifted, Set(kRoundMagic));
  const __m256 p = Exp2Fraction(_mm256_fmsub_ps(x, scale, n));
  return _mm256_and_ps(counts, ScaleByShifted(p, shifted));
}

/// e^x, x clamped to [kExpLowest, kExpHighest]; NaN stays.
INK_AVX2_INLINE __m256 Exp(__m256 x) {
  // The second operand of min and max is the result where one is NaN.
  x = _mm256_min_ps(Set(kExpHighest), _mm256_max_ps(Set(kExpLowest), x));
  const __m256 shifted = _mm256_fmadd_ps(x, Set(kLog2E), Set(kRoundMagic));
  const __m256 n = _mm256_sub_ps(shifted, Set(kRoundMagic));
  __m256 r = _mm256_fnmadd_ps(n, Set(kLn2High), x);
  r = _mm256_fnmadd_ps(n, Set(kLn2Low), r);
  return ScaleByShifted(Exp2Fraction(_mm256_mul_ps(r, Set(kLog2E))), shifted);
}

INK_AVX2_INLINE __m256 Tanh(__m256 x) {
  const __m256 sign_bit = _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MIN));
  const __m256 a = _mm256_andnot_ps(sign_bit, x);
  const __m256 e = Exp(_mm256_add_ps(a, a));
  const __m256 large =
      _mm256_sub_ps(Set(1.0f), _mm256_div_ps(Set(2.0f), _mm256_add_ps(e, Set(1.0f))));
  const __m256 square = _mm256_mul_ps(a, a);
  __m256 p = _mm256_fmadd_ps(Set(kTanhC4), square, Set(kTanhC3));
  p = _mm256_fmadd_ps(p, square, Set(kTanhC2));
  p = _mm256_fmadd_ps(p, square, Set(kTanhC1));
  p = _mm256_fmadd_ps(p, square, Set(kTanhC0));
  const __m256 small = _mm256_fmadd_ps(_mm256_mul_ps(p, square), a, a);
  const __m256 is_small = _mm256_cmp_ps(a, Set(kTanhPolynomialLimit), _CMP_LT_OQ);
  return _mm256_or_ps(_mm256_blendv_ps(large, small, is_small), _mm256_and_ps(x, sign_bit));
}

/// 16 lanes in two vectors folded 8, 4, 2, 1.
INK_AVX2_INLINE float FoldSum(__m256 low, __m256 high) {
  const __m256 y = _mm256_add_ps(low, high);
  const __m128 z = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  const __m128 w = _mm_add_ps(z, _mm_movehl_ps(z, z));
  return _mm_cvtss_f32(_mm_add_ss(w, _mm_movehdup_ps(w)));
}

INK_AVX2_INLINE float FoldMax(__m256 x) {
  const __m128 z = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 w = _mm_max_ps(z, _mm_movehl_ps(z, z));
  return _mm_cvtss_f32(_mm_max_ss(w, _mm_movehdup_ps(w)));
}

/// All ones in the first `count` (0 to 8) lanes, for maskload and maskstore.
INK_AVX2_INLINE __m256i FirstLanes(int64_t count) {
  const int n = count < 8 ? static_cast<int>(count) : 8;
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

}  // namespace ink::avx2
