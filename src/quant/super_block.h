// Choice of a super-block's half scales and integer group scales, given the float scales that suit
// each group best. Internal to src/quant.
//
// Rounding the group scales is where a K-quant loses most against its float optimum, so the choice
// is made on the true error: several starts, then coordinate descent over the group integers (all
// groups at once, each keeps its own best) and over the half scales (least squares, codes fixed).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "quant/search.h"

namespace ink::codec {

inline constexpr int kDescentRounds = 3;

template <int kLanes>
struct AffineChoice {
  ScaledHalf d;
  ScaledHalf dmin;
  Lanes<kLanes> scale_code;  // integers in [0, top]
  Lanes<kLanes> min_code;
  Lanes<kLanes> scale;  // d * scale_code
  Lanes<kLanes> min;    // dmin * min_code
  Lanes<kLanes> err;
};

template <int kLanes>
float Largest(const Lanes<kLanes>& lanes) {
  float largest = 0.0f;
  for (int l = 0; l < kLanes; ++l) largest = std::max(largest, lanes.v[l]);
  return largest;
}

/// round(value / unit) in [0, top]; 0 where unit is 0.
inline float ScaleCode(float value, float unit, float low, float top) {
  if (unit == 0.0f) return 0.0f;
  return RoundEven(std::clamp(value / unit, low, top));
}

/// Q2_K, Q4_K, Q5_K: x ~ d * scale_code * q - dmin * min_code, q in [0, top], group codes in
/// [0, code_top]. `scale` and `min` are the float optima, >= 0.
template <typename T>
void ChooseAffine(const T& tile, float top, float code_top, const Lanes<T::kLanes>& scale,
                  const Lanes<T::kLanes>& min, AffineChoice<T::kLanes>* best) {
  constexpr int kL = T::kLanes;
  const IntegerGrid grid{0.0f, top};
  const int exponent = tile.exponent[0];
  const float largest_scale = Largest(scale);
  const float largest_min = Largest(min);
  AffineChoice<kL> trial;
  double best_total = std::numeric_limits<double>::infinity();
  // Dividing the largest by a little more or less than code_top shifts how all others round. Whole
  // steps keep the largest exact while d itself rounds elsewhere: without mins, that is all there
  // is.
  constexpr float kShifts[] = {0.0f,  -0.75f, -0.5f, -0.25f, 0.25f, 0.5f,
                               -1.0f, -2.0f,  -3.0f, -4.0f,  -5.0f};
  constexpr int kNumShifts = 6;
  int best_d = 0;
  for (int i = 0; i < 2 * kNumShifts - 1; ++i) {
    const bool vary_min = i >= kNumShifts && largest_min > 0.0f;
    const float shift_d = kShifts[vary_min ? best_d : i];
    const float shift_min = kShifts[vary_min ? i - kNumShifts + 1 : 0];
    trial.d = RoundToHalf(largest_scale / (code_top + shift_d), exponent);
    trial.dmin = RoundToHalf(largest_min / (code_top + shift_min), exponent);
    for (int l = 0; l < kL; ++l) {
      trial.scale_code.v[l] = ScaleCode(scale.v[l], trial.d.value, 0.0f, code_top);
      trial.min_code.v[l] = ScaleCode(min.v[l], trial.dmin.value, 0.0f, code_top);
      trial.scale.v[l] = trial.d.value * trial.scale_code.v[l];
      trial.min.v[l] = trial.dmin.value * trial.min_code.v[l];
    }
    AffineError(tile, grid, trial.scale, trial.min, &trial.err);
    const double total = Total(trial.err);
    if (total < best_total || i == 0) {
      best_total = total;
      *best = trial;
      if (!vary_min) best_d = i;
    }
  }
  Lanes<kL> zero;
  Lanes<kL> sum_w;
  Lanes<kL> sum_x;
  for (int l = 0; l < kL; ++l) zero.v[l] = sum_w.v[l] = sum_x.v[l] = 0.0f;
  for (int v = 0; v < T::kValues; ++v) {
    for (int l = 0; l < kL; ++l) {
      sum_w.v[l] += tile.w[v][l];
      sum_x.v[l] += tile.w[v][l] * tile.x[v][l];
    }
  }
  for (int round = 0; round < kDescentRounds; ++round) {
    const double before = Total(best->err);
    for (int move = 0; move < 9; ++move) {
      if (move == 4) continue;  // no change
      const float step_scale = static_cast<float>(move / 3 - 1);
      const float step_min = static_cast<float>(move % 3 - 1);
      for (int l = 0; l < kL; ++l) {
        const float sc = best->scale_code.v[l] + step_scale;
        const float mc = best->min_code.v[l] + step_min;
        trial.scale_code.v[l] = std::clamp(sc, 0.0f, code_top);
        trial.min_code.v[l] = std::clamp(mc, 0.0f, code_top);
        trial.scale.v[l] = best->d.value * trial.scale_code.v[l];
        trial.min.v[l] = best->dmin.value * trial.min_code.v[l];
      }
      AffineError(tile, grid, trial.scale, trial.min, &trial.err);
      for (int l = 0; l < kL; ++l) {
        if (!(trial.err.v[l] < best->err.v[l])) continue;
        best->scale_code.v[l] = trial.scale_code.v[l];
        best->min_code.v[l] = trial.min_code.v[l];
        best->scale.v[l] = trial.scale.v[l];
        best->min.v[l] = trial.min.v[l];
        best->err.v[l] = trial.err.v[l];
      }
    }
    // Least squares over (d, dmin): x ~ d * A - dmin * B with A = scale_code * q, B = min_code.
    Lanes<kL> origin;
    Lanes<kL> inverse;
    for (int l = 0; l < kL; ++l) origin.v[l] = -best->min.v[l];
    InvertLanes(best->scale, &inverse);
    AffineSums<kL> sums;
    AccumulateAffine(tile, grid, origin, zero, inverse, &sums);
    double aa = 0.0, ab = 0.0, bb = 0.0, ax = 0.0, bx = 0.0;
    for (int l = 0; l < kL; ++l) {
      const double a = best->scale_code.v[l];
      const double b = best->min_code.v[l];
      aa += a * a * sums.qq.v[l];
      ab += a * b * sums.q.v[l];
      bb += b * b * sum_w.v[l];
      ax += a * sums.qy.v[l];
      bx += b * sum_x.v[l];
    }
    double d = 0.0;
    double dmin = 0.0;
    const double det = aa * bb - ab * ab;
    if (det > 1e-9 * aa * bb) {
      d = (ax * bb - bx * ab) / det;
      dmin = (ax * ab - bx * aa) / det;
    } else if (aa > 0.0) {
      d = (ax + static_cast<double>(best->dmin.value) * ab) / aa;
      dmin = best->dmin.value;
    }
    if (d > 0.0 && dmin >= 0.0) {
      trial.d = RoundToHalf(static_cast<float>(d), exponent);
      trial.dmin = RoundToHalf(static_cast<float>(dmin), exponent);
      trial.scale_code = best->scale_code;
      trial.min_code = best->min_code;
      for (int l = 0; l < kL; ++l) {
        trial.scale.v[l] = trial.d.value * trial.scale_code.v[l];
        trial.min.v[l] = trial.dmin.value * trial.min_code.v[l];
      }
      AffineError(tile, grid, trial.scale, trial.min, &trial.err);
      if (Total(trial.err) < Total(best->err)) *best = trial;
    }
    if (!(Total(best->err) < before)) break;
  }
}

template <int kLanes>
struct SymmetricChoice {
  ScaledHalf d;
  Lanes<kLanes> scale_code;  // integers in [code_low, code_high]
  Lanes<kLanes> scale;       // d * scale_code
  Lanes<kLanes> err;
};

/// Q3_K, Q6_K, IQ4_XS: x ~ d * scale_code * grid value, group codes in [code_low, code_high].
/// `scale` holds the signed float optima; the descent first looks `window` codes to either side.
template <typename T, typename Grid>
void ChooseSymmetric(const T& tile, const Grid& grid, float code_low, float code_high, int window,
                     const Lanes<T::kLanes>& scale, SymmetricChoice<T::kLanes>* best) {
  constexpr int kL = T::kLanes;
  const int exponent = tile.exponent[0];
  float peak = 0.0f;
  for (int l = 0; l < kL; ++l) {
    if (std::fabs(scale.v[l]) > std::fabs(peak)) peak = scale.v[l];
  }
  SymmetricChoice<kL> trial;
  const float targets[] = {code_low,        code_high,        code_low + 0.5f,
                           code_low - 0.4f, code_high - 0.5f, code_high + 0.4f,
                           code_low + 1.0f, code_high - 1.0f, code_low + 2.0f};
  double best_total = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 9; ++i) {
    trial.d = RoundToHalf(peak / targets[i], exponent);
    for (int l = 0; l < kL; ++l) {
      trial.scale_code.v[l] = ScaleCode(scale.v[l], trial.d.value, code_low, code_high);
      trial.scale.v[l] = trial.d.value * trial.scale_code.v[l];
    }
    SymmetricError(tile, grid, trial.scale, &trial.err);
    const double total = Total(trial.err);
    if (total < best_total || i == 0) {
      best_total = total;
      *best = trial;
    }
  }
  for (int round = 0; round < kDescentRounds; ++round) {
    const double before = Total(best->err);
    const Lanes<kL> centre = best->scale_code;
    const int reach = round == 0 ? window : 1;
    for (int move = -reach; move <= reach; ++move) {
      if (move == 0) continue;
      for (int l = 0; l < kL; ++l) {
        const float sc = centre.v[l] + static_cast<float>(move);
        trial.scale_code.v[l] = std::clamp(sc, code_low, code_high);
        trial.scale.v[l] = best->d.value * trial.scale_code.v[l];
      }
      SymmetricError(tile, grid, trial.scale, &trial.err);
      for (int l = 0; l < kL; ++l) {
        if (!(trial.err.v[l] < best->err.v[l])) continue;
        best->scale_code.v[l] = trial.scale_code.v[l];
        best->scale.v[l] = trial.scale.v[l];
        best->err.v[l] = trial.err.v[l];
      }
    }
    Lanes<kL> inverse;
    Lanes<kL> sum_qx;
    Lanes<kL> sum_qq;
    InvertLanes(best->scale, &inverse);
    SymmetricSums(tile, grid, inverse, &sum_qx, &sum_qq);
    double aa = 0.0;
    double ax = 0.0;
    for (int l = 0; l < kL; ++l) {
      const double a = best->scale_code.v[l];
      aa += a * a * sum_qq.v[l];
      ax += a * sum_qx.v[l];
    }
    if (aa > 0.0) {
      trial.d = RoundToHalf(static_cast<float>(ax / aa), exponent);
      trial.scale_code = best->scale_code;
      for (int l = 0; l < kL; ++l) trial.scale.v[l] = trial.d.value * trial.scale_code.v[l];
      SymmetricError(tile, grid, trial.scale, &trial.err);
      if (Total(trial.err) < Total(best->err)) *best = trial;
    }
    if (!(Total(best->err) < before)) break;
  }
}

}  // namespace ink::codec
