#include "model/blocks/output_head.h"

#include "ops/elementwise.h"
#include "ops/embed.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"

namespace ink {

Status EmbeddingHead::Declare(ModelLoader& loader, const DecoderConfig& config) {
  eps = config.eps;
  INK_RETURN_IF_ERROR(
      loader.Matrix("token_embd.weight", config.n_vocab, config.d_model, &embedding));
  tied = !loader.Has("output.weight");
  if (!tied) {
    INK_RETURN_IF_ERROR(loader.Matrix("output.weight", config.n_vocab, config.d_model, &output));
  }
  return loader.Vector("output_norm.weight", config.d_model, &norm);
}

Tensor EmbeddingHead::Embed(ExecContext& context, const ForwardBatch& batch) const {
  Tensor x = ink::Embed(context, embedding, batch.token_ids, batch.num_tokens, embed_scale);
  if (batch.input_embeds != nullptr) ReplaceRows(context, x, batch.input_embeds, batch.embed_index);
  return x;
}

Tensor EmbeddingHead::FinalNorm(ExecContext& context, Tensor x) const {
  return RmsNorm(context, x, norm, eps);
}

Tensor EmbeddingHead::Logits(ExecContext& context, Tensor hidden, const int32_t* rows,
                             int64_t num_rows) const {
  if (rows != nullptr) hidden = TakeRows(context, hidden, rows, num_rows);
  Tensor logits = Linear(context, hidden, tied ? embedding : output);
  return softcap > 0 ? Softcap(context, logits, softcap) : logits;
}

}  // namespace ink
