// Inner loops of attention for AVX-512. Scores: a lane is a key, queries are broadcast. Values: a
// lane is a dimension, probabilities are broadcast. Cache types are decoded in registers: the
// conversions run on other ports than FMA, so the loops reach the FMA peak (f16 too).
#include <immintrin.h>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/avx512/kernels_attn.h"
#include "kernels/cpu/avx512/vec_math.h"

namespace ink::avx512 {
namespace {

constexpr int kGroup = kAttentionGroupRows;
constexpr int kTokens = kKvBlockTokens;

INK_INLINE void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

INK_INLINE __m512 LoadHalf(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
INK_INLINE __m512 BroadcastHalf(const std::byte* p) {
  const short bits = *reinterpret_cast<const short __attribute__((may_alias))*>(p);
  return _mm512_cvtph_ps(_mm256_set1_epi16(bits));
}
INK_INLINE __m512 FloatOfBytes(__m128i bytes) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

// ---- Keys: Load(d) gives dimension d of the block's 32 keys as two vectors.

struct KeysF32 {
  static constexpr int kLine = 128;  // bytes a dimension
  const std::byte* row;
  INK_INLINE KeysF32(const std::byte* k, int) : row(k) {}
  INK_INLINE void Load(int d, __m512& k0, __m512& k1) const {
    k0 = _mm512_loadu_ps(row + d * 128);
    k1 = _mm512_loadu_ps(row + d * 128 + 64);
  }
};

struct KeysF16 {
  static constexpr int kLine = 64;
  const std::byte* row;
  INK_INLINE KeysF16(const std::byte* k, int) : row(k) {}
  INK_INLINE void Load(int d, __m512& k0, __m512& k1) const {
    k0 = LoadHalf(row + d * 64);
    k1 = LoadHalf(row + d * 64 + 32);
  }
};

struct KeysQ8 {
  static constexpr int kLine = 32;
  const std::byte* row;
  const std::byte* scales;
  __m512 s0, s1;
  INK_INLINE KeysQ8(const std::byte* k, int head_dim) : row(k), scales(k + head_dim * kTokens) {}
  INK_INLINE void Load(int d, __m512& k0, __m512& k1) {
    if (d % 32 == 0) {
      s0 = LoadHalf(scales + 2 * d);  // 32 halves each 32 dimensions
      s1 = LoadHalf(scales + 2 * d + 32);
    }
    const __m128i* p = reinterpret_cast<const __m128i*>(row + d * kTokens);
    k0 = _mm512_mul_ps(FloatOfBytes(_mm_loadu_si128(p)), s0);
    k1 = _mm512_mul_ps(FloatOfBytes(_mm_loadu_si128(p + 1)), s1);
  }
};

struct KeysQ4 {
  static constexpr int kLine = 16;
  const std::byte* row;
  const std::byte* scales;
  __m512 s0, s1;
  INK_INLINE KeysQ4(const std::byte* k, int head_dim)
      : row(k), scales(k + (head_dim + 1) / 2 * kTokens) {}
  INK_INLINE void Load(int d, __m512& k0, __m512& k1) {
    if (d % 32 == 0) {
      s0 = LoadHalf(scales + 2 * d);
      s1 = LoadHalf(scales + 2 * d + 32);
    }
    const __m256i packed =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + (d / 2) * kTokens));
    const __m256i shifted = (d & 1) != 0 ? _mm256_srli_epi16(packed, 4) : packed;
    const __m256i q =
        _mm256_sub_epi8(_mm256_and_si256(shifted, _mm256_set1_epi8(15)), _mm256_set1_epi8(8));
    k0 = _mm512_mul_ps(FloatOfBytes(_mm256_castsi256_si128(q)), s0);
    k1 = _mm512_mul_ps(FloatOfBytes(_mm256_extracti128_si256(q, 1)), s1);
  }
};

template <int R, typename Keys>
void ScoreRows(const float* q, const std::byte* k, int head_dim, float* scores,
               const std::byte* next) {
  __m512 acc[R][2];
  Unroll<R>([&](auto r) { acc[r.value][0] = acc[r.value][1] = _mm512_setzero_ps(); });
  Keys keys(k, head_dim);
  for (int d = 0; d < head_dim; ++d) {
    Prefetch(next + d * Keys::kLine);
    if constexpr (Keys::kLine > 64) Prefetch(next + d * Keys::kLine + 64);
    __m512 k0, k1;
    keys.Load(d, k0, k1);
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

// bf16: q holds pairs, [head_dim/2][kGroup].
template <int R>
void ScoreRowsBf16(const float* q, const std::byte* k, int head_dim, float* scores,
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

using ScoreRowsFn = void (*)(const float* q, const std::byte* k, int head_dim, float* scores,
                             const std::byte* next);

// Row counts with an instance of their own; others are cut into these.
constexpr int kRowCounts[] = {12, 8, 6, 4, 3, 2, 1};

template <typename Keys>
struct ScoreTable {
  static constexpr ScoreRowsFn kFunctions[] = {
      ScoreRows<12, Keys>, ScoreRows<8, Keys>, ScoreRows<6, Keys>, ScoreRows<4, Keys>,
      ScoreRows<3, Keys>,  ScoreRows<2, Keys>, ScoreRows<1, Keys>};
};
struct Bf16ScoreTable {
  static constexpr ScoreRowsFn kFunctions[] = {
      ScoreRowsBf16<12>, ScoreRowsBf16<8>, ScoreRowsBf16<6>, ScoreRowsBf16<4>,
      ScoreRowsBf16<3>,  ScoreRowsBf16<2>, ScoreRowsBf16<1>};
};

template <typename Table>
void Scores(const ScoresCall& call) {
  const float* q = static_cast<const float*>(call.q);
  int row = 0;
  for (int i = 0; row < call.rows; ++i) {
    for (; call.rows - row >= kRowCounts[i]; row += kRowCounts[i]) {
      Table::kFunctions[i](q + row, call.k, call.head_dim, call.scores + row * kScoreStride,
                           call.next);
    }
  }
}

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

// ---- Softmax

INK_INLINE void HideColumns(float* row, int from, int to) {
  const __m512 hidden = Set(-__builtin_inff());
  for (int j = from; j < to; j += 16) _mm512_mask_storeu_ps(row + j, FirstLanes(to - j), hidden);
}

void SoftmaxRow(const SoftmaxCall& call, int r) {
  float* row = call.scores + r * kScoreStride;
  int low = call.low[r];
  int high = call.high[r];
  if (low >= high) low = high = call.last;
  if (call.softcap > 0) {
    for (int j = low & ~15; j < high; j += 16) {
      const __m512 x = _mm512_loadu_ps(row + j);
      const __m512 capped =
          _mm512_mul_ps(Set(call.softcap), Tanh(_mm512_mul_ps(x, Set(call.softcap_inverse))));
      // A tree mask's -inf stays.
      const __mmask16 visible = _mm512_cmp_ps_mask(x, Set(-__builtin_inff()), _CMP_NEQ_UQ);
      _mm512_mask_storeu_ps(row + j, visible, capped);
    }
  }
  HideColumns(row, call.first, low);
  HideColumns(row, high, call.last);

  __m512 max0 = Set(-__builtin_inff());
  __m512 max1 = max0;
  for (int j = call.first; j < call.last; j += 32) {
    max0 = _mm512_max_ps(max0, _mm512_loadu_ps(row + j));
    max1 = _mm512_max_ps(max1, _mm512_loadu_ps(row + j + 16));
  }
  const float maximum = FoldMax(_mm512_max_ps(max0, max1));
  call.maximum[r] = maximum;
  // With no visible key all differences are -inf and all probabilities zero.
  const __m512 m = Set(maximum == -__builtin_inff() ? 0.0f : maximum);
  const __m512 scale = Set(call.exp_scale);
  const __m512 lowest = Set(kExp2Lowest / call.exp_scale);
  __m512 sum = _mm512_setzero_ps();
  if (call.as_bf16) {
    // Behind the reading position: 32 bytes are written where 64 were read.
    char* out = reinterpret_cast<char*>(row);
    for (int j = call.first; j < call.last; j += 16) {
      const __m512 p = Exp2Scaled(_mm512_sub_ps(_mm512_loadu_ps(row + j), m), scale, lowest);
      const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(p);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 2 * j), rounded);
      sum = _mm512_add_ps(
          sum, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16)));
    }
  } else {
    for (int j = call.first; j < call.last; j += 32) {
      const __m512 p0 = Exp2Scaled(_mm512_sub_ps(_mm512_loadu_ps(row + j), m), scale, lowest);
      const __m512 p1 = Exp2Scaled(_mm512_sub_ps(_mm512_loadu_ps(row + j + 16), m), scale, lowest);
      _mm512_storeu_ps(row + j, p0);
      _mm512_storeu_ps(row + j + 16, p1);
      sum = _mm512_add_ps(_mm512_add_ps(sum, p0), p1);
    }
  }
  call.sum[r] = FoldSum(sum);
}

