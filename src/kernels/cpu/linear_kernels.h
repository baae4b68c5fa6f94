// The parts of Linear that an instruction set supplies; linear_driver.cc joins them. All of them
// follow one arithmetic (DESIGN 3c), per output and in this order, whatever the tile:
//   kFloat32:  y = fma(w[k], x[k], y) for k = 0, 1, ..
//   kScale32:  per block b of 32: i = sum of (code - zero) * q, an exact integer;
//              y = fma(float(i), d_w * d_x, y); with min: y = fma(m_w, d_x * sum(q), y)
//   kScale256: per segment: i = sum over groups of scale * (sum of (code - zero) * q);
//              y = fma(float(i), d_w * d_x, y); with min, j = sum over groups of min * sum(q):
//              y = fma(float(j), -(dmin_w * d_x), y)
// where q = rint(x * (127 / amax)) and d_x = amax / 127 over the same 32 or 256 columns.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/linear_plan.h"
#include "kernels/cpu/panels.h"

namespace ink {

/// Up to here the weights' stream decides; beyond, multiplications hide the latency.
inline constexpr int64_t kFewRows = 32;

/// One segment of one panel, ready to multiply. Pointers go into the packed weight itself where no
/// work was needed, else into scratch.
struct UnpackedPanel {
  // A segment that will be wanted soon, to prefetch line by line while this one is read; or null.
  const std::byte* ahead = nullptr;
  // Rows that will be multiplied, set by the caller: with few, unpacking costs more than it saves,
  // and kernels may convert as they multiply.
  int64_t num_rows = 0;
  bool few_rows() const { return num_rows <= kFewRows; }
  const void* codes = nullptr;         // canonical u8, or float32 [column][16], or bfloat16 pairs
  const float* d = nullptr;            // kScale32: [block][16]; kScale256: [16]
  const float* m = nullptr;            // the same for mins; null without
  const int32_t* scales = nullptr;     // kScale256: [group][16]
  const int32_t* min_pairs = nullptr;  // kScale256 with min: [group / 2][16] words of two int16
  std::byte* scratch = nullptr;        // for kernels that unpack codes only when they are many
};

/// Scratch of one unpacked panel segment: 256 x 16 float32 and the scales.
inline constexpr size_t kUnpackBytes = 256 * 16 * 4 + 3072;

/// Panels that one call of `accumulate` handles at most.
inline constexpr int kPanelsPerStep = 3;

struct LinearKernels {
  bool use_bfloat16;  // BF16 weights multiply bfloat16 activations
  // Integer formats are multiplied one panel at a time up to this many rows, else
  // `panels_per_step`. Float formats: always 2, but `panels_per_step` where many rows of bfloat16
  // are multiplied as such.
  int64_t one_panel_rows;
  int panels_per_step;

  /// Packs rows [row, row + tile) (tile = TileRows) of columns [256 * segment, +cols) of x into all
  /// forms that `workspace` has. `x` is the row's first column in the segment.
  void (*pack_tile)(const float* x, int64_t x_stride, int tile, int cols, int64_t row,
                    int64_t segment, int64_t num_rows, const LinearWorkspace& workspace) noexcept;

  /// Prepares a segment of `cols` columns; out->ahead and
  /// out->few_rows are set by the caller. `scratch` holds
  /// kUnpackBytes, 64-byte aligned.
  void (*unpack)(const PanelFormat& format, const std::byte* segment, int cols, std::byte* scratch,
                 UnpackedPanel* out) noexcept;

  /// acc[r - row0][p][16] += the segment's products, for rows [row0, row0 + num) and 1, 2 or
  /// `panels_per_step` panels; row0 starts a tile. `num_rows` is the workspace's row count.
  void (*accumulate)(const PanelFormat& format, const UnpackedPanel* panels, int num_panels,
                     int cols, const LinearWorkspace& workspace, int64_t segment, int64_t num_rows,
                     int64_t row0, int64_t num, float* acc) noexcept;
};

/// y = x W^T + bias through `kernels`.
void RunLinear(const LinearKernels& kernels, const LinearParams& params,
               const KernelContext& context) noexcept;

}  // namespace ink
