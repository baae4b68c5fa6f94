#include "cache/prefix_cache.h"

#include <algorithm>
#include <string>

#include "base/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace ink {

uint64_t XxBlockHash(uint64_t parent_hash, std::span<const int32_t> tokens, uint64_t seed) {
  return XXH3_64bits_withSeed(tokens.data(), tokens.size_bytes(), parent_hash ^ seed);
}

namespace {

// Lengths separate the fields, so that moving a character between two of them changes the hash.
// Only speed depends on it: roots are compared in full.
uint64_t ScopeHash(const CacheScope& scope, uint64_t seed) {
  uint64_t hash = seed;
  for (const std::string* field :
       {&scope.model, &scope.adapter, &scope.tenant, &scope.cache_dtype}) {
    hash = XXH3_64bits_withSeed(field->data(), field->size(), hash + field->size());
  }
  return hash;
}

}  // namespace

PrefixCache::PrefixCache(std::span<const GroupSpec> groups, std::vector<BlockPool*> pools,
                         BlockHashFn hash, uint64_t seed)
    : groups_(groups.begin(), groups.end()),
      pools_(std::move(pools)),
      hash_(hash),
      seed_(seed),
      num_groups_(static_cast<int32_t>(groups.size())),
      buckets_(64, kNoNode),
      node_of_block_(groups.size()) {
  INK_CHECK_EQ(groups_.size(), pools_.size());
}

PrefixCache::NodeId PrefixCache::FindChild(NodeId parent, std::span<const int32_t> tokens,
                                           uint64_t hash) const {
  NodeId id = buckets_[hash & (buckets_.size() - 1)];
  for (; id != kNoNode; id = nodes_[id].next_in_bucket) {
    const Node& node = nodes_[id];
    // The hash only narrows the search; parent and ids decide.
    if (node.hash == hash && node.parent == parent &&
        std::equal(tokens.begin(), tokens.end(), node.tokens.begin())) {
      return id;
    }
  }
  return kNoNode;
}

std::vector<PrefixCache::NodeId> PrefixCache::Lookup(const CacheScope& scope,
                                                     std::span<const int32_t> tokens,
                                                     int64_t max_tokens) const {
  std::vector<NodeId> path;
  const auto root = roots_.find(scope);
  if (root == roots_.end()) return path;
  const int64_t max_blocks =
      std::clamp<int64_t>(max_tokens, 0, static_cast<int64_t>(tokens.size())) / kBlockTokens;
  // Length of the unbroken run of present blocks that ends at the current node, per group.
  std::vector<int64_t> run(num_groups_, 0);
  int64_t valid = 0;
  NodeId node = root->second;
  for (int64_t i = 0; i < max_blocks; ++i) {
    const auto ids = tokens.subspan(i * kBlockTokens, kBlockTokens);
    node = FindChild(node, ids, hash_(nodes_[node].hash, ids, seed_));
    if (node == kNoNode) break;
    path.push_back(node);
    bool all_valid = true;
    bool can_continue = true;
    for (int32_t g = 0; g < num_groups_; ++g) {
      const bool present = block(node, g) != kNullBlock;
      run[g] = present ? run[g] + 1 : 0;
      switch (groups_[g].kind) {
        case GroupKind::kFullAttention:
          if (!present) all_valid = can_continue = false;
          break;
        case GroupKind::kSlidingWindow:
          if (run[g] < i + 1 - FirstVisibleBlock((i + 1) * kBlockTokens, groups_[g].window)) {
            all_valid = false;
          }
          break;
        case GroupKind::kRecurrent:
          if (!present) all_valid = false;
          break;
      }
    }
    if (!can_continue) break;
    if (all_valid) valid = i + 1;
  }
  path.resize(valid);
  return path;
}

PrefixCache::NodeId PrefixCache::NewNode() {
  NodeId id;
  if (free_nodes_.empty()) {
    id = static_cast<NodeId>(nodes_.size());
    nodes_.emplace_back();
    blocks_.resize(nodes_.size() * num_groups_, kNullBlock);
    root_scope_.push_back(nullptr);
  } else {
    id = free_nodes_.back();
    free_nodes_.pop_back();
  }
  nodes_[id] = Node{};
  nodes_[id].live = true;
  ++num_nodes_;
  return id;
}

