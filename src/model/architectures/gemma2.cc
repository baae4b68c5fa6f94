// Gemma 2: soft-capped attention and logits, every second layer with full attention.
#include <cmath>

#include "model/architectures/architectures.h"
#include "model/blocks/gemma_decoder.h"

namespace ink {

Result<std::unique_ptr<Model>> LoadGemma2(ModelLoader& loader) {
  INK_ASSIGN_OR_RETURN(DecoderConfig config, ReadDecoderConfig(loader));
  const Metadata& m = loader.metadata();
  GemmaDecoder::Options options;
  INK_ASSIGN_OR_RETURN(options.attention.softcap,
                       m.GetFloat(config.prefix + ".attn_logit_softcapping", 50.0f));
  INK_ASSIGN_OR_RETURN(options.logit_softcap,
                       m.GetFloat(config.prefix + ".final_logit_softcapping", 30.0f));
  INK_ASSIGN_OR_RETURN(options.attention.scale,
                       m.GetFloat(config.prefix + ".attention.scale", 0.0f));
  // The 27B model (46 layers) scales queries by d_model / num_heads instead of the head size.
  if (options.attention.scale == 0 && config.num_layers == 46) {
    options.attention.scale =
        1.0f / std::sqrt(static_cast<float>(config.d_model) / config.num_heads);
  }
  // Files from before the key have the published models' window; 0 says full attention.
  const bool has_window = m.Has(config.prefix + ".attention.sliding_window");
  const int64_t window = has_window ? config.sliding_window : 4096;
  INK_ASSIGN_OR_RETURN(int period, ReadWindowPeriod(loader, config, 2));
  options.windows = AlternatingWindows(config.num_layers, window, period);
  INK_ASSIGN_OR_RETURN(
      options.full_rope,
      ReadRopeScaling(loader.source(), config.prefix, config.rotary_dim, loader.options().context));
  options.sliding_rope = options.full_rope;
  return GemmaDecoder::Load(loader, config, options);
}

}  // namespace ink
