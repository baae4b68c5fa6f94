// What kernel tests and benchmarks share: the instruction sets of this machine, a context with
// scratch, random inputs.
#pragma once

#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/cpu/avx2/kernels_attn.h"
#include "kernels/cpu/avx512/kernels_attn.h"
#include "kernels/cpu/reference/kernels_attn.h"
#include "kernels/op_params.h"

namespace ink::test {

struct Isa {
  const char* name;
  void (*attention)(const AttentionParams&, const KernelContext&) noexcept;
  void (*kv_store)(const KvStoreParams&, const KernelContext&) noexcept;
  void (*rope)(const RopeParams&, const KernelContext&) noexcept;
  void (*rms_norm)(const RmsNormParams&, const KernelContext&) noexcept;
  void (*add)(const AddParams&, const KernelContext&) noexcept;
  void (*scale)(const ScaleParams&, const KernelContext&) noexcept;
  void (*softcap)(const SoftcapParams&, const KernelContext&) noexcept;
  void (*glu)(const GluParams&, const KernelContext&) noexcept;
  bool bf16_products;  // attention multiplies bf16 K and V as bf16
};

inline const Isa kReference = {
    "reference",    reference::Attention, reference::KvStore, reference::Rope, reference::RmsNorm,
    reference::Add, reference::Scale,     reference::Softcap, reference::Glu,  false};

/// The vector instruction sets that this machine has.
inline std::vector<Isa> VectorIsas() {
  std::vector<Isa> isas;
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    isas.push_back({"avx2", avx2::Attention, avx2::KvStore, avx2::Rope, avx2::RmsNorm, avx2::Add,
                    avx2::Scale, avx2::Softcap, avx2::Glu, false});
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16") &&
      __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni")) {
    isas.push_back({"avx512", avx512::Attention, avx512::KvStore, avx512::Rope, avx512::RmsNorm,
                    avx512::Add, avx512::Scale, avx512::Softcap, avx512::Glu, true});
  }
  return isas;
}

inline std::vector<Isa> AllIsas() {
  std::vector<Isa> isas = VectorIsas();
  isas.push_back(kReference);
  return isas;
}

/// A context with its own threads and scratch.
class Context {
 public:
  explicit Context(int threads)
      : pool_(threads),
        scratch_(static_cast<std::byte*>(std::aligned_alloc(64, kKernelScratchBytes * threads))) {
    context_.pool = &pool_;
    context_.scratch = scratch_.get();
    context_.scratch_bytes = kKernelScratchBytes;
  }
  operator const KernelContext&() const { return context_; }  // NOLINT: tests pass it on

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  ThreadPool pool_;
  std::unique_ptr<std::byte, Free> scratch_;
  KernelContext context_;
};

inline std::vector<float> RandomFloats(std::mt19937& random, size_t count, float deviation = 1.0f) {
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& v : values) v = normal(random);
  return values;
}

}  // namespace ink::test
