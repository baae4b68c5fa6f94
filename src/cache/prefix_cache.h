// Finds the state of an earlier prompt's prefix. A hit is found by hash and then verified by the
// token ids of every block from the start and by the whole scope, so no collision can return the
// content of another prompt, tenant, adapter or cache type.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/status.h"
#include "cache/block_pool.h"
#include "cache/types.h"

namespace ink {

/// Hash of one block: its parent's hash (the scope's hash for the first block) and its 32 token
/// ids. Injectable so that tests can force collisions.
using BlockHashFn = uint64_t (*)(uint64_t parent_hash, std::span<const int32_t> tokens,
                                 uint64_t seed);
/// XXH3 over parent hash and ids.
uint64_t XxBlockHash(uint64_t parent_hash, std::span<const int32_t> tokens, uint64_t seed);

/// Told what a cached block holds before its memory is taken for something else. `prefix`: the
/// token ids up to the block's end. The block's content is still there during the call.
class SpillListener {
 public:
  virtual void OnSpill(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group,
                       BlockId block) = 0;

 protected:
  ~SpillListener() = default;
};

/// A trie whose nodes are blocks of 32 tokens under one root per scope. A node identifies the whole
/// prefix that ends with it (by induction: parent identity and own ids are compared), and names the
/// block of each group that holds its state: K and V of its 32 positions, or a recurrent checkpoint
/// at its end. A node lives while it names a block, has a child, or is pinned.
/// Used by the engine thread alone.
class PrefixCache final : public EvictionListener {
 public:
  using NodeId = int32_t;
  static constexpr NodeId kNoNode = -1;

  /// `pools` (one per group, in order) outlive the cache.
  PrefixCache(std::span<const GroupSpec> groups, std::vector<BlockPool*> pools,
              BlockHashFn hash = &XxBlockHash, uint64_t seed = 0);

  /// The longest verified prefix of `tokens` that is valid for every group at once, at most
  /// `max_tokens` long and a multiple of 32. Full attention: all its blocks are present; sliding
  /// window: those the next token can see; recurrent: a checkpoint at exactly its end.
  /// Returns its nodes from the first block on; empty for no hit. Changes nothing.
  /// Expected O(tokens / 32 * groups).
  std::vector<NodeId> Lookup(const CacheScope& scope, std::span<const int32_t> tokens,
                             int64_t max_tokens) const;

  /// The root of a scope, made if absent, pinned once more. O(log scopes).
  NodeId PinRoot(const CacheScope& scope);
  /// The child of `parent` with these 32 ids, made if absent, pinned once more. Expected O(1).
  NodeId PinChild(NodeId parent, std::span<const int32_t> tokens);
  void Pin(NodeId node) { ++nodes_[node].pins; }
  /// May delete the node and ancestors that nothing needs any more.
  void Unpin(NodeId node);
  NodeId parent(NodeId node) const { return nodes_[node].parent; }

  /// Names an owned block as the node's state in `group` and registers it with its pool. False, and
  /// no change, when the node has one already or the block is registered elsewhere. O(1).
  bool Register(NodeId node, int32_t group, BlockId block);
  /// Forgets a registered block: its owner wants to write it. O(1).
  void Unregister(int32_t group, BlockId block);
  /// The node's block in `group`, or kNullBlock.
  BlockId block(NodeId node, int32_t group) const { return blocks_[node * num_groups_ + group]; }

  void OnEvict(int32_t group, BlockId block) override;
  /// Outlives the cache; null for none.
  void set_spill(SpillListener* spill) { spill_ = spill; }
  /// Shows the listener every registered block.
  void SpillAll();

  int64_t num_nodes() const { return num_nodes_; }
  /// Host memory of the index, for the ledger.
  int64_t host_bytes() const;
  /// Checks parents, children, buckets and the block <-> node maps. O(nodes).
  Status CheckIntegrity() const;

 private:
  struct Node {
    uint64_t hash = 0;
    NodeId parent = kNoNode;
    NodeId next_in_bucket = kNoNode;
    int32_t num_children = 0;
    int32_t pins = 0;
    int32_t num_blocks = 0;
    bool live = false;
    std::array<int32_t, kBlockTokens> tokens{};
  };

  NodeId FindChild(NodeId parent, std::span<const int32_t> tokens, uint64_t hash) const;
  NodeId NewNode();
  void MaybeDelete(NodeId node);
  void Rehash(size_t num_buckets);
  void Detach(int32_t group, BlockId block);
  NodeId NodeOf(int32_t group, BlockId block) const;
  void Spill(NodeId node, int32_t group, BlockId block);

  std::vector<GroupSpec> groups_;
  std::vector<BlockPool*> pools_;
  BlockHashFn hash_;
  uint64_t seed_;
  int32_t num_groups_;

  std::vector<Node> nodes_;
  std::vector<BlockId> blocks_;  // [num nodes, num_groups]
  std::vector<NodeId> free_nodes_;
  std::vector<NodeId> buckets_;  // size is a power of two
  std::map<CacheScope, NodeId> roots_;
  std::vector<const CacheScope*> root_scope_;       // [num nodes], null unless a root
  std::vector<std::vector<NodeId>> node_of_block_;  // [num_groups][block id], kNoNode if none
  int64_t num_nodes_ = 0;
  SpillListener* spill_ = nullptr;
  std::vector<int32_t> spilled_tokens_;
};

}  // namespace ink
