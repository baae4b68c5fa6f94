#pragma once

#include "kernels/cpu/linear_kernels.h"

namespace ink::avx2 {

void PackTile(const float* x, int64_t x_stride, int tile, int cols, int64_t row, int64_t segment,
              int64_t num_rows, const LinearWorkspace& workspace) noexcept;

/// Prepares scales only; codes stay packed until Accumulate knows how many rows there are.
void Unpack(const PanelFormat& format, const std::byte* segment, int cols, std::byte* scratch,
            UnpackedPanel* out) noexcept;

void Accumulate(const PanelFormat& format, const UnpackedPanel* panels, int num_panels, int cols,
                const LinearWorkspace& workspace, int64_t segment, int64_t num_rows, int64_t row0,
                int64_t num, float* acc) noexcept;

/// The part of Accumulate for F32, F16 and BF16.
void AccumulateFloats(const PanelFormat& format, const UnpackedPanel* panels, int num_panels,
                      int cols, const LinearWorkspace& workspace, int64_t segment, int64_t num_rows,
                      int64_t row0, int64_t num, float* acc) noexcept;

}  // namespace ink::avx2