void Softmax(const SoftmaxCall& call) {
  for (int r = 0; r < call.rows; ++r) SoftmaxRow(call, r);
}

void Merge(const MergeCall& call) {
  const __m512 scale = Set(call.exp_scale);
  const __m512 lowest = Set(kExp2Lowest / call.exp_scale);
  const __m512 part = _mm512_loadu_ps(call.part_max);
  const __m512 old = _mm512_loadu_ps(call.max);
  const __mmask16 active = _mm512_cmp_ps_mask(part, Set(-__builtin_inff()), _CMP_NEQ_UQ);
  // NaN stays: the second operand is the result where one is NaN.
  const __m512 merged = _mm512_mask_max_ps(old, active, old, part);
  const __m512 keep = _mm512_mask_blend_ps(active, Set(1.0f),
                                           Exp2Scaled(_mm512_sub_ps(old, merged), scale, lowest));
  const __m512 add =
      _mm512_maskz_mov_ps(active, Exp2Scaled(_mm512_sub_ps(part, merged), scale, lowest));
  const __m512 sum = _mm512_loadu_ps(call.sum);
  const __m512 new_sum =
      _mm512_fmadd_ps(sum, keep, _mm512_mul_ps(_mm512_loadu_ps(call.part_sum), add));
  _mm512_storeu_ps(call.max, merged);
  _mm512_storeu_ps(call.sum, _mm512_mask_mov_ps(sum, active, new_sum));
  _mm512_storeu_ps(call.keep, keep);
  _mm512_storeu_ps(call.add, add);
}