PrefixCache::NodeId PrefixCache::PinRoot(const CacheScope& scope) {
  auto [it, inserted] = roots_.try_emplace(scope, kNoNode);
  if (inserted) {
    it->second = NewNode();
    nodes_[it->second].hash = ScopeHash(scope, seed_);
    root_scope_[it->second] = &it->first;  // keys of a map do not move
  }
  ++nodes_[it->second].pins;
  return it->second;
}

PrefixCache::NodeId PrefixCache::PinChild(NodeId parent, std::span<const int32_t> tokens) {
  INK_CHECK_EQ(static_cast<int64_t>(tokens.size()), kBlockTokens);
  const uint64_t hash = hash_(nodes_[parent].hash, tokens, seed_);
  NodeId id = FindChild(parent, tokens, hash);
  if (id == kNoNode) {
    if (num_nodes_ >= static_cast<int64_t>(buckets_.size())) Rehash(buckets_.size() * 2);
    id = NewNode();
    Node& node = nodes_[id];
    node.hash = hash;
    node.parent = parent;
    std::copy(tokens.begin(), tokens.end(), node.tokens.begin());
    NodeId& bucket = buckets_[hash & (buckets_.size() - 1)];
    node.next_in_bucket = bucket;
    bucket = id;
    ++nodes_[parent].num_children;
  }
  ++nodes_[id].pins;
  return id;
}

void PrefixCache::Rehash(size_t num_buckets) {
  buckets_.assign(num_buckets, kNoNode);
  for (size_t id = 0; id < nodes_.size(); ++id) {
    Node& node = nodes_[id];
    if (!node.live || node.parent == kNoNode) continue;
    NodeId& bucket = buckets_[node.hash & (num_buckets - 1)];
    node.next_in_bucket = bucket;
    bucket = static_cast<NodeId>(id);
  }
}

void PrefixCache::Unpin(NodeId node) {
  INK_CHECK_GT(nodes_[node].pins, 0);
  --nodes_[node].pins;
  MaybeDelete(node);
}

void PrefixCache::MaybeDelete(NodeId id) {
  while (id != kNoNode) {
    Node& node = nodes_[id];
    if (node.pins > 0 || node.num_children > 0 || node.num_blocks > 0) return;
    const NodeId parent = node.parent;
    if (parent == kNoNode) {
      roots_.erase(*root_scope_[id]);
      root_scope_[id] = nullptr;
    } else {
      NodeId* link = &buckets_[node.hash & (buckets_.size() - 1)];
      while (*link != id) link = &nodes_[*link].next_in_bucket;
      *link = node.next_in_bucket;
      --nodes_[parent].num_children;
    }
    node.live = false;
    free_nodes_.push_back(id);
    --num_nodes_;
    id = parent;
  }
}

PrefixCache::NodeId PrefixCache::NodeOf(int32_t group, BlockId block) const {
  const auto& map = node_of_block_[group];
  return static_cast<size_t>(block) < map.size() ? map[block] : kNoNode;
}

bool PrefixCache::Register(NodeId node, int32_t group, BlockId block) {
  BlockId& entry = blocks_[node * num_groups_ + group];
  if (entry != kNullBlock || NodeOf(group, block) != kNoNode) return false;
  auto& map = node_of_block_[group];
  if (static_cast<size_t>(block) >= map.size()) {
    map.resize(std::max<size_t>(pools_[group]->id_limit(), map.size()), kNoNode);
  }
  pools_[group]->MarkRegistered(block);
  map[block] = node;
  entry = block;
  ++nodes_[node].num_blocks;
  return true;
}

void PrefixCache::Detach(int32_t group, BlockId block) {
  const NodeId node = NodeOf(group, block);
  INK_CHECK_NE(node, kNoNode);
  node_of_block_[group][block] = kNoNode;
  blocks_[node * num_groups_ + group] = kNullBlock;
  --nodes_[node].num_blocks;
  MaybeDelete(node);
}

void PrefixCache::Unregister(int32_t group, BlockId block) {
  Detach(group, block);
  pools_[group]->ClearRegistered(block);
}

void PrefixCache::OnEvict(int32_t group, BlockId block) {
  if (spill_ != nullptr) Spill(NodeOf(group, block), group, block);
  Detach(group, block);
}

