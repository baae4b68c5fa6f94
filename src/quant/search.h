// Least-squares searches for block scales. Internal to src/quant.
//
// A tile holds 256 values as kLanes groups of kValues values, transposed: x[v][lane] is value v of
// group `lane`, so that four groups are searched at a time and no sum runs across a vector.
//
// Groups are scaled by a power of two to magnitudes near 1 before the search; errors then neither
// overflow nor vanish, whatever the range of the weights.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "quant/half.h"
#include "quant/lanes.h"

namespace ink::codec {

/// One float per group of a tile.
template <int kLanes>
struct Lanes {
  alignas(16) float v[kLanes];
};

template <int kValues_, int kLanes_>
struct Tile {
  static constexpr int kValues = kValues_;
  static constexpr int kLanes = kLanes_;
  alignas(16) float x[kValues][kLanes];  // scaled by 2^-exponent[lane]
  alignas(16) float w[kValues][kLanes];  // weight of a squared error, mean 1
  int exponent[kLanes];
  bool zero[kLanes];  // nothing in the group that a half could scale
};
using Tile32 = Tile<32, 8>;
using Tile16 = Tile<16, 16>;

/// Codes are the integers in [low, high].
struct IntegerGrid {
  float low;
  float high;
  /// The code nearest to y.
  INK_QUANT_INLINE Float4 Nearest(Float4 y) const {
    const Float4 bottom = Broadcast(low);
    const Float4 top = Broadcast(high);
    y = y < bottom ? bottom : y;
    y = y > top ? top : y;
    return RoundEven(y);
  }
};

/// A half and its value in a group's scaled units.
struct ScaledHalf {
  uint16_t bits;
  float value;
};

/// `scaled` * 2^exponent as a half, saturating instead of overflowing and never zero unless
/// `scaled` is, since a zero scale loses the whole block.
ScaledHalf RoundToHalf(float scaled, int exponent);

/// The half `steps` representable magnitudes further from zero; `half` itself if that one is not
/// finite or beyond zero.
ScaledHalf Neighbour(ScaledHalf half, int steps, int exponent);

/// Fills a tile from up to 256 values. `shared_exponent`: all groups are one super-block with one
/// scale, else each group is a block of its own. `min_magnitude`: groups below it become zero.
/// `count` < 256 leaves the last groups zero. Non-finite values become 0.
void LoadTile(const float* x, const float* importance, int count, bool shared_exponent,
              float min_magnitude, Tile16* tile);
void LoadTile(const float* x, const float* importance, int count, bool shared_exponent,
              float min_magnitude, Tile32* tile);

/// err[lane] = sum of w * (x - scale * code)^2 with the nearest codes.
template <typename T, typename Grid>
void SymmetricError(const T& tile, const Grid& grid, const Lanes<T::kLanes>& scale,
                    Lanes<T::kLanes>* err) {
  for (int l = 0; l < T::kLanes; l += 4) {
    const Float4 s = Load4(scale.v + l);
    const Float4 inverse = InverseOrZero(s);
    Float4 sum = Broadcast(0.0f);
    for (int v = 0; v < T::kValues; ++v) {
      const Float4 x = Load4(&tile.x[v][l]);
      const Float4 diff = x - s * grid.Nearest(x * inverse);
      sum += Load4(&tile.w[v][l]) * (diff * diff);
    }
    Store4(err->v + l, sum);
  }
}

/// Sums for the least-squares scale of x ~ scale * code, codes nearest to x * inverse.
template <typename T, typename Grid>
void SymmetricSums(const T& tile, const Grid& grid, const Lanes<T::kLanes>& inverse,
                   Lanes<T::kLanes>* sum_qx, Lanes<T::kLanes>* sum_qq) {
  for (int l = 0; l < T::kLanes; l += 4) {
    const Float4 factor = Load4(inverse.v + l);
    Float4 qx = Broadcast(0.0f);
    Float4 qq = Broadcast(0.0f);
    for (int v = 0; v < T::kValues; ++v) {
      const Float4 x = Load4(&tile.x[v][l]);
      const Float4 q = grid.Nearest(x * factor);
      const Float4 wq = Load4(&tile.w[v][l]) * q;
      qx += wq * x;
      qq += wq * q;
    }
    Store4(sum_qx->v + l, qx);
    Store4(sum_qq->v + l, qq);
  }
}

/// 1 / a, and 0 where a is 0.
template <int kLanes>
void InvertLanes(const Lanes<kLanes>& a, Lanes<kLanes>* inverse) {
  for (int l = 0; l < kLanes; l += 4) Store4(inverse->v + l, InverseOrZero(Load4(a.v + l)));
}

/// A later start replaces an earlier one only if it is better by more than rounding noise, so that
/// groups which any start fits exactly keep the first.
inline constexpr float kNoise = 3e-7f;

/// The scale of each group that makes sum w * (x - scale * code)^2 smallest, among those found from
/// each start: the value of largest magnitude at code targets[i], then the least-squares scale of
/// the resulting codes; the best is then improved by alternating codes and scale (Lloyd).
template <typename T, typename Grid>
void FitSymmetric(const T& tile, const Grid& grid, const float* targets, int num_targets,
                  Lanes<T::kLanes>* scale) {
  constexpr int kL = T::kLanes;
  Lanes<kL> peak;  // signed value of largest magnitude
  Lanes<kL> peak_inverse;
  Lanes<kL> best;  // reduction of the error from that of all zeros
  for (int l = 0; l < kL; l += 4) {
    Float4 largest = Broadcast(0.0f);
    for (int v = 0; v < T::kValues; ++v) {
      const Float4 x = Load4(&tile.x[v][l]);
      largest = Select(Abs4(x) > Abs4(largest), x, largest);
    }
    Store4(peak.v + l, largest);
    Store4(best.v + l, Broadcast(0.0f));
    Store4(scale->v + l, Broadcast(0.0f));
  }
  InvertLanes(peak, &peak_inverse);
  Lanes<kL> inverse;
  Lanes<kL> sum_qx;
  Lanes<kL> sum_qq;
  constexpr int kLloyd = 3;
  for (int i = 0; i < num_targets + kLloyd; ++i) {
    if (i < num_targets) {
      for (int l = 0; l < kL; ++l) inverse.v[l] = targets[i] * peak_inverse.v[l];
    } else {
      InvertLanes(*scale, &inverse);
    }
    SymmetricSums(tile, grid, inverse, &sum_qx, &sum_qq);
    for (int l = 0; l < kL; ++l) {
      if (!(sum_qq.v[l] > 0.0f)) continue;
      const float s = sum_qx.v[l] / sum_qq.v[l];
      const float gain = s * sum_qx.v[l];
      if (!(gain > best.v[l] + kNoise * best.v[l])) continue;
      scale->v[l] = s;
      best.v[l] = gain;
    }
  }
}

/// Rounds each group's scale to a half. Beside the fitted scale and its neighbours it tries the
/// plain rule, the value of largest magnitude at `end`, which rounding can make the better one.
template <typename T, typename Grid>
void RoundScales(const T& tile, const Grid& grid, float end, Lanes<T::kLanes>* scale,
                 uint16_t* bits) {
  constexpr int kL = T::kLanes;
  Lanes<kL> best;
  Lanes<kL> best_err;
  for (int l = 0; l < kL; ++l) best_err.v[l] = std::numeric_limits<float>::infinity();
  for (int trial = -2; trial <= 1; ++trial) {
    ScaledHalf d[kL];
    Lanes<kL> stored;
    for (int l = 0; l < kL; ++l) {
      float start = scale->v[l];
      if (trial == -2) {
        float peak = 0.0f;
        for (int v = 0; v < T::kValues; ++v) {
          if (std::fabs(tile.x[v][l]) > std::fabs(peak)) peak = tile.x[v][l];
        }
        start = peak / end;
      }
      d[l] = RoundToHalf(start, tile.exponent[l]);
      if (trial > -2) d[l] = Neighbour(d[l], trial, tile.exponent[l]);
      stored.v[l] = d[l].value;
    }
    Lanes<kL> err;
    SymmetricError(tile, grid, stored, &err);
    for (int l = 0; l < kL; ++l) {
      if (!(err.v[l] < best_err.v[l])) continue;
      best_err.v[l] = err.v[l];
      best.v[l] = stored.v[l];
      bits[l] = d[l].bits;
    }
  }
  *scale = best;
}

/// err[lane] = sum of w * (x - (scale * code - min))^2 with the nearest codes.
template <typename T, typename Grid>
void AffineError(const T& tile, const Grid& grid, const Lanes<T::kLanes>& scale,
                 const Lanes<T::kLanes>& min, Lanes<T::kLanes>* err) {
  for (int l = 0; l < T::kLanes; l += 4) {
    const Float4 s = Load4(scale.v + l);
    const Float4 m = Load4(min.v + l);
    const Float4 inverse = InverseOrZero(s);
    Float4 sum = Broadcast(0.0f);
    for (int v = 0; v < T::kValues; ++v) {
      const Float4 shifted = Load4(&tile.x[v][l]) + m;
      const Float4 diff = shifted - s * grid.Nearest(shifted * inverse);
      sum += Load4(&tile.w[v][l]) * (diff * diff);
    }
    Store4(err->v + l, sum);
  }
}

/// Sums for least squares over codes q nearest to (x - origin) * inverse, with y = x - low.
template <int kLanes>
struct AffineSums {
  Lanes<kLanes> q, qq, qy;
};

template <typename T, typename Grid>
void AccumulateAffine(const T& tile, const Grid& grid, const Lanes<T::kLanes>& origin,
                      const Lanes<T::kLanes>& low, const Lanes<T::kLanes>& inverse,
                      AffineSums<T::kLanes>* sums) {
  for (int l = 0; l < T::kLanes; l += 4) {
    const Float4 o = Load4(origin.v + l);
    const Float4 b = Load4(low.v + l);
    const Float4 factor = Load4(inverse.v + l);
    Float4 sum_q = Broadcast(0.0f);
    Float4 sum_qq = Broadcast(0.0f);
    Float4 sum_qy = Broadcast(0.0f);
    for (int v = 0; v < T::kValues; ++v) {
      const Float4 x = Load4(&tile.x[v][l]);
      const Float4 q = grid.Nearest((x - o) * factor);
      const Float4 wq = Load4(&tile.w[v][l]) * q;
      sum_q += wq;
      sum_qq += wq * q;
      sum_qy += wq * (x - b);
    }
    Store4(sums->q.v + l, sum_q);
    Store4(sums->qq.v + l, sum_qq);
    Store4(sums->qy.v + l, sum_qy);
  }
}

/// The scale and min of each group that make sum w * (x - (scale * code - min))^2 smallest, codes
/// in [0, top], among those found from each pair of starts: the lowest value at code -clip[i], the
/// highest at top + clip[j], least squares on the resulting codes; then Lloyd iterations.
/// `min_not_negative` asks for min >= 0, as K-quants store it.
template <typename T>
void FitAffine(const T& tile, float top, const float* clip, int num_clips, bool min_not_negative,
               Lanes<T::kLanes>* scale, Lanes<T::kLanes>* min) {
  constexpr int kL = T::kLanes;
  const IntegerGrid grid{0.0f, top};
  Lanes<kL> low;
  Lanes<kL> high;
  Lanes<kL> sum_w;
  Lanes<kL> sum_y;  // of w * (x - low)
  for (int l = 0; l < kL; l += 4) {
    Float4 smallest = min_not_negative ? Broadcast(0.0f) : Load4(&tile.x[0][l]);
    Float4 largest = Load4(&tile.x[0][l]);
    for (int v = 0; v < T::kValues; ++v) {
      const Float4 x = Load4(&tile.x[v][l]);
      smallest = x < smallest ? x : smallest;
      largest = x > largest ? x : largest;
    }
    Float4 w_total = Broadcast(0.0f);
    Float4 y_total = Broadcast(0.0f);
    for (int v = 0; v < T::kValues; ++v) {
      const Float4 w = Load4(&tile.w[v][l]);
      w_total += w;
      y_total += w * (Load4(&tile.x[v][l]) - smallest);
    }
    Store4(low.v + l, smallest);
    Store4(high.v + l, largest);
    Store4(sum_w.v + l, w_total);
    Store4(sum_y.v + l, y_total);
  }
  // Offsets are held as b = -min - low, relative to `low`, so that a large common offset costs no
  // precision. The start, one constant, is what a group without spread keeps.
  Lanes<kL> best;
  Lanes<kL> offset;
  for (int l = 0; l < kL; ++l) {
    float b = sum_y.v[l] / sum_w.v[l];
    if (min_not_negative && b > -low.v[l]) b = -low.v[l];
    offset.v[l] = b;
    scale->v[l] = 0.0f;
    best.v[l] = b * (b * sum_w.v[l] - 2.0f * sum_y.v[l]);
  }
  constexpr int kLloyd = 3;
  Lanes<kL> origin;
  Lanes<kL> inverse;
  AffineSums<kL> sums;
  for (int i = 0; i < num_clips * num_clips + kLloyd; ++i) {
    if (i < num_clips * num_clips) {
      const float clip_low = clip[i / num_clips];
      const float steps = top + clip_low + clip[i % num_clips];
      for (int l = 0; l < kL; ++l) {
        const float range = high.v[l] - low.v[l];
        inverse.v[l] = range > 0.0f ? steps / range : 0.0f;
        origin.v[l] = low.v[l] + clip_low * range / steps;
      }
    } else {
      InvertLanes(*scale, &inverse);
      for (int l = 0; l < kL; ++l) origin.v[l] = low.v[l] + offset.v[l];
    }
    AccumulateAffine(tile, grid, origin, low, inverse, &sums);
    for (int l = 0; l < kL; ++l) {
      const float q = sums.q.v[l];
      const float qq = sums.qq.v[l];
      const float qy = sums.qy.v[l];
      if (!(qq > 0.0f)) continue;
      const float det = sum_w.v[l] * qq - q * q;
      // Below that all codes are equal (up to rounding), and only a fixed offset leaves a scale.
      const bool solvable = det > 1e-6f * (sum_w.v[l] * qq);
      if (!solvable && !min_not_negative) continue;
      float s = 0.0f;
      float b = -low.v[l];
      if (solvable) {
        s = (sum_w.v[l] * qy - sum_y.v[l] * q) / det;
        b = (qq * sum_y.v[l] - q * qy) / det;
      }
      if (!solvable || (min_not_negative && b > -low.v[l])) {
        b = -low.v[l];
        s = (qy - b * q) / qq;
      }
      const float err =
          s * (s * qq + 2.0f * b * q - 2.0f * qy) + b * (b * sum_w.v[l] - 2.0f * sum_y.v[l]);
      if (!(s > 0.0f && err < best.v[l] - kNoise * std::fabs(best.v[l]))) continue;
      scale->v[l] = s;
      offset.v[l] = b;
      best.v[l] = err;
    }
  }
  for (int l = 0; l < kL; ++l) min->v[l] = -(low.v[l] + offset.v[l]);
}

/// codes[lane * kValues + v] = nearest grid value of (x + min) / scale, minus `low`.
template <typename T, typename Grid>
void WriteCodes(const T& tile, const Grid& grid, float low, const Lanes<T::kLanes>& scale,
                const Lanes<T::kLanes>& min, uint8_t* codes) {
  for (int l = 0; l < T::kLanes; l += 4) {
    const Float4 m = Load4(min.v + l);
    const Float4 inverse = InverseOrZero(Load4(scale.v + l));
    for (int v = 0; v < T::kValues; ++v) {
      const Float4 q = grid.Nearest((Load4(&tile.x[v][l]) + m) * inverse) - Broadcast(low);
      for (int i = 0; i < 4; ++i) {
        codes[(l + i) * T::kValues + v] = static_cast<uint8_t>(static_cast<int>(q[i]));
      }
    }
  }
}

template <int kLanes>
double Total(const Lanes<kLanes>& lanes) {
  double total = 0.0;
  for (int l = 0; l < kLanes; ++l) total += static_cast<double>(lanes.v[l]);
  return total;
}

}  // namespace ink::codec
