// The state of all sequences: block pools of every layer group under one byte budget, the prefix
// cache over them, and the host blocks that swapped-out sequences use.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "cache/block_pool.h"
#include "cache/block_table.h"
#include "cache/prefix_cache.h"
#include "cache/slab_budget.h"
#include "cache/types.h"

namespace ink {

/// Content that left the prefix cache.
class RestoreSource {
 public:
  /// Whether Fill is worth trying.
  virtual bool Has(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group) = 0;
  /// Puts the content into the block; false where it cannot.
  virtual bool Fill(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group,
                    BlockId block) = 0;

 protected:
  ~RestoreSource() = default;
};

struct CacheConfig {
  std::vector<GroupSpec> groups;
  int64_t device_bytes = 0;
  int64_t host_bytes = 0;  // for swapped-out sequences; 0 for none
  bool prefix_cache = true;
  /// Recurrent groups are checkpointed at multiples of this many tokens (a multiple of 32), and at
  /// the last block boundary before a prompt's end; 0 for the latter only.
  int64_t checkpoint_interval = 1024;
  uint64_t hash_seed = 0;
  BlockHashFn hash = &XxBlockHash;
};

/// What one sequence holds. Plain data owned by the sequence's record; only CacheManager changes
/// it.
struct SequenceCache {
  std::vector<BlockTable> tables;  // [num_groups]; empty while nothing is held
  bool on_host = false;            // the ids are host blocks
  /// Deepest node of the prefix index known to hold this sequence's tokens, and its depth.
  PrefixCache::NodeId node = PrefixCache::kNoNode;
  int64_t num_registered = 0;
  /// Rollback point of recurrent groups while draft tokens run: a slot per group.
  int64_t checkpoint_position = -1;
  std::vector<BlockId> checkpoint_slots;

  bool empty() const { return tables.empty(); }
};

/// Bytes that `sequences` sequences of `tokens` tokens, prefilled in chunks of at most `max_chunk`,
/// need at the same time; what `plan` reports. O(groups).
int64_t PlanCacheBytes(std::span<const GroupSpec> groups, int64_t sequences, int64_t tokens,
                       int64_t max_chunk);

/// Used by the engine thread alone. Methods that append to `ops` leave host-side state as if the
/// operations had been carried out.
class CacheManager {
 public:
  /// Fails on an invalid group or when the budget cannot hold the initial blocks.
  static Result<std::unique_ptr<CacheManager>> Create(const CacheConfig& config);

  CacheManager(const CacheManager&) = delete;
  CacheManager& operator=(const CacheManager&) = delete;

  /// OK if one sequence of `tokens` tokens fits into an otherwise empty cache, else an out of
  /// memory error that shows the arithmetic. Changes nothing. O(groups).
  Status CheckFits(int64_t tokens, int64_t max_chunk) const;

  /// Gives an empty sequence the cached blocks of the longest valid prefix of `tokens`, at most
  /// `max_tokens` long. Returns its length (0 for none). Expected O(tokens / 32 * groups).
  int64_t Attach(SequenceCache& sequence, const CacheScope& scope, std::span<const int32_t> tokens,
                 int64_t max_tokens);
  /// Makes positions [from, to) writable, where [0, from) is held already: allocates blocks, and
  /// copies the block at `from` (or the recurrent state) if it is shared or registered. False when
  /// blocks are missing; then no block was added, though a copy may have been made. O(new blocks).
  bool Reserve(SequenceCache& sequence, int64_t from, int64_t to, std::vector<BlockOp>* ops);
  /// Keeps the recurrent state at `position` (the current one) so that Truncate can return to it;
  /// the next Reserve then copies the state. Nothing to do without recurrent groups. O(groups).
  void KeepCheckpoint(SequenceCache& sequence, int64_t position);
  void DropCheckpoint(SequenceCache& sequence);
  /// Registers the full blocks of tokens[0, num_computed), at most `max_tokens` of them, for reuse,
  /// and the recurrent state if num_computed is a checkpoint position. O(new blocks).
  void Commit(SequenceCache& sequence, std::span<const int32_t> tokens, int64_t num_prompt_tokens,
              int64_t num_computed, int64_t max_tokens);
  /// Frees what no token at or after position `num_computed` can see. O(freed blocks).
  void ReleaseBehindWindow(SequenceCache& sequence, int64_t num_computed);
  /// Rolls the state back to at most `n` of `num_computed` positions, and returns where it is then:
  /// n for attention groups, the rollback checkpoint for recurrent ones, 0 (with everything
  /// released) when the state at no later position is still there. O(freed blocks).
  int64_t Truncate(SequenceCache& sequence, int64_t num_computed, int64_t n);
  /// Gives back the blocks past num_computed that a Reserve took for a step that did not run.
  void TrimReserved(SequenceCache& sequence, int64_t num_computed);
  /// A sequence that shares every block of `parent`; the first to write a shared block copies it.
  /// `parent` is on the device and holds nothing past its computed tokens. O(blocks).
  SequenceCache Fork(const SequenceCache& parent);
  /// Lets go of everything; the sequence is empty. Last blocks are evicted first. O(blocks).
  void Release(SequenceCache& sequence);

