#include "sampling/row_math.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace ink {
namespace {

constexpr float kNegInf = -std::numeric_limits<float>::infinity();
constexpr int kLanes = 16;  // independent chains; four SSE registers

// exp(z) for z in [-87, 0]: z = k ln2 + r, |r| <= ln2/2, Taylor to r^6 (remainder below 1.3e-7),
// and k added to the exponent bits. Smaller z give 0, so that banned candidates have no mass at
// all.
inline float ExpF(float z) {
  constexpr float kRound =
      12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  float c = z > -87.0f ? z : -87.0f;
  float shifted = c * 1.44269504f + kRound;
  float k = shifted - kRound;
  float r = (c - k * 0.693359375f) + k * 2.12194440e-4f;  // ln2 in two parts (Cody-Waite)
  float p = 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  uint32_t scale = std::bit_cast<uint32_t>(shifted) << 23;
  float e = std::bit_cast<float>(std::bit_cast<uint32_t>(p) + scale);
  return z > -87.0f ? e : 0.0f;
}

// The same in double: z in [-708, 0], Taylor to r^13 (remainder below 5e-18 relative).
inline double ExpD(double z) {
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  double c = z > -708.0 ? z : -708.0;
  double shifted = c * 1.4426950408889634 + kRound;
  double k = shifted - kRound;
  double r = (c - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  uint64_t scale = std::bit_cast<uint64_t>(shifted) << 52;
  double e = std::bit_cast<double>(std::bit_cast<uint64_t>(p) + scale);
  return z > -708.0 ? e : 0.0;
}

template <bool kMoment>
double Mass(const float* x, int32_t n, float max, float inv_temperature, double* block_mass,
            double* moment) {
  double total = 0.0;
  double total_moment = 0.0;
  float tail[kRowBlock];
  for (int32_t begin = 0; begin < n; begin += kRowBlock) {
    const float* block = x + begin;
    if (n - begin < kRowBlock) {  // pad the last block: -infinity has no mass
      std::fill(std::copy(block, x + n, tail), tail + kRowBlock, kNegInf);
      block = tail;
    }
    float mass[kLanes] = {};
    float first[kLanes] = {};
    for (int j = 0; j < kRowBlock; j += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        float z = (block[j + l] - max) * inv_temperature;
        float e = ExpF(z);
        mass[l] += e;
        // z of a banned candidate is -infinity, and 0 * -infinity is no number.
        if constexpr (kMoment) first[l] += e * (z > -87.0f ? z : -87.0f);
      }
    }
    double sum = 0.0;
    for (float m : mass) sum += static_cast<double>(m);
    block_mass[begin / kRowBlock] = sum;
    total += sum;
    if constexpr (kMoment) {
      for (float m : first) total_moment += static_cast<double>(m);
    }
  }
  if constexpr (kMoment) *moment = total_moment;
  return total;
}

}  // namespace

float FastExp(float z) { return ExpF(z); }

float BlockMax(const float* x, int32_t size) {
  float m = kNegInf;
  for (int32_t i = 0; i < size; ++i) m = x[i] > m ? x[i] : m;
  return m;
}

bool ScanRow(const float* x, int32_t n, float* block_max) {
  int32_t bad[kLanes] = {};
  int32_t full = n / kRowBlock;
  for (int32_t b = 0; b < full; ++b) {
    const float* block = x + int64_t{b} * kRowBlock;
    float m[kLanes];
    for (float& lane : m) lane = kNegInf;
    for (int j = 0; j < kRowBlock; j += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        float v = block[j + l];
        m[l] = v > m[l] ? v : m[l];
        bad[l] |= v != v ? 1 : 0;
      }
    }
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int l = 0; l < width; ++l) m[l] = m[l + width] > m[l] ? m[l + width] : m[l];
    }
    block_max[b] = m[0];
  }
  if (int32_t rest = n - full * kRowBlock; rest > 0) {
    const float* block = x + int64_t{full} * kRowBlock;
    block_max[full] = BlockMax(block, rest);
    for (int32_t i = 0; i < rest; ++i) bad[0] |= block[i] != block[i] ? 1 : 0;
  }
  int32_t any = 0;
  for (int32_t b : bad) any |= b;
  return any != 0;
}

void MaskRow(const float* x, const uint32_t* mask, int32_t n, float* out) {
  for (int32_t begin = 0; begin < n; begin += 32) {
    uint32_t word = mask[begin / 32];
    int32_t size = std::min(32, n - begin);
    if (word == 0) {
      std::fill_n(out + begin, size, kNegInf);
    } else if (word == 0xFFFFFFFFu) {
      std::copy_n(x + begin, size, out + begin);
    } else {
      for (int32_t i = 0; i < size; ++i) out[begin + i] = (word >> i) & 1 ? x[begin + i] : kNegInf;
    }
  }
}

double RowMass(const float* x, int32_t n, float max, float inv_temperature, double* block_mass,
               double* moment) {
  if (moment != nullptr) return Mass<true>(x, n, max, inv_temperature, block_mass, moment);
  return Mass<false>(x, n, max, inv_temperature, block_mass, nullptr);
}

void ExpWeights(const float* x, size_t n, double max, double temperature, double* w) {
  double inverse = 1.0 / temperature;
  for (size_t i = 0; i < n; ++i) w[i] = ExpD((static_cast<double>(x[i]) - max) * inverse);
}

double RowMassDouble(const float* x, int32_t n, double max, double temperature) {
  double total = 0.0;
  double w[kRowBlock];
  for (int32_t begin = 0; begin < n; begin += kRowBlock) {
    int32_t size = std::min(kRowBlock, n - begin);
    ExpWeights(x + begin, static_cast<size_t>(size), max, temperature, w);
    double sum = 0.0;
    for (int32_t i = 0; i < size; ++i) sum += w[i];
    total += sum;
  }
  return total;
}

}  // namespace ink
