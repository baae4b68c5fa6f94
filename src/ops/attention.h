#pragma once

#include "ops/exec_context.h"
#include "ops/weight.h"

namespace ink {

/// Rotates q or k. `spec` holds everything but the tensors (see RopeParams); positions
/// [x.rows, spec.num_axes] in device memory.
Tensor Rope(ExecContext& context, Tensor x, RopeParams spec);

/// The parts of AttentionParams that a layer and a batch supply.
struct AttentionInputs {
  const int64_t* slots = nullptr;  // [num_tokens], where the new K and V go
  const SequenceSpan* sequences = nullptr;
  int num_seqs = 0;
  const int32_t* block_tables = nullptr;
  int64_t block_table_stride = 0;
  KvLayerView cache;
};
struct AttentionSpec {
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  float scale = 1.0f;
  float softcap = 0;
  int64_t sliding_window = 0;
  const VectorWeight* sinks = nullptr;
};

/// Stores k and v [num_tokens, num_kv_heads * head_dim] into the cache, then attends with
/// q [num_tokens, num_heads * head_dim]. Result: q's shape. K and V are read only as stored.
Tensor Attention(ExecContext& context, Tensor q, Tensor k, Tensor v, const AttentionSpec& spec,
                 const AttentionInputs& inputs);

}  // namespace ink
