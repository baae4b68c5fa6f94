#include "cache/cache_manager.h"

#include <algorithm>
#include <limits>
#include <string>

#include "base/check.h"

namespace ink {
namespace {

constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();

// Most blocks of a group that one sequence of `tokens` tokens holds at once. In a sliding window, a
// chunk of c tokens sees window - 1 + c consecutive positions, which may start anywhere in a block.
int64_t PeakBlocks(const GroupSpec& group, int64_t tokens, int64_t max_chunk) {
  switch (group.kind) {
    case GroupKind::kFullAttention:
      return BlocksFor(tokens);
    case GroupKind::kSlidingWindow: {
      const int64_t visible = std::min(group.window, kMaxTokens) - 1 + std::min(max_chunk, tokens);
      return std::min(BlocksFor(tokens), BlocksFor(visible) + 1);
    }
    case GroupKind::kRecurrent:
      return 1;
  }
  return 0;
}

// Freed window blocks leave holes in slabs; with several groups in one budget, the slab that the
// window is leaving and the one it enters are both drawn.
int64_t BytesWithHoles(std::span<const GroupSpec> groups, const GroupSpec& group, int64_t blocks) {
  int64_t bytes = BlockPool::BytesFor(group.block_bytes, blocks);
  if (groups.size() > 1 && group.kind == GroupKind::kSlidingWindow) {
    bytes += BlockPool::BytesFor(group.block_bytes, 1);
  }
  return std::max(bytes, BlockPool::BytesFor(group.block_bytes, group.initial_blocks));
}

}  // namespace

int64_t PlanCacheBytes(std::span<const GroupSpec> groups, int64_t sequences, int64_t tokens,
                       int64_t max_chunk) {
  int64_t bytes = 0;
  for (const GroupSpec& group : groups) {
    const int64_t blocks = PeakBlocks(group, std::min(tokens, kMaxTokens), max_chunk);
    bytes += BytesWithHoles(groups, group, std::min(sequences, kMaxTokens) * blocks);
  }
  return bytes;
}

Result<std::unique_ptr<CacheManager>> CacheManager::Create(const CacheConfig& config) {
  if (config.groups.empty() || config.groups.size() > 64) {
    return InvalidArgument("a model has " + std::to_string(config.groups.size()) +
                           " layer groups, expected 1 to 64");
  }
  if (config.device_bytes < 0 || config.host_bytes < 0) {
    return InvalidArgument("cache budgets of " + std::to_string(config.device_bytes) +
                           " device and " + std::to_string(config.host_bytes) +
                           " host bytes, expected 0 or more");
  }
  if (config.checkpoint_interval < 0 || config.checkpoint_interval % kBlockTokens != 0) {
    return InvalidArgument("checkpoint interval of " + std::to_string(config.checkpoint_interval) +
                           " tokens, expected a multiple of " + std::to_string(kBlockTokens));
  }
  for (size_t g = 0; g < config.groups.size(); ++g) {
    const GroupSpec& group = config.groups[g];
    if (group.kind == GroupKind::kSlidingWindow && group.window < 1) {
      return InvalidArgument("group " + std::to_string(g) + ": window of " +
                             std::to_string(group.window) + " positions, expected 1 or more");
    }
  }
  std::unique_ptr<CacheManager> cache(new CacheManager(config));
  std::vector<BlockPool*> pools;
  for (size_t g = 0; g < config.groups.size(); ++g) {
    const GroupSpec& group = config.groups[g];
    INK_ASSIGN_OR_RETURN(auto pool, BlockPool::Create({.group = static_cast<int32_t>(g),
                                                       .block_bytes = group.block_bytes,
                                                       .initial_blocks = group.initial_blocks,
                                                       .max_blocks = group.max_blocks},
                                                      &cache->device_budget_));
    pools.push_back(pool.get());
    cache->pools_.push_back(std::move(pool));
    if (config.host_bytes > 0) {
      INK_ASSIGN_OR_RETURN(auto host_pool, BlockPool::Create({.group = static_cast<int32_t>(g),
                                                              .block_bytes = group.block_bytes},
                                                             &cache->host_budget_));
      cache->host_pools_.push_back(std::move(host_pool));
    }
  }
  if (config.prefix_cache) {
    cache->prefix_ =
        std::make_unique<PrefixCache>(config.groups, pools, config.hash, config.hash_seed);
    for (BlockPool* pool : pools) pool->set_listener(cache->prefix_.get());
  }
  return cache;
}

CacheManager::CacheManager(const CacheConfig& config)
    : groups_(config.groups),
      checkpoint_interval_(config.checkpoint_interval),
      device_budget_(config.device_bytes),
      host_budget_(config.host_bytes) {
  for (const GroupSpec& group : groups_) {
    has_recurrent_ |= group.kind == GroupKind::kRecurrent;
  }
}

Status CacheManager::CheckFits(int64_t tokens, int64_t max_chunk) const {
  if (tokens > kMaxTokens) {
    return InvalidArgument("a sequence of " + std::to_string(tokens) +
                           " tokens, expected at most " + std::to_string(kMaxTokens));
  }
  std::string sum;
  int64_t bytes = 0;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const GroupSpec& group = groups_[g];
    const int64_t blocks = PeakBlocks(group, tokens, max_chunk);
    if (group.max_blocks > 0 && blocks > group.max_blocks) {
      return OutOfMemory(std::to_string(tokens) + " tokens need " + std::to_string(blocks) +
                         " blocks of " + std::to_string(kBlockTokens) + " tokens in the " +
                         std::string(GroupKindName(group.kind)) + " layer group " +
                         std::to_string(g) + ", which has " + std::to_string(group.max_blocks));
    }
    int64_t group_bytes = BytesWithHoles(groups_, group, blocks);
    if (group.max_blocks > 0) {
      // A bounded group never draws more than its bound, holes or not.
      group_bytes = std::min(group_bytes, BlockPool::BytesFor(group.block_bytes, group.max_blocks));
    }
    sum += (g == 0 ? "" : " + ") + std::to_string(group_bytes) + " bytes (" +
           std::string(GroupKindName(group.kind)) + ": " + std::to_string(blocks) +
           (group.kind == GroupKind::kRecurrent
                ? " state of "
                : " blocks of " + std::to_string(kBlockTokens) + " tokens, each ") +
           std::to_string(group.block_bytes) + " bytes)";
    bytes += group_bytes;
  }
  if (bytes > device_budget_.total_bytes()) {
    return OutOfMemory(std::to_string(tokens) + " tokens need " + sum + " = " +
                       std::to_string(bytes) + " bytes in slabs of " + std::to_string(kSlabBytes) +
                       ", the cache budget is " + std::to_string(device_budget_.total_bytes()) +
                       " bytes");
  }
  return OkStatus();
}

