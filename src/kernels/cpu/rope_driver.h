// Rotary embedding: angles, sections and positions are the same for every instruction set, which
// only rotates. Plain data and declarations only, as ISA folders include it.
#pragma once

#include "kernels/op_params.h"

namespace ink {

/// One token's heads. With (a, b) a pair: a' = fma(a, cos, -(b * sin)), b' = fma(b, cos, a * sin).
struct RotateCall {
  const float* x = nullptr;  // [num_heads, head_dim]
  float* out = nullptr;      // may be x
  // [rotary_dim / 2], one for each pair; when interleaved [rotary_dim], each value twice.
  const float* cosines = nullptr;
  const float* sines = nullptr;
  int num_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;
  bool interleaved = false;
};

void RunRope(void (*rotate)(const RotateCall& call), const RopeParams& params,
             const KernelContext& ctx) noexcept;

}  // namespace ink
