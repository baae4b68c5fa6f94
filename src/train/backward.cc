// The rules: how each recorded op is run again, and how it hands its gradient on.
#include <cstring>

#include "kernels/op_table.h"
#include "train/tape.h"

namespace ink {

void Tape::RunForward(Node& node) {
  const OpTable& ops = device_.ops();
  if (node.low_rank != nullptr) return ForwardLowRank(node);
  if (const auto* linear = std::get_if<LinearRecord>(&node.record)) {
    LinearParams p;
    p.x = linear->x.data;
    p.x_stride = linear->x.stride;
    p.num_rows = linear->x.rows;
    p.cols = linear->x.cols;
    p.num_weights = 1;
    p.weights[0] = linear->weight->packed;
    p.y[0] = linear->y.data;
    p.y_stride[0] = linear->y.stride;
    if (linear->bias != nullptr) p.bias[0] = linear->bias->data;
    p.workspace = workspace_.data();
    device_.Launch(ops.linear, p);
  } else if (const auto* embed = std::get_if<EmbedRecord>(&node.record)) {
    device_.Launch(ops.gather_rows, GatherRowsParams{embed->weight->packed, embed->ids,
                                                     embed->y.rows, embed->scale, embed->y.data});
  } else if (const auto* take = std::get_if<TakeRowsRecord>(&node.record)) {
    device_.Launch(ops.take_rows, TakeRowsParams{take->x.data, take->rows, take->y.data,
                                                 take->y.rows, take->y.cols, take->x.stride});
  } else if (const auto* norm = std::get_if<RmsNormRecord>(&node.record)) {
    const int64_t dim = norm->weight->size;
    for (int64_t g = 0; g < norm->x.cols / dim; ++g) {
      device_.Launch(ops.rms_norm, RmsNormParams{norm->x.data + g * dim, norm->weight->data,
                                                 norm->y.data + g * dim, norm->x.rows, dim,
                                                 norm->x.stride, norm->y.stride, norm->eps});
    }
  } else if (const auto* add = std::get_if<AddRecord>(&node.record)) {
    device_.Launch(ops.add, AddParams{add->a.data, add->b.data, add->y.data, add->y.size()});
  } else if (const auto* scale = std::get_if<ScaleRecord>(&node.record)) {
    device_.Launch(ops.scale,
                   ScaleParams{scale->x.data, scale->y.data, scale->y.size(), scale->scale});
  } else if (const auto* cap = std::get_if<SoftcapRecord>(&node.record)) {
    device_.Launch(ops.softcap, SoftcapParams{cap->x.data, cap->y.data, cap->y.size(), cap->cap});
  } else if (const auto* glu = std::get_if<GluRecord>(&node.record)) {
    device_.Launch(ops.glu,
                   GluParams{glu->gate.data, glu->up.data, glu->y.data, glu->y.rows, glu->y.cols,
                             glu->gate.stride, glu->up.stride, glu->activation});
  } else if (const auto* rope = std::get_if<RopeRecord>(&node.record)) {
    device_.Launch(ops.rope, rope->params);
  } else if (const auto* attention = std::get_if<AttentionRecord>(&node.record)) {
    device_.Launch(kernels_.attention, AttentionCall(*attention, node.extra));
  } else if (const auto* moe = std::get_if<MoeRecord>(&node.record)) {
    ForwardMoe(*moe, node.extra);
  }
  std::visit([&](const auto& record) { DropResult(node, record.y); }, node.record);
}

void Tape::RunBackward(Node& node) {
  // A result that nothing used has no gradient to hand on.
  const bool used =
      std::visit([&](const auto& record) { return HasGradient(record.y); }, node.record);
  if (!used) return;
  if (node.low_rank != nullptr) return BackLowRank(node);
  if (training_) {
    std::visit([&](const auto& record) { DropResult(node, Incoming(record.y)); }, node.record);
  }
  if (const auto* attention = std::get_if<AttentionRecord>(&node.record)) {
    BackAttention(*attention, node.extra);
  } else if (const auto* moe = std::get_if<MoeRecord>(&node.record)) {
    BackMoe(*moe, node.extra);
  } else {
    std::visit(
        [&](const auto& record) {
          using R = std::decay_t<decltype(record)>;
          if constexpr (!std::is_same_v<R, AttentionRecord> && !std::is_same_v<R, MoeRecord>) {
            Back(record);
          }
        },
        node.record);
  }
}

void Tape::Back(const LinearRecord& r) {
  const Tensor dy = Incoming(r.y);
  Parameter* parameter = parameters_->Find(*r.weight);
  if (parameter != nullptr) {
    // dW[n, k] += sum over rows of dy[row, n] x[row, k].
    MatmulParams dw;
    dw.a = dy.data;
    dw.a_stride = dy.stride;
    dw.a_columns = true;
    dw.b = r.x.data;
    dw.b_stride = r.x.stride;
    dw.b_columns = true;
    dw.c = parameter->grad;
    dw.c_stride = parameter->cols;
    dw.m = parameter->rows;
    dw.n = parameter->cols;
    dw.k = r.x.rows;
    dw.accumulate = true;
    dw.bfloat16 = options_.bfloat16;
    dw.workspace = workspace_.data();
    device_.Launch(kernels_.matmul, dw);
  }
  if (r.bias != nullptr && r.bias->data != nullptr) {
    if (Parameter* bias = parameters_->Find(*r.bias)) {
      device_.Launch(kernels_.column_sum,
                     ColumnSumParams{dy.data, bias->grad, dy.rows, dy.cols, dy.stride});
    }
  }
  bool fresh = false;
  const Tensor dx = GradientFor(r.x, &fresh);
  if (dx.empty()) return;
  if (parameter == nullptr) {
    FrozenGradInput(r.weight->packed, dy, dx, !fresh, workspace_.data());
    return;
  }
  MatmulParams p;
  p.a = dy.data;
  p.a_stride = dy.stride;
  p.b_packed = parameter->transposed;
  p.c = dx.data;
  p.c_stride = dx.stride;
  p.m = dy.rows;
  p.n = parameter->cols;
  p.k = parameter->rows;
  p.accumulate = !fresh;
  p.bfloat16 = options_.bfloat16;
  p.workspace = workspace_.data();
  device_.Launch(kernels_.matmul, p);
}

void Tape::FrozenGradInput(const PackedMatrix& weight, Tensor dy, Tensor dx, bool accumulate,
                           std::byte* workspace) {
  LinearGradInputParams p;
  p.dy = dy.data;
  p.dy_stride = dy.stride;
  p.num_rows = dy.rows;
  p.weight = weight;
  p.dx = dx.data;
  p.dx_stride = dx.stride;
  p.accumulate = accumulate;
  p.bfloat16 = options_.bfloat16;
  p.ids = reinterpret_cast<const int32_t*>(frozen_ids_.data());
  p.workspace = workspace;
  LinearGradInput(device_, p);
}

void Tape::Back(const EmbedRecord& r) {
  Parameter* parameter = parameters_->Find(*r.weight);
  if (parameter == nullptr) return;
  const Tensor dy = Incoming(r.y);
  device_.Launch(kernels_.scatter_add,
                 ScatterAddParams{dy.data, r.ids, parameter->grad, dy.rows, dy.cols, dy.stride,
                                  parameter->cols, r.scale});
}

void Tape::Back(const TakeRowsRecord& r) {
  const Tensor dx = GradientFor(r.x, nullptr);
  if (dx.empty()) return;
  const Tensor dy = Incoming(r.y);
  device_.Launch(kernels_.scatter_add, ScatterAddParams{dy.data, r.rows, dx.data, dy.rows, dy.cols,
                                                        dy.stride, dx.stride, 1.0f});
}

void Tape::Back(const RmsNormRecord& r) {
  const Tensor dy = Incoming(r.y);
  const Tensor dx = GradientFor(r.x, nullptr);
  Parameter* parameter = parameters_->Find(*r.weight);
  RmsNormGradParams p;
  p.x = r.x.data;
  p.dy = dy.data;
  p.dx = dx.data;
  p.weight = r.weight->data;
  p.dweight = parameter != nullptr ? parameter->grad : nullptr;
  p.num_rows = r.x.rows;
  p.dim = r.weight->size;
  p.groups = r.x.cols / p.dim;
  p.x_stride = r.x.stride;
  p.dy_stride = dy.stride;
  p.eps = r.eps;
  p.workspace = reinterpret_cast<float*>(workspace_.data());
  device_.Launch(kernels_.rms_norm_grad, p);
}

void Tape::AddGradient(Tensor x, Tensor dy, float scale) {
  bool fresh = false;
  const Tensor dx = GradientFor(x, &fresh);
  if (dx.empty()) return;
  device_.Launch(kernels_.add_scaled, AddScaledParams{dy.data, dx.data, dx.rows, dx.cols, dy.stride,
                                                      dx.stride, scale, fresh});
}

void Tape::Back(const AddRecord& r) {
  const Tensor dy = Incoming(r.y);
  AddGradient(r.a, dy, 1.0f);
  AddGradient(r.b, dy, 1.0f);
}

void Tape::Back(const ScaleRecord& r) { AddGradient(r.x, Incoming(r.y), r.scale); }

void Tape::Back(const SoftcapRecord& r) {
  const Tensor dy = Incoming(r.y);
  const Tensor dx = GradientFor(r.x, nullptr);
  if (dx.empty()) return;
  device_.Launch(kernels_.softcap_grad,
                 SoftcapGradParams{r.y.data, dy.data, dx.data, r.y.size(), r.cap});
}

void Tape::Back(const GluRecord& r) {
  const Tensor dy = Incoming(r.y);
  bool fresh_gate = false, fresh_up = false;
  const Tensor dgate = GradientFor(r.gate, &fresh_gate);
  const Tensor dup = GradientFor(r.up, &fresh_up);
  INK_CHECK(!dgate.empty() && !dup.empty());
  // Both new, or both added to: one that is new alone becomes zeros first.
  if (fresh_gate != fresh_up) {
    const Tensor& alone = fresh_gate ? dgate : dup;
    device_.Launch(kernels_.fill, FillParams{alone.data, alone.size(), 0.0f});
  }
  GluGradParams p{r.gate.data, r.up.data, dy.data,       dgate.data,  dup.data,
                  r.y.rows,    r.y.cols,  r.gate.stride, r.up.stride, fresh_gate && fresh_up,
                  r.activation};
  device_.Launch(kernels_.glu_grad, p);
}

void Tape::Back(const RopeRecord& r) {
  const Tensor dy = Incoming(r.y);
  bool fresh = false;
  const Tensor dx = GradientFor(r.x, &fresh);
  if (dx.empty()) return;
  RopeParams p = r.params;
  p.inverse = true;
  p.x = dy.data;
  p.x_stride = dy.stride;
  if (fresh) {
    p.out = dx.data;
    p.out_stride = dx.stride;
    device_.Launch(device_.ops().rope, p);
    return;
  }
  auto* turned = reinterpret_cast<float*>(workspace_.data());
  p.out = turned;
  p.out_stride = dx.cols;
  device_.Launch(device_.ops().rope, p);
  device_.Launch(kernels_.add_scaled, AddScaledParams{turned, dx.data, dx.rows, dx.cols, dx.cols,
                                                      dx.stride, 1.0f, false});
}

void Tape::BackAttention(const AttentionRecord& r, Tensor lse) {
  DenseAttentionParams p = AttentionCall(r, lse);
  p.d_out = Incoming(r.y).data;
  p.dq = GradientFor(r.q, nullptr).data;
  p.dk = GradientFor(r.k, nullptr).data;
  p.dv = GradientFor(r.v, nullptr).data;
  device_.Launch(kernels_.attention_grad, p);
}

}  // namespace ink
