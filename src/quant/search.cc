#include "quant/search.h"

#include <bit>
#include <cmath>
#include <limits>

namespace ink::codec {
namespace {

float FiniteOrZero(float value) {
  return std::fabs(value) <= std::numeric_limits<float>::max() ? value : 0.0f;
}

/// 2^exponent for exponents of normal floats.
float PowerOfTwo(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

template <typename T>
void Load(const float* x, const float* importance, int count, bool shared_exponent,
          float min_magnitude, T* tile) {
  constexpr int kV = T::kValues;
  constexpr int kL = T::kLanes;
  const int groups = count / kV;
  float peak[kL] = {};
  double weight_sum[kL] = {};
  for (int g = 0; g < groups; ++g) {
    for (int v = 0; v < kV; ++v) {
      const float a = std::fabs(FiniteOrZero(x[g * kV + v]));
      peak[g] = a > peak[g] ? a : peak[g];
    }
    if (importance == nullptr) continue;
    for (int v = 0; v < kV; ++v) {
      const float w = FiniteOrZero(importance[g * kV + v]);
      weight_sum[g] += w > 0.0f ? static_cast<double>(w) : 0.0;
    }
  }
  if (shared_exponent) {
    float all = 0.0f;
    double sum = 0.0;
    for (int g = 0; g < kL; ++g) {
      all = peak[g] > all ? peak[g] : all;
      sum += weight_sum[g];
    }
    for (int g = 0; g < kL; ++g) {
      peak[g] = all;
      weight_sum[g] = sum / kL;
    }
  }
  for (int g = 0; g < kL; ++g) {
    tile->zero[g] = !(peak[g] >= min_magnitude && peak[g] > 0.0f);
    int exponent = 0;
    if (!tile->zero[g]) std::frexp(peak[g], &exponent);
    exponent = exponent > 126 ? 126 : exponent < -126 ? -126 : exponent;
    tile->exponent[g] = exponent;
    const float factor = tile->zero[g] ? 0.0f : PowerOfTwo(-exponent);
    for (int v = 0; v < kV; ++v) {
      const float value = g < groups ? FiniteOrZero(x[g * kV + v]) * factor : 0.0f;
      // Too small beside the group's largest to matter, and its reciprocal could overflow.
      tile->x[v][g] = std::fabs(value) < 1e-10f ? 0.0f : value;
      tile->w[v][g] = 1.0f;
    }
    const double mean = weight_sum[g] / kV;
    if (g >= groups || !(mean > 0.0)) continue;
    for (int v = 0; v < kV; ++v) {
      // Columns that calibration never used still keep their rough value.
      constexpr float kFloor = 1e-4f;
      const float w = FiniteOrZero(importance[g * kV + v]);
      const float relative = static_cast<float>(static_cast<double>(w) / mean);
      tile->w[v][g] = relative > kFloor ? relative : kFloor;
    }
  }
}

}  // namespace

ScaledHalf RoundToHalf(float scaled, int exponent) {
  float real = std::ldexp(scaled, exponent);
  real = real > kHalfMax ? kHalfMax : real < -kHalfMax ? -kHalfMax : real;
  uint16_t bits = FloatToHalf(real);
  if ((bits & 0x7fff) == 0 && scaled != 0.0f) bits |= 1;
  return {bits, std::ldexp(HalfToFloat(bits), -exponent)};
}

ScaledHalf Neighbour(ScaledHalf half, int steps, int exponent) {
  const int magnitude = (half.bits & 0x7fff) + steps;
  if (magnitude < 0 || magnitude >= 0x7c00) return half;
  const uint16_t bits = static_cast<uint16_t>((half.bits & 0x8000) | magnitude);
  return {bits, std::ldexp(HalfToFloat(bits), -exponent)};
}

void LoadTile(const float* x, const float* importance, int count, bool shared_exponent,
              float min_magnitude, Tile16* tile) {
  Load(x, importance, count, shared_exponent, min_magnitude, tile);
}

void LoadTile(const float* x, const float* importance, int count, bool shared_exponent,
              float min_magnitude, Tile32* tile) {
  Load(x, importance, count, shared_exponent, min_magnitude, tile);
}

}  // namespace ink::codec
