#include "kernels/cpu/gather_rows.h"

#include <algorithm>
#include <cstring>

#include "base/thread_pool.h"
#include "kernels/cpu/panels.h"
#include "quant/quant_format.h"

namespace ink::cpu {

void GatherRows(const GatherRowsParams& params, const KernelContext& context) noexcept {
  const PackedMatrix& matrix = params.matrix;
  const PanelFormat& format = *FindPanelFormat(matrix.type);
  const QuantFormat& codec = *FindQuantFormat(matrix.type);
  context.pool->ParallelFor(params.num_ids, [&](int64_t i, int thread) {
    std::byte* row = context.ThreadScratch(thread);
    float* out = params.out + i * matrix.cols;
    const int64_t id = params.ids[i];
    const std::byte* panel = matrix.data + id / kPanelRows * matrix.panel_bytes;
    // A segment at a time, so that scratch bounds nothing.
    for (int64_t k0 = 0; k0 < matrix.cols; k0 += kSegmentCols) {
      int64_t cols = std::min<int64_t>(kSegmentCols, matrix.cols - k0);
      UnpackRow(format, panel, static_cast<int>(id % kPanelRows), cols, row);
      codec.decode(row, out + k0, cols);
      panel += SegmentBytes(format, cols);
    }
    if (params.scale != 1.0f) {
      for (int64_t k = 0; k < matrix.cols; ++k) out[k] *= params.scale;
    }
  });
}

void TakeRows(const TakeRowsParams& p, const KernelContext&) noexcept {
  for (int64_t i = 0; i < p.num_rows; ++i) {
    std::memcpy(p.out + i * p.dim, p.x + p.rows[i] * p.x_stride, p.dim * sizeof(float));
  }
}

void ReplaceRows(const ReplaceRowsParams& p, const KernelContext&) noexcept {
  for (int64_t t = 0; t < p.num_tokens; ++t) {
    if (p.index[t] < 0) continue;
    std::memcpy(p.out + t * p.dim, p.embeds + p.index[t] * p.dim, p.dim * sizeof(float));
  }
}

}  // namespace ink::cpu
