// One work item of attention: a tile of query rows that share a K/V head. A row is one token and
// one of the heads that share the K/V head.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/attention_tiles.h"

namespace ink {

inline constexpr int kMaxTileGroups = 16;
inline constexpr int kMaxTileRows = kMaxTileGroups * kAttentionGroupRows;
/// Floats a group has for each of MergeCall's arrays.
inline constexpr int kMergeLanes = 16;

/// Keys [low, high).
struct KeyRange {
  int64_t low = 0;
  int64_t high = 0;
  bool empty() const { return low >= high; }
};

/// The keys that token `t` of a sequence may see; tree masks clear some of the last ones.
KeyRange VisibleKeys(const SequenceSpan& seq, int64_t t, int64_t window);

/// What the work items of one call share.
struct AttentionPlan {
  const AttentionTiles* tiles = nullptr;
  const AttentionParams* params = nullptr;
  const KernelContext* ctx = nullptr;
  KvTypeIndex k_type = kKvF32;
  KvTypeIndex v_type = kKvF32;
  bool pad_v = false;  // head_dim is no multiple of 16: V is padded, as f32 or q8_0
  int heads_per_kv = 1;
  int padded_dim = 0;
  int tile_rows = kAttentionGroupRows;
  float exp_scale = 0;
  std::vector<int64_t> first_item;  // [num_seqs + 1]

  // Partitions of one tile as separate items (see attention_driver.cc).
  int64_t split = 0;                // partitions of an item, 0: whole tiles
  size_t slot_offset = 0;           // of the results in each thread's scratch
  int64_t thread_slots = 0;         // results a thread's scratch holds
  std::vector<int64_t> first_slot;  // [num_seqs + 1]

  AttentionPlan(const AttentionTiles& tiles, const AttentionParams& params,
                const KernelContext& ctx);
  /// Scratch of a thread for tiles of `groups` groups.
  size_t ScratchBytes(int64_t groups) const;
  /// Floats of one partition's result: maxima, sums, outputs of a group.
  int64_t SlotFloats() const { return 2 * kMergeLanes + int64_t{kAttentionGroupRows} * padded_dim; }
  float* Slot(int64_t index) const;
};

class AttentionTile {
 public:
  /// Rows [first_row, first_row + rows) of a sequence's num_tokens * heads_per_kv.
  AttentionTile(const AttentionPlan& plan, int64_t seq, int kv_head, int64_t first_row, int rows,
                int thread);

  /// The whole tile.
  void Run();

  /// Partitions [first, last) of a tile of one group, each into its slot from `slot` on.
  void RunPartitions(int64_t first, int64_t last, int64_t slot);
  /// The result from all partitions' slots.
  void MergePartitions(int64_t first, int64_t last, int64_t slot);

  int64_t first_partition() const { return all_.low / kKvPartition; }
  int64_t end_partition() const { return (all_.high + kKvPartition - 1) / kKvPartition; }

 private:
  struct Blocks;

  int GroupRows(int g) const;
  int64_t Token(int row) const { return (first_row_ + row) / plan_.heads_per_kv; }
  int64_t Head(int row) const {
    return int64_t{kv_head_} * plan_.heads_per_kv + (first_row_ + row) % plan_.heads_per_kv;
  }
  int64_t Offset(int row, int64_t stride) const {
    return (seq_.first_token + Token(row)) * stride + Head(row) * params_.cache.head_dim;
  }
  float* GroupOut(int g) const {
    return out_ + int64_t{g} * kAttentionGroupRows * plan_.padded_dim;
  }
  int64_t EndBlock() const { return (all_.high + kKvBlockTokens - 1) / kKvBlockTokens; }
  const std::byte* KBlock(int64_t index) const;
  const std::byte* VBlock(int64_t index) const;

  void PackQueries();
  void Reset(float out);
  void PrefetchFirstBlocks(int64_t partition) const;
  Blocks FindBlocks(int64_t partition) const;
  void ApplyTreeMask(int row, int64_t start, float* scores) const;
  void RunGroup(int g, int64_t start, const Blocks& blocks);
  void AddSinks(int g);
  void Finish();

  const AttentionPlan& plan_;
  const AttentionParams& params_;
  const SequenceSpan& seq_;
  const int32_t* const block_table_;
  const int kv_head_;
  const int64_t first_row_;
  const int rows_;
  const int groups_;
  const int ahead_;
  KeyRange all_;  // union of the rows'
  KeyRange visible_[kMaxTileRows];

  // The thread's scratch, carved up.
  float* scores_;      // [kAttentionGroupRows, kScoreStride]
  std::byte* padded_;  // a partition's blocks of V when pad_v
  std::byte* q_;       // each group's packed queries
  float* out_;         // [tile_rows, padded_dim]
  float* max_;         // [groups, kMergeLanes]
  float* sum_;         // [groups, kMergeLanes]
};

}  // namespace ink
