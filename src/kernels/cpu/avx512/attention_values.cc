// Values: a lane is a dimension, probabilities are broadcast; types are decoded in registers.
//
// R rows by C vectors of dimensions stay in registers. Plain loops with a full unroll: with lambdas
// GCC 12 leaves these accumulators in memory.
#include "kernels/cpu/avx512/attention_inner.h"

namespace ink::avx512 {
namespace {

constexpr int kTokens = kKvBlockTokens;

template <int R, int C>
INK_INLINE void Clear(__m512 (&acc)[R][C]) {
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[r][c] = _mm512_setzero_ps();
  }
}

/// out = fma(out, keep, acc * add).
template <int R, int C>
INK_INLINE void Store(const ValuesCall& call, int row, int column, __m512 (&acc)[R][C]) {
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

/// The keys of block b among [first, last) of the partition.
struct Keys {
  int begin;
  int end;
};
INK_INLINE Keys KeysOf(const ValuesCall& call, int b) {
  return {call.first > b * kTokens ? call.first : b * kTokens,
          call.last < (b + 1) * kTokens ? call.last : (b + 1) * kTokens};
}

// ---- Plain types: `p` is one row of probabilities for all dimensions.

struct F32Values {
  static constexpr int kBytes = 4;
  static INK_INLINE __m512 Load(const std::byte* v) { return _mm512_loadu_ps(v); }
};
struct F16Values {
  static constexpr int kBytes = 2;
  static INK_INLINE __m512 Load(const std::byte* v) { return LoadHalf(v); }
};

template <int R, int C, typename Type>
struct Plain {
  static void Run(const ValuesCall& call, const float* p, int row, int column) {
    __m512 acc[R][C];
    Clear(acc);
    p += row * kScoreStride;
    const int64_t line = Type::kBytes * call.head_dim;
    for (int b = call.first / kTokens; b * kTokens < call.last; ++b) {
      const Keys keys = KeysOf(call, b);
      const int64_t start = (keys.begin - b * kTokens) * line + Type::kBytes * column;
      const std::byte* v = call.v[b] + start;
      const std::byte* next = call.next[b] + start;
      for (int j = keys.begin; j < keys.end; ++j) {
        __m512 x[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) x[c] = Type::Load(v + 16 * Type::kBytes * c);
#pragma GCC unroll 4
        for (int i = 0; i < C * 16 * Type::kBytes; i += 64) Prefetch(next + i);
        v += line;
        next += line;
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
          const __m512 weight = _mm512_set1_ps(p[r * kScoreStride + j]);
#pragma GCC unroll 4
          for (int c = 0; c < C; ++c) acc[r][c] = _mm512_fmadd_ps(weight, x[c], acc[r][c]);
        }
      }
    }
    Store(call, row, column, acc);
  }
};
template <int R, int C>
using F32 = Plain<R, C, F32Values>;
template <int R, int C>
using F16 = Plain<R, C, F16Values>;

// One step takes the keys j and j + 1, j even. Probabilities of keys that a row does not see are
// zero, but the slot after the last key may hold anything, so its half is cleared.
template <int R, int C>
struct BF16 {
  static void Run(const ValuesCall& call, const float* p, int row, int column) {
    __m512 acc[R][C];
    Clear(acc);
    p += row * kScoreStride;
    const int64_t line = 4 * call.head_dim;
    for (int b = call.first / kTokens; b * kTokens < call.last; ++b) {
      const Keys keys = KeysOf(call, b);
      const int64_t start = (keys.begin / 2 - b * (kTokens / 2)) * line + 4 * column;
      const std::byte* v = call.v[b] + start;
      const std::byte* next = call.next[b] + start;
      for (int pair = keys.begin / 2; 2 * pair < keys.end; ++pair) {
        const __m512i mask = _mm512_set1_epi32(2 * pair + 1 < keys.end ? -1 : 0xffff);
        __m512i x[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
          Prefetch(next + 64 * c);
          x[c] = _mm512_and_si512(LoadInt(v + 64 * c), mask);
        }
        v += line;
        next += line;
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
          const __m512i weights = Broadcast32(p + r * kScoreStride + pair);
#pragma GCC unroll 4
          for (int c = 0; c < C; ++c) DotBf16(acc[r][c], x[c], weights);
        }
      }
    }
    Store(call, row, column, acc);
  }
};