void PrefixCache::Spill(NodeId node, int32_t group, BlockId block) {
  // Ancestors live as long as their children.
  int64_t depth = 0;
  NodeId root = node;
  for (; nodes_[root].parent != kNoNode; root = nodes_[root].parent) ++depth;
  spilled_tokens_.resize(static_cast<size_t>(depth * kBlockTokens));
  for (NodeId at = node; nodes_[at].parent != kNoNode; at = nodes_[at].parent) {
    --depth;
    std::copy(nodes_[at].tokens.begin(), nodes_[at].tokens.end(),
              spilled_tokens_.begin() + depth * kBlockTokens);
  }
  spill_->OnSpill(*root_scope_[root], spilled_tokens_, group, block);
}

void PrefixCache::SpillAll() {
  if (spill_ == nullptr) return;
  for (size_t id = 0; id < nodes_.size(); ++id) {
    if (!nodes_[id].live) continue;
    for (int32_t g = 0; g < num_groups_; ++g) {
      const BlockId b = block(static_cast<NodeId>(id), g);
      if (b != kNullBlock) Spill(static_cast<NodeId>(id), g, b);
    }
  }
}

int64_t PrefixCache::host_bytes() const {
  int64_t bytes = nodes_.capacity() * sizeof(Node) + blocks_.capacity() * sizeof(BlockId) +
                  root_scope_.capacity() * sizeof(void*) +
                  (free_nodes_.capacity() + buckets_.capacity()) * sizeof(NodeId);
  for (const auto& map : node_of_block_) bytes += map.capacity() * sizeof(NodeId);
  return bytes;
}

Status PrefixCache::CheckIntegrity() const {
  std::vector<int32_t> children(nodes_.size(), 0);
  int64_t live = 0, roots = 0;
  for (size_t id = 0; id < nodes_.size(); ++id) {
    const Node& node = nodes_[id];
    int32_t num_blocks = 0;
    for (int32_t g = 0; g < num_groups_; ++g) {
      const BlockId b = block(static_cast<NodeId>(id), g);
      if (b == kNullBlock) continue;
      ++num_blocks;
      if (NodeOf(g, b) != static_cast<NodeId>(id) || !pools_[g]->IsPresent(b) ||
          !pools_[g]->registered(b)) {
        return Corrupt("prefix index: node " + std::to_string(id) + " names block " +
                       std::to_string(b) + " of group " + std::to_string(g) +
                       ", which does not name it");
      }
    }
    if (!node.live) {
      if (num_blocks > 0) return Corrupt("prefix index: dead node with blocks");
      continue;
    }
    ++live;
    if (num_blocks != node.num_blocks) return Corrupt("prefix index: block count is wrong");
    if (node.parent == kNoNode) {
      ++roots;
      if (root_scope_[id] == nullptr || roots_.at(*root_scope_[id]) != static_cast<NodeId>(id)) {
        return Corrupt("prefix index: root " + std::to_string(id) + " has lost its scope");
      }
      continue;
    }
    if (!nodes_[node.parent].live) return Corrupt("prefix index: parent is dead");
    ++children[node.parent];
    if (FindChild(node.parent, node.tokens, node.hash) != static_cast<NodeId>(id)) {
      return Corrupt("prefix index: node " + std::to_string(id) + " cannot be found");
    }
  }
  for (size_t id = 0; id < nodes_.size(); ++id) {
    const Node& node = nodes_[id];
    if (!node.live) continue;
    if (children[id] != node.num_children) return Corrupt("prefix index: child count is wrong");
    if (node.pins == 0 && node.num_children == 0 && node.num_blocks == 0) {
      return Corrupt("prefix index: node " + std::to_string(id) + " is needed by nothing");
    }
  }
  if (live != num_nodes_ || roots != static_cast<int64_t>(roots_.size())) {
    return Corrupt("prefix index: node count is wrong");
  }
  for (int32_t g = 0; g < num_groups_; ++g) {
    for (size_t b = 0; b < node_of_block_[g].size(); ++b) {
      const NodeId id = node_of_block_[g][b];
      if (id != kNoNode && block(id, g) != static_cast<BlockId>(b)) {
        return Corrupt("prefix index: block " + std::to_string(b) + " names a node without it");
      }
    }
    for (int64_t b = 0; b < pools_[g]->id_limit(); ++b) {
      if (pools_[g]->registered(static_cast<BlockId>(b)) &&
          NodeOf(g, static_cast<BlockId>(b)) == kNoNode) {
        return Corrupt("prefix index: block " + std::to_string(b) + " is registered nowhere");
      }
    }
  }
  return OkStatus();
}

}  // namespace ink
