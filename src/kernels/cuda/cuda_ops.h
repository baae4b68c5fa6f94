#pragma once

#include "kernels/op_table.h"
#include "kernels/train_kernels.h"

namespace ink::cuda {

extern const OpTable kOpTable;
extern const TrainKernels kTrainKernels;

// Parts in matmul.cu and attention.cu.
void Linear(const LinearParams& p, const KernelContext& context) noexcept;
void Matmul(const MatmulParams& p, const KernelContext& context) noexcept;
void Attention(const DenseAttentionParams& p, const KernelContext& context) noexcept;
void AttentionGrad(const DenseAttentionParams& p, const KernelContext& context) noexcept;

}  // namespace ink::cuda
