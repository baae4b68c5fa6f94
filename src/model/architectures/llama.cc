// Llama 2 and 3, Mistral (a sliding window where the file says so), and Mixtral (experts).
#include "model/architectures/architectures.h"
#include "model/blocks/pre_norm_decoder.h"

namespace ink {

Result<std::unique_ptr<Model>> LoadLlama(ModelLoader& loader) {
  INK_ASSIGN_OR_RETURN(DecoderConfig config, ReadDecoderConfig(loader));
  PreNormDecoder::Options options;
  INK_ASSIGN_OR_RETURN(options.attention.scale,
                       loader.metadata().GetFloat(config.prefix + ".attention.scale", 0.0f));
  options.attention.sliding_window = config.sliding_window;
  options.experts = config.num_experts > 0;
  return PreNormDecoder::Load(loader, config, options);
}

}  // namespace ink
