// Attention, cache and element-wise kernels of the avx2 table.
#pragma once

#include "kernels/op_params.h"

namespace ink::avx2 {

void Attention(const AttentionParams& params, const KernelContext& ctx) noexcept;
void KvStore(const KvStoreParams& params, const KernelContext& ctx) noexcept;
void Rope(const RopeParams& params, const KernelContext& ctx) noexcept;
void RmsNorm(const RmsNormParams& params, const KernelContext& ctx) noexcept;
void Add(const AddParams& params, const KernelContext& ctx) noexcept;
void Scale(const ScaleParams& params, const KernelContext& ctx) noexcept;
void Softcap(const SoftcapParams& params, const KernelContext& ctx) noexcept;
void Glu(const GluParams& params, const KernelContext& ctx) noexcept;

}  // namespace ink::avx2
