// What one forward pass computes: tokens of several sequences, side by side.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/op_params.h"
#include "tensor/tensor.h"

namespace ink {

/// All pointers are device memory; host code reads none of it between Forward and its result.
struct ForwardBatch {
  /// A layer group's inputs. Attention groups use slots and tables, recurrent ones state slots.
  struct Group {
    const int64_t* slots = nullptr;         // [num_tokens], block * 32 + offset; -1: not stored
    const int32_t* block_tables = nullptr;  // [num_seqs, table_stride], -1 behind a window
    int64_t table_stride = 0;
    const int32_t* state_slots = nullptr;  // [num_seqs]
  };

  int64_t num_tokens = 0;
  int num_seqs = 0;
  const int32_t* token_ids = nullptr;  // [num_tokens]
  const int32_t* positions = nullptr;  // [num_tokens, n_axes]
  int n_axes = 1;
  const SequenceSpan* sequences = nullptr;  // [num_seqs], with masks and adapters
  const int32_t* cu_seqlens = nullptr;      // [num_seqs + 1]
  const float* input_embeds = nullptr;      // [num_embeds, d_model] or null
  const int32_t* embed_index = nullptr;     // [num_tokens], -1: the token's own embedding
  std::vector<Group> groups;                // by layer group
};

/// The cached state of every layer, as the runner laid it out.
struct StateView {
  struct Layer {
    int group = 0;
    KvLayerView kv;
  };
  std::vector<Layer> layers;  // [num_layers]
};

}  // namespace ink
