// Mixture of experts: forward through the kernels of inference, keeping the routing; backward one
// expert after the other, computing its activations again.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/op_table.h"
#include "train/tape.h"

namespace ink {
namespace {

int64_t Align(int64_t floats) { return (floats + 15) / 16 * 16; }

PackedMatrix Expert(PackedMatrix stack, int expert) {
  stack.data += expert * stack.expert_bytes;
  stack.experts = 1;
  return stack;
}

// Parts of the workspace, in floats, for all of a batch's rows in one expert.
struct Parts {
  int64_t x, gate, up, h, y, dy, dx, dgate, dup, dh, rest;
  Parts(int64_t rows, int64_t d, int64_t f) {
    int64_t at = 0;
    auto take = [&](int64_t cols) {
      const int64_t here = at;
      at += Align(rows * cols);
      return here;
    };
    x = take(d), gate = take(f), up = take(f), h = take(f), y = take(d), dy = take(d), dx = take(d),
    dgate = take(f), dup = take(f), dh = take(f), rest = at;
  }
};

MoeExpertsParams ExpertsCall(const MoeRecord& r, Tensor routing, std::byte* workspace) {
  MoeExpertsParams p;
  p.x = r.x.data;
  p.out = r.y.data;
  p.num_tokens = r.x.rows;
  p.dim = r.x.cols;
  p.ffn_dim = r.gate->packed.rows;
  p.experts = reinterpret_cast<const int32_t*>(routing.data);
  p.weights = routing.data + r.x.rows * r.top_k;
  p.top_k = r.top_k;
  p.gate = r.gate->packed;
  p.up = r.up->packed;
  p.down = r.down->packed;
  p.activation = r.activation;
  p.workspace = workspace;
  return p;
}

}  // namespace

void Tape::MixtureOfExperts(const MoeRecord& record) {
  // First half: the chosen experts as int32 [rows, top_k]; second half: their weights.
  Tensor routing = Allocate(2 * record.x.rows, record.top_k);
  nodes_.push_back({record, layer_, routing});
  if (!planning_) {
    RunForward(nodes_.back());
    return;
  }
  const int64_t rows = record.x.rows, d = record.x.cols, f = record.gate->packed.rows;
  NeedWorkspace(MoeWorkspaceBytes(ExpertsCall(record, routing, nullptr)));
  MatmulParams widest;
  widest.m = widest.n = std::max(d, f);
  widest.k = std::max(rows, widest.m);
  LinearParams linear;
  linear.num_rows = rows;
  linear.cols = std::max(d, f);
  linear.num_weights = 1;
  linear.weights[0] = record.gate->packed;
  widest.m = std::max(widest.m, rows);
  LinearGradInputParams frozen_up, frozen_down;
  frozen_up.num_rows = frozen_down.num_rows = rows;
  frozen_up.weight = record.gate->packed;
  frozen_down.weight = record.down->packed;
  NeedWorkspace(static_cast<size_t>(Parts(rows, d, f).rest) * sizeof(float) +
                MatmulWorkspaceBytes(widest) + LinearWorkspaceBytes(linear) +
                std::max(LinearGradInputWorkspaceBytes(frozen_up),
                         LinearGradInputWorkspaceBytes(frozen_down)));
  frozen_rows_ = std::max({frozen_rows_, d, f});
}

void Tape::ForwardMoe(const MoeRecord& r, Tensor routing) {
  device_.Launch(device_.ops().moe_route,
                 MoeRouteParams{r.logits.data, reinterpret_cast<int32_t*>(routing.data),
                                routing.data + r.x.rows * r.top_k, r.x.rows,
                                static_cast<int>(r.logits.cols), r.top_k, r.normalize});
  device_.Launch(device_.ops().moe_experts, ExpertsCall(r, routing, workspace_.data()));
}

void Tape::BackMoe(const MoeRecord& r, Tensor routing) {
  const Tensor dy = Incoming(r.y);
  const Tensor dx = GradientFor(r.x, nullptr);
  const Tensor dlogits = GradientFor(r.logits, nullptr);
  Parameter* gate = parameters_->Find(*r.gate);
  Parameter* up = parameters_->Find(*r.up);
  Parameter* down = parameters_->Find(*r.down);
  // All three are trained, or none is.
  INK_CHECK((gate != nullptr) == (up != nullptr) && (gate != nullptr) == (down != nullptr));
  device_.Synchronize();
  const int64_t rows = r.x.rows, d = r.x.cols, f = r.gate->packed.rows;
  const int k = r.top_k, num_experts = static_cast<int>(r.logits.cols);
  const auto* chosen = reinterpret_cast<const int32_t*>(routing.data);
  const float* weights = routing.data + rows * k;
  const Parts parts(rows, d, f);
  auto* base = reinterpret_cast<float*>(workspace_.data());
  auto* rest = reinterpret_cast<std::byte*>(base + parts.rest);
  std::vector<float> dweights(static_cast<size_t>(rows * k), 0.0f);
  std::vector<int32_t> tokens, slots;

  auto linear = [&](const float* x, int64_t n, const PackedMatrix& w, float* y) {
    LinearParams p;
    p.x = x;
    p.x_stride = p.cols = w.cols;
    p.num_rows = n;
    p.num_weights = 1;
    p.weights[0] = w;
    p.y[0] = y;
    p.y_stride[0] = w.rows;
    p.workspace = rest;
    device_.Launch(device_.ops().linear, p);
  };
  // dW += a^T b.
  auto weight_gradient = [&](const float* a, int64_t m, const float* b, int64_t n, int64_t count,
                             Parameter* parameter, int expert) {
    if (parameter == nullptr) return;
    float* to = parameter->grad + expert * d * f;
    MatmulParams p;
    p.a = a;
    p.a_stride = m;
    p.a_columns = true;
    p.b = b;
    p.b_stride = n;
    p.b_columns = true;
    p.c = to;
    p.c_stride = p.n = n;
    p.m = m;
    p.k = count;
    p.accumulate = true;
    p.bfloat16 = options_.bfloat16;
    p.workspace = rest;
    device_.Launch(kernels_.matmul, p);
  };
  auto input_gradient = [&](float* a, int64_t count, const Weight& weight,
                            const Parameter* parameter, int expert, float* to, bool accumulate) {
    if (parameter == nullptr) {
      const PackedMatrix one = Expert(weight.packed, expert);
      FrozenGradInput(one, {a, count, one.rows, one.rows}, {to, count, one.cols, one.cols},
                      accumulate, rest);
      return;
    }
    const Parameter& w = *parameter;
    MatmulParams p;
    p.a = a;
    p.a_stride = p.k = w.rows;
    p.b_packed = Expert(w.transposed, expert);
    p.c = to;
    p.c_stride = p.n = w.cols;
    p.m = count;
    p.accumulate = accumulate;
    p.bfloat16 = options_.bfloat16;
    p.workspace = rest;
    device_.Launch(kernels_.matmul, p);
  };

  for (int e = 0; e < num_experts; ++e) {
    tokens.clear();
    slots.clear();
    for (int64_t i = 0; i < rows * k; ++i) {
      if (chosen[i] != e) continue;
      tokens.push_back(static_cast<int32_t>(i / k));
      slots.push_back(static_cast<int32_t>(i));
    }
    if (tokens.empty()) continue;
    const auto n = static_cast<int64_t>(tokens.size());
    float *x = base + parts.x, *y = base + parts.y, *d_out = base + parts.dy;
    for (int64_t i = 0; i < n; ++i) {
      std::memcpy(x + i * d, r.x.data + tokens[i] * r.x.stride, d * sizeof(float));
    }
    linear(x, n, Expert(r.gate->packed, e), base + parts.gate);
    linear(x, n, Expert(r.up->packed, e), base + parts.up);
    device_.Launch(device_.ops().glu, GluParams{base + parts.gate, base + parts.up, base + parts.h,
                                                n, f, f, f, r.activation});
    linear(base + parts.h, n, Expert(r.down->packed, e), y);
    device_.Synchronize();
    for (int64_t i = 0; i < n; ++i) {
      const float* from = dy.data + tokens[i] * dy.stride;
      double dot = 0;
      for (int64_t c = 0; c < d; ++c) {
        dot += double{from[c]} * y[i * d + c];
        d_out[i * d + c] = from[c] * weights[slots[i]];
      }
      dweights[slots[i]] = static_cast<float>(dot);
    }
    weight_gradient(d_out, d, base + parts.h, f, n, down, e);
    input_gradient(d_out, n, *r.down, down, e, base + parts.dh, false);
    device_.Launch(
        kernels_.glu_grad,
        GluGradParams{base + parts.gate, base + parts.up, base + parts.dh, base + parts.dgate,
                      base + parts.dup, n, f, f, f, true, r.activation});
    weight_gradient(base + parts.dgate, f, x, d, n, gate, e);
    weight_gradient(base + parts.dup, f, x, d, n, up, e);
    input_gradient(base + parts.dgate, n, *r.gate, gate, e, base + parts.dx, false);
    input_gradient(base + parts.dup, n, *r.up, up, e, base + parts.dx, true);
    device_.Synchronize();
    if (dx.empty()) continue;
    for (int64_t i = 0; i < n; ++i) {
      float* to = dx.data + tokens[i] * dx.stride;
      for (int64_t c = 0; c < d; ++c) to[c] += base[parts.dx + i * d + c];
    }
  }

  // Through the softmax: normalized weights are a softmax over the chosen experts alone.
  if (dlogits.empty()) return;
  for (int64_t t = 0; t < rows; ++t) {
    const float* w = weights + t * k;
    const float* dw = dweights.data() + t * k;
    float* to = dlogits.data + t * dlogits.stride;
    double mean = 0;
    for (int i = 0; i < k; ++i) mean += double{w[i]} * dw[i];
    if (r.normalize) {
      for (int i = 0; i < k; ++i) {
        to[chosen[t * k + i]] += static_cast<float>(w[i] * (dw[i] - mean));
      }
      continue;
    }
    const float* logits = r.logits.data + t * r.logits.stride;
    double most = logits[0], sum = 0;
    for (int e = 1; e < num_experts; ++e) most = std::max<double>(most, logits[e]);
    for (int e = 0; e < num_experts; ++e) sum += std::exp(logits[e] - most);
    for (int e = 0; e < num_experts; ++e) {
      to[e] -= static_cast<float>(std::exp(logits[e] - most) / sum * mean);
    }
    for (int i = 0; i < k; ++i) to[chosen[t * k + i]] += w[i] * dw[i];
  }
}

}  // namespace ink
