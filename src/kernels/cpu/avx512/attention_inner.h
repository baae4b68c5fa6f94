// Pieces of the AVX-512 attention, one to a file. Nothing here may be included outside the folder.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/avx512/vec_math.h"

namespace ink::avx512 {

// Row counts with an instance of their own, by which the function tables are indexed; others are
// cut into these.
inline constexpr int kRowCounts[] = {12, 8, 6, 4, 3, 2, 1};
static_assert(kRowCounts[0] == kAttentionGroupRows);

void PackQueriesBf16(const float* const* q_rows, int rows, int head_dim, void* packed);

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

INK_INLINE void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

INK_INLINE __m512 LoadHalf(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
INK_INLINE __m512 FloatOfBytes(__m128i bytes) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
INK_INLINE __m128i LoadBytes(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

}  // namespace ink::avx512
