// Value transforms shared by conversion and the Hugging Face weight source. Private to
// src/model/hf_*.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "model/hf_tensors.h"
#include "quant/quant_format.h"
#include "tensor/dtype.h"

namespace ink {

/// Bytes handled at a time: enough to make calls cheap, little against any budget.
inline constexpr int64_t kConvertChunkBytes = int64_t{8} << 20;

/// out[n] = the values of `bytes` (any weight type, or f64 rounded to f32). n is a multiple of the
/// block.
inline void DecodeValues(DType type, const std::byte* bytes, float* out, int64_t n) {
  if (type == DType::kF64) {
    for (int64_t i = 0; i < n; ++i) {
      double value;
      std::memcpy(&value, bytes + i * 8, 8);
      out[i] = static_cast<float>(value);
    }
    return;
  }
  FindQuantFormat(type)->decode(bytes, out, n);
}

/// The same for values that are stored minus one; the sum is exact wherever the original was.
inline void DecodePlusOne(DType type, const std::byte* bytes, float* out, int64_t n) {
  for (int64_t i = 0; i < n && type == DType::kF64; ++i) {
    double value;
    std::memcpy(&value, bytes + i * 8, 8);
    out[i] = static_cast<float>(value + 1.0);
  }
  if (type == DType::kF64) return;
  DecodeValues(type, bytes, out, n);
  for (int64_t i = 0; i < n; ++i) out[i] += 1.0f;
}

/// The rows of one head between Hugging Face's order and GGUF's interleaved one (hf_tensors.h).
inline void PermuteHead(const std::byte* in, std::byte* out, int64_t head_rows, size_t row_bytes,
                        bool to_gguf) {
  for (int64_t hf = 0; hf < head_rows; ++hf) {
    const size_t a = static_cast<size_t>(hf) * row_bytes;
    const size_t b = static_cast<size_t>(GgufRowOfHf(hf, head_rows)) * row_bytes;
    if (to_gguf) {
      std::memcpy(out + b, in + a, row_bytes);
    } else {
      std::memcpy(out + a, in + b, row_bytes);
    }
  }
}

/// Rows of `in_type` become rows of `out_type`, `values` each, in `out` (resized). The types are
/// equal, or `out_type` is f32, f16 or bf16.
inline void ConvertRows(DType in_type, const std::byte* in, DType out_type, int64_t values,
                        int64_t rows, std::vector<std::byte>* out) {
  out->resize(static_cast<size_t>(RowBytes(out_type, values) * rows));
  if (in_type == out_type) {
    std::memcpy(out->data(), in, out->size());
    return;
  }
  std::vector<float> row(static_cast<size_t>(values));
  for (int64_t r = 0; r < rows; ++r) {
    DecodeValues(in_type, in + r * RowBytes(in_type, values), row.data(), values);
    FindQuantFormat(out_type)->encode(row.data(), nullptr,
                                      out->data() + r * RowBytes(out_type, values), values);
  }
}

/// Rows handled at a time, at least one.
inline int64_t ConvertChunkRows(DType type, int64_t values) {
  return std::max<int64_t>(1, kConvertChunkBytes / RowBytes(type, values));
}

}  // namespace ink
