// Qwen2 and Qwen2.5: Llama with biases on Q, K and V (taken wherever the file has them).
#include "model/architectures/architectures.h"
#include "model/blocks/pre_norm_decoder.h"

namespace ink {

Result<std::unique_ptr<Model>> LoadQwen2(ModelLoader& loader) {
  INK_ASSIGN_OR_RETURN(DecoderConfig config, ReadDecoderConfig(loader));
  PreNormDecoder::Options options;
  options.attention.sliding_window = config.sliding_window;
  return PreNormDecoder::Load(loader, config, options);
}

}  // namespace ink
