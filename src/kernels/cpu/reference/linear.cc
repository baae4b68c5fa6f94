#include "kernels/cpu/reference/linear.h"

#include <algorithm>
#include <cmath>

#include "base/thread_pool.h"
#include "quant/half.h"

namespace ink::reference {
namespace {

// `count` activations as int8 with one scale.
float Quantize(const float* x, int count, int8_t* q) {
  float amax = 0;
  for (int i = 0; i < count; ++i) amax = std::max(amax, std::fabs(x[i]));
  float inverse = amax > 0 ? 127.0f / amax : 0.0f;
  for (int i = 0; i < count; ++i) q[i] = static_cast<int8_t>(std::lrint(x[i] * inverse));
  return amax / 127.0f;
}

float FloatSegment(const PanelFormat& f, const std::byte* segment, int r, int cols, const float* x,
                   float y) {
  for (int k = 0; k < cols; ++k) {
    float w;
    if (f.type == DType::kF32) {
      w = reinterpret_cast<const float*>(segment)[k * kPanelRows + r];
    } else if (f.type == DType::kF16) {
      w = HalfToFloat(reinterpret_cast<const uint16_t*>(segment)[k * kPanelRows + r]);
    } else {
      w = BfloatToFloat(reinterpret_cast<const uint16_t*>(segment)[k / 2 * 32 + r * 2 + k % 2]);
    }
    y = std::fma(w, x[k], y);
  }
  return y;
}

float IntSegment(const PanelFormat& f, const SegmentRow& row, int cols, const float* x, float y) {
  const int zero = f.zero_shift < 0 ? 0 : 1 << f.zero_shift;
  int8_t q[kSegmentCols];
  if (f.kind == PanelKind::kScale32) {
    for (int b = 0; b < cols / 32; ++b) {
      float dx = Quantize(x + b * 32, 32, q);
      int dot = 0, sum = 0;
      for (int k = 0; k < 32; ++k) {
        dot += (row.codes[b * 32 + k] - zero) * q[k];
        sum += q[k];
      }
      y = std::fma(static_cast<float>(dot), row.d[b] * dx, y);
      if (f.has_min) y = std::fma(row.m[b], dx * static_cast<float>(sum), y);
    }
    return y;
  }
  float dx = Quantize(x, kSegmentCols, q);
  int total = 0, min_total = 0;
  const int group_cols = kSegmentCols / f.groups;
  for (int g = 0; g < f.groups; ++g) {
    int dot = 0, sum = 0;
    for (int k = g * group_cols; k < (g + 1) * group_cols; ++k) {
      dot += (row.codes[k] - zero) * q[k];
      sum += q[k];
    }
    total += row.scales[g] * dot;
    if (f.has_min) min_total += row.mins[g] * sum;
  }
  y = std::fma(static_cast<float>(total), row.d[0] * dx, y);
  if (f.has_min) y = std::fma(static_cast<float>(min_total), -(row.m[0] * dx), y);
  return y;
}

}  // namespace

void Linear(const LinearParams& params, const KernelContext& context) noexcept {
  for (int w = 0; w < params.num_weights; ++w) {
    const PackedMatrix& matrix = params.weights[w];
    const PanelFormat& f = *FindPanelFormat(matrix.type);
    context.pool->ParallelFor(matrix.rows, [&](int64_t n, int) {
      for (int64_t m = 0; m < params.num_rows; ++m) params.y[w][m * params.y_stride[w] + n] = 0;
      const std::byte* segment = matrix.data + n / kPanelRows * matrix.panel_bytes;
      const int r = static_cast<int>(n % kPanelRows);
      for (int64_t k0 = 0; k0 < params.cols; k0 += kSegmentCols) {
        int cols = static_cast<int>(std::min<int64_t>(kSegmentCols, params.cols - k0));
        SegmentRow row;
        if (f.code_bits > 0) ReadSegmentRow(f, segment, r, cols, &row);
        for (int64_t m = 0; m < params.num_rows; ++m) {
          const float* x = params.x + m * params.x_stride + k0;
          float& y = params.y[w][m * params.y_stride[w] + n];
          y = f.code_bits > 0 ? IntSegment(f, row, cols, x, y)
                              : FloatSegment(f, segment, r, cols, x, y);
        }
        segment += SegmentBytes(f, cols);
      }
      if (params.bias[w] != nullptr) {
        for (int64_t m = 0; m < params.num_rows; ++m) {
          params.y[w][m * params.y_stride[w] + n] += params.bias[w][n];
        }
      }
    });
  }
}

}  // namespace ink::reference
