// Softmax of attention for AVX2, and the table of its inner loops.
#include "kernels/cpu/avx2/attention_inner.h"
#include "kernels/cpu/avx2/kernels_attn.h"

namespace ink::avx2 {
namespace {

void HideColumns(float* row, int from, int to) {
  for (int j = from; j < to; ++j) row[j] = -__builtin_inff();
}

// Hides what row r may not see and finds its maximum.
void MaskRow(const SoftmaxCall& call, int r) {
  const __m256 hidden = Set(-__builtin_inff());
  float* row = call.scores + r * kScoreStride;
  int low = call.low[r];
  int high = call.high[r];
  if (low >= high) low = high = call.last;
  if (call.softcap > 0) {
    for (int j = low & ~7; j < high; j += 8) {
      const __m256 x = _mm256_loadu_ps(row + j);
      const __m256 capped =
          _mm256_mul_ps(Set(call.softcap), Tanh(_mm256_mul_ps(x, Set(call.softcap_inverse))));
      // A tree mask's -inf stays.
      const __m256 is_hidden = _mm256_cmp_ps(x, hidden, _CMP_EQ_OQ);
      _mm256_storeu_ps(row + j, _mm256_blendv_ps(capped, x, is_hidden));
    }
  }
  HideColumns(row, call.first, low);
  HideColumns(row, high, call.last);
  __m256 max0 = hidden;
  __m256 max1 = hidden;
  for (int j = call.first; j < call.last; j += 16) {
    max0 = _mm256_max_ps(max0, _mm256_loadu_ps(row + j));
    max1 = _mm256_max_ps(max1, _mm256_loadu_ps(row + j + 8));
  }
  call.maximum[r] = FoldMax(_mm256_max_ps(max0, max1));
}

void ExpRow(const SoftmaxCall& call, int r) {
  float* row = call.scores + r * kScoreStride;
  const float maximum = call.maximum[r];
  // With no visible key all differences are -inf and all probabilities zero.
  const __m256 m = Set(maximum == -__builtin_inff() ? 0.0f : maximum);
  const __m256 scale = Set(call.exp_scale);
  const __m256 lowest = Set(kExp2Lowest / call.exp_scale);
  __m256 sum0 = _mm256_setzero_ps();
  __m256 sum1 = _mm256_setzero_ps();
  for (int j = call.first; j < call.last; j += 16) {
    const __m256 p0 = Exp2Scaled(_mm256_sub_ps(_mm256_loadu_ps(row + j), m), scale, lowest);
    const __m256 p1 = Exp2Scaled(_mm256_sub_ps(_mm256_loadu_ps(row + j + 8), m), scale, lowest);
    _mm256_storeu_ps(row + j, p0);
    _mm256_storeu_ps(row + j + 8, p1);
    sum0 = _mm256_add_ps(sum0, p0);
    sum1 = _mm256_add_ps(sum1, p1);
  }
  call.sum[r] = FoldSum(sum0, sum1);
}

void Softmax(const SoftmaxCall& call) {
  for (int r = 0; r < call.rows; ++r) MaskRow(call, r);
  for (int r = 0; r < call.rows; ++r) ExpRow(call, r);
}

void Merge(const MergeCall& call) {
  const __m256 scale = Set(call.exp_scale);
  const __m256 lowest = Set(kExp2Lowest / call.exp_scale);
  for (int i = 0; i < 16; i += 8) {
    const __m256 part = _mm256_loadu_ps(call.part_max + i);
    const __m256 old = _mm256_loadu_ps(call.max + i);
    const __m256 active = _mm256_cmp_ps(part, Set(-__builtin_inff()), _CMP_NEQ_UQ);
    // NaN stays: the second operand is the result where one is NaN.
    const __m256 merged = _mm256_blendv_ps(old, _mm256_max_ps(old, part), active);
    const __m256 keep =
        _mm256_blendv_ps(Set(1.0f), Exp2Scaled(_mm256_sub_ps(old, merged), scale, lowest), active);
    const __m256 add =
        _mm256_and_ps(active, Exp2Scaled(_mm256_sub_ps(part, merged), scale, lowest));
    const __m256 sum = _mm256_loadu_ps(call.sum + i);
    const __m256 new_sum =
        _mm256_fmadd_ps(sum, keep, _mm256_mul_ps(_mm256_loadu_ps(call.part_sum + i), add));
    _mm256_storeu_ps(call.max + i, merged);
    _mm256_storeu_ps(call.sum + i, _mm256_blendv_ps(sum, new_sum, active));
    _mm256_storeu_ps(call.keep + i, keep);
    _mm256_storeu_ps(call.add + i, add);
  }
}

void Accumulate(float* out, const float* part, int64_t count, float keep, float add) {
  for (int64_t i = 0; i < count; i += 8) {
    const __m256 o = _mm256_mul_ps(_mm256_loadu_ps(part + i), Set(add));
    _mm256_storeu_ps(out + i, _mm256_fmadd_ps(_mm256_loadu_ps(out + i), Set(keep), o));
  }
}

constexpr AttentionTiles kTiles = {
    .pack = {PackQueries, PackQueries, PackQueries, PackQueries, PackQueries},
    .scores = {ScoresF32, ScoresF16, ScoresBF16, ScoresQ8_0, ScoresQ4_0},
    .softmax = Softmax,
    .merge = Merge,
    .values = {ValuesF32, ValuesF16, ValuesBF16, ValuesQ8_0, ValuesQ4_0},
    .accumulate = Accumulate,
};

}  // namespace

void Attention(const AttentionParams& params, const KernelContext& ctx) noexcept {
  RunAttention(kTiles, params, ctx);
}

}  // namespace ink::avx2
