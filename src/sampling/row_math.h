// Passes over a dense row of logits, in vectors of the baseline instruction set. A row is cut in
// blocks of kRowBlock; most later work looks at block maxima only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ink {

/// 64: the k-th largest block maximum is a lower bound of the k-th largest logit, and finding it in
/// a vocabulary of 128k means looking at 2k numbers; k blocks of 64 are then all that is read
/// again.
inline constexpr int32_t kRowBlock = 64;
constexpr int32_t NumRowBlocks(int32_t n) { return (n + kRowBlock - 1) / kRowBlock; }

/// block_max[b] = the largest x of block b (NaNs skipped, -infinity if nothing else).
/// Returns whether any x is a NaN. x: [n]; block_max: [NumRowBlocks(n)].
bool ScanRow(const float* x, int32_t n, float* block_max);

/// The maximum of one block of `size` <= kRowBlock values.
float BlockMax(const float* x, int32_t size);

/// out[i] = mask bit i ? x[i] : -infinity. mask: [ceil(n / 32)].
void MaskRow(const float* x, const uint32_t* mask, int32_t n, float* out);

/// block_mass[b] = sum over block b of exp((x - max) * inv_temperature), in float32 with a relative
/// error below 1e-6; returns their sum in block order. Where `moment` is not null, *moment = sum of
/// z * exp(z) with z the exponent.
double RowMass(const float* x, int32_t n, float max, float inv_temperature, double* block_mass,
               double* moment);

/// The float32 exponential that RowMass sums; 0 below -87.
float FastExp(float z);

/// w[i] = exp((x[i] - max) / temperature) in double, relative error below 1e-14 (0 below -708).
void ExpWeights(const float* x, size_t n, double max, double temperature, double* w);

/// Sum of exp((x - max) / temperature) in double, for log-probabilities.
double RowMassDouble(const float* x, int32_t n, double max, double temperature);

}  // namespace ink
