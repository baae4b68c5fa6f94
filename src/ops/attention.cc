#include "ops/attention.h"

#include "ops/recorder.h"

namespace ink {

Tensor Rope(ExecContext& context, Tensor x, RopeParams spec) {
  INK_CHECK_EQ(x.cols, int64_t{spec.num_heads} * spec.head_dim);
  INK_CHECK_LE(spec.rotary_dim, spec.head_dim);
  Tensor y = context.NewTensor(x.rows, x.cols);
  spec.x = x.data;
  spec.out = y.data;
  spec.x_stride = x.stride;
  spec.out_stride = y.stride;
  spec.num_tokens = x.rows;
  context.Launch(context.device.ops().rope, spec);
  if (context.recorder != nullptr) context.recorder->Record(RopeRecord{x, y, spec});
  return y;
}

Tensor Attention(ExecContext& context, Tensor q, Tensor k, Tensor v, const AttentionSpec& spec,
                 const AttentionInputs& inputs) {
  INK_CHECK_EQ(q.cols, int64_t{spec.num_heads} * spec.head_dim);
  INK_CHECK_EQ(k.cols, int64_t{spec.num_kv_heads} * spec.head_dim);
  INK_CHECK_EQ(v.cols, k.cols);
  INK_CHECK_EQ(spec.num_heads % spec.num_kv_heads, 0);
  Tensor y = context.NewTensor(q.rows, q.cols);
  AttentionParams params;
  params.q = q.data;
  params.out = y.data;
  params.q_stride = q.stride;
  params.out_stride = y.stride;
  params.sequences = inputs.sequences;
  params.num_seqs = inputs.num_seqs;
  params.block_tables = inputs.block_tables;
  params.block_table_stride = inputs.block_table_stride;
  params.cache = inputs.cache;
  params.num_heads = spec.num_heads;
  params.scale = spec.scale;
  params.softcap = spec.softcap;
  params.sliding_window = spec.sliding_window;
  params.sinks = spec.sinks != nullptr ? spec.sinks->data : nullptr;
  if (context.recorder != nullptr) {
    params.cache.head_dim = spec.head_dim;
    params.cache.num_kv_heads = spec.num_kv_heads;
    context.recorder->Attention(AttentionRecord{q, k, v, y, params, spec.num_kv_heads});
    return y;
  }
  INK_CHECK(context.arena.measuring() || inputs.cache.head_dim == spec.head_dim);
  KvStoreParams store{k.data, v.data, k.stride, v.stride, inputs.slots, k.rows, inputs.cache};
  context.Launch(context.device.ops().kv_store, store);
  context.Launch(context.device.ops().attention, params);
  return y;
}

}  // namespace ink
