// Adapters on the tape: what they add to a linear's result, and the gradients of their factors.
#include <cmath>

#include "kernels/op_table.h"
#include "tensor/align.h"
#include "train/tape.h"

namespace ink {
namespace {}  // namespace

// Called by Linear after it reported itself, so that in reverse the adapter's gradient comes first.
void Tape::AfterLinear(ExecContext&, const Weight& weight, const VectorWeight*, Tensor x,
                       Tensor y) {
  const LowRank* low_rank = adapters_ == nullptr ? nullptr : adapters_->Find(weight);
  if (low_rank == nullptr) return;
  Node node{LinearRecord{x, &weight, nullptr, y}, layer_, Allocate(x.rows, low_rank->a->rows)};
  node.low_rank = low_rank;
  node.stream = static_cast<int64_t>(nodes_.size());
  nodes_.push_back(node);
  if (!planning_) {
    RunForward(nodes_.back());
    return;
  }
  int64_t bytes = 0;
  auto product = [&](int64_t m, int64_t n, int64_t k) {
    MatmulParams p;
    p.m = m;
    p.n = n;
    p.k = k;
    bytes = std::max(bytes, static_cast<int64_t>(MatmulWorkspaceBytes(p)));
  };
  const int64_t rank = low_rank->a->rows;
  product(x.rows, rank, x.cols);
  product(x.rows, y.cols, rank);
  product(y.cols, rank, x.rows);
  product(x.rows, rank, y.cols);
  product(rank, x.cols, x.rows);
  product(x.rows, x.cols, rank);
  NeedWorkspace(static_cast<size_t>(bytes + 2 * AlignBytes(x.size() * 4)));
}

Tensor Tape::AdapterInput(const Node& node, Tensor x) {
  if (!DropsOut(node.low_rank->dropout)) return x;
  Tensor dropped{reinterpret_cast<float*>(workspace_.data()), x.rows, x.cols, x.cols};
  device_.Launch(kernels_.add_scaled, AddScaledParams{x.data, dropped.data, x.rows, x.cols,
                                                      x.stride, x.cols, 1.0f, true});
  Drop(dropped, node.low_rank->dropout, node.stream, false);
  return dropped;
}

void Tape::ForwardLowRank(const Node& node) {
  const auto& r = std::get<LinearRecord>(node.record);
  const LowRank& low = *node.low_rank;
  const Tensor u = node.extra;  // scale * A x
  const Tensor x = AdapterInput(node, r.x);
  MatmulParams p;
  p.a = x.data;
  p.a_stride = x.stride;
  p.b = low.a->value;
  p.b_stride = p.k = low.a->cols;
  p.c = u.data;
  p.c_stride = p.n = u.cols;
  p.m = x.rows;
  p.bfloat16 = options_.bfloat16;
  p.workspace = workspace_.data() + 2 * AlignBytes(r.x.size() * 4);
  device_.Launch(kernels_.matmul, p);
  device_.Launch(device_.ops().scale, ScaleParams{u.data, u.data, u.size(), low.scale});
  MatmulParams q;
  q.a = u.data;
  q.a_stride = q.b_stride = q.k = u.cols;
  q.b = low.b->value;
  q.c = r.y.data;
  q.c_stride = r.y.stride;
  q.m = r.y.rows;
  q.n = r.y.cols;
  q.bfloat16 = options_.bfloat16;
  q.accumulate = true;
  q.workspace = p.workspace;
  // The product of B with nothing from the base: a bias, if any, is taken out by the rule below.
  device_.Launch(kernels_.matmul, q);
  if (low.magnitude == nullptr) return;
  device_.Launch(kernels_.scale_columns,
                 ScaleColumnsParams{r.y.data, r.y.rows, r.y.cols, r.y.stride, low.factor,
                                    low.bias != nullptr ? low.bias->data : nullptr});
}

void Tape::BackLowRank(const Node& node) {
  const auto& r = std::get<LinearRecord>(node.record);
  const LowRank& low = *node.low_rank;
  const Tensor dy = Incoming(r.y), u = node.extra;
  const int64_t offset = AlignBytes(r.x.size() * 4);
  std::byte* rest = workspace_.data() + 2 * offset;
  if (low.magnitude != nullptr) {
    // y = magnitude / norm * z + bias: d magnitude = sum dy z / norm, and z / norm is
    // (y - bias) / magnitude. From here on dy is z's gradient, for the base's rule too.
    const float* bias = low.bias != nullptr ? low.bias->data : nullptr;
    device_.Launch(kernels_.column_dot,
                   ColumnDotParams{dy.data, r.y.data, dy.rows, dy.cols, dy.stride, r.y.stride,
                                   low.inverse_magnitude, bias, low.magnitude->grad});
    device_.Launch(kernels_.scale_columns,
                   ScaleColumnsParams{dy.data, dy.rows, dy.cols, dy.stride, low.factor, nullptr});
  }
  // dB += dy^T u.
  MatmulParams db;
  db.a = dy.data;
  db.a_stride = dy.stride;
  db.a_columns = db.b_columns = true;
  db.b = u.data;
  db.b_stride = db.n = db.c_stride = u.cols;
  db.c = low.b->grad;
  db.m = dy.cols;
  db.k = dy.rows;
  db.accumulate = true;
  db.bfloat16 = options_.bfloat16;
  db.workspace = rest;
  device_.Launch(kernels_.matmul, db);
  // du = scale * dy B.
  bool fresh = false;
  const Tensor du = GradientFor(u, &fresh);
  MatmulParams p;
  p.a = dy.data;
  p.a_stride = dy.stride;
  p.b = low.b->value;
  p.b_stride = p.n = p.c_stride = du.cols;
  p.b_columns = true;
  p.c = du.data;
  p.m = dy.rows;
  p.k = dy.cols;
  p.bfloat16 = options_.bfloat16;
  p.workspace = rest;
  device_.Launch(kernels_.matmul, p);
  device_.Launch(device_.ops().scale, ScaleParams{du.data, du.data, du.size(), low.scale});
  // dA += du^T x, x being what A saw.
  const Tensor x = AdapterInput(node, r.x);
  MatmulParams da;
  da.a = du.data;
  da.a_stride = du.stride;
  da.a_columns = da.b_columns = true;
  da.b = x.data;
  da.b_stride = x.stride;
  da.c = low.a->grad;
  da.c_stride = da.n = low.a->cols;
  da.m = du.cols;
  da.k = du.rows;
  da.accumulate = true;
  da.bfloat16 = options_.bfloat16;
  da.workspace = rest;
  device_.Launch(kernels_.matmul, da);
  // dx += du A, through the same dropout.
  const Tensor dx = GradientFor(r.x, &fresh);
  if (dx.empty()) return;
  const bool drops = DropsOut(low.dropout);
  Tensor to = dx;
  if (drops) to = {reinterpret_cast<float*>(workspace_.data() + offset), dx.rows, dx.cols, dx.cols};
  MatmulParams q;
  q.a = du.data;
  q.a_stride = du.stride;
  q.b = low.a->value;
  q.b_stride = q.n = low.a->cols;
  q.b_columns = true;
  q.c = to.data;
  q.c_stride = to.stride;
  q.m = du.rows;
  q.k = du.cols;
  q.accumulate = !drops && !fresh;
  q.bfloat16 = options_.bfloat16;
  q.workspace = rest;
  device_.Launch(kernels_.matmul, q);
  if (!drops) return;
  Drop(to, low.dropout, node.stream, false);
  device_.Launch(kernels_.add_scaled, AddScaledParams{to.data, dx.data, dx.rows, dx.cols, to.stride,
                                                      dx.stride, 1.0f, fresh});
}

bool Tape::DropsOut(double rate) const { return training_ && rate > 0; }

void Tape::Drop(Tensor x, double rate, int64_t stream, bool whole_rows) {
  DropoutParams p;
  p.x = x.data;
  p.rows = x.rows;
  p.cols = x.cols;
  p.stride = x.stride;
  p.seed = (dropout_seed_ + static_cast<uint64_t>(stream)) * 0x9e3779b97f4a7c15ull;
  p.seed ^= p.seed >> 29;
  p.keep = static_cast<float>(1 - rate);
  p.scale = whole_rows ? 1.0f : static_cast<float>(1 / (1 - rate));
  p.whole_rows = whole_rows;
  device_.Launch(kernels_.dropout, p);
}

// Residual dropout (Srivastava et al. 2014, placed as in GPT-2): what a block adds to the stream,
// and the embedding; and whole tokens of the embedding.
void Tape::DropResult(const Node& node, Tensor t) {
  if (!training_) return;
  if (const auto* embed = std::get_if<EmbedRecord>(&node.record)) {
    if (embed->y.empty()) return;
    if (options_.token_dropout > 0) Drop(t, options_.token_dropout, node.stream + (1 << 20), true);
    if (options_.dropout > 0) Drop(t, options_.dropout, node.stream, false);
  } else if (const auto* linear = std::get_if<LinearRecord>(&node.record)) {
    const std::string& name = linear->weight->name;
    if (options_.dropout > 0 && node.low_rank == nullptr &&
        (name.ends_with("attn_output.weight") || name.ends_with("ffn_down.weight"))) {
      Drop(t, options_.dropout, node.stream, false);
    }
  }
}

}  // namespace ink
