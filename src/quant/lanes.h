// Four floats at a time, in the baseline instruction set of every machine. Internal to src/quant.
//
// An encoder must give the same bytes on every CPU, so it is written in plain four-wide arithmetic
// and never in whatever width is at hand.
#pragma once

#include <cstring>

#define INK_QUANT_INLINE inline __attribute__((always_inline))

namespace ink::codec {

using Float4 = float __attribute__((vector_size(16)));
using Int4 = int __attribute__((vector_size(16)));

INK_QUANT_INLINE Float4 Broadcast(float a) { return Float4{a, a, a, a}; }

INK_QUANT_INLINE Float4 Load4(const float* p) {
  Float4 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

INK_QUANT_INLINE void Store4(float* p, Float4 v) { std::memcpy(p, &v, sizeof(v)); }

/// if_true where mask is all ones, if_false where it is 0.
INK_QUANT_INLINE Float4 Select(Int4 mask, Float4 if_true, Float4 if_false) {
  return (Float4)((mask & (Int4)if_true) | (~mask & (Int4)if_false));
}

INK_QUANT_INLINE Float4 Abs4(Float4 a) {
  return (Float4)((Int4)a & Int4{0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff});
}

/// 1 / a, and 0 where a is 0.
INK_QUANT_INLINE Float4 InverseOrZero(Float4 a) {
  const Int4 is_zero = a == Broadcast(0.0f);
  const Float4 inverse = Broadcast(1.0f) / Select(is_zero, Broadcast(1.0f), a);
  return Select(is_zero, Broadcast(0.0f), inverse);
}

/// Rounds |y| < 2^22 to the nearest integer, ties to even.
INK_QUANT_INLINE Float4 RoundEven(Float4 y) {
  const Float4 magic = Broadcast(12582912.0f);  // 1.5 * 2^23: its last place is 1
  return (y + magic) - magic;
}
INK_QUANT_INLINE float RoundEven(float y) {
  constexpr float kMagic = 12582912.0f;
  return (y + kMagic) - kMagic;
}

}  // namespace ink::codec
