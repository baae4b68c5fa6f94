// Softmax of attention for AVX-512, and the table of its inner loops.
#include "kernels/cpu/avx512/attention_inner.h"
#include "kernels/cpu/avx512/kernels_attn.h"

namespace ink::avx512 {
namespace {

INK_INLINE void HideColumns(float* row, int from, int to) {
  const __m512 hidden = Set(-__builtin_inff());
  for (int j = from; j < to; j += 16) _mm512_mask_storeu_ps(row + j, FirstLanes(to - j), hidden);
}

// Hides what row r may not see and finds its maximum.
void MaskRow(const SoftmaxCall& call, int r) {
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
  call.maximum[r] = FoldMax(_mm512_max_ps(max0, max1));
}

void ExpRow(const SoftmaxCall& call, int r) {
  float* row = call.scores + r * kScoreStride;
  const float maximum = call.maximum[r];
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
      const __m512i bits = _mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16);
      sum = _mm512_add_ps(sum, _mm512_castsi512_ps(bits));
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
  // All maxima first, so that the folds of one row overlap with the loads of the next.
  for (int r = 0; r < call.rows; ++r) MaskRow(call, r);
  for (int r = 0; r < call.rows; ++r) ExpRow(call, r);
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

void Accumulate(float* out, const float* part, int64_t count, float keep, float add) {
  for (int64_t i = 0; i < count; i += 16) {
    const __m512 o = _mm512_mul_ps(_mm512_loadu_ps(part + i), Set(add));
    _mm512_storeu_ps(out + i, _mm512_fmadd_ps(_mm512_loadu_ps(out + i), Set(keep), o));
  }
}

constexpr AttentionTiles kTiles = {
    .pack = {PackQueries, PackQueries, PackQueriesBf16, PackQueries, PackQueries},
    .scores = {ScoresF32, ScoresF16, ScoresBF16, ScoresQ8_0, ScoresQ4_0},
    .softmax = Softmax,
    .merge = Merge,
    .values = {ValuesF32, ValuesF16, ValuesBF16, ValuesQ8_0, ValuesQ4_0},
    .accumulate = Accumulate,
    .bf16_probabilities = true,
};

}  // namespace

void Attention(const AttentionParams& params, const KernelContext& ctx) noexcept {
  RunAttention(kTiles, params, ctx);
}

}  // namespace ink::avx512