// ---- Values: Load(j, c) gives dimensions column + 16 c .. of key j of the block.

struct ValuesF32 {
  static constexpr int kBytes = 4;  // a value, for prefetching
  const std::byte* base;
  int64_t stride;
  INK_INLINE ValuesF32(const std::byte* v, int head_dim, int column)
      : base(v + 4 * column), stride(4 * head_dim) {}
  INK_INLINE void Begin(int) {}
  INK_INLINE __m512 Load(int j, int c) const { return _mm512_loadu_ps(base + j * stride + 64 * c); }
};

struct ValuesF16 {
  static constexpr int kBytes = 2;
  const std::byte* base;
  int64_t stride;
  INK_INLINE ValuesF16(const std::byte* v, int head_dim, int column)
      : base(v + 2 * column), stride(2 * head_dim) {}
  INK_INLINE __m512 Load(int j, int c) const { return LoadHalf(base + j * stride + 32 * c); }
};

struct ValuesQ8 {
  static constexpr int kBytes = 1;
  const std::byte* base;
  const std::byte* scales;
  int64_t stride;
  int64_t scale_stride;
  int column;
  INK_INLINE ValuesQ8(const std::byte* v, int head_dim, int column)
      : base(v + column),
        scales(v + head_dim * kTokens),
        stride(head_dim),
        scale_stride(2 * ((head_dim + 31) / 32)),
        column(column) {}
  INK_INLINE __m512 Load(int j, int c) const {
    const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(base + j * stride + 16 * c));
    const int group = (column + 16 * c) / 32;
    return _mm512_mul_ps(FloatOfBytes(q), BroadcastHalf(scales + j * scale_stride + 2 * group));
  }
};

