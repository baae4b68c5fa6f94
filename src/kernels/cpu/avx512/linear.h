#pragma once

#include "kernels/cpu/linear_kernels.h"

namespace ink::avx512 {

void PackTile(const float* x, int64_t x_stride, int tile, int cols, int64_t row, int64_t segment,
              int64_t num_rows, const LinearWorkspace& workspace) noexcept;
void Unpack(const PanelFormat& format, const std::byte* segment, int cols, std::byte* scratch,
            UnpackedPanel* out) noexcept;
void Accumulate(const PanelFormat& format, const UnpackedPanel* panels, int num_panels, int cols,
                const LinearWorkspace& workspace, int64_t segment, int64_t num_rows, int64_t row0,
                int64_t num, float* acc) noexcept;

/// Up to this many rows are multiplied from the planes; beyond, unpacking pays.
inline constexpr int64_t kStreamRows = 16;

/// `Accumulate` for one panel whose codes are still in their planes (panel.codes is the segment).
void Stream(const PanelFormat& format, const UnpackedPanel& panel, int cols,
            const LinearWorkspace& workspace, int64_t segment, int64_t num_rows, int64_t row0,
            int64_t num, float* acc) noexcept;

}  // namespace ink::avx512
