// Decoders. The order of the float operations is part of each format (a product of three factors
// may round twice), so none of it may be rearranged; -ffp-contract=off keeps fused operations out.
#include <cstring>

#include "quant/blocks.h"
#include "quant/codebooks.h"
#include "quant/codecs.h"
#include "quant/half.h"
#include "quant/k_scales.h"

namespace ink::codec {
namespace {

/// Calls fn(block, out) for each block; the copy allows for unaligned input.
template <typename Block, int kValues, typename Fn>
void ForEachBlock(const std::byte* blocks, float* out, int64_t n, Fn&& fn) {
  for (int64_t i = 0; i < n / kValues; ++i) {
    Block block;
    std::memcpy(&block, blocks + i * static_cast<int64_t>(sizeof(Block)), sizeof(Block));
    fn(block, out + i * kValues);
  }
}

uint32_t LoadWord(const uint8_t bytes[4]) {
  return static_cast<uint32_t>(bytes[0]) | static_cast<uint32_t>(bytes[1]) << 8 |
         static_cast<uint32_t>(bytes[2]) << 16 | static_cast<uint32_t>(bytes[3]) << 24;
}

}  // namespace

void DecodeF32(const std::byte* blocks, float* out, int64_t n) noexcept {
  if (n > 0) std::memcpy(out, blocks, static_cast<size_t>(n) * sizeof(float));
}

void DecodeF16(const std::byte* blocks, float* out, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t half;
    std::memcpy(&half, blocks + 2 * i, 2);
    out[i] = HalfToFloat(half);
  }
}

void DecodeBF16(const std::byte* blocks, float* out, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bfloat;
    std::memcpy(&bfloat, blocks + 2 * i, 2);
    out[i] = BfloatToFloat(bfloat);
  }
}

void DecodeQ8_0(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockQ8_0, 32>(blocks, out, n, [](const BlockQ8_0& b, float* y) {
    const float d = HalfToFloat(b.d);
    for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(b.q[j]) * d;
  });
}

void DecodeQ4_0(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockQ4_0, 32>(blocks, out, n, [](const BlockQ4_0& b, float* y) {
    const float d = HalfToFloat(b.d);
    for (int j = 0; j < 16; ++j) {
      y[j] = static_cast<float>((b.q[j] & 15) - 8) * d;
      y[j + 16] = static_cast<float>((b.q[j] >> 4) - 8) * d;
    }
  });
}

void DecodeQ4_1(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockQ4_1, 32>(blocks, out, n, [](const BlockQ4_1& b, float* y) {
    const float d = HalfToFloat(b.d);
    const float m = HalfToFloat(b.m);
    for (int j = 0; j < 16; ++j) {
      y[j] = static_cast<float>(b.q[j] & 15) * d + m;
      y[j + 16] = static_cast<float>(b.q[j] >> 4) * d + m;
    }
  });
}

void DecodeQ5_0(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockQ5_0, 32>(blocks, out, n, [](const BlockQ5_0& b, float* y) {
    const float d = HalfToFloat(b.d);
    const uint32_t high = LoadWord(b.high);
    for (int j = 0; j < 16; ++j) {
      const int low_bit = static_cast<int>((high >> j) & 1u);
      const int high_bit = static_cast<int>((high >> (j + 16)) & 1u);
      y[j] = static_cast<float>(((b.q[j] & 15) | (low_bit << 4)) - 16) * d;
      y[j + 16] = static_cast<float>(((b.q[j] >> 4) | (high_bit << 4)) - 16) * d;
    }
  });
}

void DecodeQ5_1(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockQ5_1, 32>(blocks, out, n, [](const BlockQ5_1& b, float* y) {
    const float d = HalfToFloat(b.d);
    const float m = HalfToFloat(b.m);
    const uint32_t high = LoadWord(b.high);
    for (int j = 0; j < 16; ++j) {
      const int low_bit = static_cast<int>((high >> j) & 1u);
      const int high_bit = static_cast<int>((high >> (j + 16)) & 1u);
      y[j] = static_cast<float>((b.q[j] & 15) | (low_bit << 4)) * d + m;
      y[j + 16] = static_cast<float>((b.q[j] >> 4) | (high_bit << 4)) * d + m;
    }
  });
}

void DecodeQ2_K(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockQ2_K, 256>(blocks, out, n, [](const BlockQ2_K& b, float* y) {
    const float d = HalfToFloat(b.d);
    const float dmin = HalfToFloat(b.dmin);
    for (int g = 0; g < 16; ++g) {
      const float scale = d * static_cast<float>(b.scales[g] & 15);
      const float min = dmin * static_cast<float>(b.scales[g] >> 4);
      const uint8_t* q = b.q + 32 * (g / 8) + 16 * (g % 2);
      const int shift = 2 * (g % 8 / 2);
      for (int l = 0; l < 16; ++l) {
        y[16 * g + l] = scale * static_cast<float>((q[l] >> shift) & 3) - min;
      }
    }
  });
}

