#include "model/blocks/gemma_decoder.h"

#include <cmath>

#include "model/blocks/layer_groups.h"
#include "ops/elementwise.h"
#include "ops/recorder.h"
#include "ops/rms_norm.h"

namespace ink {

std::vector<int64_t> AlternatingWindows(int num_layers, int64_t window, int period) {
  std::vector<int64_t> windows(num_layers, 0);
  for (int i = 0; i < num_layers; ++i) {
    if ((i + 1) % period != 0) windows[i] = window;
  }
  return windows;
}

Result<int> ReadWindowPeriod(const ModelLoader& loader, const DecoderConfig& config, int fallback) {
  const std::string key = config.prefix + ".attention.sliding_window_pattern";
  INK_ASSIGN_OR_RETURN(uint32_t period, loader.metadata().GetU32(key, fallback));
  if (period == 0 || period > 4096) {
    return Corrupt(loader.source().path() + ": " + key + ": expected 1 to 4096, got " +
                   std::to_string(period));
  }
  return static_cast<int>(period);
}

Result<std::unique_ptr<Model>> GemmaDecoder::Load(ModelLoader& loader, const DecoderConfig& config,
                                                  const Options& options) {
  auto model = std::make_unique<GemmaDecoder>();
  model->config_ = config;
  FillInfo(loader, config, options.windows, &model->info_);
  INK_RETURN_IF_ERROR(model->head_.Declare(loader, config));
  model->head_.embed_scale = std::sqrt(static_cast<float>(config.d_model));
  model->head_.softcap = options.logit_softcap;
  DeclareRope(loader, options.full_rope, "rope", &model->full_rope_);
  DeclareRope(loader, options.sliding_rope, "rope_sliding", &model->sliding_rope_);
  model->layers_.resize(config.num_layers);
  int64_t flops = 0;
  for (int i = 0; i < config.num_layers; ++i) {
    Layer& layer = model->layers_[i];
    const int64_t d = config.d_model;
    INK_RETURN_IF_ERROR(loader.Vector(LayerName(i, "attn_norm.weight"), d, &layer.attention_norm));
    AttentionBlock::Options attention = options.attention;
    attention.sliding_window = options.windows[i];
    layer.sliding = options.windows[i] > 0;
    INK_RETURN_IF_ERROR(layer.attention.Declare(loader, config, i, attention));
    INK_RETURN_IF_ERROR(
        loader.Vector(LayerName(i, "post_attention_norm.weight"), d, &layer.post_attention_norm));
    INK_RETURN_IF_ERROR(loader.Vector(LayerName(i, "ffn_norm.weight"), d, &layer.ffn_norm));
    layer.mlp.activation = Activation::kGeluTanh;
    INK_RETURN_IF_ERROR(layer.mlp.Declare(loader, config, i));
    INK_RETURN_IF_ERROR(
        loader.Vector(LayerName(i, "post_ffw_norm.weight"), d, &layer.post_ffn_norm));
    for (const Weight* w :
         {&layer.attention.q, &layer.attention.k, &layer.attention.v, &layer.attention.output,
          &layer.mlp.gate, &layer.mlp.up, &layer.mlp.down}) {
      flops += LinearFlops(*w);
    }
  }
  model->info_.flops_per_token = flops;
  INK_RETURN_IF_ERROR(loader.Load(model.get()));
  return std::unique_ptr<Model>(std::move(model));
}

Tensor GemmaDecoder::Forward(ExecContext& context, const ForwardBatch& batch,
                             const StateView& state) const {
  Tensor x = head_.Embed(context, batch);
  for (int i = 0; i < config_.num_layers; ++i) {
    const Layer& layer = layers_[i];
    ArenaScope scope(context);
    if (context.recorder != nullptr) context.recorder->BeginLayer(i, x);
    Tensor h = RmsNorm(context, x, layer.attention_norm, config_.eps);
    h = layer.attention.Forward(context, h, layer.sliding ? sliding_rope_ : full_rope_, batch,
                                state.layers[i]);
    h = RmsNorm(context, h, layer.post_attention_norm, config_.eps);
    x = AddInPlace(context, x, h);
    h = RmsNorm(context, x, layer.ffn_norm, config_.eps);
    h = layer.mlp.Forward(context, h);
    h = RmsNorm(context, h, layer.post_ffn_norm, config_.eps);
    x = AddInPlace(context, x, h);
    if (context.recorder != nullptr) context.recorder->EndLayer(i, x);
  }
  return head_.FinalNorm(context, x);
}

Tensor GemmaDecoder::Logits(ExecContext& context, Tensor hidden, const int32_t* rows,
                            int64_t num_rows) const {
  return head_.Logits(context, hidden, rows, num_rows);
}

}  // namespace ink
