#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "quant/blocks.h"
#include "quant/codebooks.h"
#include "quant/half.h"
#include "quant/k_scales.h"
#include "quant/quant_format.h"
#include "support/shared.h"

namespace ink {
namespace {

using testing_support::Shared;

TEST(HalfTest, AllBitPatternsRoundTrip) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint16_t half = static_cast<uint16_t>(i);
    const float value = HalfToFloat(half);
    const int exponent = (half >> 10) & 31;
    const int mantissa = half & 1023;
    if (exponent == 31 && mantissa != 0) {
      EXPECT_TRUE(std::isnan(value)) << half;
      EXPECT_EQ(FloatToHalf(value), half | 0x200) << half;
      continue;
    }
    const double magnitude = exponent == 31  ? HUGE_VAL
                             : exponent == 0 ? std::ldexp(mantissa, -24)
                                             : std::ldexp(1024 + mantissa, exponent - 25);
    ASSERT_EQ(static_cast<double>(value), half & 0x8000 ? -magnitude : magnitude) << half;
    ASSERT_EQ(std::signbit(value), (half & 0x8000) != 0) << half;
    ASSERT_EQ(FloatToHalf(value), half) << half;
  }
}

// Between each two neighbours: the midpoint goes to the even one, anything else to the nearer.
TEST(HalfTest, RoundsToNearestEven) {
  for (uint16_t half = 0; half < 0x7c00; ++half) {
    const double low = HalfToFloat(half);
    const double high = half == 0x7bff ? 65536.0 : HalfToFloat(static_cast<uint16_t>(half + 1));
    const float middle = static_cast<float>((low + high) / 2);  // exact: one more bit
    const uint16_t even = half % 2 == 0 ? half : static_cast<uint16_t>(half + 1);
    ASSERT_EQ(FloatToHalf(middle), even) << half;
    ASSERT_EQ(FloatToHalf(-middle), even | 0x8000) << half;
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 0.0f)), half) << half;
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 1e9f)), half + 1) << half;
  }
  EXPECT_EQ(FloatToHalf(1e30f), 0x7c00);
  EXPECT_EQ(FloatToHalf(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::denorm_min()), 0);
}

TEST(BfloatTest, AllBitPatternsRoundTrip) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint16_t bfloat = static_cast<uint16_t>(i);
    const float value = BfloatToFloat(bfloat);
    ASSERT_EQ(std::bit_cast<uint32_t>(value), i << 16);
    ASSERT_EQ(FloatToBfloat(value), std::isnan(value) ? bfloat | 0x40 : bfloat) << bfloat;
  }
}

TEST(BfloatTest, RoundsToNearestEven) {
  for (uint32_t bfloat = 0; bfloat < 0x7f80; ++bfloat) {
    const float middle = std::bit_cast<float>((bfloat << 16) | 0x8000u);
    const float below = std::bit_cast<float>((bfloat << 16) | 0x7fffu);
    const float above = std::bit_cast<float>((bfloat << 16) | 0x8001u);
    ASSERT_EQ(FloatToBfloat(middle), bfloat + bfloat % 2);
    ASSERT_EQ(FloatToBfloat(below), bfloat);
    ASSERT_EQ(FloatToBfloat(above), bfloat + 1);
  }
  // A NaN whose payload is only in the low half must not become infinity.
  EXPECT_EQ(FloatToBfloat(std::bit_cast<float>(0x7f800001u)), 0x7fc0);
}

TEST(QuantFormatTest, EveryWeightTypeHasARow) {
  for (const DTypeInfo& info : AllDTypes()) {
    const QuantFormat* format = FindQuantFormat(info.type);
    const bool weight = info.quantized || info.type == DType::kF32 || info.type == DType::kF16 ||
                        info.type == DType::kBF16;
    ASSERT_EQ(format != nullptr, weight) << info.name;
    if (format != nullptr) {
      EXPECT_EQ(format->type, info.type);
      EXPECT_NE(format->decode, nullptr);
      EXPECT_NE(format->encode, nullptr);
    }
  }
}

// Name of a type's golden: ggml writes the K of "q4_K" upper case.
std::string GoldenName(const DTypeInfo& info) {
  std::string name(info.name);
  if (name[0] == 'q' && name.ends_with("_k")) name.back() = 'K';
  return name;
}

TEST(DecodeTest, MatchesGoldensBitForBit) {
  INK_NEEDS_SHARED();
  int checked = 0;
  for (const QuantFormat& format : AllQuantFormats()) {
    if (format.type == DType::kF32 || format.type == DType::kNF4) continue;
    const DTypeInfo& info = Info(format.type);
    const std::string stem = Shared("goldens/quants/" + GoldenName(info));
    const Result<std::string> blocks = ReadFile(stem + ".bin");
    const Result<std::string> expected = ReadFile(stem + ".f32");
    ASSERT_TRUE(blocks.ok() && expected.ok()) << info.name;
    const int64_t n = static_cast<int64_t>(expected->size() / 4);
    ASSERT_EQ(static_cast<int64_t>(blocks->size()), RowBytes(format.type, n)) << info.name;
    // An odd address: decoders must not rely on alignment.
    std::vector<std::byte> shifted(blocks->size() + 1);
    std::memcpy(shifted.data() + 1, blocks->data(), blocks->size());
    std::vector<float> out(static_cast<size_t>(n));
    format.decode(shifted.data() + 1, out.data(), n);
    EXPECT_EQ(std::memcmp(out.data(), expected->data(), expected->size()), 0) << info.name;
    ++checked;
  }
  EXPECT_EQ(checked, 15);
}

TEST(DecodeTest, Nf4FollowsItsCodeBook) {
  BlockNF4 block{};
  block.absmax = 2.5f;
  for (int j = 0; j < 32; ++j) block.q[j] = static_cast<uint8_t>((j % 16) | ((15 - j % 16) << 4));
  std::vector<std::byte> bytes(sizeof(block));
  std::memcpy(bytes.data(), &block, sizeof(block));
  float out[64];
  FindQuantFormat(DType::kNF4)->decode(bytes.data(), out, 64);
  for (int j = 0; j < 32; ++j) {
    EXPECT_EQ(out[j], kNf4Values[j % 16] * 2.5f);
    EXPECT_EQ(out[j + 32], kNf4Values[15 - j % 16] * 2.5f);
  }
}

TEST(DecodeTest, Mxfp4ScaleIsAPowerOfTwo) {
  for (int e = 0; e < 256; ++e) {
    EXPECT_EQ(static_cast<double>(Mxfp4Scale(static_cast<uint8_t>(e))), std::ldexp(1.0, e - 128));
  }
}

TEST(ScalesTest, PackingIsABijection) {
  uint8_t scales[16];
  uint8_t mins[8];
  for (int round = 0; round < 64; ++round) {
    for (int g = 0; g < 16; ++g) scales[g] = static_cast<uint8_t>((round * 7 + g * 13) % 64);
    for (int g = 0; g < 8; ++g) mins[g] = static_cast<uint8_t>((round * 11 + g * 29) % 64);
    uint8_t packed[12];
    uint8_t scales_back[16];
    uint8_t mins_back[8];
    PackScalesMins(scales, mins, packed);
    UnpackScalesMins(packed, scales_back, mins_back);
    EXPECT_EQ(std::memcmp(scales, scales_back, 8), 0);
    EXPECT_EQ(std::memcmp(mins, mins_back, 8), 0);
    PackQ3Scales(scales, packed);
    UnpackQ3Scales(packed, scales_back);
    EXPECT_EQ(std::memcmp(scales, scales_back, 16), 0);
  }
}

}  // namespace
}  // namespace ink
