#include <immintrin.h>

#include "kernels/cpu/avx512/kernels_attn.h"
#include "kernels/cpu/avx512/vec_math.h"
#include "kernels/cpu/kv_store_driver.h"

namespace ink::avx512 {
namespace {

void ToHalf(const float* x, uint16_t* out, int n) {
  for (int i = 0; i < n; i += 16) {
    const __mmask16 lanes = FirstLanes(n - i);
    const __m256i half = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(lanes, x + i),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_mask_storeu_epi16(out + i, lanes, half);
  }
}

// Integer arithmetic, as vcvtneps2bf16 would lose subnormals.
void ToBfloat(const float* x, uint16_t* out, int n) {
  for (int i = 0; i < n; i += 16) {
    const __mmask16 lanes = FirstLanes(n - i);
    const __m512 value = _mm512_maskz_loadu_ps(lanes, x + i);
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    const __m512i result = _mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40));
    _mm256_mask_storeu_epi16(out + i, lanes, _mm512_cvtepi32_epi16(result));
  }
}

}  // namespace

void KvStore(const KvStoreParams& params, const KernelContext& ctx) noexcept {
  static constexpr KvStoreRows kRows = {.to_half = ToHalf, .to_bfloat = ToBfloat};
  RunKvStore(kRows, params, ctx);
}

}  // namespace ink::avx512
