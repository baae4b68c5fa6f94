#include "kernels/cpu/kv_layout.h"

#include <cstring>

#include "base/check.h"
#include "quant/half.h"

namespace ink {
namespace {

constexpr int kTokens = kKvBlockTokens;

uint16_t Load16(const std::byte* base, int64_t index) {
  uint16_t value;
  std::memcpy(&value, base + 2 * index, sizeof value);
  return value;
}

float LoadFloat(const std::byte* base, int64_t index) {
  float value;
  std::memcpy(&value, base + 4 * index, sizeof value);
  return value;
}

int Nibble(const std::byte* base, int64_t index, int d) {
  return (static_cast<int>(base[index]) >> (4 * (d & 1))) & 15;
}

float Scale(DType type, const std::byte* block, int head_dim, int group, int token) {
  return HalfToFloat(Load16(block + KvIntegerBytes(type, head_dim), group * kTokens + token));
}

float KValue(DType type, const std::byte* block, int d, int token) {
  switch (type) {
    case DType::kF32:
      return LoadFloat(block, d * kTokens + token);
    case DType::kF16:
      return HalfToFloat(Load16(block, d * kTokens + token));
    case DType::kBF16:
      return BfloatToFloat(Load16(block, ((d / 2) * kTokens + token) * 2 + d % 2));
    case DType::kQ8_0:
      return static_cast<float>(static_cast<int8_t>(block[d * kTokens + token]));
    default:
      return static_cast<float>(Nibble(block, (d / 2) * kTokens + token, d) - 8);
  }
}

float VValue(DType type, const std::byte* block, int head_dim, int d, int token) {
  switch (type) {
    case DType::kF32:
      return LoadFloat(block, token * head_dim + d);
    case DType::kF16:
      return HalfToFloat(Load16(block, token * head_dim + d));
    case DType::kBF16:
      return BfloatToFloat(Load16(block, ((token / 2) * head_dim + d) * 2 + token % 2));
    case DType::kQ8_0:
      return static_cast<float>(static_cast<int8_t>(block[token * head_dim + d]));
    default:
      return static_cast<float>(Nibble(block, token * ((head_dim + 1) / 2) + d / 2, d) - 8);
  }
}

}  // namespace

int64_t KvHeadBytes(DType type, int head_dim) {
  const int64_t scales = int64_t{2} * KvScaleGroups(head_dim) * kTokens;
  switch (type) {
    case DType::kF32:
      return int64_t{4} * head_dim * kTokens;
    case DType::kF16:
      return int64_t{2} * head_dim * kTokens;
    case DType::kBF16:  // room for K's odd last dimension; V needs no more
      return int64_t{2} * (head_dim + head_dim % 2) * kTokens;
    case DType::kQ8_0:
    case DType::kQ4_0:
      return KvIntegerBytes(type, head_dim) + scales;
    default:
      INK_CHECK(false && "not a KV cache type");
      return 0;
  }
}

void DecodeKBlock(DType type, const std::byte* block, int head_dim, float* values,
                  float* scales) noexcept {
  for (int d = 0; d < head_dim; ++d) {
    for (int token = 0; token < kTokens; ++token) {
      values[d * kTokens + token] = KValue(type, block, d, token);
    }
  }
  if (!KvQuantized(type)) return;
  for (int g = 0; g < KvScaleGroups(head_dim); ++g) {
    for (int token = 0; token < kTokens; ++token) {
      scales[g * kTokens + token] = Scale(type, block, head_dim, g, token);
    }
  }
}

void DecodeVBlock(DType type, const std::byte* block, int head_dim, int first, int last,
                  float* values, int64_t stride, float* scales) noexcept {
  for (int token = first; token < last; ++token) {
    for (int d = 0; d < head_dim; ++d) {
      values[token * stride + d] = VValue(type, block, head_dim, d, token);
    }
    for (int g = 0; g < KvScaleGroups(head_dim) && KvQuantized(type); ++g) {
      scales[g * kTokens + token] = Scale(type, block, head_dim, g, token);
    }
  }
}

void PadVBlock(DType type, const std::byte* block, int head_dim, int first, int last,
               int padded_dim, std::byte* out) noexcept {
  if (!KvQuantized(type)) {
    std::memset(out, 0, KvHeadBytes(DType::kF32, padded_dim));
    DecodeVBlock(type, block, head_dim, first, last, reinterpret_cast<float*>(out), padded_dim,
                 nullptr);
    return;
  }
  std::memset(out, 0, KvHeadBytes(DType::kQ8_0, padded_dim));
  for (int token = first; token < last; ++token) {
    for (int d = 0; d < head_dim; ++d) {
      const int value = static_cast<int>(VValue(type, block, head_dim, d, token));
      out[token * padded_dim + d] = static_cast<std::byte>(value);
    }
  }
  // The same scales, behind more integers.
  std::memcpy(out + KvIntegerBytes(DType::kQ8_0, padded_dim),
              block + KvIntegerBytes(type, head_dim), 2 * KvScaleGroups(head_dim) * kTokens);
}

}  // namespace ink
