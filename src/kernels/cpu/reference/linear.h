#pragma once

#include "kernels/cpu/linear_kernels.h"

namespace ink::reference {

/// Linear written to be read: the definition that the other instruction sets are held against.
void Linear(const LinearParams& params, const KernelContext& context) noexcept;

}  // namespace ink::reference