// ---- Quantized types: `p` holds the probabilities times the scales of two groups of 32
// dimensions, [2][rows][kScoreStride]; `column` is a multiple of 32.

constexpr int64_t kScaledGroup = int64_t{kAttentionGroupRows} * kScoreStride;

struct Q8Values {
  template <int C>
  static INK_INLINE void Load(const std::byte* v, __m512 (&x)[C]) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) x[c] = FloatOfBytes(LoadBytes(v + 16 * c));
  }
  static constexpr int kPerByte = 1;
};

struct Q4Values {
  // Word l of 16-bit words holds values 2l (low nibble) and 2l + 1 of a byte: spread them.
  template <int C>
  static INK_INLINE void Load(const std::byte* v, __m512 (&x)[C]) {
    if constexpr (C == 1) {
      const __m128i words = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(v)));
      const __m128i nibbles =
          _mm_and_si128(_mm_or_si128(words, _mm_slli_epi16(words, 4)), _mm_set1_epi8(15));
      x[0] = FloatOfBytes(_mm_sub_epi8(nibbles, _mm_set1_epi8(8)));
    } else if constexpr (C == 2) {
      const __m256i words = _mm256_cvtepu8_epi16(LoadBytes(v));
      const __m256i nibbles = _mm256_and_si256(_mm256_or_si256(words, _mm256_slli_epi16(words, 4)),
                                               _mm256_set1_epi8(15));
      const __m256i q = _mm256_sub_epi8(nibbles, _mm256_set1_epi8(8));
      x[0] = FloatOfBytes(_mm256_castsi256_si128(q));
      x[1] = FloatOfBytes(_mm256_extracti128_si256(q, 1));
    } else {
      const __m512i words =
          _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(v)));
      const __m512i nibbles = _mm512_and_si512(_mm512_or_si512(words, _mm512_slli_epi16(words, 4)),
                                               _mm512_set1_epi8(15));
      const __m512i q = _mm512_sub_epi8(nibbles, _mm512_set1_epi8(8));
      x[0] = FloatOfBytes(_mm512_castsi512_si128(q));
      x[1] = FloatOfBytes(_mm512_extracti32x4_epi32(q, 1));
      x[2] = FloatOfBytes(_mm512_extracti32x4_epi32(q, 2));
      x[3] = FloatOfBytes(_mm512_extracti32x4_epi32(q, 3));
    }
  }
  static constexpr int kPerByte = 2;
};

template <int R, int C, typename Type>
struct Quantized {
  static_assert(C != 3);
  static void Run(const ValuesCall& call, const float* p, int row, int column) {
    __m512 acc[R][C];
    Clear(acc);
    p += row * kScoreStride;
    const int64_t line = call.head_dim / Type::kPerByte;
    for (int b = call.first / kTokens; b * kTokens < call.last; ++b) {
      const Keys keys = KeysOf(call, b);
      const int64_t start = (keys.begin - b * kTokens) * line + column / Type::kPerByte;
      const std::byte* v = call.v[b] + start;
      const std::byte* next = call.next[b] + start;
      for (int j = keys.begin; j < keys.end; ++j) {
        __m512 x[C];
        Type::template Load<C>(v, x);
        Prefetch(next);
        v += line;
        next += line;
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
          __m512 weights[2];
          weights[0] = _mm512_set1_ps(p[r * kScoreStride + j]);
          if constexpr (C == 4) weights[1] = _mm512_set1_ps(p[kScaledGroup + r * kScoreStride + j]);
#pragma GCC unroll 4
          for (int c = 0; c < C; ++c) acc[r][c] = _mm512_fmadd_ps(weights[c / 2], x[c], acc[r][c]);
        }
      }
    }
    Store(call, row, column, acc);
  }
};
template <int R, int C>
using Q8_0 = Quantized<R, C, Q8Values>;
template <int R, int C>
using Q4_0 = Quantized<R, C, Q4Values>;

