// Rows of 32-bit words to columns, for packing activations. Nothing here may be included outside
// this folder.
#pragma once

#include "kernels/cpu/avx512/simd.h"

namespace ink::avx512 {

// Words of any type, float among them.
using Word = int __attribute__((may_alias));

/// out[w * 8 + r] = rows[r][w] for 8 rows and 16 words (row r at `rows + r * stride` words).
inline void TransposeWords8x16(const Word* rows, long stride, Word* out) {
  // After two rounds of interleaving, lane L of four[h][k] holds word 4 L + k of rows 4 h .. 4 h
  // + 3.
  __m512i four[2][4];
  for (int h = 0; h < 2; ++h) {
    const Word* from = rows + 4 * h * stride;
    const __m512i r0 = LoadInt(from), r1 = LoadInt(from + stride);
    const __m512i r2 = LoadInt(from + 2 * stride), r3 = LoadInt(from + 3 * stride);
    const __m512i low01 = _mm512_unpacklo_epi32(r0, r1), high01 = _mm512_unpackhi_epi32(r0, r1);
    const __m512i low23 = _mm512_unpacklo_epi32(r2, r3), high23 = _mm512_unpackhi_epi32(r2, r3);
    four[h][0] = _mm512_unpacklo_epi64(low01, low23);
    four[h][1] = _mm512_unpackhi_epi64(low01, low23);
    four[h][2] = _mm512_unpacklo_epi64(high01, high23);
    four[h][3] = _mm512_unpackhi_epi64(high01, high23);
  }
  // Lanes of both halves beside each other: [lane L of half 0, lane L of half 1] is 8 rows of a
  // word.
  const __m512i low_lanes = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i high_lanes = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  for (int k = 0; k < 4; ++k) {
    const __m512i low = _mm512_permutex2var_epi64(four[0][k], low_lanes, four[1][k]);
    const __m512i high = _mm512_permutex2var_epi64(four[0][k], high_lanes, four[1][k]);
    auto store = [&](int word, __m256i v) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + word * 8), v);
    };
    store(k, _mm512_castsi512_si256(low));
    store(4 + k, _mm512_extracti64x4_epi64(low, 1));
    store(8 + k, _mm512_castsi512_si256(high));
    store(12 + k, _mm512_extracti64x4_epi64(high, 1));
  }
}

/// out[w * tile + r] = rows[r][w] for `tile` rows (1 to 8) and any number of words.
inline void TransposeWords(const Word* rows, long stride, int tile, int words, Word* out) {
  int w = 0;
  if (tile == 8) {
    for (; w + 16 <= words; w += 16) TransposeWords8x16(rows + w, stride, out + w * 8);
  }
  for (int r = 0; r < tile; ++r) {
    for (int i = w; i < words; ++i) out[i * tile + r] = rows[r * stride + i];
  }
}

}  // namespace ink::avx512