BlockId CacheManager::AllocateBlock(int32_t g, std::vector<BlockOp>* ops) {
  BlockPool& pool = *pools_[g];
  BlockId block = pool.Allocate();
  if (block != kNullBlock || pool.at_max()) return block;
  // The budget is drawn by other groups: take slabs in which they own nothing.
  while (device_budget_.available_bytes() < pool.slab_bytes()) {
    bool released = false;
    for (auto& other : pools_) {
      if (other.get() == &pool) continue;
      if (const auto range = other->ReleaseSlab(/*evict_cached=*/true)) {
        ops->push_back({.kind = BlockOpKind::kRelease,
                        .group = range->group,
                        .src = range->first,
                        .count = static_cast<int32_t>(range->count)});
        released = true;
        break;
      }
    }
    if (!released) return kNullBlock;
  }
  return pool.Allocate();
}

void CacheManager::MoveNode(SequenceCache& sequence, PrefixCache::NodeId node) {
  const PrefixCache::NodeId old = sequence.node;
  sequence.node = node;
  if (old != PrefixCache::kNoNode) prefix_->Unpin(old);
}

int64_t CacheManager::Attach(SequenceCache& sequence, const CacheScope& scope,
                             std::span<const int32_t> tokens, int64_t max_tokens) {
  INK_CHECK(sequence.empty());
  sequence.tables.resize(groups_.size());
  if (prefix_ == nullptr) return 0;
  const auto path = prefix_->Lookup(scope, tokens, max_tokens);
  const int64_t num_blocks = static_cast<int64_t>(path.size());
  if (path.empty()) {
    sequence.node = prefix_->PinRoot(scope);
    return 0;
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    BlockTable& table = sequence.tables[g];
    const GroupSpec& group = groups_[g];
    if (group.kind == GroupKind::kRecurrent) {
      table.Push(prefix_->block(path.back(), g));
      pools_[g]->AddRef(table[0]);
      continue;
    }
    const int64_t first = group.kind == GroupKind::kSlidingWindow
                              ? FirstVisibleBlock(num_blocks * kBlockTokens, group.window)
                              : 0;
    for (int64_t i = 0; i < num_blocks; ++i) {
      if (i < first) {
        table.PushNull();
        continue;
      }
      const BlockId block = prefix_->block(path[i], g);
      table.Push(block);
      pools_[g]->AddRef(block);
    }
  }
  prefix_->Pin(path.back());
  sequence.node = path.back();
  sequence.num_registered = num_blocks;
  return num_blocks * kBlockTokens;
}

