#include "cache/block_pool.h"

#include <algorithm>
#include <limits>
#include <string>

#include "base/check.h"

namespace ink {
namespace {

struct SlabShape {
  int64_t blocks;
  int64_t bytes;
};

// A slab is k units of 2 MiB. Blocks of 1.5 MiB would waste a quarter of one unit and nothing of
// three; the smallest k up to 8 that wastes at most 1/16 is taken, else the one that wastes least.
SlabShape ShapeFor(int64_t block_bytes) {
  SlabShape best{0, 0};
  double best_waste = 2;
  const int64_t min_units = (block_bytes + kSlabBytes - 1) / kSlabBytes;
  for (int64_t units = min_units; units < min_units + 8; ++units) {
    const int64_t bytes = units * kSlabBytes;
    const int64_t blocks = bytes / block_bytes;
    const double waste = 1.0 - static_cast<double>(blocks * block_bytes) / bytes;
    if (waste < best_waste) {
      best_waste = waste;
      best = {blocks, bytes};
    }
    if (waste <= 1.0 / 16) break;
  }
  return best;
}

// Ids are int32 and every block has bookkeeping on the host, so 2^26 blocks (2^31 tokens) bound it.
constexpr int64_t kMaxBlocks = int64_t{1} << 26;
constexpr int64_t kMaxBlockBytes = int64_t{1} << 40;
// Sizes saturate here, so that the sum over 64 groups still fits; no budget is that large.
constexpr int64_t kHugeBytes = int64_t{1} << 56;

}  // namespace

Result<std::unique_ptr<BlockPool>> BlockPool::Create(const Config& config, SlabBudget* budget) {
  if (config.block_bytes < 1 || config.block_bytes > kMaxBlockBytes) {
    return InvalidArgument("group " + std::to_string(config.group) + ": block size of " +
                           std::to_string(config.block_bytes) + " bytes, expected 1 to " +
                           std::to_string(kMaxBlockBytes));
  }
  if (config.max_blocks < 0 || config.max_blocks > kMaxBlocks || config.initial_blocks < 0 ||
      config.initial_blocks > (config.max_blocks == 0 ? kMaxBlocks : config.max_blocks)) {
    return InvalidArgument("group " + std::to_string(config.group) + ": " +
                           std::to_string(config.initial_blocks) + " initial and at most " +
                           std::to_string(config.max_blocks) +
                           " blocks, expected initial <= maximum <= " + std::to_string(kMaxBlocks));
  }
  std::unique_ptr<BlockPool> pool(new BlockPool(config, budget));
  while (pool->num_blocks() < config.initial_blocks) {
    if (!pool->Grow()) {
      return OutOfMemory("group " + std::to_string(config.group) + ": " +
                         std::to_string(config.initial_blocks) + " initial blocks of " +
                         std::to_string(config.block_bytes) + " bytes need " +
                         std::to_string(BytesFor(config.block_bytes, config.initial_blocks)) +
                         " bytes, the budget of " + std::to_string(budget->total_bytes()) +
                         " bytes has " + std::to_string(budget->available_bytes()) +
                         " left after " + std::to_string(pool->num_blocks()) + " blocks");
    }
  }
  pool->min_slabs_ = pool->num_slabs_;
  return pool;
}

BlockPool::BlockPool(const Config& config, SlabBudget* budget)
    : config_(config),
      budget_(budget),
      max_blocks_(config.max_blocks == 0 ? kMaxBlocks : config.max_blocks) {
  const SlabShape shape = ShapeFor(config.block_bytes);
  blocks_per_slab_ = shape.blocks;
  slab_bytes_ = shape.bytes;
}

int64_t BlockPool::BytesFor(int64_t block_bytes, int64_t blocks) {
  const SlabShape shape = ShapeFor(block_bytes);
  const int64_t slabs = blocks / shape.blocks + (blocks % shape.blocks != 0);
  return slabs >= kHugeBytes / shape.bytes ? kHugeBytes : slabs * shape.bytes;
}

int64_t BlockPool::SlabSize(int64_t slab) const {
  return std::min(blocks_per_slab_, max_blocks_ - slab * blocks_per_slab_);
}

bool BlockPool::Grow() {
  if (at_max()) return false;
  if (!budget_->TryReserve(slab_bytes_)) return false;
  int64_t slab = absent_slabs_.Min();
  if (slab >= 0) {
    absent_slabs_.Erase(slab);
  } else {
    slab = static_cast<int64_t>(slabs_.size());
    slabs_.emplace_back();
    absent_slabs_.Grow(slabs_.size());
    meta_.resize(slab * blocks_per_slab_ + SlabSize(slab));
    free_.Grow(meta_.size());
  }
  slabs_[slab].present = true;
  ++num_slabs_;
  ++num_idle_slabs_;
  const int64_t first = slab * blocks_per_slab_;
  for (int64_t i = 0; i < SlabSize(slab); ++i) free_.Insert(first + i);
  num_blocks_ += SlabSize(slab);
  return true;
}

void BlockPool::Own(BlockId block) {
  meta_[block].ref_count = 1;
  if (slabs_[block / blocks_per_slab_].num_owned++ == 0) --num_idle_slabs_;
}

BlockId BlockPool::Allocate() {
  if (free_.size() == 0 && !Grow() && !EvictOne()) return kNullBlock;
  const BlockId block = static_cast<BlockId>(free_.Min());
  free_.Erase(block);
  Own(block);
  return block;
}

void BlockPool::AddRef(BlockId block) {
  Meta& meta = meta_[block];
  if (meta.ref_count > 0) {
    ++meta.ref_count;
    return;
  }
  INK_CHECK(meta.cached);
  LruRemove(block);
  Own(block);
}

void BlockPool::Release(BlockId block) {
  Meta& meta = meta_[block];
  INK_CHECK_GT(meta.ref_count, 0);
  if (--meta.ref_count > 0) return;
  if (--slabs_[block / blocks_per_slab_].num_owned == 0) ++num_idle_slabs_;
  ++release_epoch_;
  if (meta.registered) {
    LruPushNewest(block);
  } else {
    free_.Insert(block);
  }
}

void BlockPool::MarkRegistered(BlockId block) {
  INK_CHECK_GT(meta_[block].ref_count, 0);
  INK_CHECK(!meta_[block].registered);
  meta_[block].registered = true;
}

void BlockPool::ClearRegistered(BlockId block) {
  Meta& meta = meta_[block];
  INK_CHECK(meta.registered);
  meta.registered = false;
  if (meta.cached) {
    LruRemove(block);
    free_.Insert(block);
  }
}

void BlockPool::LruPushNewest(BlockId block) {
  Meta& meta = meta_[block];
  meta.cached = true;
  meta.older = lru_newest_;
  meta.newer = kNullBlock;
  if (lru_newest_ == kNullBlock) {
    lru_oldest_ = block;
  } else {
    meta_[lru_newest_].newer = block;
  }
  lru_newest_ = block;
  ++num_cached_;
}

void BlockPool::LruRemove(BlockId block) {
  Meta& meta = meta_[block];
  (meta.older == kNullBlock ? lru_oldest_ : meta_[meta.older].newer) = meta.newer;
  (meta.newer == kNullBlock ? lru_newest_ : meta_[meta.newer].older) = meta.older;
  meta.older = meta.newer = kNullBlock;
  meta.cached = false;
  --num_cached_;
}

bool BlockPool::EvictOne() {
  const BlockId block = lru_oldest_;
  if (block == kNullBlock) return false;
  if (listener_ != nullptr) listener_->OnEvict(config_.group, block);
  ClearRegistered(block);
  return true;
}

std::optional<BlockRange> BlockPool::ReleaseSlab(bool evict_cached) {
  if (num_slabs_ <= min_slabs_ || num_idle_slabs_ == 0) return std::nullopt;
  // From the end, so that the remaining blocks stay close together.
  for (int64_t slab = static_cast<int64_t>(slabs_.size()); slab-- > 0;) {
    if (!slabs_[slab].present || slabs_[slab].num_owned > 0) continue;
    const BlockId first = static_cast<BlockId>(slab * blocks_per_slab_);
    const BlockId end = first + static_cast<BlockId>(SlabSize(slab));
    bool any_cached = false;
    for (BlockId block = first; block < end; ++block) any_cached |= meta_[block].cached;
    if (any_cached && !evict_cached) continue;
    for (BlockId block = first; block < end; ++block) {
      if (meta_[block].cached) {
        if (listener_ != nullptr) listener_->OnEvict(config_.group, block);
        ClearRegistered(block);
      }
      free_.Erase(block);
    }
    slabs_[slab].present = false;
    absent_slabs_.Insert(slab);
    --num_slabs_;
    --num_idle_slabs_;
    num_blocks_ -= end - first;
    budget_->Return(slab_bytes_);
    return BlockRange{config_.group, first, end - first};
  }
  return std::nullopt;
}

int64_t BlockPool::NumAllocatable() const {
  const int64_t slabs = budget_->available_bytes() / slab_bytes_;
  const int64_t growth = std::min(max_blocks_ - num_blocks_,
                                  slabs > kMaxBlocks ? kMaxBlocks : slabs * blocks_per_slab_);
  return num_free() + num_cached_ + growth;
}

Status BlockPool::CheckIntegrity() const {
  const std::string where = "pool of group " + std::to_string(config_.group) + ": ";
  int64_t num_free = 0, num_cached = 0, num_present = 0, num_slabs = 0, num_idle = 0;
  for (size_t slab = 0; slab < slabs_.size(); ++slab) {
    int32_t owned = 0;
    const BlockId first = static_cast<BlockId>(slab * blocks_per_slab_);
    for (BlockId block = first; block < first + SlabSize(slab); ++block) {
      const Meta& meta = meta_[block];
      const bool is_free = free_.Contains(block);
      const int states = (meta.ref_count > 0) + meta.cached + is_free;
      if (states != (slabs_[slab].present ? 1 : 0) || meta.ref_count < 0) {
        return Corrupt(where + "block " + std::to_string(block) + " is in " +
                       std::to_string(states) + " of the states owned, cached, free");
      }
      if ((meta.cached && !meta.registered) || (is_free && meta.registered)) {
        return Corrupt(where + "block " + std::to_string(block) +
                       " disagrees with its registration");
      }
      owned += meta.ref_count > 0;
      num_free += is_free;
      num_cached += meta.cached;
    }
    if (owned != slabs_[slab].num_owned) {
      return Corrupt(where + "slab " + std::to_string(slab) + " counts " +
                     std::to_string(slabs_[slab].num_owned) + " owned blocks, it has " +
                     std::to_string(owned));
    }
    if (absent_slabs_.Contains(slab) == slabs_[slab].present) {
      return Corrupt(where + "slab " + std::to_string(slab) + " is both present and absent");
    }
    if (slabs_[slab].present) {
      ++num_slabs;
      num_idle += owned == 0;
      num_present += SlabSize(slab);
    }
  }
  if (num_free != this->num_free() || num_cached != num_cached_ || num_present != num_blocks_ ||
      num_slabs != num_slabs_ || num_idle != num_idle_slabs_ || num_slabs < min_slabs_) {
    return Corrupt(where + "counts disagree with the blocks");
  }
  int64_t in_list = 0;
  BlockId previous = kNullBlock;
  for (BlockId block = lru_oldest_; block != kNullBlock; block = meta_[block].newer) {
    if (!meta_[block].cached || meta_[block].older != previous || ++in_list > num_cached_) {
      return Corrupt(where + "the LRU list is broken at block " + std::to_string(block));
    }
    previous = block;
  }
  if (in_list != num_cached_ || previous != lru_newest_) {
    return Corrupt(where + "the LRU list has " + std::to_string(in_list) + " blocks of " +
                   std::to_string(num_cached_));
  }
  return OkStatus();
}

}  // namespace ink
