// Pieces of the AVX2 attention, one to a file. Nothing here may be included outside the folder.
//
// Six rows by two vectors are 12 of the 16 registers and hide the latency of FMA. Plain loops with
// a full unroll keep such arrays in registers.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/avx2/vec_math.h"

namespace ink::avx2 {

// Row counts with an instance of their own, by which the function tables are indexed; others are
// cut into these.
inline constexpr int kRowCounts[] = {6, 4, 3, 2, 1};

void ScoresF32(const ScoresCall& call);
void ScoresF16(const ScoresCall& call);
void ScoresBF16(const ScoresCall& call);
void ScoresQ8_0(const ScoresCall& call);
void ScoresQ4_0(const ScoresCall& call);

void ValuesF32(const ValuesCall& call);
void ValuesF16(const ValuesCall& call);
void ValuesBF16(const ValuesCall& call);
void ValuesQ8_0(const ValuesCall& call);
void ValuesQ4_0(const ValuesCall& call);

INK_AVX2_INLINE void Prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}

INK_AVX2_INLINE __m256 LoadFloats(const std::byte* p) {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
}
INK_AVX2_INLINE __m128i LoadBytes(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
INK_AVX2_INLINE __m128i LoadHalfBytes(const std::byte* p) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}
INK_AVX2_INLINE __m256 LoadHalf(const std::byte* p) { return _mm256_cvtph_ps(LoadBytes(p)); }
/// The first 8 bytes as signed integers.
INK_AVX2_INLINE __m256 FloatOfBytes(__m128i bytes) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
/// The first or the second value of each of 8 bf16 pairs.
INK_AVX2_INLINE __m256 PairValue(const std::byte* p, bool second) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm256_castsi256_ps(second ? _mm256_and_si256(pairs, _mm256_set1_epi32(-65536))
                                    : _mm256_slli_epi32(pairs, 16));
}

template <int R>
INK_AVX2_INLINE void Clear(__m256 (&acc)[R][2]) {
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
}

/// acc[r] += x[r * stride] * (v0, v1).
template <int R>
INK_AVX2_INLINE void Step(const float* x, int stride, __m256 v0, __m256 v1, __m256 (&acc)[R][2]) {
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    const __m256 weight = _mm256_broadcast_ss(x + r * stride);
    acc[r][0] = _mm256_fmadd_ps(weight, v0, acc[r][0]);
    acc[r][1] = _mm256_fmadd_ps(weight, v1, acc[r][1]);
  }
}

}  // namespace ink::avx2
