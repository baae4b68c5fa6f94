// The packed 6-bit scales of Q3_K, Q4_K and Q5_K blocks.
#pragma once

#include <cstdint>

namespace ink {

/// Q4_K and Q5_K: eight 6-bit scales and mins in 12 bytes. Those of groups 0 to 3 are the low six
/// bits of bytes g and g + 4; those of groups 4 to 7 have their low nibbles in byte g + 4 (scale
/// low, min high) and their high two bits on top of bytes g - 4 and g.
constexpr void UnpackScalesMins(const uint8_t packed[12], uint8_t scales[8], uint8_t mins[8]) {
  for (int g = 0; g < 4; ++g) {
    scales[g] = packed[g] & 63;
    mins[g] = packed[g + 4] & 63;
    scales[g + 4] = static_cast<uint8_t>((packed[g + 8] & 15) | ((packed[g] >> 6) << 4));
    mins[g + 4] = static_cast<uint8_t>((packed[g + 8] >> 4) | ((packed[g + 4] >> 6) << 4));
  }
}

constexpr void PackScalesMins(const uint8_t scales[8], const uint8_t mins[8], uint8_t packed[12]) {
  for (int g = 0; g < 4; ++g) {
    packed[g] = static_cast<uint8_t>(scales[g] | ((scales[g + 4] >> 4) << 6));
    packed[g + 4] = static_cast<uint8_t>(mins[g] | ((mins[g + 4] >> 4) << 6));
    packed[g + 8] = static_cast<uint8_t>((scales[g + 4] & 15) | ((mins[g + 4] & 15) << 4));
  }
}

/// Q3_K: sixteen 6-bit scales in 12 bytes (see BlockQ3_K); `scales` are those stored, 0 to 63.
constexpr void UnpackQ3Scales(const uint8_t packed[12], uint8_t scales[16]) {
  for (int g = 0; g < 16; ++g) {
    const int low = g < 8 ? packed[g] & 15 : packed[g - 8] >> 4;
    const int high = (packed[8 + g % 4] >> (2 * (g / 4))) & 3;
    scales[g] = static_cast<uint8_t>(low | (high << 4));
  }
}

constexpr void PackQ3Scales(const uint8_t scales[16], uint8_t packed[12]) {
  for (int i = 0; i < 12; ++i) packed[i] = 0;
  for (int g = 0; g < 16; ++g) {
    packed[g % 8] = static_cast<uint8_t>(packed[g % 8] | ((scales[g] & 15) << (g < 8 ? 0 : 4)));
    packed[8 + g % 4] =
        static_cast<uint8_t>(packed[8 + g % 4] | ((scales[g] >> 4) << (2 * (g / 4))));
  }
}

}  // namespace ink