int64_t CacheManager::Restore(const CacheScope& scope, std::span<const int32_t> tokens,
                              int64_t max_tokens, RestoreSource& source) {
  if (prefix_ == nullptr || has_recurrent_) return 0;
  const int64_t max_blocks =
      std::clamp<int64_t>(max_tokens, 0, static_cast<int64_t>(tokens.size())) / kBlockTokens;
  // Everything on the way is held, so that bringing a block evicts none of the others.
  std::vector<PrefixCache::NodeId> nodes = {prefix_->PinRoot(scope)};
  std::vector<std::pair<int32_t, BlockId>> held;
  int64_t brought = 0;
  bool complete = true;
  for (int64_t i = 0; i < max_blocks && complete; ++i) {
    const auto prefix = tokens.first((i + 1) * kBlockTokens);
    nodes.push_back(prefix_->PinChild(nodes.back(), prefix.last(kBlockTokens)));
    for (int32_t g = 0; g < num_groups() && complete; ++g) {
      BlockPool& pool = *pools_[g];
      BlockId block = prefix_->block(nodes.back(), g);
      if (block != kNullBlock) {
        pool.AddRef(block);
        held.emplace_back(g, block);
        continue;
      }
      // Blocks behind a window may be missing; Attach decides what is valid.
      const bool needed = groups_[g].kind == GroupKind::kFullAttention;
      if (!source.Has(scope, prefix, g)) {
        complete = !needed;
        continue;
      }
      block = pool.Allocate();
      if (block == kNullBlock) {
        complete = false;
        break;
      }
      if (source.Fill(scope, prefix, g, block)) {
        INK_CHECK(prefix_->Register(nodes.back(), g, block));
        ++brought;
        held.emplace_back(g, block);
      } else {
        pool.Release(block);
        complete = !needed;
      }
    }
  }
  // Last blocks first: they are the first to be evicted.
  for (size_t i = held.size(); i-- > 0;) pools_[held[i].first]->Release(held[i].second);
  for (size_t i = nodes.size(); i-- > 0;) prefix_->Unpin(nodes[i]);
  return brought;
}

bool CacheManager::MakeWritable(int32_t g, BlockTable& table, int64_t index,
                                std::vector<BlockOp>* ops) {
  BlockPool& pool = *pools_[g];
  const BlockId src = table[index];
  INK_CHECK_NE(src, kNullBlock);
  if (pool.ref_count(src) == 1 && !pool.registered(src)) return true;
  const BlockId dst = AllocateBlock(g, ops);
  if (dst == kNullBlock) {
    if (pool.ref_count(src) > 1) return false;
    // Nobody else holds it: give up its content for reuse rather than the sequence.
    prefix_->Unregister(g, src);
    return true;
  }
  ops->push_back({.kind = BlockOpKind::kCopy, .group = g, .src = src, .dst = dst});
  table.Set(index, dst);
  pool.Release(src);
  return true;
}

