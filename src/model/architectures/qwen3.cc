// Qwen3: every head of Q and K is normalized before the rotation.
#include "model/architectures/architectures.h"
#include "model/blocks/pre_norm_decoder.h"

namespace ink {

Result<std::unique_ptr<Model>> LoadQwen3(ModelLoader& loader) {
  INK_ASSIGN_OR_RETURN(DecoderConfig config, ReadDecoderConfig(loader));
  PreNormDecoder::Options options;
  options.attention.head_norms = true;
  options.attention.sliding_window = config.sliding_window;
  return PreNormDecoder::Load(loader, config, options);
}

}  // namespace ink
