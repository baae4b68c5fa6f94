// The blocks of the quantized formats, byte for byte as GGUF files store them (NF4 excepted, which
// exists in memory only). "half" members hold the bits of a binary16 value (half.h).
//
// Values are named by their index in the block. Low nibble before high nibble: byte j of a 32-value
// block holds value j in its low and value j + 16 in its high half.
#pragma once

#include <cstdint>

namespace ink {

inline constexpr int kBlock32 = 32;      // values of a plain block
inline constexpr int kSuperBlock = 256;  // values of a K-quant or IQ4_XS block

/// x = d * q, q in [-127, 127].
struct BlockQ8_0 {
  uint16_t d;  // half
  int8_t q[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

/// x = d * (q - 8), q in [0, 15].
struct BlockQ4_0 {
  uint16_t d;  // half
  uint8_t q[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

/// x = d * q + m, q in [0, 15].
struct BlockQ4_1 {
  uint16_t d;  // half
  uint16_t m;  // half
  uint8_t q[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

/// x = d * (q - 16), q in [0, 31]: nibbles as in Q4_0, bit j of the little-endian word `high` is
/// bit 4 of value j.
struct BlockQ5_0 {
  uint16_t d;  // half
  uint8_t high[4];
  uint8_t q[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

/// x = d * q + m, q in [0, 31], bits as in Q5_0.
struct BlockQ5_1 {
  uint16_t d;  // half
  uint16_t m;  // half
  uint8_t high[4];
  uint8_t q[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

/// 16 groups of 16 values: x = (d * scale) * q - (dmin * min), q in [0, 3]. Byte g of `scales` is
/// the scale (low nibble) and the min (high nibble) of group g. Value 128 h + 32 s + l is at bits
/// 2 s of q[32 h + l].
struct BlockQ2_K {
  uint8_t scales[16];
  uint8_t q[64];
  uint16_t d;     // half
  uint16_t dmin;  // half
};
static_assert(sizeof(BlockQ2_K) == 84);

/// 16 groups of 16 values: x = (d * (scale - 32)) * (q - 4), q in [0, 7]. Two low bits in `q` as in
/// Q2_K; bit 2 of value 32 s + l is bit s of high[l]. Six-bit scales: the low nibble of scale g is
/// the low (g < 8) or high nibble of scales[g % 8], its two high bits are bits 2 (g / 4) of
/// scales[8 + g % 4].
struct BlockQ3_K {
  uint8_t high[32];
  uint8_t q[64];
  uint8_t scales[12];
  uint16_t d;  // half
};
static_assert(sizeof(BlockQ3_K) == 110);

/// 8 groups of 32 values: x = (d * scale) * q - (dmin * min), q in [0, 15]. Value 64 h + l is the
/// low, value 64 h + 32 + l the high nibble of q[32 h + l]. The eight 6-bit scales and mins are
/// packed as k_scales.h says.
struct BlockQ4_K {
  uint16_t d;     // half
  uint16_t dmin;  // half
  uint8_t scales[12];
  uint8_t q[128];
};
static_assert(sizeof(BlockQ4_K) == 144);

/// As Q4_K with q in [0, 31]: bit 4 of value 32 g + l is bit g of high[l].
struct BlockQ5_K {
  uint16_t d;     // half
  uint16_t dmin;  // half
  uint8_t scales[12];
  uint8_t high[32];
  uint8_t q[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

/// 16 groups of 16 values: x = (d * scale) * (q - 32), q in [0, 63]. With value 128 h + 32 s + l:
/// the low four bits are the low (s < 2) or high nibble of low[64 h + 32 (s % 2) + l], the two high
/// bits are bits 2 s of high[32 h + l].
struct BlockQ6_K {
  uint8_t low[128];
  uint8_t high[64];
  int8_t scales[16];
  uint16_t d;  // half
};
static_assert(sizeof(BlockQ6_K) == 210);

/// x = d * kIq4Values[q], q in [0, 15].
struct BlockIQ4_NL {
  uint16_t d;  // half
  uint8_t q[16];
};
static_assert(sizeof(BlockIQ4_NL) == 18);

/// 8 groups of 32 values: x = (d * (scale - 32)) * kIq4Values[q]. The low nibble of scale g is
/// nibble g % 2 of scales_low[g / 2], its two high bits are bits 2 g of scales_high. Group g's
/// nibbles are q[16 g .. 16 g + 15], as in IQ4_NL.
struct BlockIQ4_XS {
  uint16_t d;  // half
  uint16_t scales_high;
  uint8_t scales_low[4];
  uint8_t q[128];
};
static_assert(sizeof(BlockIQ4_XS) == 136);

/// OCP microscaling FP4 (E2M1) with one E8M0 exponent: x = 2^(e - 128) * kFp4Values[q].
struct BlockMXFP4 {
  uint8_t e;
  uint8_t q[16];
};
static_assert(sizeof(BlockMXFP4) == 17);

/// x = absmax * kNf4Values[q]; value j is the low, value j + 32 the high nibble of q[j].
struct BlockNF4 {
  float absmax;
  uint8_t q[32];
};
static_assert(sizeof(BlockNF4) == 36);

}  // namespace ink
