#include "kernels/cpu/linear_plan.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/op_table.h"

namespace ink {
namespace {

// Hands out 64-byte aligned parts of the workspace.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <typename T>
  T* Take(int64_t count) {
    size_t at = used_;
    used_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

}  // namespace

int TileRows(int64_t row, int64_t num_rows) {
  int64_t left = num_rows - row;
  return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

size_t PlanLinearWorkspace(const LinearParams& params, bool use_bfloat16, LinearWorkspace* out) {
  LinearWorkspace w;
  for (int i = 0; i < params.num_weights; ++i) {
    const PanelFormat* format = FindPanelFormat(params.weights[i].type);
    INK_CHECK(format != nullptr);
    switch (format->kind) {
      case PanelKind::kFloat32:
        w.float32 = true;
        break;
      case PanelKind::kBfloat16:
        (use_bfloat16 ? w.bfloat16 : w.float32) = true;
        break;
      case PanelKind::kScale32:
        w.scale32 = true;
        break;
      case PanelKind::kScale256:
        w.scale256 = true;
        break;
    }
  }
  int64_t rows = params.num_rows;
  w.num_segments = (params.cols + kSegmentCols - 1) / kSegmentCols;
  int64_t row_segments = rows * w.num_segments;
  Carver carver(params.workspace);
  if (w.float32) {
    w.floats.segment_bytes = rows * kSegmentCols * 4;
    w.floats.data = carver.Take<std::byte>(w.num_segments * w.floats.segment_bytes);
  }
  if (w.bfloat16) {
    w.bfloats.segment_bytes = rows * kSegmentCols * 2;
    w.bfloats.data = carver.Take<std::byte>(w.num_segments * w.bfloats.segment_bytes);
  }
  if (w.scale32) {
    w.ints32.codes = carver.Take<int8_t>(row_segments * kSegmentCols);
    w.ints32.scales = carver.Take<float>(row_segments * 8);
    w.ints32.negative_sums = carver.Take<int32_t>(row_segments * 8);
    w.ints32.scaled_sums = carver.Take<float>(row_segments * 8);
  }
  if (w.scale256) {
    w.ints256.codes = carver.Take<int8_t>(row_segments * kSegmentCols);
    w.ints256.scales = carver.Take<float>(row_segments);
    w.ints256.negative_sums = carver.Take<int32_t>(row_segments * 16);
    w.ints256.sum_pairs32 = carver.Take<int32_t>(row_segments * 4);
    w.ints256.sum_pairs16 = carver.Take<int32_t>(row_segments * 8);
  }
  if (out != nullptr) *out = w;
  return carver.used();
}

size_t LinearWorkspaceBytes(const LinearParams& params) {
  // The larger of the two choices for BF16 weights, so that the size is the same for every table.
  return std::max(PlanLinearWorkspace(params, true, nullptr),
                  PlanLinearWorkspace(params, false, nullptr));
}

}  // namespace ink
