// Encoders without a search: the float types, Q8_0 and NF4.
#include <bit>
#include <cmath>
#include <cstring>

#include "quant/blocks.h"
#include "quant/codebooks.h"
#include "quant/codecs.h"
#include "quant/half.h"
#include "quant/search.h"

namespace ink::codec {
namespace {

/// Copies kCount values with non-finite ones as 0 and returns the largest magnitude.
template <int kCount>
float LoadFinite(const float* x, float* out) {
  // Magnitudes of non-negative floats order as their bits do, and integer maxima vectorise.
  uint32_t peak = 0;
  for (int j = 0; j < kCount; ++j) {
    const uint32_t bits = std::bit_cast<uint32_t>(x[j]);
    const uint32_t kept = (bits & 0x7f800000u) == 0x7f800000u ? 0u : bits;
    const uint32_t magnitude = kept & 0x7fffffffu;
    out[j] = std::bit_cast<float>(kept);
    peak = magnitude > peak ? magnitude : peak;
  }
  return std::bit_cast<float>(peak);
}

void QuantizeQ8_0(const float* x, std::byte* blocks, int64_t num_blocks) {
  for (int64_t i = 0; i < num_blocks; ++i) {
    float values[32];
    const float peak = LoadFinite<32>(x + 32 * i, values);
    BlockQ8_0 block{};
    if (peak >= kHalfMin / 2) {
      const ScaledHalf d = RoundToHalf(peak / 127.0f, 0);
      block.d = d.bits;
      const IntegerGrid grid{-127.0f, 127.0f};
      const Float4 inverse = Broadcast(1.0f / d.value);
      for (int j = 0; j < 32; j += 4) {
        const Float4 q = grid.Nearest(Load4(values + j) * inverse);
        for (int i = 0; i < 4; ++i) block.q[j + i] = static_cast<int8_t>(static_cast<int>(q[i]));
      }
    }
    std::memcpy(blocks + i * static_cast<int64_t>(sizeof(block)), &block, sizeof(block));
  }
}

void QuantizeNF4(const float* x, std::byte* blocks, int64_t num_blocks) {
  for (int64_t i = 0; i < num_blocks; ++i) {
    float values[64];
    int codes[64];
    BlockNF4 block;
    block.absmax = LoadFinite<64>(x + 64 * i, values);
    const float divisor = block.absmax > 0.0f ? block.absmax : 1.0f;
    for (int j = 0; j < 64; ++j) {
      const float ratio = values[j] / divisor;
      int code = 0;
      for (int k = 0; k < 15; ++k) {
        code += ratio > (kNf4Values[k] + kNf4Values[k + 1]) * 0.5f ? 1 : 0;
      }
      codes[j] = code;
    }
    for (int j = 0; j < 32; ++j) {
      block.q[j] = static_cast<uint8_t>(codes[j] | (codes[j + 32] << 4));
    }
    std::memcpy(blocks + i * static_cast<int64_t>(sizeof(block)), &block, sizeof(block));
  }
}

void ConvertF16(const float* x, std::byte* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t half = FloatToHalf(x[i]);
    std::memcpy(out + 2 * i, &half, 2);
  }
}

void ConvertBF16(const float* x, std::byte* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t bfloat = FloatToBfloat(x[i]);
    std::memcpy(out + 2 * i, &bfloat, 2);
  }
}

}  // namespace

void EncodeF32(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  if (n > 0) std::memcpy(blocks, x, static_cast<size_t>(n) * sizeof(float));
}

void EncodeF16(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  ConvertF16(x, blocks, n);
}

void EncodeBF16(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  ConvertBF16(x, blocks, n);
}

void EncodeQ8_0(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  QuantizeQ8_0(x, blocks, n / 32);
}

void EncodeNF4(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  QuantizeNF4(x, blocks, n / 64);
}

}  // namespace ink::codec
