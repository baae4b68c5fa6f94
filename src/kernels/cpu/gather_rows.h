#pragma once

#include "kernels/op_params.h"

namespace ink::cpu {

/// Rows of a packed matrix as float32, one at a time through the format's own decoder: a lookup
/// moves a few kilobytes per token, which no vector code would make visible.
void GatherRows(const GatherRowsParams& params, const KernelContext& context) noexcept;

void TakeRows(const TakeRowsParams& params, const KernelContext& context) noexcept;
void ReplaceRows(const ReplaceRowsParams& params, const KernelContext& context) noexcept;

}  // namespace ink::cpu
