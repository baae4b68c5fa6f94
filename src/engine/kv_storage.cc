#include "engine/kv_storage.h"

#include <array>
#include <string>

#include "base/check.h"

namespace ink {
namespace {

constexpr std::array kCacheTypes = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0,
                                    DType::kQ4_0};

Result<DType> ParseOne(std::string_view name) {
  std::string known;
  for (DType type : kCacheTypes) {
    if (DTypeFromName(name) == type) return type;
    known += (known.empty() ? "" : ", ") + std::string(Info(type).name);
  }
  return InvalidArgument("cache type: expected one of " + known + " (or K:V), got \"" +
                         std::string(name) + "\"");
}

}  // namespace

Result<KvTypes> ParseKvTypes(std::string_view text) {
  KvTypes types;
  if (text.empty()) return types;
  size_t colon = text.find(':');
  INK_ASSIGN_OR_RETURN(types.k, ParseOne(text.substr(0, colon)));
  types.v = types.k;
  if (colon != std::string_view::npos) {
    INK_ASSIGN_OR_RETURN(types.v, ParseOne(text.substr(colon + 1)));
  }
  return types;
}

int64_t GroupBlockBytes(const LayerGroup& group, KvTypes types) {
  if (group.kind == LayerGroup::Kind::kRecurrent) {
    return group.state_bytes * static_cast<int64_t>(group.layers.size());
  }
  int64_t per_layer = group.num_kv_heads *
                      (KvHeadBytes(types.k, group.head_dim) + KvHeadBytes(types.v, group.head_dim));
  return per_layer * static_cast<int64_t>(group.layers.size());
}

std::vector<GroupSpec> CacheGroups(const ModelInfo& info, KvTypes types) {
  std::vector<GroupSpec> specs;
  for (const LayerGroup& group : info.groups) {
    GroupSpec spec;
    switch (group.kind) {
      case LayerGroup::Kind::kFullAttention:
        spec.kind = GroupKind::kFullAttention;
        break;
      case LayerGroup::Kind::kSlidingWindow:
        spec.kind = GroupKind::kSlidingWindow;
        break;
      case LayerGroup::Kind::kRecurrent:
        spec.kind = GroupKind::kRecurrent;
        break;
    }
    spec.window = group.window;
    spec.block_bytes = GroupBlockBytes(group, types);
    specs.push_back(spec);
  }
  return specs;
}

Result<KvStorage> KvStorage::Create(const ModelInfo& info, KvTypes types,
                                    std::span<const int64_t> blocks,
                                    std::span<const int64_t> host_blocks, Device& device) {
  KvStorage storage;
  storage.device_ = &device;
  storage.view_.layers.resize(info.num_layers);
  storage.groups_.resize(info.groups.size());
  for (size_t g = 0; g < info.groups.size(); ++g) {
    const LayerGroup& group = info.groups[g];
    Group& out = storage.groups_[g];
    out.block_bytes = GroupBlockBytes(group, types);
    out.blocks = blocks[g];
    auto entry = group.kind == LayerGroup::Kind::kRecurrent ? LedgerEntry::kRecurrentState
                                                            : LedgerEntry::kKvCache;
    INK_ASSIGN_OR_RETURN(out.device, device.Allocate(out.block_bytes * out.blocks, entry));
    if (g < host_blocks.size()) out.host.resize(host_blocks[g] * out.block_bytes);
    const int64_t k_head = KvHeadBytes(types.k, group.head_dim);
    const int64_t v_head = KvHeadBytes(types.v, group.head_dim);
    std::byte* at = out.device.data();
    for (int layer : group.layers) {
      KvLayerView& kv = storage.view_.layers[layer].kv;
      storage.view_.layers[layer].group = static_cast<int>(g);
      kv.k = at;
      at += group.num_kv_heads * k_head;
      kv.v = at;
      at += group.num_kv_heads * v_head;
      kv.k_type = types.k;
      kv.v_type = types.v;
      kv.k_block_bytes = kv.v_block_bytes = out.block_bytes;
      kv.k_head_bytes = k_head;
      kv.v_head_bytes = v_head;
      kv.num_kv_heads = group.num_kv_heads;
      kv.head_dim = group.head_dim;
    }
  }
  return storage;
}

void KvStorage::Read(int g, BlockId block, std::byte* out) const {
  const Group& group = groups_[g];
  INK_CHECK(block >= 0 && block < group.blocks);
  device_->CopyToHost(out, group.device.data() + block * group.block_bytes,
                      static_cast<size_t>(group.block_bytes));
}

void KvStorage::Write(int g, BlockId block, const std::byte* from) {
  Group& group = groups_[g];
  INK_CHECK(block >= 0 && block < group.blocks);
  device_->CopyToDevice(group.device.data() + block * group.block_bytes, from,
                        static_cast<size_t>(group.block_bytes));
}

void KvStorage::Apply(std::span<const BlockOp> ops) {
  for (const BlockOp& op : ops) {
    Group& group = groups_[op.group];
    const int64_t bytes = group.block_bytes;
    std::byte* base = group.device.data();
    switch (op.kind) {
      case BlockOpKind::kCopy:
        device_->CopyOnDevice(base + op.dst * bytes, base + op.src * bytes, bytes);
        break;
      case BlockOpKind::kSwapOut:
        device_->CopyToHost(group.host.data() + op.dst * bytes, base + op.src * bytes, bytes);
        break;
      case BlockOpKind::kSwapIn:
        device_->CopyToDevice(base + op.dst * bytes, group.host.data() + op.src * bytes, bytes);
        break;
      case BlockOpKind::kRelease:
        break;
    }
  }
}

}  // namespace ink
