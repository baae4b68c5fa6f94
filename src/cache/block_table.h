// One sequence's blocks in one layer group: logical block index -> physical block id.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/types.h"

namespace ink {

/// Entries [0, first_live()) are kNullBlock (behind the window), the rest are blocks the sequence
/// holds a reference to. A plain container: reference counts are CacheManager's business.
class BlockTable {
 public:
  std::span<const BlockId> blocks() const { return blocks_; }
  BlockId operator[](int64_t index) const { return blocks_[index]; }
  int64_t size() const { return static_cast<int64_t>(blocks_.size()); }
  /// Index of the first entry that is not null.
  int64_t first_live() const { return first_live_; }
  int64_t num_live() const { return size() - first_live_; }

  void Push(BlockId block) { blocks_.push_back(block); }
  /// Appends a null entry; only before any live one.
  void PushNull();
  void Set(int64_t index, BlockId block) { blocks_[index] = block; }
  /// Removes and returns the last entry (kNullBlock if it was null).
  BlockId Pop();
  /// Makes the first live entry null and returns its block.
  BlockId DropFirstLive();
  void Clear();

 private:
  std::vector<BlockId> blocks_;
  int64_t first_live_ = 0;
};

}  // namespace ink
