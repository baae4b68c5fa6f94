#include "kernels/cpu/avx512/linear.h"
#include "kernels/cpu/avx512/simd.h"

namespace ink::avx512 {
namespace {

INK_INLINE __m512 Abs(__m512 x) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)));
}

// 16 values as int8 codes.
INK_INLINE __m128i Codes(__m512 x, __m512 inverse) {
  return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)));
}

// Sums of the four 16-byte lanes of 64 codes, each repeated in its lane.
INK_INLINE __m512i LaneSums(__m512i codes) {
  __m512i sums = _mm512_setzero_si512();
  Dot4(sums, _mm512_set1_epi8(1), codes);
  sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_CDAB));
  return _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_BADC));
}

// Group g of 4 codes of row t goes to word g * tile + t.
INK_INLINE void ScatterCodes(const int* codes, int groups, int tile, int t, int8_t* out) {
  int* words = reinterpret_cast<int*>(out) + t;
  for (int g = 0; g < groups; ++g) words[g * tile] = codes[g];
}

void Pack32(const float* x, int64_t stride, int tile, int cols, int64_t at, const PackedInts& out) {
  alignas(64) int codes[64];
  for (int t = 0; t < tile; ++t, x += stride) {
    for (int b = 0; b < cols / 32; ++b) {
      __m512 x0 = _mm512_loadu_ps(x + b * 32);
      __m512 x1 = _mm512_loadu_ps(x + b * 32 + 16);
      float amax = _mm512_reduce_max_ps(_mm512_max_ps(Abs(x0), Abs(x1)));
      __m512 inverse = _mm512_set1_ps(amax > 0 ? 127.0f / amax : 0.0f);
      __m256i q = _mm256_set_m128i(Codes(x1, inverse), Codes(x0, inverse));
      _mm256_store_si256(reinterpret_cast<__m256i*>(codes + b * 8), q);
      __m256i sums = _mm256_setzero_si256();
      sums = _mm256_dpbusd_epi32(sums, _mm256_set1_epi8(1), q);
      __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
      s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(1, 0, 3, 2)));
      s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(2, 3, 0, 1)));
      int sum = _mm_cvtsi128_si32(s);
      int64_t i = at * 8 + b * tile + t;
      out.scales[i] = amax / 127.0f;
      out.negative_sums[i] = -sum;
      out.scaled_sums[i] = out.scales[i] * static_cast<float>(sum);
    }
    ScatterCodes(codes, cols / 4, tile, t, out.codes + at * kSegmentCols);
  }
}

void Pack256(const float* x, int64_t stride, int tile, int64_t at, const PackedInts& out) {
  alignas(64) int codes[64];
  alignas(64) int sums[64];  // per 16 columns, each four times
  for (int t = 0; t < tile; ++t, x += stride) {
    __m512 max = _mm512_setzero_ps();
    for (int i = 0; i < 16; ++i) max = _mm512_max_ps(max, Abs(_mm512_loadu_ps(x + i * 16)));
    float amax = _mm512_reduce_max_ps(max);
    __m512 inverse = _mm512_set1_ps(amax > 0 ? 127.0f / amax : 0.0f);
    for (int i = 0; i < 16; ++i) {
      _mm_store_si128(reinterpret_cast<__m128i*>(codes + i * 4),
                      Codes(_mm512_loadu_ps(x + i * 16), inverse));
    }
    for (int i = 0; i < 4; ++i) {
      _mm512_store_si512(sums + i * 16, LaneSums(_mm512_load_si512(codes + i * 16)));
    }
    out.scales[at + t] = amax / 127.0f;
    for (int g = 0; g < 16; ++g) out.negative_sums[at * 16 + g * tile + t] = -sums[g * 4];
    for (int p = 0; p < 8; ++p) {
      out.sum_pairs16[at * 8 + p * tile + t] =
          (sums[p * 8] & 0xffff) | static_cast<int>(static_cast<unsigned>(sums[p * 8 + 4]) << 16);
    }
    for (int p = 0; p < 4; ++p) {
      int low = sums[p * 16] + sums[p * 16 + 4];
      int high = sums[p * 16 + 8] + sums[p * 16 + 12];
      out.sum_pairs32[at * 4 + p * tile + t] =
          (low & 0xffff) | static_cast<int>(static_cast<unsigned>(high) << 16);
    }
    ScatterCodes(codes, 64, tile, t, out.codes + at * kSegmentCols);
  }
}

}  // namespace

void PackTile(const float* x, int64_t x_stride, int tile, int cols, int64_t row, int64_t segment,
              int64_t num_rows, const LinearWorkspace& w) noexcept {
  int64_t at = segment * num_rows + row;
  if (w.scale32) Pack32(x, x_stride, tile, cols, at, w.ints32);
  if (w.scale256) Pack256(x, x_stride, tile, at, w.ints256);
  if (w.float32) {
    float* out = reinterpret_cast<float*>(w.floats.data) + at * kSegmentCols;
    for (int t = 0; t < tile; ++t) {
      for (int k = 0; k < cols; ++k) out[k * tile + t] = x[t * x_stride + k];
    }
  }
  if (w.bfloat16) {
    // Pairs of columns as words: [column / 2][row][column % 2].
    unsigned* out = reinterpret_cast<unsigned*>(w.bfloats.data) + at * (kSegmentCols / 2);
    alignas(64) unsigned words[kSegmentCols / 2];
    for (int t = 0; t < tile; ++t) {
      const float* from = x + t * x_stride;
      for (int k = 0; k < cols; k += 32) {
        int left = cols - k;
        __mmask16 low = left >= 16 ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
        __mmask16 high = left >= 32  ? 0xffff
                         : left > 16 ? static_cast<__mmask16>((1u << (left - 16)) - 1)
                                     : 0;
        __m512bh pair = _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, from + k + 16),
                                            _mm512_maskz_loadu_ps(low, from + k));
        _mm512_store_si512(words + k / 2, reinterpret_cast<__m512i&>(pair));
      }
      for (int i = 0; i < (cols + 1) / 2; ++i) out[i * tile + t] = words[i];
    }
  }
}

}  // namespace ink::avx512