bool CacheManager::Reserve(SequenceCache& sequence, int64_t from, int64_t to,
                           std::vector<BlockOp>* ops) {
  INK_CHECK_LT(from, to);
  if (sequence.empty()) sequence.tables.resize(groups_.size());
  const int64_t first_block = from / kBlockTokens;
  const int64_t end_block = BlocksFor(to);
  bool complete = true;
  for (int32_t g = 0; g < num_groups() && complete; ++g) {
    BlockTable& table = sequence.tables[g];
    const bool recurrent = groups_[g].kind == GroupKind::kRecurrent;
    const int64_t writable_index = recurrent ? 0 : first_block;
    if (writable_index < table.size() && !MakeWritable(g, table, writable_index, ops)) {
      complete = false;
    }
    while (complete && table.size() < (recurrent ? 1 : end_block)) {
      const BlockId block = AllocateBlock(g, ops);
      if (block == kNullBlock) {
        complete = false;
      } else {
        table.Push(block);
      }
    }
  }
  if (!complete) {
    CutTables(sequence, from);
    if (from == 0) {
      // The tables were filled by this call alone, state slots included.
      for (int32_t g = 0; g < num_groups(); ++g) {
        while (sequence.tables[g].size() > 0) pools_[g]->Release(sequence.tables[g].Pop());
      }
    }
  }
  return complete;
}

void CacheManager::KeepCheckpoint(SequenceCache& sequence, int64_t position) {
  DropCheckpoint(sequence);
  if (!has_recurrent_) return;
  sequence.checkpoint_slots.assign(groups_.size(), kNullBlock);
  sequence.checkpoint_position = position;
  for (int32_t g = 0; g < num_groups(); ++g) {
    if (groups_[g].kind != GroupKind::kRecurrent) continue;
    sequence.checkpoint_slots[g] = sequence.tables[g][0];
    pools_[g]->AddRef(sequence.checkpoint_slots[g]);
  }
}

void CacheManager::DropCheckpoint(SequenceCache& sequence) {
  for (size_t g = 0; g < sequence.checkpoint_slots.size(); ++g) {
    if (sequence.checkpoint_slots[g] != kNullBlock) {
      pools_[g]->Release(sequence.checkpoint_slots[g]);
    }
  }
  sequence.checkpoint_slots.clear();
  sequence.checkpoint_position = -1;
}

bool CacheManager::IsCheckpoint(int64_t position, int64_t num_prompt_tokens) const {
  if (position <= 0 || position % kBlockTokens != 0) return false;
  return position == (num_prompt_tokens - 1) / kBlockTokens * kBlockTokens ||
         (checkpoint_interval_ > 0 && position % checkpoint_interval_ == 0);
}

int64_t CacheManager::ChunkLimit(int64_t from, int64_t num_prompt_tokens) const {
  int64_t limit = std::numeric_limits<int64_t>::max();
  if (!has_recurrent_ || prefix_ == nullptr) return limit;
  if (checkpoint_interval_ > 0) {
    limit = (from / checkpoint_interval_ + 1) * checkpoint_interval_;
  }
  const int64_t prompt_end = (num_prompt_tokens - 1) / kBlockTokens * kBlockTokens;
  if (prompt_end > from) limit = std::min(limit, prompt_end);
  return limit;
}

