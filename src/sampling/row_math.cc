#include "sampling/row_math.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace ink {
namespace {

constexpr float kNegInf = -std::numeric_limits<float>::infinity();

// Vectors of the baseline instruction set (SSE2, NEON), in the compilers' own notation: loops with
// comparisons are not vectorized where floating point may trap, which is the default.
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));
using Doubles = double __attribute__((vector_size(16)));
using Longs = int64_t __attribute__((vector_size(16)));
using LongWords = uint64_t __attribute__((vector_size(16)));
constexpr int32_t kLanes = 4;
constexpr int32_t kChains = 4;  // independent accumulators, to hide the latency of an addition
static_assert(kRowBlock % (kLanes * kChains) == 0);

inline Floats Load(const float* x) {
  Floats v;
  std::memcpy(&v, x, sizeof(v));
  return v;
}

inline Floats All(float v) { return Floats{v, v, v, v}; }

inline Floats Select(Ints condition, Floats a, Floats b) {
  return reinterpret_cast<Floats>((condition & reinterpret_cast<Ints>(a)) |
                                  (~condition & reinterpret_cast<Ints>(b)));
}

// exp(z) for z in [-87, 0]: z = k ln2 + r, |r| <= ln2/2, Taylor to r^6 (remainder below 1.3e-7),
// and k added to the exponent bits. Smaller z, whose bits mean nothing here, give 0, so that banned
// candidates have no mass at all.
inline Floats Exp(Floats z) {
  const Floats round =
      All(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  Ints live = z > All(-87.0f);
  Floats shifted = z * All(1.44269504f) + round;
  Floats k = shifted - round;
  Floats r =
      (z - k * All(0.693359375f)) + k * All(2.12194440e-4f);  // ln2 in two parts (Cody-Waite)
  Floats p = All(1.0f / 720.0f);
  p = p * r + All(1.0f / 120.0f);
  p = p * r + All(1.0f / 24.0f);
  p = p * r + All(1.0f / 6.0f);
  p = p * r + All(0.5f);
  p = p * r + All(1.0f);
  p = p * r + All(1.0f);
  Words bits = reinterpret_cast<Words>(p) + (reinterpret_cast<Words>(shifted) << 23);
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(bits) & live);
}

// The same in double: z in [-708, 0], Taylor to r^13 (remainder below 5e-18).
inline Doubles Exp(Doubles z) {
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  constexpr double kInverseFactorials[] = {1.0 / 479001600.0,
                                           1.0 / 39916800.0,
                                           1.0 / 3628800.0,
                                           1.0 / 362880.0,
                                           1.0 / 40320.0,
                                           1.0 / 5040.0,
                                           1.0 / 720.0,
                                           1.0 / 120.0,
                                           1.0 / 24.0,
                                           1.0 / 6.0,
                                           0.5,
                                           1.0,
                                           1.0};
  Longs live = z > Doubles{-708.0, -708.0};
  Doubles shifted = z * 1.4426950408889634 + kRound;
  Doubles k = shifted - kRound;
  Doubles r = (z - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
  Doubles p = {1.0 / 6227020800.0, 1.0 / 6227020800.0};
  for (double c : kInverseFactorials) p = p * r + c;
  LongWords bits = reinterpret_cast<LongWords>(p) + (reinterpret_cast<LongWords>(shifted) << 52);
  return reinterpret_cast<Doubles>(reinterpret_cast<Longs>(bits) & live);
}

// Sum of Exp over one block; *moment gets the sum of z * Exp(z).
template <bool kMoment>
inline double BlockMass(const float* block, Floats max, Floats inv_temperature, double* moment) {
  Floats mass[kChains] = {};
  Floats first[kChains] = {};
  for (int32_t j = 0; j < kRowBlock; j += kLanes * kChains) {
    for (int32_t c = 0; c < kChains; ++c) {
      Floats z = (Load(block + j + c * kLanes) - max) * inv_temperature;
      Floats e = Exp(z);
      mass[c] += e;
      // z of a banned candidate is -infinity, and 0 * -infinity is no number.
      if constexpr (kMoment) first[c] += e * Select(z > All(-87.0f), z, All(0.0f));
    }
  }
  auto sum = [](const Floats(&v)[kChains]) {
    Floats s = (v[0] + v[1]) + (v[2] + v[3]);
    return static_cast<double>((s[0] + s[1]) + (s[2] + s[3]));
  };
  if constexpr (kMoment) *moment += sum(first);
  return sum(mass);
}

template <bool kMoment>
double Mass(const float* x, int32_t n, float max, float inv_temperature, double* block_mass,
            double* moment) {
  double total = 0.0;
  double total_moment = 0.0;
  const int32_t full = n / kRowBlock;
  auto add = [&](const float* block, int32_t b) {
    block_mass[b] = BlockMass<kMoment>(block, All(max), All(inv_temperature), &total_moment);
    total += block_mass[b];
  };
  for (int32_t b = 0; b < full; ++b) add(x + int64_t{b} * kRowBlock, b);
  if (n % kRowBlock != 0) {  // pad the last block: -infinity has no mass
    float tail[kRowBlock];
    std::fill(std::copy(x + int64_t{full} * kRowBlock, x + n, tail), tail + kRowBlock, kNegInf);
    add(tail, full);
  }
  if constexpr (kMoment) *moment = total_moment;
  return total;
}

}  // namespace

