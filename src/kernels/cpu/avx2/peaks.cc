#include "kernels/cpu/avx2/peaks.h"

#include <immintrin.h>

namespace ink::avx2 {
namespace {

constexpr int kRepeats = 300;

}  // namespace

// vpmaddubsw and the vpaddw that sums its products: what an int8 dot product costs without VNNI.
double PeakInt8(int64_t rounds) noexcept {
#define INK_OP(i) \
  "vpmaddubsw %%ymm14, %%ymm15, %%ymm13\n\tvpaddw %%ymm13, %%ymm" #i ", %%ymm" #i "\n\t"
  asm volatile("vpxor %%ymm14, %%ymm14, %%ymm14\n\tvpxor %%ymm15, %%ymm15, %%ymm15" ::
                   : "xmm14", "xmm15");
  for (int64_t i = 0; i < rounds * kRepeats; ++i) {
    asm volatile(INK_OP(0) INK_OP(1) INK_OP(2) INK_OP(3) INK_OP(4) INK_OP(5) INK_OP(6) INK_OP(7)
                     INK_OP(8) INK_OP(9) INK_OP(10) INK_OP(11)::
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                           "xmm9", "xmm10", "xmm11", "xmm13");
  }
#undef INK_OP
  return static_cast<double>(rounds) * kRepeats * 12 * 32 * 2;
}

double PeakFp32(int64_t rounds) noexcept {
#define INK_OP(i) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #i "\n\t"
  asm volatile("vpxor %%ymm14, %%ymm14, %%ymm14\n\tvpxor %%ymm15, %%ymm15, %%ymm15" ::
                   : "xmm14", "xmm15");
  for (int64_t i = 0; i < rounds * kRepeats; ++i) {
    asm volatile(INK_OP(0) INK_OP(1) INK_OP(2) INK_OP(3) INK_OP(4) INK_OP(5) INK_OP(6) INK_OP(7)
                     INK_OP(8) INK_OP(9) INK_OP(10) INK_OP(11)::
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                           "xmm9", "xmm10", "xmm11");
  }
#undef INK_OP
  return static_cast<double>(rounds) * kRepeats * 12 * 8 * 2;
}

void Read(const std::byte* data, size_t bytes, size_t ahead) noexcept {
  __m256i a = _mm256_setzero_si256(), b = a;
  for (size_t i = 0; i + 64 <= bytes; i += 64) {
    const std::byte* p = data + i;
    if (ahead > 0) _mm_prefetch(reinterpret_cast<const char*>(p + ahead), _MM_HINT_T0);
    a = _mm256_xor_si256(a, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    b = _mm256_xor_si256(b, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32)));
  }
  a = _mm256_xor_si256(a, b);
  asm volatile("" ::"x"(a));
}

}  // namespace ink::avx2