void CacheManager::Commit(SequenceCache& sequence, std::span<const int32_t> tokens,
                          int64_t num_prompt_tokens, int64_t num_computed, int64_t max_tokens) {
  if (prefix_ == nullptr || sequence.node == PrefixCache::kNoNode) return;
  const int64_t num_full = std::min(num_computed, max_tokens) / kBlockTokens;
  for (int64_t i = sequence.num_registered; i < num_full; ++i) {
    MoveNode(sequence,
             prefix_->PinChild(sequence.node, tokens.subspan(i * kBlockTokens, kBlockTokens)));
    for (int32_t g = 0; g < num_groups(); ++g) {
      if (groups_[g].kind == GroupKind::kRecurrent) continue;
      const BlockId block = sequence.tables[g][i];
      if (block != kNullBlock) prefix_->Register(sequence.node, g, block);
    }
    ++sequence.num_registered;
  }
  if (!has_recurrent_ || sequence.num_registered * kBlockTokens != num_computed ||
      !IsCheckpoint(num_computed, num_prompt_tokens)) {
    return;
  }
  for (int32_t g = 0; g < num_groups(); ++g) {
    // A registered slot is not written again: the next Reserve copies it, so it stays a checkpoint.
    if (groups_[g].kind == GroupKind::kRecurrent) {
      prefix_->Register(sequence.node, g, sequence.tables[g][0]);
    }
  }
}

void CacheManager::ReleaseBehindWindow(SequenceCache& sequence, int64_t num_computed) {
  for (size_t g = 0; g < sequence.tables.size(); ++g) {
    if (groups_[g].kind != GroupKind::kSlidingWindow) continue;
    BlockTable& table = sequence.tables[g];
    const int64_t keep_from =
        std::min(FirstVisibleBlock(num_computed, groups_[g].window), table.size());
    while (table.first_live() < keep_from) pools_[g]->Release(table.DropFirstLive());
  }
}

void CacheManager::CutTables(SequenceCache& sequence, int64_t num_tokens) {
  const int64_t keep = BlocksFor(num_tokens);
  for (size_t g = 0; g < sequence.tables.size(); ++g) {
    if (groups_[g].kind == GroupKind::kRecurrent) continue;
    BlockTable& table = sequence.tables[g];
    while (table.size() > keep) {
      const BlockId block = table.Pop();
      if (block != kNullBlock) pools_[g]->Release(block);
    }
  }
}

int64_t CacheManager::Truncate(SequenceCache& sequence, int64_t num_computed, int64_t n) {
  INK_CHECK(!sequence.on_host);
  if (n >= num_computed) return num_computed;
  int64_t position = n;
  if (has_recurrent_) {
    const bool reachable = sequence.checkpoint_position >= 0 && sequence.checkpoint_position <= n;
    position = reachable ? sequence.checkpoint_position : 0;
  }
  for (size_t g = 0; g < sequence.tables.size(); ++g) {
    if (groups_[g].kind == GroupKind::kSlidingWindow &&
        FirstVisibleBlock(position, groups_[g].window) < sequence.tables[g].first_live()) {
      position = 0;
    }
  }
  if (position == 0) {
    Release(sequence);
    return 0;
  }
  for (size_t g = 0; g < sequence.checkpoint_slots.size(); ++g) {
    if (sequence.checkpoint_slots[g] == kNullBlock) continue;
    pools_[g]->Release(sequence.tables[g][0]);
    sequence.tables[g].Set(0, sequence.checkpoint_slots[g]);
  }
  sequence.checkpoint_slots.clear();
  sequence.checkpoint_position = -1;
  CutTables(sequence, position);
  while (sequence.num_registered * kBlockTokens > position) {
    const PrefixCache::NodeId parent = prefix_->parent(sequence.node);
    prefix_->Pin(parent);
    MoveNode(sequence, parent);
    --sequence.num_registered;
  }
  return position;
}

void CacheManager::TrimReserved(SequenceCache& sequence, int64_t num_computed) {
  DropCheckpoint(sequence);
  CutTables(sequence, num_computed);
}

SequenceCache CacheManager::Fork(const SequenceCache& parent) {
  INK_CHECK(!parent.on_host);
  SequenceCache child;
  child.tables = parent.tables;
  child.node = parent.node;
  child.num_registered = parent.num_registered;
  if (child.node != PrefixCache::kNoNode) prefix_->Pin(child.node);
  for (size_t g = 0; g < child.tables.size(); ++g) {
    for (const BlockId block : child.tables[g].blocks()) {
      if (block != kNullBlock) pools_[g]->AddRef(block);
    }
  }
  return child;
}

