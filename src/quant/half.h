// IEEE binary16 and bfloat16 to and from float32: scalar, exact, round to nearest even.
//
// Inf stays Inf and NaN stays NaN with its leading payload bits and the quiet bit set, which is
// what the x86 instructions (vcvtph2ps, vcvtps2ph) do, so that vector code agrees bit for bit.
// No result depends on the flush-to-zero or denormals-are-zero modes of the float unit, except
// that a bfloat16 subnormal is a float32 subnormal.
#pragma once

#include <bit>
#include <cstdint>

namespace ink {

/// Largest finite binary16 value.
inline constexpr float kHalfMax = 65504.0f;
/// Smallest positive binary16 value (a subnormal), 2^-24.
inline constexpr float kHalfMin = 5.9604644775390625e-8f;

constexpr float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fffu) << 13;
  // Normal numbers only need the exponent's bias changed from 15 to 127.
  const uint32_t normal = magnitude + (112u << 23);
  // A subnormal m * 2^-24 is (2^-14 + m * 2^-24) - 2^-14, and both operands are normal floats.
  const float subnormal = std::bit_cast<float>(magnitude + (113u << 23)) - 0x1p-14f;
  // Inf and NaN: the exponent becomes 255.
  const uint32_t special = (magnitude + (224u << 23)) | (magnitude > (31u << 23) ? 0x400000u : 0u);
  const uint32_t bits = magnitude >= (31u << 23) ? special
                        : magnitude < (1u << 23) ? std::bit_cast<uint32_t>(subnormal)
                                                 : normal;
  return std::bit_cast<float>(bits | sign);
}

constexpr uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  // Below 2^-14: adding 0.5, whose last place is 2^-24, rounds to the subnormal grid.
  const float shifted = std::bit_cast<float>(magnitude < (113u << 23) ? magnitude : 0u) + 0.5f;
  const uint32_t subnormal = std::bit_cast<uint32_t>(shifted) - (126u << 23);
  // Otherwise: rebias and round half to even; a carry out of the mantissa is the next exponent,
  // and out of the largest exponent is infinity, as it should be.
  const uint32_t odd = (magnitude >> 13) & 1u;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + odd) >> 13;
  const uint32_t special =
      magnitude > 0x7f800000u ? (0x7e00u | ((magnitude >> 13) & 0x3ffu)) : 0x7c00u;
  const uint32_t result = magnitude >= (143u << 23)  ? special
                          : magnitude < (113u << 23) ? subnormal
                                                     : normal;
  return static_cast<uint16_t>(result | sign);
}

constexpr float BfloatToFloat(uint16_t bfloat) {
  return std::bit_cast<float>(static_cast<uint32_t>(bfloat) << 16);
}

constexpr uint16_t FloatToBfloat(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

}  // namespace ink
