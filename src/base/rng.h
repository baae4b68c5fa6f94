// Counter-based random numbers: a draw is a function of (seed, stream, position) alone, so a result
// never depends on what else was drawn or in which order (DESIGN 3f).
#pragma once

#include <array>
#include <cstdint>

namespace ink {

/// Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// 64 random bits for the triple.
uint64_t RandomBits(uint64_t seed, uint64_t stream, uint64_t position);

/// Uniform in [0, 1), 53 bits.
double RandomUniform(uint64_t seed, uint64_t stream, uint64_t position);

/// A sequential view of one (seed, stream) for tests, shuffles and initial weights.
class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}
  uint64_t Next() { return RandomBits(seed_, stream_, position_++); }
  /// Uniform in [0, 1).
  double Uniform() { return RandomUniform(seed_, stream_, position_++); }
  /// Uniform in [0, n), without modulo bias worth noticing (n < 2^32).
  uint64_t Below(uint64_t n);
  /// Standard normal (Box-Muller).
  float Normal();
  uint64_t position() const { return position_; }

 private:
  uint64_t seed_;
  uint64_t stream_;
  uint64_t position_ = 0;
};

}  // namespace ink
