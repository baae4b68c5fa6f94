#include "ops/elementwise.h"

#include "ops/recorder.h"

namespace ink {

Tensor Add(ExecContext& context, Tensor a, Tensor b) {
  INK_CHECK(a.contiguous() && b.contiguous());
  INK_CHECK_EQ(a.size(), b.size());
  Tensor y = context.NewTensor(a.rows, a.cols);
  context.Launch(context.device.ops().add, AddParams{a.data, b.data, y.data, a.size()});
  if (context.recorder != nullptr) context.recorder->Record(AddRecord{a, b, y});
  return y;
}

Tensor AddInPlace(ExecContext& context, Tensor a, Tensor b) {
  if (context.recorder != nullptr) return Add(context, a, b);
  INK_CHECK(a.contiguous() && b.contiguous());
  INK_CHECK_EQ(a.size(), b.size());
  context.Launch(context.device.ops().add, AddParams{a.data, b.data, a.data, a.size()});
  return a;
}

Tensor Scale(ExecContext& context, Tensor x, float scale) {
  INK_CHECK(x.contiguous());
  Tensor y = context.NewTensor(x.rows, x.cols);
  context.Launch(context.device.ops().scale, ScaleParams{x.data, y.data, x.size(), scale});
  if (context.recorder != nullptr) context.recorder->Record(ScaleRecord{x, scale, y});
  return y;
}

Tensor Softcap(ExecContext& context, Tensor x, float cap) {
  INK_CHECK(x.contiguous());
  Tensor y = context.NewTensor(x.rows, x.cols);
  context.Launch(context.device.ops().softcap, SoftcapParams{x.data, y.data, x.size(), cap});
  if (context.recorder != nullptr) context.recorder->Record(SoftcapRecord{x, cap, y});
  return y;
}

Tensor Glu(ExecContext& context, Tensor gate, Tensor up, Activation activation) {
  INK_CHECK_EQ(gate.cols, up.cols);
  INK_CHECK_EQ(gate.rows, up.rows);
  Tensor y = context.NewTensor(gate.rows, gate.cols);
  GluParams params{gate.data, up.data,     y.data,    gate.rows,
                   gate.cols, gate.stride, up.stride, activation};
  context.Launch(context.device.ops().glu, params);
  if (context.recorder != nullptr) context.recorder->Record(GluRecord{gate, up, activation, y});
  return y;
}

void Adapt(ExecContext& context, Tensor y, const float* delta, float scale, const float* gain,
           const VectorWeight* bias) {
  INK_CHECK(context.recorder == nullptr);
  AdaptParams params;
  params.y = y.data;
  params.delta = delta;
  params.gain = gain;
  params.bias = bias != nullptr ? bias->data : nullptr;
  params.num_rows = y.rows;
  params.dim = y.cols;
  params.y_stride = y.stride;
  params.scale = scale;
  context.Launch(context.device.ops().adapt, params);
}

}  // namespace ink
