#include "train/optimizer.h"
#include "tensor/align.h"

#include <algorithm>
#include <cmath>

namespace ink {
namespace {

// Hidden matrices; embeddings and the output projection see sparse, unlike gradients.
bool TakesMuon(const OptimizerConfig& config, const Parameter& p) {
  return config.kind == OptimizerKind::kMuon && !p.is_vector && p.name.starts_with("blk.");
}

int64_t Blocks(int64_t count) { return (count + kState8Block - 1) / kState8Block; }

// Coefficients of the quintic iteration of Muon, which pushes singular values towards 1 fast.
constexpr float kNsA = 3.4445f, kNsB = -4.7750f, kNsC = 2.0315f;

}  // namespace

Optimizer::Optimizer(Device& device, ParameterStore& parameters, const OptimizerConfig& config,
                     bool bfloat16)
    : device_(device),
      parameters_(parameters),
      config_(config),
      bfloat16_(bfloat16),
      kernels_(TrainKernelsFor(device.ops().name)) {}

int64_t OptimizerStateBytes(const OptimizerConfig& config, const ParameterStore& parameters) {
  int64_t bytes = 0;
  for (const auto& p : parameters.all()) {
    const int64_t n = p->size();
    if (TakesMuon(config, *p)) {
      bytes += AlignBytes(n * 4);
    } else if (config.kind == OptimizerKind::kAdamW8 && !p->is_vector) {
      bytes += 2 * AlignBytes(n) + 2 * AlignBytes(Blocks(n) * 4);
    } else {
      bytes += 2 * AlignBytes(n * 4);
    }
  }
  return bytes;
}

Result<std::unique_ptr<Optimizer>> Optimizer::Create(Device& device, ParameterStore& parameters,
                                                     const OptimizerConfig& config, bool bfloat16) {
  std::unique_ptr<Optimizer> o(new Optimizer(device, parameters, config, bfloat16));
  int64_t bytes = 0, scratch = 0;
  auto take = [&](int64_t size) {
    const int64_t at = bytes;
    bytes += AlignBytes(size);
    return at;
  };
  for (const auto& p : parameters.all()) {
    Slot slot{p.get(), TakesMuon(config, *p), 0};
    const bool embedding = p->name == "token_embd.weight" || p->name == "output.weight";
    if (!p->is_vector && (!embedding || config.decay_embeddings)) {
      slot.weight_decay = config.weight_decay;
    }
    const int64_t n = p->size();
    if (slot.muon) {
      slot.m = take(n * 4);
      // Two copies of a matrix, three squares of its short side, and the products' workspace.
      const int64_t small = std::min(p->rows, p->cols), one = p->rows * p->cols;
      MatmulParams widest;
      widest.m = widest.n = widest.k = std::max(p->rows, p->cols);
      scratch = std::max(scratch, 2 * AlignBytes(one * 4) + 3 * AlignBytes(small * small * 4) +
                                      static_cast<int64_t>(MatmulWorkspaceBytes(widest)));
    } else if (config.kind == OptimizerKind::kAdamW8 && !p->is_vector) {
      slot.m = take(n);
      slot.v = take(n);
      slot.m_max = take(Blocks(n) * 4);
      slot.v_max = take(Blocks(n) * 4);
    } else {
      slot.m = take(n * 4);
      slot.v = take(n * 4);
    }
    o->slots_.push_back(slot);
  }
  INK_CHECK_EQ(bytes, OptimizerStateBytes(config, parameters));
  INK_ASSIGN_OR_RETURN(o->state_,
                       device.Allocate(static_cast<size_t>(bytes), LedgerEntry::kTraining));
  INK_ASSIGN_OR_RETURN(o->scratch_,
                       device.Allocate(static_cast<size_t>(scratch), LedgerEntry::kTraining));
  const int64_t parts = (parameters.flat_size() + kSumBlock - 1) / kSumBlock;
  INK_ASSIGN_OR_RETURN(o->partial_, device.Allocate(static_cast<size_t>(parts) * sizeof(double),
                                                    LedgerEntry::kTraining));
  return o;
}

double Optimizer::GradientNorm() {
  SumSquaresParams sum;
  sum.x = parameters_.grads();
  sum.count = parameters_.flat_size();
  sum.partial = reinterpret_cast<double*>(partial_.data());
  device_.Launch(kernels_.sum_squares, sum);
  std::vector<double> parts(partial_.size() / sizeof(double));
  device_.CopyToHost(parts.data(), partial_.data(), partial_.size());
  double total = 0;
  for (double part : parts) total += part;
  return std::sqrt(total);
}

void Optimizer::Adam(const Slot& slot, float lr, float grad_scale) {
  const Parameter& p = *slot.parameter;
  AdamParams a;
  a.w = p.value;
  a.grad = p.grad;
  a.count = p.size();
  a.grad_scale = grad_scale;
  a.lr = lr;
  a.beta1 = config_.beta1;
  a.beta2 = config_.beta2;
  a.eps = config_.eps;
  a.weight_decay = slot.weight_decay;
  a.bias1 = static_cast<float>(1.0 - std::pow(double{config_.beta1}, steps_));
  a.bias2 = static_cast<float>(1.0 - std::pow(double{config_.beta2}, steps_));
  if (slot.m_max != slot.v_max) {
    Adam8Params a8;
    a8.adam = a;
    a8.m8 = reinterpret_cast<int8_t*>(state_.data() + slot.m);
    a8.v8 = reinterpret_cast<uint8_t*>(state_.data() + slot.v);
    a8.m_max = At(slot.m_max);
    a8.v_max = At(slot.v_max);
    device_.Launch(kernels_.adam8, a8);
    return;
  }
  a.m = At(slot.m);
  a.v = At(slot.v);
  device_.Launch(kernels_.adam, a);
}

void Optimizer::Muon(const Slot& slot, float lr, float grad_scale) {
  const Parameter& p = *slot.parameter;
  const int64_t rows = p.rows, cols = p.cols, n = rows * cols;
  const int64_t small = std::min(rows, cols);
  const bool wide = rows <= cols;
  std::byte* base = scratch_.data();
  auto take = [&](int64_t floats) {
    auto* at = reinterpret_cast<float*>(base);
    base += AlignBytes(floats * 4);
    return at;
  };
  float *x = take(n), *next = take(n), *gram = take(small * small), *square = take(small * small),
        *mix = take(small * small);
  auto blend = [&](const float* from, float* to, int64_t r, int64_t c, float scale,
                   bool overwrite) {
    device_.Launch(kernels_.add_scaled, AddScaledParams{from, to, r, c, c, c, scale, overwrite});
  };
  auto product = [&](const float* a, int64_t a_stride, bool a_columns, const float* b,
                     int64_t b_stride, bool b_columns, float* c, int64_t m, int64_t columns,
                     int64_t k, bool accumulate) {
    MatmulParams q;
    q.a = a;
    q.a_stride = a_stride;
    q.a_columns = a_columns;
    q.b = b;
    q.b_stride = b_stride;
    q.b_columns = b_columns;
    q.c = c;
    q.c_stride = q.n = columns;
    q.m = m;
    q.k = k;
    q.accumulate = accumulate;
    q.bfloat16 = bfloat16_;
    q.workspace = base;
    device_.Launch(kernels_.matmul, q);
  };
  for (int e = 0; e < p.experts; ++e) {
    float* w = p.value + e * n;
    const float* grad = p.grad + e * n;
    float* momentum = At(slot.m) + e * n;
    blend(momentum, momentum, rows, cols, config_.momentum, true);
    blend(grad, momentum, rows, cols, grad_scale, false);
    blend(grad, x, rows, cols, grad_scale, true);
    blend(momentum, x, rows, cols, config_.momentum, false);
    SumSquaresParams sum;
    sum.x = x;
    sum.count = n;
    sum.partial = reinterpret_cast<double*>(partial_.data());
    device_.Launch(kernels_.sum_squares, sum);
    std::vector<double> parts(static_cast<size_t>((n + kSumBlock - 1) / kSumBlock));
    device_.CopyToHost(parts.data(), partial_.data(), parts.size() * sizeof(double));
    double total = 0;
    for (double part : parts) total += part;
    const auto inverse = static_cast<float>(1.0 / (std::sqrt(total) + 1e-7));
    blend(x, x, rows, cols, inverse, true);
    for (int i = 0; i < config_.newton_schulz_steps; ++i) {
      // gram = X X^T or X^T X, whichever is small; X <- a X + (b gram + c gram^2) X.
      product(x, cols, !wide, x, cols, !wide, gram, small, small, wide ? cols : rows, false);
      product(gram, small, false, gram, small, false, square, small, small, small, false);
      blend(gram, mix, small, small, kNsB, true);
      blend(square, mix, small, small, kNsC, false);
      blend(x, next, rows, cols, kNsA, true);
      if (wide) {
        product(mix, small, false, x, cols, true, next, rows, cols, rows, true);
      } else {
        product(x, cols, false, mix, small, false, next, rows, cols, cols, true);
      }
      std::swap(x, next);
    }
    const float size = 0.2f * std::sqrt(static_cast<float>(std::max(rows, cols)));
    blend(w, w, rows, cols, 1.0f - lr * slot.weight_decay, true);
    blend(x, w, rows, cols, -lr * size, false);
  }
}

void Optimizer::Step(double lr_scale, double grad_scale) {
  ++steps_;
  const auto lr = static_cast<float>(double{config_.lr} * lr_scale);
  for (const Slot& slot : slots_) {
    if (slot.muon) {
      Muon(slot, lr, static_cast<float>(grad_scale));
    } else {
      const bool muon_run = config_.kind == OptimizerKind::kMuon;
      Adam(slot, muon_run ? lr * config_.adam_lr_scale : lr, static_cast<float>(grad_scale));
    }
  }
  parameters_.Repack();
}

}  // namespace ink
