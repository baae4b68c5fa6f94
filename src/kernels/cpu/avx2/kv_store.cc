#include <immintrin.h>

#include "kernels/cpu/avx2/kernels_attn.h"
#include "kernels/cpu/avx2/vec_math.h"
#include "kernels/cpu/kv_store_driver.h"

namespace ink::avx2 {
namespace {

void StoreWords(__m128i words, uint16_t* out, int n) {
  if (n >= 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), words);
    return;
  }
  uint16_t buffer[8];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(buffer), words);
  for (int i = 0; i < n; ++i) out[i] = buffer[i];
}

void ToHalf(const float* x, uint16_t* out, int n) {
  for (int i = 0; i < n; i += 8) {
    const __m256 value = _mm256_maskload_ps(x + i, FirstLanes(n - i));
    StoreWords(_mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), out + i,
               n - i);
  }
}

void ToBfloat(const float* x, uint16_t* out, int n) {
  for (int i = 0; i < n; i += 8) {
    const __m256 value = _mm256_maskload_ps(x + i, FirstLanes(n - i));
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i result = _mm256_blendv_epi8(rounded, quiet, nan);
    StoreWords(
        _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1)),
        out + i, n - i);
  }
}

}  // namespace

void KvStore(const KvStoreParams& params, const KernelContext& ctx) noexcept {
  static constexpr KvStoreRows kRows = {.to_half = ToHalf, .to_bfloat = ToBfloat};
  RunKvStore(kRows, params, ctx);
}

}  // namespace ink::avx2
