// Phi-3: fused Q, K, V and fused gate and up projections, long-rope factors.
#include "model/architectures/architectures.h"
#include "model/blocks/pre_norm_decoder.h"

namespace ink {

Result<std::unique_ptr<Model>> LoadPhi3(ModelLoader& loader) {
  INK_ASSIGN_OR_RETURN(DecoderConfig config, ReadDecoderConfig(loader));
  PreNormDecoder::Options options;
  options.attention.fused_qkv = loader.Has("blk.0.attn_qkv.weight");
  options.attention.sliding_window = config.sliding_window;
  options.fused_gate_up = !loader.Has("blk.0.ffn_gate.weight");
  return PreNormDecoder::Load(loader, config, options);
}

}  // namespace ink