  /// Moves the blocks to host memory. False, and no change, when host blocks are missing.
  bool SwapOut(SequenceCache& sequence, std::vector<BlockOp>* ops);
  /// Moves them back. False, and no change, when device blocks are missing. O(blocks).
  bool SwapIn(SequenceCache& sequence, const CacheScope& scope, std::vector<BlockOp>* ops);

  /// True if `need[g]` more blocks of every group can be had at once. O(groups).
  bool CanAllocate(std::span<const int64_t> need) const;
  /// Adds, per group, the blocks that `sequence` lacks to hold `tokens` tokens computed from
  /// `num_computed` on in chunks of at most `max_chunk`.
  void AddNeed(const SequenceCache& sequence, int64_t num_computed, int64_t tokens,
               int64_t max_chunk, std::vector<int64_t>* need) const;
  /// A chunk that starts at `from` should end at or before this position, where a recurrent
  /// checkpoint is due; INT64_MAX without recurrent groups.
  int64_t ChunkLimit(int64_t from, int64_t num_prompt_tokens) const;

  /// Where evicted content goes; outlives the manager. Null for none.
  void set_spill(SpillListener* spill) {
    if (prefix_ != nullptr) prefix_->set_spill(spill);
  }
  /// Shows it everything that is registered now.
  void SpillAll() {
    if (prefix_ != nullptr) prefix_->SpillAll();
  }
  /// Brings blocks of the prefix that are not cached from elsewhere, as far as `source` has them
  /// without a gap and blocks can be had without taking a sequence's: they are cached then, for the
  /// next Attach to find. Nothing for models with recurrent groups. Returns the blocks brought.
  int64_t Restore(const CacheScope& scope, std::span<const int32_t> tokens, int64_t max_tokens,
                  RestoreSource& source);

  /// Forgets everything cached that no sequence owns. O(cached blocks).
  void EvictAll();
  /// Gives slabs without owned blocks back to the budget (the release policy decides when), with
  /// the blocks cached in them if `evict_cached`. O(slabs^2) at worst.
  std::vector<BlockRange> ReleaseUnusedSlabs(bool evict_cached);

  int32_t num_groups() const { return static_cast<int32_t>(groups_.size()); }
  const GroupSpec& group(int32_t g) const { return groups_[g]; }
  const BlockPool& pool(int32_t g) const { return *pools_[g]; }
  const BlockPool& host_pool(int32_t g) const { return *host_pools_[g]; }
  bool has_host_blocks() const { return !host_pools_.empty(); }
  bool has_recurrent() const { return has_recurrent_; }
  /// Bytes drawn by device blocks (what the runner must back with memory), by host blocks, and by
  /// the prefix index.
  int64_t device_bytes() const { return device_budget_.used_bytes(); }
  int64_t host_bytes() const { return host_budget_.used_bytes(); }
  int64_t index_bytes() const { return prefix_ == nullptr ? 0 : prefix_->host_bytes(); }
  uint64_t release_epoch() const;

  /// Checks pools, index and tables against each other, given every live sequence. O(everything).
  Status CheckIntegrity(std::span<const SequenceCache* const> sequences) const;

 private:
  explicit CacheManager(const CacheConfig& config);
  BlockId AllocateBlock(int32_t g, std::vector<BlockOp>* ops);
  bool MakeWritable(int32_t g, BlockTable& table, int64_t index, std::vector<BlockOp>* ops);
  bool IsCheckpoint(int64_t position, int64_t num_prompt_tokens) const;
  void CutTables(SequenceCache& sequence, int64_t num_tokens);
  void MoveNode(SequenceCache& sequence, PrefixCache::NodeId node);

  std::vector<GroupSpec> groups_;
  bool has_recurrent_ = false;
  int64_t checkpoint_interval_;
  SlabBudget device_budget_;
  SlabBudget host_budget_;
  std::vector<std::unique_ptr<BlockPool>> pools_;
  std::vector<std::unique_ptr<BlockPool>> host_pools_;
  std::unique_ptr<PrefixCache> prefix_;  // null when off
};

}  // namespace ink
