// Values: a lane is a dimension, 16 dimensions at a time; probabilities are broadcast.
#include "kernels/cpu/avx2/attention_inner.h"

namespace ink::avx2 {
namespace {

constexpr int kTokens = kKvBlockTokens;

// Load gives 16 dimensions, from `column` on, of token `j` of a block.
struct F32Values {
  static INK_AVX2_INLINE int64_t Offset(int head_dim, int j, int column) {
    return 4 * (int64_t{j} * head_dim + column);
  }
  static INK_AVX2_INLINE void Load(const std::byte* v, int, __m256& v0, __m256& v1) {
    v0 = LoadFloats(v);
    v1 = LoadFloats(v + 32);
  }
};

struct F16Values {
  static INK_AVX2_INLINE int64_t Offset(int head_dim, int j, int column) {
    return 2 * (int64_t{j} * head_dim + column);
  }
  static INK_AVX2_INLINE void Load(const std::byte* v, int, __m256& v0, __m256& v1) {
    v0 = LoadHalf(v);
    v1 = LoadHalf(v + 16);
  }
};

struct BF16Values {
  static INK_AVX2_INLINE int64_t Offset(int head_dim, int j, int column) {
    return 4 * (int64_t{j / 2} * head_dim + column);
  }
  static INK_AVX2_INLINE void Load(const std::byte* v, int j, __m256& v0, __m256& v1) {
    v0 = PairValue(v, (j & 1) != 0);
    v1 = PairValue(v + 32, (j & 1) != 0);
  }
};

struct Q8Values {
  static INK_AVX2_INLINE int64_t IntegerBytes(int head_dim) { return int64_t{head_dim} * kTokens; }
  static INK_AVX2_INLINE int64_t Offset(int head_dim, int j, int column) {
    return int64_t{j} * head_dim + column;
  }
  static INK_AVX2_INLINE void Load(const std::byte* v, int, __m256& v0, __m256& v1) {
    const __m128i q = LoadBytes(v);
    v0 = FloatOfBytes(q);
    v1 = FloatOfBytes(_mm_unpackhi_epi64(q, q));
  }
};

struct Q4Values {
  static INK_AVX2_INLINE int64_t IntegerBytes(int head_dim) {
    return int64_t{head_dim} / 2 * kTokens;
  }
  static INK_AVX2_INLINE int64_t Offset(int head_dim, int j, int column) {
    return (int64_t{j} * head_dim + column) / 2;
  }
  static INK_AVX2_INLINE void Load(const std::byte* v, int, __m256& v0, __m256& v1) {
    // Word l of 16-bit words holds values 2l (low nibble) and 2l + 1 of a byte: spread them.
    const __m128i words = _mm_cvtepu8_epi16(LoadHalfBytes(v));
    const __m128i nibbles =
        _mm_and_si128(_mm_or_si128(words, _mm_slli_epi16(words, 4)), _mm_set1_epi8(15));
    const __m128i q = _mm_sub_epi8(nibbles, _mm_set1_epi8(8));
    v0 = FloatOfBytes(q);
    v1 = FloatOfBytes(_mm_unpackhi_epi64(q, q));
  }
};

template <int R, typename Type>
void ValueRows(const ValuesCall& call, const float* p, int row, int column) {
  __m256 acc[R][2];
  Clear(acc);
  p += row * kScoreStride;
  for (int b = call.first / kTokens; b * kTokens < call.last; ++b) {
    const int begin = (call.first > b * kTokens ? call.first : b * kTokens) - b * kTokens;
    const int end = (call.last < (b + 1) * kTokens ? call.last : (b + 1) * kTokens) - b * kTokens;
    for (int j = begin; j < end; ++j) {
      const int64_t offset = Type::Offset(call.head_dim, j, column);
      Prefetch(call.next[b] + offset);
      __m256 v0, v1;
      Type::Load(call.v[b] + offset, j, v0, v1);
      Step<R>(p + b * kTokens + j, kScoreStride, v0, v1, acc);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    float* out = call.out + (row + r) * int64_t{call.head_dim} + column;
    const float add = call.add[row + r];
    const float keep = call.keep[row + r];
    if (add == 0 && keep == 1) continue;
    const __m256 o0 = _mm256_mul_ps(acc[r][0], Set(add));
    const __m256 o1 = _mm256_mul_ps(acc[r][1], Set(add));
    _mm256_storeu_ps(out, _mm256_fmadd_ps(_mm256_loadu_ps(out), Set(keep), o0));
    _mm256_storeu_ps(out + 8, _mm256_fmadd_ps(_mm256_loadu_ps(out + 8), Set(keep), o1));
  }
}

template <typename Type>
INK_AVX2_INLINE void Cut(const ValuesCall& call, const float* p, int column) {
  using Fn = void (*)(const ValuesCall& call, const float* p, int row, int column);
  static constexpr Fn kFunctions[] = {ValueRows<6, Type>, ValueRows<4, Type>, ValueRows<3, Type>,
                                      ValueRows<2, Type>, ValueRows<1, Type>};
  int row = 0;
  for (int i = 0; row < call.rows; ++i) {
    for (; call.rows - row >= kRowCounts[i]; row += kRowCounts[i]) {
      kFunctions[i](call, p, row, column);
    }
  }
}

template <typename Type>
void PlainValues(const ValuesCall& call) {
  for (int column = 0; column < call.head_dim; column += 16) {
    Cut<Type>(call, static_cast<const float*>(call.p), column);
  }
}

/// scaled[row][j] = p[row][j] * the scale of key j for a group of 32 dimensions.
void ScaleProbabilities(const ValuesCall& call, int64_t scale_offset, float* scaled) {
  const float* p = static_cast<const float*>(call.p);
  for (int b = call.first / kTokens; b * kTokens < call.last; ++b) {
    Prefetch(call.next[b] + scale_offset);
    for (int j = 0; j < kTokens; j += 8) {
      const __m256 scale = LoadHalf(call.v[b] + scale_offset + 2 * j);
      for (int r = 0; r < call.rows; ++r) {
        const int at = r * kScoreStride + b * kTokens + j;
        _mm256_storeu_ps(scaled + at, _mm256_mul_ps(_mm256_loadu_ps(p + at), scale));
      }
    }
  }
}

template <typename Type>
void QuantizedValues(const ValuesCall& call) {
  alignas(64) float scaled[kAttentionGroupRows * kScoreStride];
  for (int column = 0; column < call.head_dim; column += 16) {
    if (column % 32 == 0) {
      ScaleProbabilities(call, Type::IntegerBytes(call.head_dim) + 2 * column * kTokens / 32,
                         scaled);
    }
    Cut<Type>(call, scaled, column);
  }
}

}  // namespace

void ValuesF32(const ValuesCall& call) { PlainValues<F32Values>(call); }
void ValuesF16(const ValuesCall& call) { PlainValues<F16Values>(call); }
void ValuesBF16(const ValuesCall& call) { PlainValues<BF16Values>(call); }
void ValuesQ8_0(const ValuesCall& call) { QuantizedValues<Q8Values>(call); }
void ValuesQ4_0(const ValuesCall& call) { QuantizedValues<Q4Values>(call); }

}  // namespace ink::avx2
