// Gemma 2 and 3: norms before and after each part, GELU, scaled embeddings, and layers that
// alternate between a sliding window and full attention.
#pragma once

#include <memory>
#include <vector>

#include "model/blocks/attention_block.h"
#include "model/blocks/mlp_block.h"
#include "model/blocks/output_head.h"
#include "model/model.h"

namespace ink {

class GemmaDecoder : public Model {
 public:
  struct Options {
    AttentionBlock::Options attention;  // without the window, which differs by layer
    float logit_softcap = 0;
    std::vector<int64_t> windows;  // [num_layers], 0 for full attention
    RopeScaling full_rope;
    RopeScaling sliding_rope;
  };

  static Result<std::unique_ptr<Model>> Load(ModelLoader& loader, const DecoderConfig& config,
                                             const Options& options);

  Tensor Forward(ExecContext& context, const ForwardBatch& batch,
                 const StateView& state) const override;
  Tensor Logits(ExecContext& context, Tensor hidden, const int32_t* rows,
                int64_t num_rows) const override;

 private:
  struct Layer {
    VectorWeight attention_norm, post_attention_norm, ffn_norm, post_ffn_norm;
    AttentionBlock attention;
    MlpBlock mlp;
    bool sliding = false;
  };

  DecoderConfig config_;
  RopeTable full_rope_, sliding_rope_;
  EmbeddingHead head_;
  std::vector<Layer> layers_;
};

/// Windows of a repeating pattern in which every `period`-th layer sees everything.
std::vector<int64_t> AlternatingWindows(int num_layers, int64_t window, int period);

/// PREFIX.attention.sliding_window_pattern: every how many layers one sees everything.
Result<int> ReadWindowPeriod(const ModelLoader& loader, const DecoderConfig& config, int fallback);

}  // namespace ink
