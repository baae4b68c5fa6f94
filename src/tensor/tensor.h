// What activations are: float32 matrices in device memory.
#pragma once

#include <cstdint>

namespace ink {

/// A view of float32 [rows, cols] with a row stride, in device memory. Heads are folded into
/// columns: [num_tokens, num_heads * head_dim].
struct Tensor {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // floats between rows

  bool empty() const { return data == nullptr; }
  bool contiguous() const { return stride == cols; }
  int64_t size() const { return rows * cols; }
  /// Columns [first, first + count) of every row.
  Tensor Columns(int64_t first, int64_t count) const { return {data + first, rows, count, stride}; }
  /// Rows [first, first + count).
  Tensor Rows(int64_t first, int64_t count) const {
    return {data + first * stride, count, cols, stride};
  }
};

}  // namespace ink
