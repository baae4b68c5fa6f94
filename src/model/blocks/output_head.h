// Token embedding, final norm and vocabulary projection.
#pragma once

#include "model/config.h"
#include "model/forward_batch.h"
#include "model/model_loader.h"
#include "ops/weight.h"

namespace ink {

struct EmbeddingHead {
  Weight embedding;   // [n_vocab, d_model]
  Weight output;      // [n_vocab, d_model]; empty when tied to the embedding
  VectorWeight norm;  // [d_model]
  bool tied = false;
  float embed_scale = 1.0f;
  float softcap = 0;  // of the logits
  float eps = 0;

  Status Declare(ModelLoader& loader, const DecoderConfig& config);
  /// [num_tokens, d_model], input embeddings put in their places.
  Tensor Embed(ExecContext& context, const ForwardBatch& batch) const;
  Tensor FinalNorm(ExecContext& context, Tensor x) const;
  Tensor Logits(ExecContext& context, Tensor hidden, const int32_t* rows, int64_t num_rows) const;
};

}  // namespace ink
