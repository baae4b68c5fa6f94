// Scores: a lane is a key, queries are broadcast. Cache types are decoded in registers: the
// conversions run on other ports than FMA, so the loops reach the FMA peak (f16 too).
#include "kernels/cpu/avx512/attention_inner.h"

namespace ink::avx512 {
namespace {

constexpr int kGroup = kAttentionGroupRows;
constexpr int kTokens = kKvBlockTokens;

// Accumulators of R rows by B blocks. Few rows take two blocks at a time: with one, broadcasts and
// loads of K would fill the load ports (7 of 8 slots for 4 rows), and one row would wait for FMA.
template <int R, int B>
using Accumulators = __m512[R][2 * B];

template <int R, int B>
INK_INLINE void Clear(Accumulators<R, B>& acc) {
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < 2 * B; ++c) acc[r][c] = _mm512_setzero_ps();
  }
}

/// Adds one dimension: q of each row times the blocks' keys.
template <int R, int B>
INK_INLINE void Step(const float* q, const __m512 (&k)[2 * B], Accumulators<R, B>& acc) {
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    const __m512 x = _mm512_set1_ps(q[r]);
#pragma GCC unroll 4
    for (int c = 0; c < 2 * B; ++c) acc[r][c] = _mm512_fmadd_ps(x, k[c], acc[r][c]);
  }
}

template <int R, int B>
INK_INLINE void Store(const Accumulators<R, B>& acc, float* scores) {
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < 2 * B; ++c) _mm512_storeu_ps(scores + r * kScoreStride + 16 * c, acc[r][c]);
  }
}

// ---- Plain types: Load gives one dimension of a block's 32 keys.

struct F32Keys {
  static constexpr int kLine = 128;  // bytes a dimension
  static INK_INLINE void Load(const std::byte* row, __m512* k) {
    k[0] = _mm512_loadu_ps(row);
    k[1] = _mm512_loadu_ps(row + 64);
  }
};

struct F16Keys {
  static constexpr int kLine = 64;
  static INK_INLINE void Load(const std::byte* row, __m512* k) {
    k[0] = LoadHalf(row);
    k[1] = LoadHalf(row + 32);
  }
};

template <int R, int B, typename Keys>
struct Plain {
  static void Run(const float* q, const std::byte* const* blocks, int head_dim, float* scores,
                  const std::byte* const* next) {
    Accumulators<R, B> acc;
    Clear<R, B>(acc);
    for (int64_t d = 0; d < head_dim; ++d) {
      __m512 k[2 * B];
#pragma GCC unroll 2
      for (int b = 0; b < B; ++b) {
        Prefetch(next[b] + d * Keys::kLine);
        if constexpr (Keys::kLine > 64) Prefetch(next[b] + d * Keys::kLine + 64);
        Keys::Load(blocks[b] + d * Keys::kLine, k + 2 * b);
      }
      Step<R, B>(q, k, acc);
      q += kGroup;
    }
    Store<R, B>(acc, scores);
  }
};
template <int R, int B>
using F32 = Plain<R, B, F32Keys>;
template <int R, int B>
using F16 = Plain<R, B, F16Keys>;

// q holds pairs, [head_dim/2][kGroup].
template <int R, int B>
struct BF16 {
  static void Run(const float* q, const std::byte* const* blocks, int head_dim, float* scores,
                  const std::byte* const* next) {
    Accumulators<R, B> acc;
    Clear<R, B>(acc);
    for (int64_t offset = 0; offset < int64_t{64} * head_dim; offset += 128) {
      __m512i k[2 * B];
#pragma GCC unroll 4
      for (int c = 0; c < 2 * B; ++c) {
        Prefetch(next[c / 2] + offset + 64 * (c % 2));
        k[c] = LoadInt(blocks[c / 2] + offset + 64 * (c % 2));
      }
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const __m512i x = Broadcast32(q + r);
#pragma GCC unroll 4
        for (int c = 0; c < 2 * B; ++c) DotBf16(acc[r][c], k[c], x);
      }
      q += kGroup;
    }
    Store<R, B>(acc, scores);
  }
};

// ---- Quantized types: a chain of integers for each 32 dimensions, then one fma with the scales.

/// scores = fma(acc, scales, scores), or with +0 for the first group.
template <int R, int B>
INK_INLINE void AddGroup(const Accumulators<R, B>& acc, const std::byte* const* blocks,
                         int64_t scales, bool first, float* scores) {
  __m512 scale[2 * B];
#pragma GCC unroll 4
  for (int c = 0; c < 2 * B; ++c) scale[c] = LoadHalf(blocks[c / 2] + scales + 32 * (c % 2));
  const __mmask16 old = first ? 0 : 0xffff;
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    float* row = scores + r * kScoreStride;
#pragma GCC unroll 4
    for (int c = 0; c < 2 * B; ++c) {
      const __m512 sum = _mm512_maskz_loadu_ps(old, row + 16 * c);
      _mm512_storeu_ps(row + 16 * c, _mm512_fmadd_ps(acc[r][c], scale[c], sum));
    }
  }
}

