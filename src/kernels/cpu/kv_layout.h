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

/// Decodes one head's K block: out[d * 32 + token], all 32 tokens.
void DecodeKBlock(DType type, const std::byte* block, int head_dim, float* out) noexcept;

/// Decodes tokens [first, last) of one head's V block: out[token * out_stride + d].
void DecodeVRows(DType type, const std::byte* block, int head_dim, int first, int last, float* out,
                 int64_t out_stride) noexcept;

}  // namespace ink
