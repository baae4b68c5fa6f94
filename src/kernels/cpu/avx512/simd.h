// Small helpers of the AVX-512 folder. Nothing here may be included elsewhere.
#pragma once

#include <immintrin.h>

namespace ink::avx512 {

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

// acc += sum over 4 of u8 * s8, per 32-bit lane. The intrinsic makes GCC 12 copy accumulators.
INK_INLINE void Dot4(__m512i& acc, __m512i u8, __m512i s8) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u8), "v"(s8));
}
// acc += sum over 2 of s16 * s16, per 32-bit lane.
INK_INLINE void Dot2(__m512i& acc, __m512i a, __m512i b) {
  asm("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
}
// acc += sum over 2 of bf16 * bf16, per 32-bit lane.
INK_INLINE void DotBf16(__m512& acc, __m512i a, __m512i b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
}
INK_INLINE __m512i LoadInt(const void* p) { return _mm512_loadu_si512(p); }
INK_INLINE __m512i Broadcast32(const void* p) {
  return _mm512_set1_epi32(*static_cast<const int __attribute__((may_alias))*>(p));
}

}  // namespace ink::avx512
