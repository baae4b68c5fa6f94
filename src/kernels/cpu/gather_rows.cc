#include "kernels/cpu/gather_rows.h"

#include <algorithm>

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

}  // namespace ink::cpu