struct ValuesQ4 {
  static constexpr int kBytes = 1;
  const std::byte* base;
  const std::byte* scales;
  int64_t stride;
  int64_t scale_stride;
  int column;
  INK_INLINE ValuesQ4(const std::byte* v, int head_dim, int column)
      : base(v + column / 2),
        scales(v + head_dim / 2 * kTokens),
        stride(head_dim / 2),
        scale_stride(2 * ((head_dim + 31) / 32)),
        column(column) {}
  INK_INLINE __m512 Load(int j, int c) const {
    const __m128i words = _mm_cvtepu8_epi16(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(base + j * stride + 8 * c)));
    // Word l holds values 2l (low nibble) and 2l + 1: spread them to its two bytes.
    const __m128i nibbles =
        _mm_and_si128(_mm_or_si128(words, _mm_slli_epi16(words, 4)), _mm_set1_epi8(15));
    const __m128i q = _mm_sub_epi8(nibbles, _mm_set1_epi8(8));
    const int group = (column + 16 * c) / 32;
    return _mm512_mul_ps(FloatOfBytes(q), BroadcastHalf(scales + j * scale_stride + 2 * group));
  }
};

// What follows keeps R rows by C vectors of dimensions in registers. Plain loops with a full
// unroll: with lambdas GCC 12 leaves these accumulators in memory.

template <int R, int C>
INK_INLINE void StoreValues(const ValuesCall& call, int row, int column, __m512 (&acc)[R][C]) {
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    float* out = call.out + (row + r) * int64_t{call.head_dim} + column;
    const float add = call.add[row + r];
    const float keep = call.keep[row + r];
    const __mmask16 store = add == 0 && keep == 1 ? 0 : 0xffff;
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const __m512 o = _mm512_mul_ps(acc[r][c], Set(add));
      const __m512 old = _mm512_loadu_ps(out + 16 * c);
      _mm512_mask_storeu_ps(out + 16 * c, store, _mm512_fmadd_ps(old, Set(keep), o));
    }
  }
}

template <int R, int C>
INK_INLINE void Clear(__m512 (&acc)[R][C]) {
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[r][c] = _mm512_setzero_ps();
  }
}

template <int R, int C, typename Values>
void ValueRows(const ValuesCall& call, int row, int column) {
  __m512 acc[R][C];
  Clear(acc);
  const float* p = static_cast<const float*>(call.p) + row * kScoreStride;
  for (int b = call.first / kTokens; b * kTokens < call.last; ++b) {
    const int begin = call.first > b * kTokens ? call.first : b * kTokens;
    const int end = call.last < (b + 1) * kTokens ? call.last : (b + 1) * kTokens;
    const Values values(call.v[b], call.head_dim, column);
    const int64_t line = Values::kBytes * call.head_dim;
    const std::byte* next = call.next[b] + Values::kBytes * column;
    for (int j = begin; j < end; ++j) {
      const int in_block = j - b * kTokens;
#pragma GCC unroll 4
      for (int i = 0; i < C * 16 * Values::kBytes; i += 64) Prefetch(next + in_block * line + i);
      __m512 v[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) v[c] = values.Load(in_block, c);
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const __m512 x = _mm512_set1_ps(p[r * kScoreStride + j]);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) acc[r][c] = _mm512_fmadd_ps(x, v[c], acc[r][c]);
      }
    }
  }
  StoreValues(call, row, column, acc);
}

struct ValuesBf16 {};  // selects the function below

