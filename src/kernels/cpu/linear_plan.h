// What every CPU Linear shares: how activations are packed into the workspace, and how panels are
// handed out to threads.
//
// A packed activation is cut like the weights into segments of 256 columns; within a segment, rows
// are grouped into tiles of 8, 4, 2 or 1 (num_rows = 21 gives tiles 8, 8, 4, 1), and a tile holds
// [group of 4 columns][row in tile][4] bytes, so that consecutive broadcasts read consecutive
// bytes. Scales and sums follow the same tile order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/panels.h"
#include "kernels/op_params.h"

namespace ink {

/// Activations as float32 or bfloat16: [tile][column][row in tile] (bfloat16: columns in pairs).
/// `cols` is padded to even for bfloat16.
struct PackedFloats {
  std::byte* data = nullptr;  // segment s at s * segment_bytes
  int64_t segment_bytes = 0;  // num_rows * 256 * element size
};

/// Activations as int8 with one scale per 32 or per 256 columns.
struct PackedInts {
  int8_t* codes = nullptr;  // segment s at s * num_rows * 256
  // kScale32: [segment][tile][block 0..7][row]; kScale256: [segment][tile][row].
  float* scales = nullptr;
  // kScale32: minus the block's code sum, [segment][tile][block][row].
  // kScale256: minus the sums per 16 columns, [segment][tile][group 0..15][row].
  int32_t* negative_sums = nullptr;
  // kScale32: scale * code sum as float, [segment][tile][block][row].
  float* scaled_sums = nullptr;
  // kScale256: sums per 32 columns (and per 16) as int16 pairs of neighbours, for vpdpwssd:
  // [segment][tile][pair 0..3 (0..7)][row] words.
  int32_t* sum_pairs32 = nullptr;
  int32_t* sum_pairs16 = nullptr;
};

/// The workspace of one Linear: only the forms that its weights need.
struct LinearWorkspace {
  bool float32 = false, bfloat16 = false, scale32 = false, scale256 = false;
  PackedFloats floats;
  PackedFloats bfloats;
  PackedInts ints32;
  PackedInts ints256;
  int64_t num_segments = 0;
};

/// Lays the workspace out over params.workspace (null gives sizes only); returns bytes used.
/// `use_bfloat16` says whether BF16 weights take bfloat16 activations.
size_t PlanLinearWorkspace(const LinearParams& params, bool use_bfloat16, LinearWorkspace* out);

/// Largest tile at row `row` of `num_rows`.
int TileRows(int64_t row, int64_t num_rows);

}  // namespace ink
