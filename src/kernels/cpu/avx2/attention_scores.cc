// Scores: a lane is a key, queries are broadcast; a block's 32 keys in two halves.
#include "kernels/cpu/avx2/attention_inner.h"

namespace ink::avx2 {
namespace {

constexpr int kGroup = kAttentionGroupRows;
constexpr int kTokens = kKvBlockTokens;
constexpr int kHalf = kTokens / 2;

// Plain types: Load gives dimension d of the 16 keys from `half` on.
struct F32Keys {
  static constexpr int kBytes = 4;
  static INK_AVX2_INLINE void Load(const std::byte* k, int d, int half, __m256& k0, __m256& k1) {
    k0 = LoadFloats(k + 4 * (d * kTokens + half));
    k1 = LoadFloats(k + 4 * (d * kTokens + half) + 32);
  }
};

struct F16Keys {
  static constexpr int kBytes = 2;
  static INK_AVX2_INLINE void Load(const std::byte* k, int d, int half, __m256& k0, __m256& k1) {
    k0 = LoadHalf(k + 2 * (d * kTokens + half));
    k1 = LoadHalf(k + 2 * (d * kTokens + half) + 16);
  }
};

struct BF16Keys {
  static constexpr int kBytes = 2;
  static INK_AVX2_INLINE void Load(const std::byte* k, int d, int half, __m256& k0, __m256& k1) {
    const std::byte* pairs = k + 4 * (d / 2 * kTokens + half);
    k0 = PairValue(pairs, (d & 1) != 0);
    k1 = PairValue(pairs + 32, (d & 1) != 0);
  }
};

template <int R, typename Keys>
struct Plain {
  static void Run(const float* q, const std::byte* k, int head_dim, float* scores,
                  const std::byte* next) {
    for (int half = 0; half < kTokens; half += kHalf) {
      __m256 acc[R][2];
      Clear(acc);
      for (int d = 0; d < head_dim; ++d) {
        // Each half prefetches one of the two halves of the next block.
        Prefetch(next + (half * head_dim + d * kHalf) * Keys::kBytes);
        __m256 k0, k1;
        Keys::Load(k, d, half, k0, k1);
        Step<R>(q + d * kGroup, 1, k0, k1, acc);
      }
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        _mm256_storeu_ps(scores + r * kScoreStride + half, acc[r][0]);
        _mm256_storeu_ps(scores + r * kScoreStride + half + 8, acc[r][1]);
      }
    }
  }
};
template <int R>
using F32 = Plain<R, F32Keys>;
template <int R>
using F16 = Plain<R, F16Keys>;
template <int R>
using BF16 = Plain<R, BF16Keys>;

// Quantized types: a chain of integers for each 32 dimensions, then one fma with the scales.
struct Q8Keys {
  static INK_AVX2_INLINE int64_t IntegerBytes(int head_dim) { return int64_t{head_dim} * kTokens; }
  static INK_AVX2_INLINE void Load(const std::byte* k, int d, int half, __m256& k0, __m256& k1) {
    k0 = FloatOfBytes(LoadHalfBytes(k + d * kTokens + half));
    k1 = FloatOfBytes(LoadHalfBytes(k + d * kTokens + half + 8));
  }
};

struct Q4Keys {
  static INK_AVX2_INLINE int64_t IntegerBytes(int head_dim) {
    return int64_t{head_dim + 1} / 2 * kTokens;
  }
  static INK_AVX2_INLINE void Load(const std::byte* k, int d, int half, __m256& k0, __m256& k1) {
    const __m128i packed = LoadBytes(k + d / 2 * kTokens + half);
    const __m128i shifted = (d & 1) != 0 ? _mm_srli_epi16(packed, 4) : packed;
    const __m128i q = _mm_sub_epi8(_mm_and_si128(shifted, _mm_set1_epi8(15)), _mm_set1_epi8(8));
    k0 = FloatOfBytes(q);
    k1 = FloatOfBytes(_mm_unpackhi_epi64(q, q));
  }
};

template <int R, typename Keys>
struct Quantized {
  static void Run(const float* q, const std::byte* k, int head_dim, float* scores,
                  const std::byte* next) {
    const std::byte* scales = k + Keys::IntegerBytes(head_dim);
    for (int64_t line = 0; line < KvBytes(head_dim); line += 64) Prefetch(next + line);
    for (int half = 0; half < kTokens; half += kHalf) {
      for (int first = 0; first < head_dim; first += 32) {
        const int last = first + 32 < head_dim ? first + 32 : head_dim;
        __m256 acc[R][2];
        Clear(acc);
        for (int d = first; d < last; ++d) {
          __m256 k0, k1;
          Keys::Load(k, d, half, k0, k1);
          Step<R>(q + d * kGroup, 1, k0, k1, acc);
        }
        const __m256 s0 = LoadHalf(scales + 2 * (first + half));
        const __m256 s1 = LoadHalf(scales + 2 * (first + half) + 16);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
          float* row = scores + r * kScoreStride + half;
          const __m256 sum0 = first == 0 ? _mm256_setzero_ps() : _mm256_loadu_ps(row);
          const __m256 sum1 = first == 0 ? _mm256_setzero_ps() : _mm256_loadu_ps(row + 8);
          _mm256_storeu_ps(row, _mm256_fmadd_ps(acc[r][0], s0, sum0));
          _mm256_storeu_ps(row + 8, _mm256_fmadd_ps(acc[r][1], s1, sum1));
        }
      }
    }
  }
  static int64_t KvBytes(int head_dim) {
    return Keys::IntegerBytes(head_dim) + 2 * kTokens * ((head_dim + 31) / 32);
  }
};
template <int R>
using Q8_0 = Quantized<R, Q8Keys>;
template <int R>
using Q4_0 = Quantized<R, Q4Keys>;

template <template <int> typename Rows>
void Scores(const ScoresCall& call) {
  using Fn = void (*)(const float* q, const std::byte* k, int head_dim, float* scores,
                      const std::byte* next);
  static constexpr Fn kFunctions[] = {Rows<6>::Run, Rows<4>::Run, Rows<3>::Run, Rows<2>::Run,
                                      Rows<1>::Run};
  const float* q = static_cast<const float*>(call.q);
  for (int b = 0; b < call.blocks; ++b) {
    float* scores = call.scores + b * kTokens;
    int row = 0;
    for (int i = 0; row < call.rows; ++i) {
      for (; call.rows - row >= kRowCounts[i]; row += kRowCounts[i]) {
        kFunctions[i](q + row, call.k[b], call.head_dim, scores + row * kScoreStride, call.next[b]);
      }
    }
  }
}

}  // namespace

void ScoresF32(const ScoresCall& call) { Scores<F32>(call); }
void ScoresF16(const ScoresCall& call) { Scores<F16>(call); }
void ScoresBF16(const ScoresCall& call) { Scores<BF16>(call); }
void ScoresQ8_0(const ScoresCall& call) { Scores<Q8_0>(call); }
void ScoresQ4_0(const ScoresCall& call) { Scores<Q4_0>(call); }

}  // namespace ink::avx2
