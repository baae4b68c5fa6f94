// Code books of the formats whose 4-bit codes are not evenly spaced.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace ink {

/// IQ4_NL and IQ4_XS (the constants of ggml's format).
inline constexpr std::array<int8_t, 16> kIq4Values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};

/// MXFP4: twice the E2M1 values 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives (OCP Microscaling
/// Formats v1.0, table 5), so that they are integers.
inline constexpr std::array<int8_t, 16> kFp4Values = {0, 1,  2,  3,  4,  6,  8,  12,
                                                      0, -1, -2, -3, -4, -6, -8, -12};

/// NF4: quantiles of the standard normal, normalised to [-1, 1], with an exact zero (Dettmers et
/// al., "QLoRA: efficient finetuning of quantized LLMs", 2023, appendix E).
inline constexpr std::array<float, 16> kNf4Values = {-1.0f,
                                                     -0.6961928009986877f,
                                                     -0.5250730514526367f,
                                                     -0.39491748809814453f,
                                                     -0.28444138169288635f,
                                                     -0.18477343022823334f,
                                                     -0.09105003625154495f,
                                                     0.0f,
                                                     0.07958029955625534f,
                                                     0.16093020141124725f,
                                                     0.24611230194568634f,
                                                     0.33791524171829224f,
                                                     0.44070982933044434f,
                                                     0.5626170039176941f,
                                                     0.7229568362236023f,
                                                     1.0f};

/// 2^(exponent - 128), the factor of kFp4Values. 255, NaN in the microscaling specification, is
/// 2^127 here as in ggml; an encoder never writes it.
constexpr float Mxfp4Scale(uint8_t exponent) {
  // Exponents 0 and 1 are the float32 subnormals 2^-128 and 2^-127.
  const uint32_t bits =
      exponent < 2 ? 0x00200000u << exponent : static_cast<uint32_t>(exponent - 1) << 23;
  return std::bit_cast<float>(bits);
}

}  // namespace ink
