#include <cstring>

#include "kernels/cpu/avx512/linear.h"
#include "kernels/cpu/avx512/simd.h"
#include "kernels/cpu/avx512/transpose.h"

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

// For 4 vectors of 16 words each, the sums over aligned groups of 4 words, in order.
INK_INLINE __m512i SumsOfFour(const __m512i (&v)[4]) {
  __m512i lanes = _mm512_setzero_si512();
  Unroll<4>([&](auto i) INK_INLINED {
    constexpr int k = decltype(i)::value;
    __m512i s = _mm512_add_epi32(v[k], _mm512_shuffle_epi32(v[k], _MM_PERM_CDAB));
    s = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, _MM_PERM_BADC));
    lanes = _mm512_mask_mov_epi32(lanes, static_cast<__mmask16>(0x1111 << k), s);
  });
  // Word 4 L + k holds lane L of vector k.
  return _mm512_permutexvar_epi32(
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), lanes);
}

// One row of 256 codes: sums of its 16 groups of 16.
INK_INLINE __m512i GroupSums(const int* codes) {
  __m512i words[4];
  for (int i = 0; i < 4; ++i) {
    words[i] = _mm512_setzero_si512();
    Dot4(words[i], _mm512_set1_epi8(1), LoadInt(codes + i * 16));
  }
  return SumsOfFour(words);
}

// What is packed is gathered row by row, then turned so that the rows of a tile lie beside each
// other.
struct Rows32 {
  alignas(64) int codes[8][64];
  alignas(64) int numbers[8][32];  // 8 scales, 8 negative sums, 8 scaled sums, 8 unused
  alignas(64) int turned[32 * 8];
};

void Pack32(const float* x, int64_t stride, int tile, int cols, int64_t at, const PackedInts& out) {
  Rows32 rows;
  const int blocks = cols / 32;
  for (int t = 0; t < tile; ++t, x += stride) {
    // Maxima of the blocks, 4 lanes each at first.
    alignas(32) float amax[8] = {};
    for (int b = 0; b < blocks; ++b) {
      const __m512 m =
          _mm512_max_ps(Abs(_mm512_loadu_ps(x + b * 32)), Abs(_mm512_loadu_ps(x + b * 32 + 16)));
      const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(m), _mm512_extractf32x8_ps(m, 1));
      __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
      quarter = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
      amax[b] = _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)));
    }
    const __m256 max = _mm256_load_ps(amax);
    alignas(32) float inverse[8];
    _mm256_store_ps(inverse,
                    _mm256_maskz_div_ps(_mm256_cmp_ps_mask(max, _mm256_setzero_ps(), _CMP_GT_OQ),
                                        _mm256_set1_ps(127.0f), max));
    for (int b = 0; b < blocks; ++b) {
      const __m512 by = _mm512_set1_ps(inverse[b]);
      _mm256_store_si256(reinterpret_cast<__m256i*>(rows.codes[t] + b * 8),
                         _mm256_set_m128i(Codes(_mm512_loadu_ps(x + b * 32 + 16), by),
                                          Codes(_mm512_loadu_ps(x + b * 32), by)));
    }
    for (int i = blocks * 8; i < 64; ++i) rows.codes[t][i] = 0;
    // Neighbouring sums of 16 add up to those of 32.
    const __m512i sums16 = GroupSums(rows.codes[t]);
    const __m256i sums =
        _mm512_cvtepi64_epi32(_mm512_add_epi64(sums16, _mm512_srli_epi64(sums16, 32)));
    const __m256 scales = _mm256_div_ps(max, _mm256_set1_ps(127.0f));
    auto store = [&](int at_word, __m256i v) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(rows.numbers[t] + at_word), v);
    };
    store(0, _mm256_castps_si256(scales));
    store(8, _mm256_sub_epi32(_mm256_setzero_si256(), sums));
    store(16, _mm256_castps_si256(_mm256_mul_ps(scales, _mm256_cvtepi32_ps(sums))));
    store(24, _mm256_setzero_si256());
  }
  TransposeWords(rows.codes[0], 64, tile, cols / 4,
                 reinterpret_cast<int*>(out.codes + at * kSegmentCols));
  TransposeWords(rows.numbers[0], 32, tile, 32, rows.turned);
  const size_t bytes = static_cast<size_t>(blocks) * tile * 4;
  std::memcpy(out.scales + at * 8, rows.turned, bytes);
  std::memcpy(out.negative_sums + at * 8, rows.turned + 8 * tile, bytes);
  std::memcpy(out.scaled_sums + at * 8, rows.turned + 16 * tile, bytes);
}