template <int R, int B>
struct Q8_0 {
  static void Run(const float* q, const std::byte* const* blocks, int head_dim, float* scores,
                  const std::byte* const* next) {
    const int64_t integer_bytes = int64_t{head_dim} * kTokens;
    for (int first = 0; first < head_dim; first += 32) {
      const int last = first + 32 < head_dim ? first + 32 : head_dim;
      Accumulators<R, B> acc;
      Clear<R, B>(acc);
      for (int64_t d = first; d < last; ++d) {
        __m512 k[2 * B];
#pragma GCC unroll 2
        for (int b = 0; b < B; ++b) {
          const std::byte* row = blocks[b] + d * kTokens;
          k[2 * b] = FloatOfBytes(LoadBytes(row));
          k[2 * b + 1] = FloatOfBytes(LoadBytes(row + 16));
          Prefetch(next[b] + d * kTokens);
        }
        Step<R, B>(q, k, acc);
        q += kGroup;
      }
      const int64_t scales = integer_bytes + 2 * first;
      for (int b = 0; b < B; ++b) Prefetch(next[b] + scales);
      AddGroup<R, B>(acc, blocks, scales, first == 0, scores);
    }
  }
};

template <int R, int B>
struct Q4_0 {
  static void Run(const float* q, const std::byte* const* blocks, int head_dim, float* scores,
                  const std::byte* const* next) {
    const int64_t integer_bytes = int64_t{head_dim + 1} / 2 * kTokens;
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i offset = _mm256_set1_epi8(8);
    for (int first = 0; first < head_dim; first += 32) {
      const int last = first + 32 < head_dim ? first + 32 : head_dim;
      Accumulators<R, B> acc;
      Clear<R, B>(acc);
      for (int64_t d = first; d < last; d += 2) {
        __m512 even[2 * B];
        __m512 odd[2 * B];
#pragma GCC unroll 2
        for (int b = 0; b < B; ++b) {
          const int64_t row = d / 2 * kTokens;
          Prefetch(next[b] + row);
          const __m256i packed =
              _mm256_loadu_si256(reinterpret_cast<const __m256i*>(blocks[b] + row));
          const __m256i even_bytes = _mm256_sub_epi8(_mm256_and_si256(packed, low), offset);
          const __m256i high = _mm256_and_si256(_mm256_srli_epi16(packed, 4), low);
          const __m256i odd_bytes = _mm256_sub_epi8(high, offset);
          even[2 * b] = FloatOfBytes(_mm256_castsi256_si128(even_bytes));
          even[2 * b + 1] = FloatOfBytes(_mm256_extracti128_si256(even_bytes, 1));
          odd[2 * b] = FloatOfBytes(_mm256_castsi256_si128(odd_bytes));
          odd[2 * b + 1] = FloatOfBytes(_mm256_extracti128_si256(odd_bytes, 1));
        }
        Step<R, B>(q, even, acc);
        if (d + 1 < last) Step<R, B>(q + kGroup, odd, acc);
        q += 2 * kGroup;
      }
      const int64_t scales = integer_bytes + 2 * first;
      for (int b = 0; b < B; ++b) Prefetch(next[b] + scales);
      AddGroup<R, B>(acc, blocks, scales, first == 0, scores);
    }
  }
};

template <template <int, int> typename Rows>
void Scores(const ScoresCall& call) {
  using Fn = void (*)(const float* q, const std::byte* const* blocks, int head_dim, float* scores,
                      const std::byte* const* next);
  static constexpr Fn kOne[] = {Rows<12, 1>::Run, Rows<8, 1>::Run, Rows<6, 1>::Run, Rows<4, 1>::Run,
                                Rows<3, 1>::Run,  Rows<2, 1>::Run, Rows<1, 1>::Run};
  static constexpr Fn kTwo[] = {nullptr,         nullptr,         nullptr,        Rows<4, 2>::Run,
                                Rows<3, 2>::Run, Rows<2, 2>::Run, Rows<1, 2>::Run};
  const float* q = static_cast<const float*>(call.q);
  int row = 0;
  for (int i = 0; row < call.rows; ++i) {
    for (; call.rows - row >= kRowCounts[i]; row += kRowCounts[i]) {
      float* scores = call.scores + row * kScoreStride;
      if (call.blocks == 2 && kTwo[i] != nullptr) {
        kTwo[i](q + row, call.k, call.head_dim, scores, call.next);
        continue;
      }
      for (int b = 0; b < call.blocks; ++b) {
        kOne[i](q + row, call.k + b, call.head_dim, scores + b * kTokens, call.next + b);
      }
    }
  }
}

}  // namespace

void PackQueriesBf16(const float* const* q_rows, int rows, int head_dim, void* packed) {
  uint32_t* out = static_cast<uint32_t*>(packed);
  for (int d = 0; d < head_dim; d += 2) {
    for (int r = 0; r < rows; ++r) {
      const float* q = q_rows[r] + d;
      const __m128 pair = _mm_set_ps(0, 0, d + 1 < head_dim ? q[1] : 0.0f, q[0]);
      const __m128bh rounded = _mm_cvtneps_pbh(pair);
      out[d / 2 * kGroup + r] = static_cast<uint32_t>(_mm_cvtsi128_si32((__m128i)rounded));
    }
  }
}

void ScoresF32(const ScoresCall& call) { Scores<F32>(call); }
void ScoresF16(const ScoresCall& call) { Scores<F16>(call); }
void ScoresBF16(const ScoresCall& call) { Scores<BF16>(call); }
void ScoresQ8_0(const ScoresCall& call) { Scores<Q8_0>(call); }
void ScoresQ4_0(const ScoresCall& call) { Scores<Q4_0>(call); }

}  // namespace ink::avx512
