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
  // The 27B model (46 layers) scales queries by d_model / num_heads instead of the head size.
  if (config.num_layers == 46) {
    options.attention.scale =
        1.0f / std::sqrt(static_cast<float>(config.d_model) / config.num_heads);
  }
  int64_t window = config.sliding_window > 0 ? config.sliding_window : 4096;
  options.windows = AlternatingWindows(config.num_layers, window, 2);
  INK_ASSIGN_OR_RETURN(
      options.full_rope,
      ReadRopeScaling(loader.source(), config.prefix, config.rotary_dim, loader.options().context));
  options.sliding_rope = options.full_rope;
  return GemmaDecoder::Load(loader, config, options);
}

}  // namespace ink