void CacheManager::Release(SequenceCache& sequence) {
  DropCheckpoint(sequence);
  for (size_t g = 0; g < sequence.tables.size(); ++g) {
    BlockPool& pool = sequence.on_host ? *host_pools_[g] : *pools_[g];
    BlockTable& table = sequence.tables[g];
    while (table.num_live() > 0) pool.Release(table.Pop());
  }
  sequence.tables.clear();
  sequence.on_host = false;
  sequence.num_registered = 0;
  MoveNode(sequence, PrefixCache::kNoNode);
}

bool CacheManager::SwapOut(SequenceCache& sequence, std::vector<BlockOp>* ops) {
  INK_CHECK(!sequence.on_host);
  if (host_pools_.empty()) return false;
  std::vector<BlockTable> host(groups_.size());
  const size_t first_op = ops->size();
  bool complete = true;
  for (int32_t g = 0; g < num_groups() && complete; ++g) {
    for (const BlockId src : sequence.tables[g].blocks()) {
      if (src == kNullBlock) {
        host[g].PushNull();
        continue;
      }
      const BlockId dst = host_pools_[g]->Allocate();
      if (dst == kNullBlock) {
        complete = false;
        break;
      }
      host[g].Push(dst);
      ops->push_back({.kind = BlockOpKind::kSwapOut, .group = g, .src = src, .dst = dst});
    }
  }
  if (!complete) {
    ops->resize(first_op);
    for (int32_t g = 0; g < num_groups(); ++g) {
      while (host[g].num_live() > 0) host_pools_[g]->Release(host[g].Pop());
    }
    return false;
  }
  Release(sequence);
  sequence.tables = std::move(host);
  sequence.on_host = true;
  return true;
}

bool CacheManager::SwapIn(SequenceCache& sequence, const CacheScope& scope,
                          std::vector<BlockOp>* ops) {
  INK_CHECK(sequence.on_host);
  std::vector<BlockTable> device(groups_.size());
  std::vector<BlockOp> copies;
  bool complete = true;
  for (int32_t g = 0; g < num_groups() && complete; ++g) {
    for (const BlockId src : sequence.tables[g].blocks()) {
      if (src == kNullBlock) {
        device[g].PushNull();
        continue;
      }
      const BlockId dst = AllocateBlock(g, ops);
      if (dst == kNullBlock) {
        complete = false;
        break;
      }
      device[g].Push(dst);
      copies.push_back({.kind = BlockOpKind::kSwapIn, .group = g, .src = src, .dst = dst});
    }
  }
  if (!complete) {
    for (int32_t g = 0; g < num_groups(); ++g) {
      while (device[g].num_live() > 0) pools_[g]->Release(device[g].Pop());
    }
    return false;
  }
  ops->insert(ops->end(), copies.begin(), copies.end());
  Release(sequence);
  sequence.tables = std::move(device);
  if (prefix_ != nullptr) sequence.node = prefix_->PinRoot(scope);
  return true;
}

bool CacheManager::CanAllocate(std::span<const int64_t> need) const {
  int64_t wanted = 0;
  int64_t supply = device_budget_.available_bytes();
  for (int32_t g = 0; g < num_groups(); ++g) {
    const BlockPool& pool = *pools_[g];
    const int64_t surplus = pool.num_free() + pool.num_cached() - need[g];
    if (surplus < 0) {
      if (pool.num_blocks() - surplus > pool.max_blocks()) return false;
      const int64_t slabs = (-surplus + pool.blocks_per_slab() - 1) / pool.blocks_per_slab();
      wanted += slabs * pool.slab_bytes();
    } else {
      supply +=
          std::min(pool.num_idle_slabs(), surplus / pool.blocks_per_slab()) * pool.slab_bytes();
    }
  }
  return wanted <= supply;
}

