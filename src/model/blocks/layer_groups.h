#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/model.h"

namespace ink {

/// Groups attention layers by window (0: full attention): one group per distinct window, the full
/// one first. `windows` [num_layers].
std::vector<LayerGroup> GroupAttentionLayers(const DecoderConfig& config,
                                             const std::vector<int64_t>& windows);

/// Fills the facts that every decoder has; weight sizes come from ModelLoader::Load.
void FillInfo(const ModelLoader& loader, const DecoderConfig& config,
              const std::vector<int64_t>& windows, ModelInfo* info);

/// 2 FLOP per weight of `matrix` that multiplies a token (`used` of its experts).
int64_t LinearFlops(const Weight& matrix, int used = 1);

}  // namespace ink
