#include "model/blocks/layer_groups.h"

#include <map>

#include "model/model_loader.h"

namespace ink {

std::vector<LayerGroup> GroupAttentionLayers(const DecoderConfig& config,
                                             const std::vector<int64_t>& windows) {
  std::map<int64_t, LayerGroup> by_window;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    LayerGroup& group = by_window[windows[layer]];
    group.window = windows[layer];
    group.kind =
        group.window > 0 ? LayerGroup::Kind::kSlidingWindow : LayerGroup::Kind::kFullAttention;
    group.num_kv_heads = config.num_kv_heads;
    group.head_dim = config.head_dim;
    group.layers.push_back(layer);
  }
  std::vector<LayerGroup> groups;
  for (auto& [window, group] : by_window) groups.push_back(std::move(group));
  return groups;
}

void FillInfo(const ModelLoader& loader, const DecoderConfig& config,
              const std::vector<int64_t>& windows, ModelInfo* info) {
  info->architecture = config.prefix;
  auto name = loader.metadata().GetString("general.name", "");
  if (name.ok()) info->name = *name;
  info->d_model = config.d_model;
  info->n_vocab = config.n_vocab;
  info->num_layers = config.num_layers;
  info->context_length = config.context_length;
  info->groups = GroupAttentionLayers(config, windows);
}

int64_t LinearFlops(const Weight& matrix, int used) {
  return 2 * matrix.packed.rows * matrix.packed.cols * used;
}

}  // namespace ink
