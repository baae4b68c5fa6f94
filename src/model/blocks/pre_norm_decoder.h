// The decoder that most architectures are: norm, attention, add, norm, MLP or experts, add.
#pragma once

#include <memory>
#include <vector>

#include "model/blocks/attention_block.h"
#include "model/blocks/mlp_block.h"
#include "model/blocks/output_head.h"
#include "model/model.h"

namespace ink {

class PreNormDecoder : public Model {
 public:
  struct Options {
    AttentionBlock::Options attention;
    bool fused_gate_up = false;
    bool experts = false;  // a mixture of experts in every layer
  };

  static Result<std::unique_ptr<Model>> Load(ModelLoader& loader, const DecoderConfig& config,
                                             const Options& options);

  Tensor Forward(ExecContext& context, const ForwardBatch& batch,
                 const StateView& state) const override;
  Tensor Logits(ExecContext& context, Tensor hidden, const int32_t* rows,
                int64_t num_rows) const override;

 private:
  struct Layer {
    VectorWeight attention_norm;
    AttentionBlock attention;
    VectorWeight ffn_norm;
    MlpBlock mlp;
    MoeBlock moe;
  };

  DecoderConfig config_;
  bool experts_ = false;
  RopeTable rope_;
  EmbeddingHead head_;
  std::vector<Layer> layers_;
};

}  // namespace ink
