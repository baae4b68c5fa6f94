// Constants of the kernels' own elementary functions, shared by every instruction set so that all
// compute the same bits. Constants only: no function here may be compiled with an ISA's flags.
#pragma once

namespace ink {

/// 2^f on [-0.5, 0.5] = 1 + f (c1 + f (c2 + ..)): minimax of the relative error under the condition
/// that f = 0 gives exactly 1; 1.1e-7 with these float coefficients, before rounding.
inline constexpr float kExp2C1 = 0x1.62e42ap-1f;
inline constexpr float kExp2C2 = 0x1.ebf9bcp-3f;
inline constexpr float kExp2C3 = 0x1.c6b752p-5f;
inline constexpr float kExp2C4 = 0x1.3cea8ap-7f;
inline constexpr float kExp2C5 = 0x1.5bba16p-10f;

/// Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits of the sum.
inline constexpr float kRoundMagic = 12582912.0f;
/// Powers of two below 2^-125 count as zero, so that a result is never subnormal.
inline constexpr float kExp2Lowest = -125.0f;

inline constexpr float kLog2E = 1.44269504088896341f;
/// ln(2) in two parts: the first has 15 bits, so that its product with an exponent is exact.
inline constexpr float kLn2High = 0x1.62e4p-1f;
inline constexpr float kLn2Low = 0x1.7f7d1cp-20f;
/// Arguments of the full-range exponential are clamped here: 2^-125.5 and 2^127 in float32.
inline constexpr float kExpLowest = -87.0f;
inline constexpr float kExpHighest = 88.0f;

/// tanh(x) = x + x^3 (t0 + x^2 (t1 + ..)) on [0, 0.625], relative error 4.4e-9 before rounding;
/// above, 1 - 2 / (e^(2x) + 1).
inline constexpr float kTanhPolynomialLimit = 0.625f;
inline constexpr float kTanhC0 = -0x1.555532p-2f;
inline constexpr float kTanhC1 = 0x1.110724p-3f;
inline constexpr float kTanhC2 = -0x1.b83be8p-5f;
inline constexpr float kTanhC3 = 0x1.522396p-6f;
inline constexpr float kTanhC4 = -0x1.75d3b8p-8f;

/// sqrt(2 / pi) and the cubic coefficient of the tanh form of GELU (Hendrycks and Gimpel 2016).
inline constexpr float kGeluSqrt2OverPi = 0.797884560802865f;
inline constexpr float kGeluCubic = 0.044715f;

}  // namespace ink
