// One row per format: how a row of values becomes bytes and back. These scalar decoders are the
// definition of each format; kernels and packers are tested against them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace ink {

/// `n` is a number of values and a multiple of Info(type).block_values; `blocks` holds
/// RowBytes(type, n) bytes and needs no alignment. Blocks are independent of each other.
struct QuantFormat {
  DType type;

  /// out[n] = the values of the blocks, bit for bit as ggml decodes them.
  void (*decode)(const std::byte* blocks, float* out, int64_t n) noexcept;

  /// Writes the blocks whose decoded values y make sum_i importance[i] * (x[i] - y[i])^2 small.
  /// `importance` (n values, scale free, >= 0) may be null: all values count alike. F32, F16, BF16,
  /// Q8_0 and NF4 ignore it. Deterministic on every CPU. Non-finite input gives finite, meaningless
  /// blocks (F32, F16 and BF16 keep it): callers that must report it look first. Values out of a
  /// format's range saturate.
  void (*encode)(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
};

/// All formats a weight can have: F32, F16, BF16, the GGUF block formats and NF4.
std::span<const QuantFormat> AllQuantFormats();

/// The row of `type`, or null for types that hold no weights (integers, F64).
const QuantFormat* FindQuantFormat(DType type);

}  // namespace ink
