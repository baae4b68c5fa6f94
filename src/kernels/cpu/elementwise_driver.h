// How element-wise and row-wise kernels are cut into work items. Plain data and declarations only,
// as ISA folders include it.
#pragma once

#include <cstdint>

#include "kernels/op_params.h"

namespace ink {

/// Elements of one work item: enough arithmetic (microseconds) to pay for handing it out, and
/// little enough that one row of a decode step stays on the calling thread.
inline constexpr int64_t kElementsPerItem = 16384;

/// span(params, first, count) over [0, count) in items.
void ForElements(int64_t count, void (*span)(const void* params, int64_t first, int64_t count),
                 const void* params, const KernelContext& ctx) noexcept;

/// row(params, index) for each of `num_rows` rows of `dim` elements.
void ForRows(int64_t num_rows, int64_t dim, void (*row)(const void* params, int64_t index),
             const void* params, const KernelContext& ctx) noexcept;

}  // namespace ink