// One step takes the keys j and j + 1, j even. Probabilities of keys that a row does not see are
// zero, but the slot after the last key may hold anything, so its half is cleared.
template <int R, int C>
void ValueRowsBf16(const ValuesCall& call, int row, int column) {
  __m512 acc[R][C];
  Clear(acc);
  const float* p = static_cast<const float*>(call.p) + row * kScoreStride;
  const int64_t line = 4 * call.head_dim;
  for (int b = call.first / kTokens; b * kTokens < call.last; ++b) {
    const int begin = (call.first > b * kTokens ? call.first : b * kTokens) / 2;
    const int limit = call.last < (b + 1) * kTokens ? call.last : (b + 1) * kTokens;
    const std::byte* values = call.v[b] + 4 * column;
    const std::byte* next = call.next[b] + 4 * column;
    const int first_pair = b * (kTokens / 2);
    for (int pair = begin; pair < (limit + 1) / 2; ++pair) {
      const int64_t offset = (pair - first_pair) * line;
      const __m512i mask = _mm512_set1_epi32(2 * pair + 1 < limit ? -1 : 0xffff);
      __m512i v[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        Prefetch(next + offset + 64 * c);
        v[c] = _mm512_and_si512(LoadInt(values + offset + 64 * c), mask);
      }
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const __m512i x = Broadcast32(p + r * kScoreStride + pair);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) DotBf16(acc[r][c], v[c], x);
      }
    }
  }
  StoreValues(call, row, column, acc);
}

using ValueRowsFn = void (*)(const ValuesCall& call, int row, int column);

template <int R, int C, typename Type>
constexpr ValueRowsFn Instance() {
  if constexpr (__is_same(Type, ValuesBf16)) {
    return ValueRowsBf16<R, C>;
  } else {
    return ValueRows<R, C, Type>;
  }
}

// Indexed by vectors of dimensions - 1, then as kRowCounts; 24 accumulators at most.
template <typename Type>
struct ValueTable {
  static constexpr ValueRowsFn kFunctions[4][7] = {
      {Instance<12, 1, Type>(), Instance<8, 1, Type>(), Instance<6, 1, Type>(),
       Instance<4, 1, Type>(), Instance<3, 1, Type>(), Instance<2, 1, Type>(),
       Instance<1, 1, Type>()},
      {Instance<12, 2, Type>(), Instance<8, 2, Type>(), Instance<6, 2, Type>(),
       Instance<4, 2, Type>(), Instance<3, 2, Type>(), Instance<2, 2, Type>(),
       Instance<1, 2, Type>()},
      {nullptr, Instance<8, 3, Type>(), Instance<6, 3, Type>(), Instance<4, 3, Type>(),
       Instance<3, 3, Type>(), Instance<2, 3, Type>(), Instance<1, 3, Type>()},
      {nullptr, nullptr, Instance<6, 4, Type>(), Instance<4, 4, Type>(), Instance<3, 4, Type>(),
       Instance<2, 4, Type>(), Instance<1, 4, Type>()}};
};

// Vectors to take when `left` remain: four, unless three leave a better rest.
INK_INLINE int Columns(int left) { return left == 5 || left == 6 ? 3 : left < 4 ? left : 4; }

template <typename Type>
void Values(const ValuesCall& call) {
  const int vectors = call.head_dim / 16;
  for (int column = 0; column < vectors;) {
    const int columns = Columns(vectors - column);
    int row = 0;
    // 12 rows of 3 vectors are two times 6, not 8 and 4.
    for (int i = columns < 3 ? 0 : 2; row < call.rows; ++i) {
      for (; call.rows - row >= kRowCounts[i]; row += kRowCounts[i]) {
        ValueTable<Type>::kFunctions[columns - 1][i](call, row, 16 * column);
      }
    }
    column += columns;
  }
}

constexpr AttentionTiles kTiles = {
    .pack = {PackQueries, PackQueries, PackQueriesBf16, PackQueries, PackQueries},
    .scores = {Scores<ScoreTable<KeysF32>>, Scores<ScoreTable<KeysF16>>, Scores<Bf16ScoreTable>,
               Scores<ScoreTable<KeysQ8>>, Scores<ScoreTable<KeysQ4>>},
    .softmax = Softmax,
    .merge = Merge,
    .values = {Values<ValuesF32>, Values<ValuesF16>, Values<ValuesBf16>, Values<ValuesQ8>,
               Values<ValuesQ4>},
    .bf16_probabilities = true,
};

}  // namespace

void Attention(const AttentionParams& params, const KernelContext& ctx) noexcept {
  RunAttention(kTiles, params, ctx);
}

}  // namespace ink::avx512
