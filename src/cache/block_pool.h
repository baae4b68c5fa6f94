// The blocks of one layer group: which are free, which are cached for reuse, which are owned.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/status.h"
#include "cache/id_set.h"
#include "cache/slab_budget.h"
#include "cache/types.h"

namespace ink {

/// Told when a cached block loses its content because its memory is needed.
class EvictionListener {
 public:
  virtual void OnEvict(int32_t group, BlockId block) = 0;

 protected:
  ~EvictionListener() = default;
};

/// Every block whose slab is present is in exactly one state:
///   free    reference count 0, no content worth keeping
///   cached  reference count 0, content kept for prefix reuse, in least-recently-used order
///   owned   reference count > 0 (its content may be registered for reuse as well)
/// Host data only; used by the engine thread alone.
class BlockPool {
 public:
  struct Config {
    int32_t group = 0;
    int64_t block_bytes = 0;
    int64_t initial_blocks = 0;
    int64_t max_blocks = 0;  // 0: bounded by the budget alone
  };

  /// Draws the initial blocks. Fails (invalid argument) on sizes out of range, (out of memory) when
  /// the budget cannot hold the initial blocks. `budget` outlives the pool.
  static Result<std::unique_ptr<BlockPool>> Create(const Config& config, SlabBudget* budget);

  /// `listener` outlives the pool; null for none. Set before anything is cached.
  void set_listener(EvictionListener* listener) { listener_ = listener; }

  /// A block with reference count 1: a free one, else one of a new slab, else the least recently
  /// used cached one, whose content is forgotten. kNullBlock when there is none. O(log64 n), plus
  /// O(blocks per slab) on growth.
  BlockId Allocate();
  /// Adds an owner to an owned or cached block. O(1).
  void AddRef(BlockId block);
  /// Removes an owner; the last one leaves the block cached (most recently used) if its content is
  /// registered, free otherwise. O(log64 n).
  void Release(BlockId block);
  /// Says that the block's content is registered for reuse: it stays when its last owner goes, and
  /// may not be written. The block must be owned. O(1).
  void MarkRegistered(BlockId block);
  /// Forgets the registration (the caller forgets its side). A cached block becomes free.
  void ClearRegistered(BlockId block);

  /// Evicts the least recently used cached block into the free set; false when none is cached.
  bool EvictOne();
  /// Gives one slab without owned blocks back to the budget, evicting its cached blocks if
  /// `evict_cached`. Never goes below the initial blocks. O(slabs).
  std::optional<BlockRange> ReleaseSlab(bool evict_cached);

  int32_t ref_count(BlockId block) const { return meta_[block].ref_count; }
  bool registered(BlockId block) const { return meta_[block].registered; }
  bool IsPresent(BlockId block) const {
    return block >= 0 && block < id_limit() && slabs_[block / blocks_per_slab_].present;
  }

  /// All ids are in [0, id_limit()); storage must reach that far.
  int64_t id_limit() const { return static_cast<int64_t>(meta_.size()); }
  int64_t num_blocks() const { return num_blocks_; }
  int64_t num_free() const { return free_.size(); }
  int64_t num_cached() const { return num_cached_; }
  int64_t num_owned() const { return num_blocks_ - num_free() - num_cached_; }
  /// Blocks that Allocate could still hand out if no other pool drew from the budget. O(1).
  int64_t NumAllocatable() const;
  /// Slabs without an owned block that could be given back.
  int64_t num_idle_slabs() const { return num_idle_slabs_; }
  /// Counts blocks that lost their last owner; equal values mean that nothing was released.
  uint64_t release_epoch() const { return release_epoch_; }

  int64_t block_bytes() const { return config_.block_bytes; }
  int64_t max_blocks() const { return max_blocks_; }
  int64_t blocks_per_slab() const { return blocks_per_slab_; }
  /// Bytes drawn at a time: a multiple of 2 MiB that wastes little (block_pool.cc).
  int64_t slab_bytes() const { return slab_bytes_; }
  bool at_max() const { return num_blocks_ >= max_blocks_; }

  /// Bytes drawn from the budget to hold `blocks` blocks of `block_bytes` bytes.
  static int64_t BytesFor(int64_t block_bytes, int64_t blocks);

  /// Checks every state, list and count against the reference counts. O(blocks).
  Status CheckIntegrity() const;

 private:
  struct Meta {
    int32_t ref_count = 0;
    BlockId older = kNullBlock;  // neighbours in LRU order, only while cached
    BlockId newer = kNullBlock;
    bool registered = false;
    bool cached = false;
  };
  struct Slab {
    bool present = false;
    int32_t num_owned = 0;
  };

  BlockPool(const Config& config, SlabBudget* budget);
  bool Grow();
  int64_t SlabSize(int64_t slab) const;
  void LruPushNewest(BlockId block);
  void LruRemove(BlockId block);
  void Own(BlockId block);  // reference count 0 -> 1

  Config config_;
  SlabBudget* budget_;
  EvictionListener* listener_ = nullptr;
  int64_t max_blocks_;
  int64_t blocks_per_slab_;
  int64_t slab_bytes_;
  int64_t min_slabs_ = 0;

  std::vector<Meta> meta_;  // [id_limit]
  std::vector<Slab> slabs_;
  IdSet free_;
  IdSet absent_slabs_;  // indices below slabs_.size() whose memory went back
  BlockId lru_oldest_ = kNullBlock;
  BlockId lru_newest_ = kNullBlock;
  int64_t num_blocks_ = 0;
  int64_t num_cached_ = 0;
  int64_t num_slabs_ = 0;
  int64_t num_idle_slabs_ = 0;
  uint64_t release_epoch_ = 0;
};

}  // namespace ink
