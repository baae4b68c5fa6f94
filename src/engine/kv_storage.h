// The memory behind block ids: one buffer per layer group, blocks side by side, each holding its 32
// tokens of K and V of all the group's layers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "cache/types.h"
#include "kernels/device.h"
#include "model/forward_batch.h"
#include "model/model.h"

namespace ink {

struct KvTypes {
  DType k = DType::kF16;
  DType v = DType::kF16;
};

/// "f16", or "q8_0:f16" for K and V apart. Errors name the known types.
Result<KvTypes> ParseKvTypes(std::string_view text);

/// The groups of a model as the cache sees them. `block_bytes` covers all layers of a group.
std::vector<GroupSpec> CacheGroups(const ModelInfo& info, KvTypes types);

/// Bytes of one block of `group`, all its layers.
int64_t GroupBlockBytes(const LayerGroup& group, KvTypes types);

class KvStorage {
 public:
  /// `blocks` per group: ids in [0, blocks[g]) become usable. Host blocks hold swapped sequences.
  static Result<KvStorage> Create(const ModelInfo& info, KvTypes types,
                                  std::span<const int64_t> blocks,
                                  std::span<const int64_t> host_blocks, Device& device);

  /// Views for Model::Forward.
  const StateView& view() const { return view_; }
  /// Carries out copies and swaps, in order (kRelease drops nothing here: the buffer stays).
  void Apply(std::span<const BlockOp> ops);
  /// One block's bytes [block_bytes(group)], from and to host memory, between steps.
  void Read(int group, BlockId block, std::byte* out) const;
  void Write(int group, BlockId block, const std::byte* from);
  int64_t block_bytes(int group) const { return groups_[group].block_bytes; }
  /// Blocks that exist, per group.
  int64_t num_blocks(int group) const { return groups_[group].blocks; }

 private:
  struct Group {
    Buffer device;
    std::vector<std::byte> host;
    int64_t block_bytes = 0;
    int64_t blocks = 0;
  };
  Device* device_ = nullptr;
  std::vector<Group> groups_;
  StateView view_;
};

}  // namespace ink
