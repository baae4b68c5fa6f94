// Small helpers of the AVX2 folder's Linear. Nothing here may be included elsewhere.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace ink::avx2 {

#define INK_INLINE inline __attribute__((always_inline))
// For lambdas: GCC must inline them before it looks for arrays that can live in registers.
#define INK_INLINED __attribute__((always_inline))

template <int kValue>
struct Int {
  static constexpr int value = kValue;
};

// Calls f(Int<0>), .., f(Int<kCount - 1>): indices are constants before the optimizer looks, so
// arrays of vectors become registers (a `for` with #pragma unroll leaves them in memory).
template <int kCount, int kFirst = 0, typename Fn>
INK_INLINE void Unroll(Fn&& f) {
  if constexpr (kFirst < kCount) {
    f(Int<kFirst>{});
    Unroll<kCount, kFirst + 1>(f);
  }
}

// sum += x, int16 or int32. As intrinsics, GCC 12 reassociates chains of additions and keeps every
// product alive until the end.
INK_INLINE void AddTo16(__m256i& sum, __m256i x) { asm("vpaddw %1, %0, %0" : "+x"(sum) : "x"(x)); }
INK_INLINE void AddTo32(__m256i& sum, __m256i x) { asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(x)); }
INK_INLINE __m256i LoadInt(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
INK_INLINE void StoreInt(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
INK_INLINE __m256i Broadcast32(const void* p) {
  return _mm256_set1_epi32(*static_cast<const int __attribute__((may_alias))*>(p));
}
INK_INLINE __m256 LoadHalves(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

// Segments follow each other in memory; the hardware prefetcher loses the stream at page borders,
// so lines are asked for one page ahead where the caller knows no better.
inline constexpr int64_t kPageAhead = 4096;
INK_INLINE void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace ink::avx2