float FastExp(float z) { return Exp(All(z))[0]; }

float BlockMax(const float* x, int32_t size) {
  float m = kNegInf;
  for (int32_t i = 0; i < size; ++i) m = x[i] > m ? x[i] : m;
  return m;
}

bool ScanRow(const float* x, int32_t n, float* block_max) {
  Ints bad = {};
  const int32_t full = n / kRowBlock;
  for (int32_t b = 0; b < full; ++b) {
    const float* block = x + int64_t{b} * kRowBlock;
    Floats m[kChains] = {All(kNegInf), All(kNegInf), All(kNegInf), All(kNegInf)};
    for (int32_t j = 0; j < kRowBlock; j += kLanes * kChains) {
      for (int32_t c = 0; c < kChains; ++c) {
        Floats v = Load(block + j + c * kLanes);
        m[c] = Select(v > m[c], v, m[c]);
        bad |= v != v;
      }
    }
    for (int32_t c = 1; c < kChains; ++c) m[0] = Select(m[c] > m[0], m[c], m[0]);
    block_max[b] = std::max(std::max(m[0][0], m[0][1]), std::max(m[0][2], m[0][3]));
  }
  if (int32_t rest = n % kRowBlock; rest > 0) {
    const float* block = x + int64_t{full} * kRowBlock;
    block_max[full] = BlockMax(block, rest);
    for (int32_t i = 0; i < rest; ++i) bad[0] |= block[i] != block[i] ? 1 : 0;
  }
  return (bad[0] | bad[1] | bad[2] | bad[3]) != 0;
}

void MaskRow(const float* x, const uint32_t* mask, int32_t n, float* out) {
  const Words bit = {1, 2, 4, 8};
  for (int32_t begin = 0; begin < n; begin += 32) {
    uint32_t word = mask[begin / 32];
    int32_t size = std::min(32, n - begin);
    if (word == 0) {
      std::fill_n(out + begin, size, kNegInf);
    } else if (word == 0xFFFFFFFFu) {
      std::copy_n(x + begin, size, out + begin);
    } else {
      int32_t i = 0;
      for (; i + kLanes <= size; i += kLanes) {
        uint32_t nibble = word >> i;
        Ints allowed = (Words{nibble, nibble, nibble, nibble} & bit) != 0;
        Floats v = Select(allowed, Load(x + begin + i), All(kNegInf));
        std::memcpy(out + begin + i, &v, sizeof(v));
      }
      for (; i < size; ++i) out[begin + i] = (word >> i) & 1 ? x[begin + i] : kNegInf;
    }
  }
}

double RowMass(const float* x, int32_t n, float max, float inv_temperature, double* block_mass,
               double* moment) {
  if (moment != nullptr) return Mass<true>(x, n, max, inv_temperature, block_mass, moment);
  return Mass<false>(x, n, max, inv_temperature, block_mass, nullptr);
}

void ExpWeights(const float* x, size_t n, double max, double temperature, double* w) {
  const double inverse = 1.0 / temperature;
  auto two = [&](double a, double b) { return Exp((Doubles{a, b} - max) * inverse); };
  size_t i = 0;
  for (; i + 2 <= n; i += 2) {
    Doubles e = two(static_cast<double>(x[i]), static_cast<double>(x[i + 1]));
    std::memcpy(w + i, &e, sizeof(e));
  }
  if (i < n) w[i] = two(static_cast<double>(x[i]), 0.0)[0];
}

double RowMassDouble(const float* x, int32_t n, double max, double temperature) {
  const double inverse = 1.0 / temperature;
  Doubles total[2] = {};
  int32_t i = 0;
  for (; i + 4 <= n; i += 4) {
    Doubles a = {static_cast<double>(x[i]), static_cast<double>(x[i + 1])};
    Doubles b = {static_cast<double>(x[i + 2]), static_cast<double>(x[i + 3])};
    total[0] += Exp((a - max) * inverse);
    total[1] += Exp((b - max) * inverse);
  }
  for (; i < n; ++i) {
    double v = static_cast<double>(x[i]);
    total[0][0] += Exp((Doubles{v, v} - max) * inverse)[0];
  }
  return (total[0][0] + total[0][1]) + (total[1][0] + total[1][1]);
}

}  // namespace ink