struct Rows256 {
  alignas(64) int codes[8][64];
  alignas(64) int sums[8][16];     // negative, per 16 columns
  alignas(64) int numbers[8][16];  // 8 pairs of sums of 16, 4 pairs of sums of 32, the scale
  alignas(64) int turned[16 * 8];
};

void Pack256(const float* x, int64_t stride, int tile, int64_t at, const PackedInts& out) {
  Rows256 rows;
  for (int t = 0; t < tile; ++t, x += stride) {
    __m512 max[4];
    for (int i = 0; i < 4; ++i) max[i] = Abs(_mm512_loadu_ps(x + i * 16));
    for (int i = 4; i < 16; ++i)
      max[i % 4] = _mm512_max_ps(max[i % 4], Abs(_mm512_loadu_ps(x + i * 16)));
    const float amax = _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3])));
    const __m512 inverse = _mm512_set1_ps(amax > 0 ? 127.0f / amax : 0.0f);
    for (int i = 0; i < 16; ++i) {
      _mm_store_si128(reinterpret_cast<__m128i*>(rows.codes[t] + i * 4),
                      Codes(_mm512_loadu_ps(x + i * 16), inverse));
    }
    const __m512i sums = GroupSums(rows.codes[t]);
    _mm512_store_si512(rows.sums[t], _mm512_sub_epi32(_mm512_setzero_si512(), sums));
    _mm256_store_si256(reinterpret_cast<__m256i*>(rows.numbers[t]), _mm512_cvtepi32_epi16(sums));
    const __m512i sums32 = _mm512_add_epi64(sums, _mm512_srli_epi64(sums, 32));
    _mm_store_si128(reinterpret_cast<__m128i*>(rows.numbers[t] + 8), _mm512_cvtepi64_epi16(sums32));
    const float scale = amax / 127.0f;
    _mm_store_si128(reinterpret_cast<__m128i*>(rows.numbers[t] + 12),
                    _mm_castps_si128(_mm_set_ss(scale)));
  }
  TransposeWords(rows.codes[0], 64, tile, 64,
                 reinterpret_cast<int*>(out.codes + at * kSegmentCols));
  TransposeWords(rows.sums[0], 16, tile, 16, out.negative_sums + at * 16);
  TransposeWords(rows.numbers[0], 16, tile, 16, rows.turned);
  std::memcpy(out.sum_pairs16 + at * 8, rows.turned, static_cast<size_t>(tile) * 8 * 4);
  std::memcpy(out.sum_pairs32 + at * 4, rows.turned + 8 * tile, static_cast<size_t>(tile) * 4 * 4);
  std::memcpy(out.scales + at, rows.turned + 12 * tile, static_cast<size_t>(tile) * 4);
}

}  // namespace

void PackTile(const float* x, int64_t x_stride, int tile, int cols, int64_t row, int64_t segment,
              int64_t num_rows, const LinearWorkspace& w) noexcept {
  int64_t at = segment * num_rows + row;
  if (w.scale32) Pack32(x, x_stride, tile, cols, at, w.ints32);
  if (w.scale256) Pack256(x, x_stride, tile, at, w.ints256);
  if (w.float32) {
    float* out = reinterpret_cast<float*>(w.floats.data) + at * kSegmentCols;
    TransposeWords(reinterpret_cast<const Word*>(x), x_stride, tile, cols,
                   reinterpret_cast<int*>(out));
  }
  if (w.bfloat16) {
    // Pairs of columns as words: [column / 2][row][column % 2].
    unsigned* out = reinterpret_cast<unsigned*>(w.bfloats.data) + at * (kSegmentCols / 2);
    alignas(64) unsigned words[8][kSegmentCols / 2];
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
        _mm512_store_si512(words[t] + k / 2, reinterpret_cast<__m512i&>(pair));
      }
    }
    TransposeWords(reinterpret_cast<const int*>(words[0]), kSegmentCols / 2, tile, (cols + 1) / 2,
                   reinterpret_cast<int*>(out));
  }
}

}  // namespace ink::avx512
