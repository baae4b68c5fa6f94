#include "model/blocks/attention_block.h"

#include <cmath>

#include "ops/linear.h"
#include "ops/rms_norm.h"

namespace ink {

std::string LayerName(int layer, const char* name) {
  return "blk." + std::to_string(layer) + "." + name;
}

Status AttentionBlock::Declare(ModelLoader& loader, const DecoderConfig& config, int layer,
                               const Options& options) {
  const int64_t q_dim = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv_dim = int64_t{config.num_kv_heads} * config.head_dim;
  fused = options.fused_qkv;
  eps = config.eps;
  spec.num_heads = config.num_heads;
  spec.num_kv_heads = config.num_kv_heads;
  spec.head_dim = config.head_dim;
  spec.scale =
      options.scale != 0 ? options.scale : 1.0f / std::sqrt(static_cast<float>(config.head_dim));
  spec.softcap = options.softcap;
  spec.sliding_window = options.sliding_window;
  auto name = [&](const char* part) { return LayerName(layer, part); };
  if (fused) {
    INK_RETURN_IF_ERROR(
        loader.Matrix(name("attn_qkv.weight"), q_dim + 2 * kv_dim, config.d_model, &qkv));
    INK_RETURN_IF_ERROR(
        loader.OptionalVector(name("attn_qkv.bias"), q_dim + 2 * kv_dim, &qkv_bias));
  } else {
    INK_RETURN_IF_ERROR(loader.Matrix(name("attn_q.weight"), q_dim, config.d_model, &q));
    INK_RETURN_IF_ERROR(loader.Matrix(name("attn_k.weight"), kv_dim, config.d_model, &k));
    INK_RETURN_IF_ERROR(loader.Matrix(name("attn_v.weight"), kv_dim, config.d_model, &v));
    INK_RETURN_IF_ERROR(loader.OptionalVector(name("attn_q.bias"), q_dim, &q_bias));
    INK_RETURN_IF_ERROR(loader.OptionalVector(name("attn_k.bias"), kv_dim, &k_bias));
    INK_RETURN_IF_ERROR(loader.OptionalVector(name("attn_v.bias"), kv_dim, &v_bias));
  }
  if (options.head_norms) {
    INK_RETURN_IF_ERROR(loader.Vector(name("attn_q_norm.weight"), config.head_dim, &q_norm));
    INK_RETURN_IF_ERROR(loader.Vector(name("attn_k_norm.weight"), config.head_dim, &k_norm));
  }
  INK_RETURN_IF_ERROR(loader.Matrix(name("attn_output.weight"), config.d_model, q_dim, &output));
  return loader.OptionalVector(name("attn_output.bias"), config.d_model, &output_bias);
}

Tensor AttentionBlock::Forward(ExecContext& context, Tensor x, const RopeTable& rope,
                               const ForwardBatch& batch, const StateView::Layer& state) const {
  Tensor query, key, value;
  if (fused) {
    Tensor all = Linear(context, x, qkv, &qkv_bias);
    const int64_t q_dim = int64_t{spec.num_heads} * spec.head_dim;
    const int64_t kv_dim = int64_t{spec.num_kv_heads} * spec.head_dim;
    query = all.Columns(0, q_dim);
    key = all.Columns(q_dim, kv_dim);
    value = all.Columns(q_dim + kv_dim, kv_dim);
  } else {
    Linear(context, x, {{&q, &q_bias, &query}, {&k, &k_bias, &key}, {&v, &v_bias, &value}});
  }
  if (q_norm.size > 0) {
    query = RmsNorm(context, query, q_norm, eps);
    key = RmsNorm(context, key, k_norm, eps);
  }
  RopeParams rotation;
  rotation.positions = batch.positions;
  rotation.inv_freq = rope.inv_freq.data;
  rotation.head_dim = spec.head_dim;
  rotation.rotary_dim = rope.rotary_dim;
  rotation.num_axes = batch.n_axes;
  rotation.magnitude = rope.magnitude;
  rotation.num_heads = spec.num_heads;
  query = Rope(context, query, rotation);
  rotation.num_heads = spec.num_kv_heads;
  key = Rope(context, key, rotation);

  const ForwardBatch::Group& group = batch.groups[state.group];
  AttentionInputs inputs{group.slots,        batch.sequences,    batch.num_seqs,
                         group.block_tables, group.table_stride, state.kv};
  Tensor mixed = Attention(context, query, key, value, spec, inputs);
  return Linear(context, mixed, output, &output_bias);
}

void DeclareRope(ModelLoader& loader, const RopeScaling& scaling, std::string name,
                 RopeTable* out) {
  RopeFrequencies frequencies = ComputeRopeFrequencies(scaling);
  out->magnitude = frequencies.magnitude;
  out->rotary_dim = scaling.rotary_dim;
  loader.Computed(std::move(name), std::move(frequencies.inv_freq), &out->inv_freq);
}

Status DeclareRope(ModelLoader& loader, const DecoderConfig& config, RopeTable* out) {
  INK_ASSIGN_OR_RETURN(
      RopeScaling scaling,
      ReadRopeScaling(loader.source(), config.prefix, config.rotary_dim, loader.options().context));
  DeclareRope(loader, scaling, "rope", out);
  return OkStatus();
}

}  // namespace ink
