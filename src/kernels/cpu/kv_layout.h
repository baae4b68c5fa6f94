// Where the values of a cache block lie (KvLayerView). Plain code: not for the ISA folders.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/op_params.h"
#include "tensor/dtype.h"

namespace ink {

/// f16 scales follow the integers of a quantized block.
constexpr int64_t KvIntegerBytes(DType type, int head_dim) {
  const int64_t per_token = type == DType::kQ4_0 ? (head_dim + 1) / 2 : head_dim;
  return per_token * kKvBlockTokens;
}

/// Groups of 32 dimensions that share a scale.
constexpr int KvScaleGroups(int head_dim) { return (head_dim + 31) / 32; }

constexpr bool KvQuantized(DType type) { return type == DType::kQ8_0 || type == DType::kQ4_0; }

/// One head's K block: values[d * 32 + token], all 32 tokens, and, of quantized types, whose values
/// are the integers, scales[(d / 32) * 32 + token].
void DecodeKBlock(DType type, const std::byte* block, int head_dim, float* values,
                  float* scales) noexcept;

/// Tokens [first, last) of one head's V block: values[token * stride + d] and scales as above.
void DecodeVBlock(DType type, const std::byte* block, int head_dim, int first, int last,
                  float* values, int64_t stride, float* scales) noexcept;

/// The same tokens as a block of `padded_dim` dimensions, those added zero: f32 of a plain type,
/// q8_0 of a quantized one. `out` holds KvHeadBytes of that type.
void PadVBlock(DType type, const std::byte* block, int head_dim, int first, int last,
               int padded_dim, std::byte* out) noexcept;

}  // namespace ink
