// Qwen3 with a mixture of experts in every layer, weights normalized over the chosen ones.
#include "model/architectures/architectures.h"
#include "model/blocks/pre_norm_decoder.h"

namespace ink {

Result<std::unique_ptr<Model>> LoadQwen3Moe(ModelLoader& loader) {
  INK_ASSIGN_OR_RETURN(DecoderConfig config, ReadDecoderConfig(loader));
  if (config.num_experts == 0) {
    return Corrupt(loader.source().path() + ": " + config.prefix +
                   ".expert_count: expected at least 1, got 0");
  }
  PreNormDecoder::Options options;
  options.attention.head_norms = true;
  options.attention.sliding_window = config.sliding_window;
  options.experts = true;
  return PreNormDecoder::Load(loader, config, options);
}

}  // namespace ink