/// scaled[g][row][j] = p[row][j] * the scale of key j for dimensions column + 32 g ..
void ScaleProbabilities(const ValuesCall& call, int64_t integer_bytes, int column, int groups,
                        float* scaled) {
  const float* p = static_cast<const float*>(call.p);
  for (int b = call.first / kTokens; b * kTokens < call.last; ++b) {
    for (int g = 0; g < groups; ++g) {
      const int64_t offset = integer_bytes + 2 * kTokens * (column / 32 + g);
      Prefetch(call.next[b] + offset);
      const __m512 s0 = LoadHalf(call.v[b] + offset);
      const __m512 s1 = LoadHalf(call.v[b] + offset + 32);
      for (int r = 0; r < call.rows; ++r) {
        const float* from = p + r * kScoreStride + b * kTokens;
        float* to = scaled + g * kScaledGroup + r * kScoreStride + b * kTokens;
        _mm512_storeu_ps(to, _mm512_mul_ps(_mm512_loadu_ps(from), s0));
        _mm512_storeu_ps(to + 16, _mm512_mul_ps(_mm512_loadu_ps(from + 16), s1));
      }
    }
  }
}

// ---- Functions by rows and vectors; 24 accumulators at most, so 12 rows are two times 6 from
// three vectors on.

using RowsFn = void (*)(const ValuesCall& call, const float* p, int row, int column);

template <template <int, int> typename Rows, int C>
INK_INLINE void Cut(const ValuesCall& call, const float* p, int column) {
  constexpr int kFirst = C < 3 ? 0 : 2;
  static constexpr RowsFn kFunctions[] = {
      Rows < C < 3 ? 12 : 6, C > ::Run,       Rows < C < 3 ? 8 : 6, C > ::Run,      Rows<6, C>::Run,
      Rows<4, C>::Run,       Rows<3, C>::Run, Rows<2, C>::Run,      Rows<1, C>::Run};
  int row = 0;
  for (int i = kFirst; row < call.rows; ++i) {
    for (; call.rows - row >= kRowCounts[i]; row += kRowCounts[i]) {
      kFunctions[i](call, p, row, column);
    }
  }
}

template <template <int, int> typename Rows>
void PlainValues(const ValuesCall& call) {
  const float* p = static_cast<const float*>(call.p);
  const int vectors = call.head_dim / 16;
  for (int column = 0; column < vectors;) {
    const int left = vectors - column;
    // Four, unless three leave a better rest.
    if (left == 3 || left == 5 || left == 6) {
      Cut<Rows, 3>(call, p, 16 * column);
      column += 3;
    } else if (left >= 4) {
      Cut<Rows, 4>(call, p, 16 * column);
      column += 4;
    } else if (left == 2) {
      Cut<Rows, 2>(call, p, 16 * column);
      column += 2;
    } else {
      Cut<Rows, 1>(call, p, 16 * column);
      column += 1;
    }
  }
}

template <template <int, int> typename Rows>
void QuantizedValues(const ValuesCall& call, int64_t integer_bytes) {
  alignas(64) float scaled[2 * kScaledGroup];
  for (int column = 0; column < call.head_dim;) {
    const int left = call.head_dim - column;
    ScaleProbabilities(call, integer_bytes, column, left >= 64 ? 2 : 1, scaled);
    if (left >= 64) {
      Cut<Rows, 4>(call, scaled, column);
      column += 64;
    } else if (left >= 32) {
      Cut<Rows, 2>(call, scaled, column);
      column += 32;
    } else {
      Cut<Rows, 1>(call, scaled, column);
      column += 16;
    }
  }
}

}  // namespace

void ValuesF32(const ValuesCall& call) { PlainValues<F32>(call); }
void ValuesF16(const ValuesCall& call) { PlainValues<F16>(call); }
void ValuesBF16(const ValuesCall& call) { PlainValues<BF16>(call); }
void ValuesQ8_0(const ValuesCall& call) {
  QuantizedValues<Q8_0>(call, int64_t{call.head_dim} * kTokens);
}
void ValuesQ4_0(const ValuesCall& call) {
  QuantizedValues<Q4_0>(call, int64_t{call.head_dim} / 2 * kTokens);
}

}  // namespace ink::avx512
