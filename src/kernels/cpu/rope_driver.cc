#include "kernels/cpu/rope_driver.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace ink {
namespace {

// pi/2 in parts. The first has 33 bits, so that its product with a quadrant number of up to 20 bits
// (angles to a million) is exact; the error of larger ones grows to 2e-7 at 2^31.
constexpr double kPiOver2High = 0x1.921fb544p+0;
constexpr double kPiOver2Low = 0x1.0b4611a626331p-34;
constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
constexpr double kRoundMagic64 = 6755399441055744.0;  // 1.5 * 2^52

/// Sine and cosine to about 1e-13. Taylor polynomials on [-pi/4, pi/4]: the first omitted terms are
/// 0.79^17 / 17! = 5e-17 and 0.79^16 / 16! = 1e-15. A third of the time of two library calls, and
/// the compiler can vectorize it.
inline void SinCos(double x, double& sine, double& cosine) {
  const double quadrants = (x * kTwoOverPi + kRoundMagic64) - kRoundMagic64;
  const double r = (x - quadrants * kPiOver2High) - quadrants * kPiOver2Low;
  const double z = r * r;
  double s = -1.0 / 1307674368000.0;
  s = s * z + 1.0 / 6227020800.0;
  s = s * z - 1.0 / 39916800.0;
  s = s * z + 1.0 / 362880.0;
  s = s * z - 1.0 / 5040.0;
  s = s * z + 1.0 / 120.0;
  s = s * z - 1.0 / 6.0;
  s = s * z * r + r;
  double c = -1.0 / 87178291200.0;
  c = c * z + 1.0 / 479001600.0;
  c = c * z - 1.0 / 3628800.0;
  c = c * z + 1.0 / 40320.0;
  c = c * z - 1.0 / 720.0;
  c = c * z + 1.0 / 24.0;
  c = c * z - 0.5;
  c = c * z + 1.0;
  // Positions are integers below 2^31 and frequencies at most 1, mostly; quadrants fit 64 bits.
  const int64_t quadrant = static_cast<int64_t>(quadrants);
  const bool swap = (quadrant & 1) != 0;
  const double swapped_sine = swap ? c : s;
  const double swapped_cosine = swap ? s : c;
  sine = (quadrant & 2) != 0 ? -swapped_sine : swapped_sine;
  cosine = ((quadrant + 1) & 2) != 0 ? -swapped_cosine : swapped_cosine;
}

struct Job {
  void (*rotate)(const RotateCall& call);
  const RopeParams* params;
  const KernelContext* ctx;
};

void Tables(const RopeParams& p, int64_t token, float* cosines, float* sines) {
  const int pairs = p.rotary_dim / 2;
  const int32_t* positions = p.positions + token * p.num_axes;
  int axis = 0;
  int section_end = p.num_axes > 1 ? p.sections[0] : pairs;
  for (int i = 0; i < pairs; ++i) {
    while (i >= section_end && axis + 1 < p.num_axes) section_end += p.sections[++axis];
    double sine;
    double cosine;
    SinCos(static_cast<double>(positions[axis]) * static_cast<double>(p.inv_freq[i]), sine, cosine);
    const float c = static_cast<float>(cosine * p.magnitude);
    const float s = static_cast<float>((p.inverse ? -sine : sine) * p.magnitude);
    if (p.interleaved) {
      cosines[2 * i] = cosines[2 * i + 1] = c;
      sines[2 * i] = sines[2 * i + 1] = s;
    } else {
      cosines[i] = c;
      sines[i] = s;
    }
  }
}

}  // namespace

void RunRope(void (*rotate)(const RotateCall& call), const RopeParams& params,
             const KernelContext& ctx) noexcept {
  INK_CHECK_LE(params.rotary_dim, params.head_dim);
  INK_CHECK_LE(static_cast<size_t>(params.rotary_dim) * 2 * sizeof(float), ctx.scratch_bytes);
  Job job{rotate, &params, &ctx};
  ctx.ParallelFor(
      params.num_tokens,
      [](void* argument, int64_t token, int thread) {
        const Job& job = *static_cast<const Job*>(argument);
        const RopeParams& p = *job.params;
        float* cosines = reinterpret_cast<float*>(job.ctx->ThreadScratch(thread));
        float* sines = cosines + p.rotary_dim;
        Tables(p, token, cosines, sines);
        RotateCall call;
        call.x = p.x + token * p.x_stride;
        call.out = p.out + token * p.out_stride;
        call.cosines = cosines;
        call.sines = sines;
        call.num_heads = p.num_heads;
        call.head_dim = p.head_dim;
        call.rotary_dim = p.rotary_dim;
        call.interleaved = p.interleaved;
        job.rotate(call);
        if (call.out != call.x && p.rotary_dim < p.head_dim) {
          for (int h = 0; h < p.num_heads; ++h) {
            const int64_t rest = int64_t{h} * p.head_dim + p.rotary_dim;
            std::memcpy(call.out + rest, call.x + rest,
                        sizeof(float) * (p.head_dim - p.rotary_dim));
          }
        }
      },
      &job);
}

}  // namespace ink
