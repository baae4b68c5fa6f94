#include "kernels/cpu/moe.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/thread_pool.h"

namespace ink::cpu {
namespace {

size_t Align(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Parts of the workspace, for `rows` rows at most in one expert.
struct MoeParts {
  size_t x, gate, up, y, linear, total;
};

LinearParams InputLinear(const MoeExpertsParams& p, int64_t rows) {
  LinearParams linear;
  linear.num_rows = rows;
  linear.cols = p.dim;
  linear.num_weights = 2;
  linear.weights[0] = p.gate;
  linear.weights[1] = p.up;
  return linear;
}

LinearParams OutputLinear(const MoeExpertsParams& p, int64_t rows) {
  LinearParams linear;
  linear.num_rows = rows;
  linear.cols = p.ffn_dim;
  linear.num_weights = 1;
  linear.weights[0] = p.down;
  return linear;
}

MoeParts PartsOf(const MoeExpertsParams& p) {
  MoeParts parts;
  const size_t rows = static_cast<size_t>(p.num_tokens);
  parts.x = 0;
  parts.gate = parts.x + Align(rows * p.dim * 4);
  parts.up = parts.gate + Align(rows * p.ffn_dim * 4);
  parts.y = parts.up + Align(rows * p.ffn_dim * 4);
  parts.linear = parts.y + Align(rows * p.dim * 4);
  parts.total = parts.linear + std::max(LinearWorkspaceBytes(InputLinear(p, p.num_tokens)),
                                        LinearWorkspaceBytes(OutputLinear(p, p.num_tokens)));
  return parts;
}

PackedMatrix Expert(PackedMatrix stack, int expert) {
  stack.data += expert * stack.expert_bytes;
  stack.experts = 1;
  return stack;
}

}  // namespace

void MoeRoute(const MoeRouteParams& params, const KernelContext& context) noexcept {
  context.pool->ParallelFor(params.num_tokens, [&](int64_t t, int) {
    const float* logits = params.logits + t * params.num_experts;
    int32_t* chosen = params.experts + t * params.top_k;
    float* weights = params.weights + t * params.top_k;
    // Repeated selection: top_k and num_experts are small (8 of 128), and ties go to the lower
    // index by construction.
    for (int k = 0; k < params.top_k; ++k) {
      int best = -1;
      for (int e = 0; e < params.num_experts; ++e) {
        bool taken = false;
        for (int j = 0; j < k; ++j) taken |= chosen[j] == e;
        if (!taken && (best < 0 || logits[e] > logits[best])) best = e;
      }
      chosen[k] = best;
    }
    for (int k = 1; k < params.top_k; ++k) {  // insertion sort into ascending expert order
      int32_t e = chosen[k];
      int j = k;
      for (; j > 0 && chosen[j - 1] > e; --j) chosen[j] = chosen[j - 1];
      chosen[j] = e;
    }
    float max = logits[0];
    for (int e = 1; e < params.num_experts; ++e) max = std::max(max, logits[e]);
    float sum = 0;
    if (params.normalize) {
      for (int k = 0; k < params.top_k; ++k) sum += std::exp(logits[chosen[k]] - max);
    } else {
      for (int e = 0; e < params.num_experts; ++e) sum += std::exp(logits[e] - max);
    }
    for (int k = 0; k < params.top_k; ++k) weights[k] = std::exp(logits[chosen[k]] - max) / sum;
  });
}

void MoeExperts(LinearFn linear, GluFn glu, const MoeExpertsParams& p,
                const KernelContext& context) noexcept {
  MoeParts parts = PartsOf(p);
  float* x = reinterpret_cast<float*>(p.workspace + parts.x);
  float* gate = reinterpret_cast<float*>(p.workspace + parts.gate);
  float* up = reinterpret_cast<float*>(p.workspace + parts.up);
  float* y = reinterpret_cast<float*>(p.workspace + parts.y);
  std::memset(p.out, 0, p.num_tokens * p.dim * sizeof(float));
  const int64_t num_choices = p.num_tokens * p.top_k;
  for (int e = 0; e < p.gate.experts; ++e) {
    int64_t rows = 0;
    for (int64_t c = 0; c < num_choices; ++c) {
      if (p.experts[c] != e) continue;
      std::memcpy(x + rows * p.dim, p.x + c / p.top_k * p.dim, p.dim * sizeof(float));
      ++rows;
    }
    if (rows == 0) continue;
    LinearParams in = InputLinear(p, rows);
    in.x = x;
    in.x_stride = p.dim;
    in.weights[0] = Expert(p.gate, e);
    in.weights[1] = Expert(p.up, e);
    in.y[0] = gate;
    in.y[1] = up;
    in.y_stride[0] = in.y_stride[1] = p.ffn_dim;
    in.workspace = p.workspace + parts.linear;
    linear(in, context);
    glu({gate, up, gate, rows, p.ffn_dim, p.ffn_dim, p.ffn_dim, p.activation}, context);
    LinearParams out = OutputLinear(p, rows);
    out.x = gate;
    out.x_stride = p.ffn_dim;
    out.weights[0] = Expert(p.down, e);
    out.y[0] = y;
    out.y_stride[0] = p.dim;
    out.workspace = p.workspace + parts.linear;
    linear(out, context);
    int64_t row = 0;
    for (int64_t c = 0; c < num_choices; ++c) {
      if (p.experts[c] != e) continue;
      float* to = p.out + c / p.top_k * p.dim;
      const float weight = p.weights[c];
      for (int64_t d = 0; d < p.dim; ++d) to[d] += weight * y[row * p.dim + d];
      ++row;
    }
  }
}

}  // namespace ink::cpu

namespace ink {

size_t MoeWorkspaceBytes(const MoeExpertsParams& params) { return cpu::PartsOf(params).total; }

}  // namespace ink
