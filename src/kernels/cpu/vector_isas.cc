// The x86 instruction sets, and which of them this machine runs.
#include "kernels/cpu/vector_isas.h"

#include <array>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "kernels/cpu/adapt.h"
#include "kernels/cpu/avx2/kernels_attn.h"
#include "kernels/cpu/avx2/linear.h"
#include "kernels/cpu/avx2/peaks.h"
#include "kernels/cpu/avx2/train_kernels.h"
#include "kernels/cpu/avx512/kernels_attn.h"
#include "kernels/cpu/avx512/linear.h"
#include "kernels/cpu/avx512/peaks.h"
#include "kernels/cpu/avx512/train_kernels.h"
#include "kernels/cpu/gather_rows.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/moe.h"

namespace ink {
namespace {

constexpr LinearKernels kAvx512Linear = {true,           avx512::kStreamRows, 3, avx512::PackTile,
                                         avx512::Unpack, avx512::Accumulate};

void Avx512Linear(const LinearParams& params, const KernelContext& context) noexcept {
  RunLinear(kAvx512Linear, params, context);
}
void Avx512Moe(const MoeExpertsParams& params, const KernelContext& context) noexcept {
  cpu::MoeExperts(Avx512Linear, avx512::Glu, params, context);
}

// Without vdpbf16ps, bfloat16 weights take float32 activations.
constexpr LinearKernels kAvx2Linear = {false,          kFewRows,     2,
                                       avx2::PackTile, avx2::Unpack, avx2::Accumulate};

void Avx2Linear(const LinearParams& params, const KernelContext& context) noexcept {
  RunLinear(kAvx2Linear, params, context);
}
void Avx2Moe(const MoeExpertsParams& params, const KernelContext& context) noexcept {
  cpu::MoeExperts(Avx2Linear, avx2::Glu, params, context);
}

constexpr OpTable kAvx512 = {
    .name = "avx512",
    .linear = Avx512Linear,
    .gather_rows = cpu::GatherRows,
    .take_rows = cpu::TakeRows,
    .replace_rows = cpu::ReplaceRows,
    .rms_norm = avx512::RmsNorm,
    .add = avx512::Add,
    .scale = avx512::Scale,
    .adapt = cpu::Adapt,
    .softcap = avx512::Softcap,
    .glu = avx512::Glu,
    .rope = avx512::Rope,
    .kv_store = avx512::KvStore,
    .attention = avx512::Attention,
    .moe_route = cpu::MoeRoute,
    .moe_experts = Avx512Moe,
};

constexpr OpTable kAvx2 = {
    .name = "avx2",
    .linear = Avx2Linear,
    .gather_rows = cpu::GatherRows,
    .take_rows = cpu::TakeRows,
    .replace_rows = cpu::ReplaceRows,
    .rms_norm = avx2::RmsNorm,
    .add = avx2::Add,
    .scale = avx2::Scale,
    .adapt = cpu::Adapt,
    .softcap = avx2::Softcap,
    .glu = avx2::Glu,
    .rope = avx2::Rope,
    .kv_store = avx2::KvStore,
    .attention = avx2::Attention,
    .moe_route = cpu::MoeRoute,
    .moe_experts = Avx2Moe,
};

double None(int64_t) noexcept { return 0; }

constexpr PeakLoops kAvx512Peaks = {"avx512", avx512::PeakInt8, avx512::PeakBf16, avx512::PeakFp32,
                                    avx512::Read};
constexpr PeakLoops kAvx2Peaks = {"avx2", avx2::PeakInt8, None, avx2::PeakFp32, avx2::Read};

struct Found {
  std::array<VectorIsa, 2> list{};
  size_t count = 0;
};

Found Find() {
  Found found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
      __builtin_cpu_supports("avx512vbmi")) {
    found.list[found.count++] = {&kAvx512, &avx512::kTrainKernels, &kAvx512Peaks};
  }
  // Clang 14 has no __builtin_cpu_supports("f16c").
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2") && f16c) {
    found.list[found.count++] = {&kAvx2, &avx2::kTrainKernels, &kAvx2Peaks};
  }
#endif
  return found;
}

}  // namespace

std::span<const VectorIsa> VectorIsas() {
  static const Found found = Find();  // immutable facts about the machine
  return {found.list.data(), found.count};
}

}  // namespace ink
