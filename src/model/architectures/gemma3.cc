// Gemma 3: normalized heads, five sliding layers to one full one, and two rotation bases.
#include <cmath>

#include "model/architectures/architectures.h"
#include "model/blocks/gemma_decoder.h"

namespace ink {

Result<std::unique_ptr<Model>> LoadGemma3(ModelLoader& loader) {
  INK_ASSIGN_OR_RETURN(DecoderConfig config, ReadDecoderConfig(loader));
  const Metadata& m = loader.metadata();
  GemmaDecoder::Options options;
  options.attention.head_norms = true;
  INK_ASSIGN_OR_RETURN(options.logit_softcap,
                       m.GetFloat(config.prefix + ".final_logit_softcapping", 0.0f));
  INK_ASSIGN_OR_RETURN(options.attention.scale,
                       m.GetFloat(config.prefix + ".attention.scale", 0.0f));
  // The 27B model (62 layers) scales queries by d_model / num_heads instead of the head size.
  if (options.attention.scale == 0 && config.num_layers == 62) {
    options.attention.scale =
        1.0f / std::sqrt(static_cast<float>(config.d_model) / config.num_heads);
  }
  INK_ASSIGN_OR_RETURN(int period, ReadWindowPeriod(loader, config, 6));
  options.windows = AlternatingWindows(config.num_layers, config.sliding_window, period);
  INK_ASSIGN_OR_RETURN(
      options.full_rope,
      ReadRopeScaling(loader.source(), config.prefix, config.rotary_dim, loader.options().context));
  options.sliding_rope = RopeScaling{};
  options.sliding_rope.rotary_dim = config.rotary_dim;
  INK_ASSIGN_OR_RETURN(options.sliding_rope.base,
                       m.GetFloat(config.prefix + ".rope.freq_base_swa", 10000.0f));
  return GemmaDecoder::Load(loader, config, options);
}

}  // namespace ink
