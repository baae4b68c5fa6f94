#pragma once

#include "kernels/op_table.h"

namespace ink::cpu {

void MoeRoute(const MoeRouteParams& params, const KernelContext& context) noexcept;

/// The experts' layers through a table's own linear and glu, expert after expert in ascending
/// order, so that a token's sum never depends on what shares its batch.
using LinearFn = void (*)(const LinearParams&, const KernelContext&) noexcept;
using GluFn = void (*)(const GluParams&, const KernelContext&) noexcept;
void MoeExperts(LinearFn linear, GluFn glu, const MoeExpertsParams& params,
                const KernelContext& context) noexcept;

}  // namespace ink::cpu