void DecodeQ3_K(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockQ3_K, 256>(blocks, out, n, [](const BlockQ3_K& b, float* y) {
    const float d = HalfToFloat(b.d);
    uint8_t scales[16];
    UnpackQ3Scales(b.scales, scales);
    for (int g = 0; g < 16; ++g) {
      const float scale = d * static_cast<float>(scales[g] - 32);
      const uint8_t* q = b.q + 32 * (g / 8) + 16 * (g % 2);
      const uint8_t* high = b.high + 16 * (g % 2);
      const int shift = 2 * (g % 8 / 2);
      for (int l = 0; l < 16; ++l) {
        const int code = ((q[l] >> shift) & 3) | (((high[l] >> (g / 2)) & 1) << 2);
        y[16 * g + l] = scale * static_cast<float>(code - 4);
      }
    }
  });
}

void DecodeQ4_K(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockQ4_K, 256>(blocks, out, n, [](const BlockQ4_K& b, float* y) {
    const float d = HalfToFloat(b.d);
    const float dmin = HalfToFloat(b.dmin);
    uint8_t scales[8];
    uint8_t mins[8];
    UnpackScalesMins(b.scales, scales, mins);
    for (int g = 0; g < 8; ++g) {
      const float scale = d * static_cast<float>(scales[g]);
      const float min = dmin * static_cast<float>(mins[g]);
      const uint8_t* q = b.q + 32 * (g / 2);
      const int shift = 4 * (g % 2);
      for (int l = 0; l < 32; ++l) {
        y[32 * g + l] = scale * static_cast<float>((q[l] >> shift) & 15) - min;
      }
    }
  });
}

void DecodeQ5_K(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockQ5_K, 256>(blocks, out, n, [](const BlockQ5_K& b, float* y) {
    const float d = HalfToFloat(b.d);
    const float dmin = HalfToFloat(b.dmin);
    uint8_t scales[8];
    uint8_t mins[8];
    UnpackScalesMins(b.scales, scales, mins);
    for (int g = 0; g < 8; ++g) {
      const float scale = d * static_cast<float>(scales[g]);
      const float min = dmin * static_cast<float>(mins[g]);
      const uint8_t* q = b.q + 32 * (g / 2);
      const int shift = 4 * (g % 2);
      for (int l = 0; l < 32; ++l) {
        const int code = ((q[l] >> shift) & 15) | (((b.high[l] >> g) & 1) << 4);
        y[32 * g + l] = scale * static_cast<float>(code) - min;
      }
    }
  });
}

void DecodeQ6_K(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockQ6_K, 256>(blocks, out, n, [](const BlockQ6_K& b, float* y) {
    const float d = HalfToFloat(b.d);
    for (int g = 0; g < 16; ++g) {
      const float scale = d * static_cast<float>(b.scales[g]);
      const int segment = g % 8 / 2;  // 32 values each, four in a half block
      const uint8_t* low = b.low + 64 * (g / 8) + 32 * (segment % 2) + 16 * (g % 2);
      const uint8_t* high = b.high + 32 * (g / 8) + 16 * (g % 2);
      const int low_shift = 4 * (segment / 2);
      const int high_shift = 2 * segment;
      for (int l = 0; l < 16; ++l) {
        const int code = ((low[l] >> low_shift) & 15) | (((high[l] >> high_shift) & 3) << 4);
        y[16 * g + l] = scale * static_cast<float>(code - 32);
      }
    }
  });
}

void DecodeIQ4_NL(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockIQ4_NL, 32>(blocks, out, n, [](const BlockIQ4_NL& b, float* y) {
    const float d = HalfToFloat(b.d);
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>(kIq4Values[b.q[j] & 15]);
      y[j + 16] = d * static_cast<float>(kIq4Values[b.q[j] >> 4]);
    }
  });
}

void DecodeIQ4_XS(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockIQ4_XS, 256>(blocks, out, n, [](const BlockIQ4_XS& b, float* y) {
    const float d = HalfToFloat(b.d);
    for (int g = 0; g < 8; ++g) {
      const int low = (b.scales_low[g / 2] >> (4 * (g % 2))) & 15;
      const int high = (b.scales_high >> (2 * g)) & 3;
      const float scale = d * static_cast<float>((low | (high << 4)) - 32);
      const uint8_t* q = b.q + 16 * g;
      for (int j = 0; j < 16; ++j) {
        y[32 * g + j] = scale * static_cast<float>(kIq4Values[q[j] & 15]);
        y[32 * g + j + 16] = scale * static_cast<float>(kIq4Values[q[j] >> 4]);
      }
    }
  });
}

void DecodeMXFP4(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockMXFP4, 32>(blocks, out, n, [](const BlockMXFP4& b, float* y) {
    const float d = Mxfp4Scale(b.e);
    for (int j = 0; j < 16; ++j) {
      y[j] = static_cast<float>(kFp4Values[b.q[j] & 15]) * d;
      y[j + 16] = static_cast<float>(kFp4Values[b.q[j] >> 4]) * d;
    }
  });
}

void DecodeNF4(const std::byte* blocks, float* out, int64_t n) noexcept {
  ForEachBlock<BlockNF4, 64>(blocks, out, n, [](const BlockNF4& b, float* y) {
    for (int j = 0; j < 32; ++j) {
      y[j] = kNf4Values[b.q[j] & 15] * b.absmax;
      y[j + 32] = kNf4Values[b.q[j] >> 4] * b.absmax;
    }
  });
}

}  // namespace ink::codec
