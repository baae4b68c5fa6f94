#pragma once

#include "kernels/op_params.h"

namespace ink::cpu {

/// One for all instruction sets: it moves two rows for three operations a value, beside a matrix
/// product that moves the weights.
void Adapt(const AdaptParams& params, const KernelContext& context) noexcept;

}  // namespace ink::cpu
