#include "kernels/cpu/avx512/peaks.h"

#include "kernels/cpu/avx512/simd.h"

namespace ink::avx512 {
namespace {

// 16 independent accumulators hide the latency; 100 rounds of them take about 0.3 us.
#define INK_PEAK_16(op)                                                                          \
  asm volatile(op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12)  \
                   op(13) op(14) op(15)::                                                        \
                       : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", \
                         "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")
#define INK_OP_INT8(i) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define INK_OP_BF16(i) "vdpbf16ps %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define INK_OP_FP32(i) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #i "\n\t"

constexpr int kRepeats = 300;  // of 16 instructions, two per cycle: about 0.7 us

void ZeroInputs() {
  asm volatile("vpxord %%zmm30, %%zmm30, %%zmm30\n\tvpxord %%zmm31, %%zmm31, %%zmm31" ::
                   : "xmm30", "xmm31");
}

}  // namespace

double PeakInt8(int64_t rounds) noexcept {
  ZeroInputs();
  for (int64_t i = 0; i < rounds * kRepeats; ++i) INK_PEAK_16(INK_OP_INT8);
  return static_cast<double>(rounds) * kRepeats * 16 * 64 * 2;
}

double PeakBf16(int64_t rounds) noexcept {
  ZeroInputs();
  for (int64_t i = 0; i < rounds * kRepeats; ++i) INK_PEAK_16(INK_OP_BF16);
  return static_cast<double>(rounds) * kRepeats * 16 * 32 * 2;
}

double PeakFp32(int64_t rounds) noexcept {
  ZeroInputs();
  for (int64_t i = 0; i < rounds * kRepeats; ++i) INK_PEAK_16(INK_OP_FP32);
  return static_cast<double>(rounds) * kRepeats * 16 * 16 * 2;
}

void Read(const std::byte* data, size_t bytes, size_t ahead) noexcept {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (size_t i = 0; i + 256 <= bytes; i += 256) {
    const std::byte* p = data + i;
    if (ahead > 0) {
      for (int line = 0; line < 4; ++line) {
        _mm_prefetch(reinterpret_cast<const char*>(p + ahead + line * 64), _MM_HINT_T0);
      }
    }
    a = _mm512_xor_si512(a, LoadInt(p));
    b = _mm512_xor_si512(b, LoadInt(p + 64));
    c = _mm512_xor_si512(c, LoadInt(p + 128));
    d = _mm512_xor_si512(d, LoadInt(p + 192));
  }
  a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
  asm volatile("" ::"v"(a));
}

}  // namespace ink::avx512
