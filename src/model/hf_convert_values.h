// Value transforms shared by the two directions of conversion. Private to src/model/hf_*.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "quant/quant_format.h"
#include "tensor/dtype.h"

namespace ink {

/// Bytes handled at a time: enough to make calls cheap, little against any budget.
inline constexpr int64_t kConvertChunkBytes = int64_t{8} << 20;

/// Values per chunk of whole blocks.
inline int64_t ConvertChunkValues(DType type) {
  const DTypeInfo& info = Info(type);
  return kConvertChunkBytes / info.block_bytes * info.block_values;
}

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

}  // namespace ink