void CacheManager::AddNeed(const SequenceCache& sequence, int64_t num_computed, int64_t tokens,
                           int64_t max_chunk, std::vector<int64_t>* need) const {
  need->resize(groups_.size());
  for (int32_t g = 0; g < num_groups(); ++g) {
    int64_t blocks = PeakBlocks(groups_[g], tokens, max_chunk);
    if (!sequence.on_host && !sequence.empty()) {
      const BlockTable& table = sequence.tables[g];
      const int64_t rest = groups_[g].kind == GroupKind::kRecurrent
                               ? 1 - table.size()
                               : BlocksFor(tokens) - table.size();
      blocks = std::min(blocks - table.num_live(), rest);
    } else if (sequence.on_host) {
      blocks = std::max(blocks, sequence.tables[g].num_live());
    }
    (*need)[g] += std::max<int64_t>(blocks, 0);
  }
}

void CacheManager::EvictAll() {
  for (auto& pool : pools_) {
    while (pool->EvictOne()) {
    }
  }
}

std::vector<BlockRange> CacheManager::ReleaseUnusedSlabs(bool evict_cached) {
  std::vector<BlockRange> ranges;
  for (auto& pool : pools_) {
    while (const auto range = pool->ReleaseSlab(evict_cached)) ranges.push_back(*range);
  }
  return ranges;
}

uint64_t CacheManager::release_epoch() const {
  uint64_t epoch = 0;
  for (const auto& pool : pools_) epoch += pool->release_epoch();
  return epoch;
}

Status CacheManager::CheckIntegrity(std::span<const SequenceCache* const> sequences) const {
  int64_t bytes = 0;
  std::vector<std::vector<int32_t>> device_refs, host_refs;
  for (const auto& pool : pools_) {
    INK_RETURN_IF_ERROR(pool->CheckIntegrity());
    bytes += BlockPool::BytesFor(pool->block_bytes(), 1) *
             ((pool->num_blocks() + pool->blocks_per_slab() - 1) / pool->blocks_per_slab());
    device_refs.emplace_back(pool->id_limit(), 0);
  }
  for (const auto& pool : host_pools_) {
    INK_RETURN_IF_ERROR(pool->CheckIntegrity());
    host_refs.emplace_back(pool->id_limit(), 0);
  }
  if (bytes != device_budget_.used_bytes()) {
    return Corrupt("cache: pools hold " + std::to_string(bytes) + " bytes, the budget says " +
                   std::to_string(device_budget_.used_bytes()));
  }
  if (prefix_ != nullptr) INK_RETURN_IF_ERROR(prefix_->CheckIntegrity());
  for (const SequenceCache* sequence : sequences) {
    for (size_t g = 0; g < sequence->tables.size(); ++g) {
      const BlockTable& table = sequence->tables[g];
      const BlockPool& pool = sequence->on_host ? *host_pools_[g] : *pools_[g];
      for (int64_t i = 0; i < table.size(); ++i) {
        if ((table[i] == kNullBlock) != (i < table.first_live())) {
          return Corrupt("cache: null entry at " + std::to_string(i) + " outside of the window");
        }
        if (table[i] == kNullBlock) continue;
        if (!pool.IsPresent(table[i])) {
          return Corrupt("cache: table names absent block " + std::to_string(table[i]));
        }
        ++(sequence->on_host ? host_refs : device_refs)[g][table[i]];
      }
    }
    for (size_t g = 0; g < sequence->checkpoint_slots.size(); ++g) {
      const BlockId slot = sequence->checkpoint_slots[g];
      if (slot != kNullBlock) ++device_refs[g][slot];
    }
  }
  for (int host = 0; host < 2; ++host) {
    const auto& pools = host ? host_pools_ : pools_;
    const auto& refs = host ? host_refs : device_refs;
    for (size_t g = 0; g < pools.size(); ++g) {
      for (size_t block = 0; block < refs[g].size(); ++block) {
        const int32_t count = pools[g]->ref_count(static_cast<BlockId>(block));
        if (count != refs[g][block]) {
          return Corrupt("cache: block " + std::to_string(block) + " of group " +
                         std::to_string(g) + (host ? " on the host" : "") + " has " +
                         std::to_string(count) + " references, sequences hold " +
                         std::to_string(refs[g][block]));
        }
      }
    }
  }
  return OkStatus();
}

}  // namespace ink
