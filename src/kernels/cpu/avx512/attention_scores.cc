// Scores: a lane is a key, queries are broadcast. Cache types are decoded in registers: the
// conversions run on other ports than FMA, so the loops reach the FMA peak (f16 too).
#include "kernels/cpu/avx512/attention_inner.h"

namespace ink::avx512 {
namespace {

constexpr int kGroup = kAttentionGroupRows;
constexpr int kTokens = kKvBlockTokens;

// Plain types: Load gives one dimension of the block's 32 keys.
struct F32Keys {
  static constexpr int kLine = 128;  // bytes a dimension
  static INK_INLINE void Load(const std::byte* row, __m512& k0, __m512& k1) {
    k0 = _mm512_loadu_ps(row);
    k1 = _mm512_loadu_ps(row + 64);
  }
};

struct F16Keys {
  static constexpr int kLine = 64;
  static INK_INLINE void Load(const std::byte* row, __m512& k0, __m512& k1) {
    k0 = LoadHalf(row);
    k1 = LoadHalf(row + 32);
  }
};

template <int R, typename Keys>
struct Plain {
  static void Run(const float* q, const std::byte* k, int head_dim, float* scores,
                  const std::byte* next) {
    __m512 acc[R][2];
    Unroll<R>([&](auto r) { acc[r.value][0] = acc[r.value][1] = _mm512_setzero_ps(); });
    for (int d = 0; d < head_dim; ++d) {
      Prefetch(next);
      if constexpr (Keys::kLine > 64) Prefetch(next + 64);
      next += Keys::kLine;
      __m512 k0, k1;
      Keys::Load(k, k0, k1);
      k += Keys::kLine;
      Unroll<R>([&](auto r) {
        const __m512 x = _mm512_set1_ps(q[r.value]);
        acc[r.value][0] = _mm512_fmadd_ps(x, k0, acc[r.value][0]);
        acc[r.value][1] = _mm512_fmadd_ps(x, k1, acc[r.value][1]);
      });
      q += kGroup;
    }
    Unroll<R>([&](auto r) {
      _mm512_storeu_ps(scores + r.value * kScoreStride, acc[r.value][0]);
      _mm512_storeu_ps(scores + r.value * kScoreStride + 16, acc[r.value][1]);
    });
  }
};
template <int R>
using F32 = Plain<R, F32Keys>;
template <int R>
using F16 = Plain<R, F16Keys>;

// q holds pairs, [head_dim/2][kGroup].
template <int R>
struct BF16 {
  static void Run(const float* q, const std::byte* k, int head_dim, float* scores,
                  const std::byte* next) {
    __m512 acc[R][2];
    Unroll<R>([&](auto r) { acc[r.value][0] = acc[r.value][1] = _mm512_setzero_ps(); });
    for (int d = 0; d < head_dim; d += 2) {
      Prefetch(next);
      Prefetch(next + 64);
      next += 128;
      const __m512i k0 = LoadInt(k);
      const __m512i k1 = LoadInt(k + 64);
      k += 128;
      Unroll<R>([&](auto r) {
        const __m512i x = Broadcast32(q + r.value);
        DotBf16(acc[r.value][0], k0, x);
        DotBf16(acc[r.value][1], k1, x);
      });
      q += kGroup;
    }
    Unroll<R>([&](auto r) {
      _mm512_storeu_ps(scores + r.value * kScoreStride, acc[r.value][0]);
      _mm512_storeu_ps(scores + r.value * kScoreStride + 16, acc[r.value][1]);
    });
  }
};

// Quantized types: a chain of integers for each 32 dimensions, then one fma with the scales.
template <int R>
INK_INLINE void AddGroup(const __m512 (&acc)[R][2], const std::byte* scales, bool first,
                         float* scores) {
  const __m512 s0 = LoadHalf(scales);
  const __m512 s1 = LoadHalf(scales + 32);
  const __mmask16 old = first ? 0 : 0xffff;
  Unroll<R>([&](auto r) {
    float* row = scores + r.value * kScoreStride;
    const __m512 sum0 = _mm512_maskz_loadu_ps(old, row);
    const __m512 sum1 = _mm512_maskz_loadu_ps(old, row + 16);
    _mm512_storeu_ps(row, _mm512_fmadd_ps(acc[r.value][0], s0, sum0));
    _mm512_storeu_ps(row + 16, _mm512_fmadd_ps(acc[r.value][1], s1, sum1));
  });
}

template <int R>
INK_INLINE void Step(const float* q, __m512 k0, __m512 k1, __m512 (&acc)[R][2]) {
  Unroll<R>([&](auto r) {
    const __m512 x = _mm512_set1_ps(q[r.value]);
    acc[r.value][0] = _mm512_fmadd_ps(x, k0, acc[r.value][0]);
    acc[r.value][1] = _mm512_fmadd_ps(x, k1, acc[r.value][1]);
  });
}

template <int R>
struct Q8_0 {
  static void Run(const float* q, const std::byte* k, int head_dim, float* scores,
                  const std::byte* next) {
    const std::byte* scales = k + head_dim * kTokens;
    const std::byte* next_scales = next + head_dim * kTokens;
    for (int first = 0; first < head_dim; first += 32) {
      const int last = first + 32 < head_dim ? first + 32 : head_dim;
      Prefetch(next_scales + 2 * first);
      __m512 acc[R][2];
      Unroll<R>([&](auto r) { acc[r.value][0] = acc[r.value][1] = _mm512_setzero_ps(); });
      for (int d = first; d < last; ++d) {
        Prefetch(next);
        next += 32;
        Step<R>(q, FloatOfBytes(LoadBytes(k)), FloatOfBytes(LoadBytes(k + 16)), acc);
        k += 32;
        q += kGroup;
      }
      AddGroup<R>(acc, scales + 2 * first, first == 0, scores);
    }
  }
};

template <int R>
struct Q4_0 {
  static void Run(const float* q, const std::byte* k, int head_dim, float* scores,
                  const std::byte* next) {
    const int64_t integer_bytes = (head_dim + 1) / 2 * kTokens;
    const std::byte* scales = k + integer_bytes;
    const std::byte* next_scales = next + integer_bytes;
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i offset = _mm256_set1_epi8(8);
    for (int first = 0; first < head_dim; first += 32) {
      const int last = first + 32 < head_dim ? first + 32 : head_dim;
      Prefetch(next_scales + 2 * first);
      __m512 acc[R][2];
      Unroll<R>([&](auto r) { acc[r.value][0] = acc[r.value][1] = _mm512_setzero_ps(); });
      for (int d = first; d < last; d += 2) {
        Prefetch(next);
        next += 32;
        const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(k));
        k += 32;
        const __m256i even = _mm256_sub_epi8(_mm256_and_si256(packed, low), offset);
        Step<R>(q, FloatOfBytes(_mm256_castsi256_si128(even)),
                FloatOfBytes(_mm256_extracti128_si256(even, 1)), acc);
        if (d + 1 < last) {
          const __m256i high = _mm256_and_si256(_mm256_srli_epi16(packed, 4), low);
          const __m256i odd = _mm256_sub_epi8(high, offset);
          Step<R>(q + kGroup, FloatOfBytes(_mm256_castsi256_si128(odd)),
                  FloatOfBytes(_mm256_extracti128_si256(odd, 1)), acc);
        }
        q += 2 * kGroup;
      }
      AddGroup<R>(acc, scales + 2 * first, first == 0, scores);
    }
  }
};

template <template <int> typename Rows>
void Scores(const ScoresCall& call) {
  using Fn = void (*)(const float* q, const std::byte* k, int head_dim, float* scores,
                      const std::byte* next);
  static constexpr Fn kFunctions[] = {Rows<12>::Run, Rows<8>::Run, Rows<6>::Run, Rows<4>::Run,
                                      Rows<3>::Run,  Rows<2>::Run, Rows<1>::Run};
  const float* q = static_cast<const float*>(call.q);
  int row = 0;
  for (int i = 0; row < call.rows; ++i) {
    for (; call.rows - row >= kRowCounts[i]; row += kRowCounts[i]) {
      kFunctions[i](q + row, call.k, call.head_dim, call.scores + row * kScoreStride, call.next);
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
