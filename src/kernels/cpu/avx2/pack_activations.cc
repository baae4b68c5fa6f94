#include "kernels/cpu/avx2/linear.h"
#include "kernels/cpu/avx2/simd.h"

namespace ink::avx2 {
namespace {

// max(NaN, m) = m, as in the reference.
INK_INLINE __m256 MaxAbs(__m256 max, const float* x) {
  const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(x), no_sign), max);
}
INK_INLINE float MaxOf(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

// 8 codes, each in the low byte of its word.
INK_INLINE __m256i CodeBytes(const float* x, __m256 inverse) {
  return _mm256_and_si256(_mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse)),
                          _mm256_set1_epi32(255));
}
// 32 values as int8 codes.
INK_INLINE __m256i Codes32(const float* x, __m256 inverse) {
  __m256i a = _mm256_packus_epi32(CodeBytes(x, inverse), CodeBytes(x + 8, inverse));
  __m256i b = _mm256_packus_epi32(CodeBytes(x + 16, inverse), CodeBytes(x + 24, inverse));
  return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// Sums of codes 0, 1, 4, 5, .. and of codes 2, 3, 6, 7, .. of each 16 bytes: two int16 in a word,
// repeated in all words of the 16 bytes.
INK_INLINE __m256i LaneSums(__m256i codes) {
  __m256i s = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
  s = _mm256_add_epi16(s, _mm256_shuffle_epi32(s, _MM_SHUFFLE(1, 0, 3, 2)));
  return _mm256_add_epi16(s, _mm256_shuffle_epi32(s, _MM_SHUFFLE(2, 3, 0, 1)));
}
INK_INLINE __m128i Low(__m256i v) { return _mm256_castsi256_si128(v); }
INK_INLINE __m128i High(__m256i v) { return _mm256_extracti128_si256(v, 1); }
INK_INLINE int NegativePair(__m128i pair) {
  return _mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), pair));
}
INK_INLINE int PairSum(__m128i pair) {
  return _mm_cvtsi128_si32(_mm_madd_epi16(pair, _mm_set1_epi16(1)));
}
INK_INLINE int Pair16(int low, int high) {
  return (low & 0xffff) | static_cast<int>(static_cast<unsigned>(high) << 16);
}

// Group g of 4 codes of row t goes to word g * tile + t.
INK_INLINE void ScatterCodes(const int* codes, int groups, int tile, int t, int8_t* out) {
  int* words = reinterpret_cast<int*>(out) + t;
  for (int g = 0; g < groups; ++g) words[g * tile] = codes[g];
}

// `negative_sums` holds int16 pairs here: minus the sums that the two int16 lanes of vpmaddubsw
// collect from a block (or group of 16).
void Pack32(const float* x, int64_t stride, int tile, int cols, int64_t at, const PackedInts& out) {
  alignas(32) int codes[64];
  for (int t = 0; t < tile; ++t, x += stride) {
    for (int b = 0; b < cols / 32; ++b) {
      const float* from = x + b * 32;
      __m256 max = _mm256_setzero_ps();
      for (int i = 0; i < 4; ++i) max = MaxAbs(max, from + i * 8);
      float amax = MaxOf(max);
      __m256i q = Codes32(from, _mm256_set1_ps(amax > 0 ? 127.0f / amax : 0.0f));
      StoreInt(codes + b * 8, q);
      __m256i sums = LaneSums(q);
      __m128i pair = _mm_add_epi16(Low(sums), High(sums));
      int64_t i = at * 8 + b * tile + t;
      out.scales[i] = amax / 127.0f;
      out.negative_sums[i] = NegativePair(pair);
      out.scaled_sums[i] = out.scales[i] * static_cast<float>(PairSum(pair));
    }
    ScatterCodes(codes, cols / 4, tile, t, out.codes + at * kSegmentCols);
  }
}

void Pack256(const float* x, int64_t stride, int tile, int64_t at, const PackedInts& out) {
  alignas(32) int codes[64];
  for (int t = 0; t < tile; ++t, x += stride) {
    __m256 max = _mm256_setzero_ps();
    for (int i = 0; i < 32; ++i) max = MaxAbs(max, x + i * 8);
    float amax = MaxOf(max);
    __m256 inverse = _mm256_set1_ps(amax > 0 ? 127.0f / amax : 0.0f);
    out.scales[at + t] = amax / 127.0f;
    int sums[16];  // per 16 columns
    for (int b = 0; b < 8; ++b) {
      __m256i q = Codes32(x + b * 32, inverse);
      StoreInt(codes + b * 8, q);
      __m256i pairs = LaneSums(q);
      out.negative_sums[at * 16 + (b * 2) * tile + t] = NegativePair(Low(pairs));
      out.negative_sums[at * 16 + (b * 2 + 1) * tile + t] = NegativePair(High(pairs));
      sums[b * 2] = PairSum(Low(pairs));
      sums[b * 2 + 1] = PairSum(High(pairs));
    }
    for (int p = 0; p < 8; ++p) {
      out.sum_pairs16[at * 8 + p * tile + t] = Pair16(sums[p * 2], sums[p * 2 + 1]);
    }
    for (int p = 0; p < 4; ++p) {
      const int* s = sums + p * 4;
      out.sum_pairs32[at * 4 + p * tile + t] = Pair16(s[0] + s[1], s[2] + s[3]);
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
}

}  // namespace ink::avx2
