// Writing rows into the paged cache: the same for every instruction set, save the conversion of a
// row to 16 bits. Plain data and declarations only, as ISA folders include it.
#pragma once

#include <cstdint>

#include "kernels/op_params.h"

namespace ink {

struct KvStoreRows {
  void (*to_half)(const float* x, uint16_t* out, int n);
  void (*to_bfloat)(const float* x, uint16_t* out, int n);
};

void RunKvStore(const KvStoreRows& rows, const KvStoreParams& params,
                const KernelContext& ctx) noexcept;

}  // namespace ink
