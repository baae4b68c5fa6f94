// Elementary functions, the definition that the vector versions follow step by step.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/math_constants.h"

namespace ink::reference {

/// 2^f for f in [-0.5, 0.5].
inline float Exp2Fraction(float f) {
  float p = std::fma(kExp2C5, f, kExp2C4);
  p = std::fma(p, f, kExp2C3);
  p = std::fma(p, f, kExp2C2);
  p = std::fma(p, f, kExp2C1);
  return std::fma(p, f, 1.0f);
}

/// p * 2^n, n in the low bits of `shifted`; the result must be a normal number.
inline float ScaleByShifted(float p, float shifted) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p) +
                              (std::bit_cast<uint32_t>(shifted) << 23));
}

/// 2^(x * scale) for x * scale <= 0, zero where x < lowest = kExp2Lowest / scale; NaN stays.
inline float Exp2Scaled(float x, float scale, float lowest) {
  if (x < lowest) return 0.0f;
  const float shifted = std::fma(x, scale, kRoundMagic);
  const float n = shifted - kRoundMagic;
  return ScaleByShifted(Exp2Fraction(std::fma(x, scale, -n)), shifted);
}

/// e^x, x clamped to [kExpLowest, kExpHighest]; NaN stays.
inline float Exp(float x) {
  if (x < kExpLowest) x = kExpLowest;
  if (x > kExpHighest) x = kExpHighest;
  const float shifted = std::fma(x, kLog2E, kRoundMagic);
  const float n = shifted - kRoundMagic;
  float r = std::fma(-n, kLn2High, x);
  r = std::fma(-n, kLn2Low, r);
  return ScaleByShifted(Exp2Fraction(r * kLog2E), shifted);
}

inline float Tanh(float x) {
  const float a = std::fabs(x);
  float result;
  if (a < kTanhPolynomialLimit) {
    const float square = a * a;
    float p = std::fma(kTanhC4, square, kTanhC3);
    p = std::fma(p, square, kTanhC2);
    p = std::fma(p, square, kTanhC1);
    p = std::fma(p, square, kTanhC0);
    result = std::fma(p * square, a, a);
  } else {
    result = 1.0f - 2.0f / (Exp(a + a) + 1.0f);
  }
  return std::copysign(result, x);
}

/// x / (1 + e^-x).
inline float Silu(float x) { return x / (1.0f + Exp(-x)); }

/// The tanh form of GELU: x (1 + tanh z) / 2 = x / (1 + e^-2z) with z = sqrt(2/pi)(x + c x^3).
inline float GeluTanh(float x) {
  const float z = kGeluSqrt2OverPi * std::fma(kGeluCubic * x * x, x, x);
  return x / (1.0f + Exp(-2.0f * z));
}

}  // namespace ink::reference
