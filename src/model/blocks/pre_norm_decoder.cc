#include "model/blocks/pre_norm_decoder.h"

#include "model/blocks/layer_groups.h"
#include "ops/elementwise.h"
#include "ops/recorder.h"
#include "ops/rms_norm.h"

namespace ink {

Result<std::unique_ptr<Model>> PreNormDecoder::Load(ModelLoader& loader,
                                                    const DecoderConfig& config,
                                                    const Options& options) {
  auto model = std::make_unique<PreNormDecoder>();
  model->config_ = config;
  model->experts_ = options.experts;
  FillInfo(loader, config,
           std::vector<int64_t>(config.num_layers, options.attention.sliding_window),
           &model->info_);
  INK_RETURN_IF_ERROR(model->head_.Declare(loader, config));
  INK_RETURN_IF_ERROR(DeclareRope(loader, config, &model->rope_));
  model->layers_.resize(config.num_layers);
  int64_t flops = 0;
  for (int i = 0; i < config.num_layers; ++i) {
    Layer& layer = model->layers_[i];
    INK_RETURN_IF_ERROR(
        loader.Vector(LayerName(i, "attn_norm.weight"), config.d_model, &layer.attention_norm));
    INK_RETURN_IF_ERROR(layer.attention.Declare(loader, config, i, options.attention));
    INK_RETURN_IF_ERROR(
        loader.Vector(LayerName(i, "ffn_norm.weight"), config.d_model, &layer.ffn_norm));
    for (const Weight* w : {&layer.attention.q, &layer.attention.k, &layer.attention.v,
                            &layer.attention.qkv, &layer.attention.output}) {
      flops += LinearFlops(*w);
    }
    if (options.experts) {
      INK_RETURN_IF_ERROR(layer.moe.Declare(loader, config, i));
      flops += LinearFlops(layer.moe.router);
      for (const Weight* w : {&layer.moe.gate, &layer.moe.up, &layer.moe.down}) {
        flops += LinearFlops(*w, config.experts_per_token);
      }
    } else {
      layer.mlp.fused_gate_up = options.fused_gate_up;
      INK_RETURN_IF_ERROR(layer.mlp.Declare(loader, config, i));
      for (const Weight* w : {&layer.mlp.gate, &layer.mlp.up, &layer.mlp.down}) {
        flops += LinearFlops(*w);
      }
    }
  }
  model->info_.flops_per_token = flops;
  INK_RETURN_IF_ERROR(loader.Load(model.get()));
  return std::unique_ptr<Model>(std::move(model));
}

Tensor PreNormDecoder::Forward(ExecContext& context, const ForwardBatch& batch,
                               const StateView& state) const {
  Tensor x = head_.Embed(context, batch);
  for (int i = 0; i < config_.num_layers; ++i) {
    const Layer& layer = layers_[i];
    ArenaScope scope(context);
    if (context.recorder != nullptr) context.recorder->BeginLayer(i, x);
    Tensor h = RmsNorm(context, x, layer.attention_norm, config_.eps);
    h = layer.attention.Forward(context, h, rope_, batch, state.layers[i]);
    x = AddInPlace(context, x, h);
    h = RmsNorm(context, x, layer.ffn_norm, config_.eps);
    h = experts_ ? layer.moe.Forward(context, h) : layer.mlp.Forward(context, h);
    x = AddInPlace(context, x, h);
    if (context.recorder != nullptr) context.recorder->EndLayer(i, x);
  }
  return head_.FinalNorm(context, x);
}

Tensor PreNormDecoder::Logits(ExecContext& context, Tensor hidden, const int32_t* rows,
                              int64_t num_rows) const {
  return head_.Logits(context, hidden, rows, num_rows);
}

}  // namespace ink
