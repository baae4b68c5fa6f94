#include "cache/block_pool.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <set>

#include "base/rng.h"
#include "cache/id_set.h"

namespace ink {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

std::unique_ptr<BlockPool> MakePool(SlabBudget& budget, int64_t block_bytes, int64_t initial = 0,
                                    int64_t max = 0) {
  auto pool = BlockPool::Create(
      {.block_bytes = block_bytes, .initial_blocks = initial, .max_blocks = max}, &budget);
  EXPECT_TRUE(pool.ok()) << pool.status().message();
  return std::move(pool).value();
}

TEST(IdSet, AgreesWithStdSetWhileItGrows) {
  Rng rng(1);
  IdSet ids;
  std::set<int64_t> model;
  int64_t limit = 0;
  for (int step = 0; step < 20000; ++step) {
    if (limit == 0 || (rng.Below(500) == 0 && limit < 300000)) {
      limit += 1 + rng.Below(limit + 10);
      ids.Grow(limit);
    }
    const int64_t id = rng.Below(limit);
    ASSERT_EQ(ids.Contains(id), model.contains(id));
    if (model.erase(id) > 0) {
      ids.Erase(id);
    } else {
      model.insert(id);
      ids.Insert(id);
    }
    ASSERT_EQ(ids.size(), static_cast<int64_t>(model.size()));
    ASSERT_EQ(ids.Min(), model.empty() ? -1 : *model.begin());
  }
}

TEST(SlabBudget, NeverExceedsTheTotal) {
  SlabBudget budget(10);
  EXPECT_TRUE(budget.TryReserve(7));
  EXPECT_FALSE(budget.TryReserve(4));
  EXPECT_EQ(budget.used_bytes(), 7);
  budget.Return(5);
  EXPECT_TRUE(budget.TryReserve(8));
  EXPECT_EQ(budget.available_bytes(), 0);
}

TEST(BlockPool, SlabsWasteLittle) {
  for (const int64_t bytes :
       {kMiB, 3 * kMiB / 2, int64_t{20480}, 5 * kMiB, int64_t{700000}, int64_t{1}, 2 * kMiB + 1}) {
    SlabBudget budget(int64_t{1} << 40);
    const auto pool = MakePool(budget, bytes);
    EXPECT_EQ(pool->slab_bytes() % kSlabBytes, 0);
    const double used = static_cast<double>(pool->blocks_per_slab() * bytes) / pool->slab_bytes();
    EXPECT_GT(used, bytes == 2 * kMiB + 1 ? 0.85 : 0.93) << bytes;
  }
}

TEST(BlockPool, InitialBlocksOverBudgetIsAnErrorWithArithmetic) {
  SlabBudget budget(4 * kMiB);
  const auto pool = BlockPool::Create({.block_bytes = kMiB, .initial_blocks = 5}, &budget);
  ASSERT_FALSE(pool.ok());
  EXPECT_EQ(pool.status().code(), StatusCode::kOutOfMemory);
  EXPECT_NE(pool.status().message().find("6291456"), std::string::npos) << pool.status().message();
}

TEST(BlockPool, RefusesImpossibleSizes) {
  SlabBudget budget(4 * kMiB);
  for (const BlockPool::Config& config :
       {BlockPool::Config{.block_bytes = 0}, BlockPool::Config{.block_bytes = -5},
        BlockPool::Config{.block_bytes = 1, .max_blocks = -1},
        BlockPool::Config{.block_bytes = 1, .initial_blocks = 3, .max_blocks = 2},
        BlockPool::Config{.block_bytes = int64_t{1} << 50}}) {
    EXPECT_EQ(BlockPool::Create(config, &budget).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(BlockPool, EvictsTheLeastRecentlyUsed) {
  struct Listener : EvictionListener {
    std::vector<BlockId> evicted;
    void OnEvict(int32_t, BlockId block) override { evicted.push_back(block); }
  } listener;
  SlabBudget budget(4 * kMiB);
  const auto pool = MakePool(budget, kMiB);
  pool->set_listener(&listener);
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(pool->Allocate(), i);
    pool->MarkRegistered(i);
  }
  EXPECT_EQ(pool->Allocate(), kNullBlock);
  for (const BlockId block : {2, 0, 3, 1}) pool->Release(block);
  pool->AddRef(0);  // used again, then the most recent
  pool->Release(0);
  EXPECT_EQ(pool->num_cached(), 4);
  EXPECT_EQ(pool->Allocate(), 2);
  EXPECT_EQ(pool->Allocate(), 3);
  EXPECT_EQ(pool->Allocate(), 1);
  EXPECT_EQ(listener.evicted, (std::vector<BlockId>{2, 3, 1}));
  EXPECT_TRUE(pool->CheckIntegrity().ok());
}

TEST(BlockPool, PoolsShareOneBudget) {
  SlabBudget budget(6 * kMiB);
  const auto a = MakePool(budget, kMiB);
  const auto b = MakePool(budget, 2 * kMiB);
  for (int i = 0; i < 4; ++i) ASSERT_NE(a->Allocate(), kNullBlock);
  EXPECT_NE(b->Allocate(), kNullBlock);
  EXPECT_EQ(b->Allocate(), kNullBlock);
  EXPECT_EQ(a->Allocate(), kNullBlock);
  a->Release(0);
  EXPECT_FALSE(a->ReleaseSlab(true));  // block 1 shares the slab
  a->Release(1);
  const auto range = a->ReleaseSlab(true);
  ASSERT_TRUE(range);
  EXPECT_EQ(*range, (BlockRange{0, 0, 2}));
  EXPECT_FALSE(a->IsPresent(1));
  EXPECT_EQ(b->Allocate(), 1);
  EXPECT_TRUE(a->CheckIntegrity().ok() && b->CheckIntegrity().ok());
}

TEST(BlockPool, KeepsInitialBlocks) {
  SlabBudget budget(8 * kMiB);
  const auto pool = MakePool(budget, kMiB, 3);
  EXPECT_EQ(pool->num_blocks(), 4);
  EXPECT_EQ(budget.used_bytes(), 4 * kMiB);
  for (int i = 0; i < 6; ++i) pool->Allocate();
  for (int i = 0; i < 6; ++i) pool->Release(i);
  EXPECT_TRUE(pool->ReleaseSlab(false));
  EXPECT_FALSE(pool->ReleaseSlab(false));
  EXPECT_EQ(pool->num_blocks(), 4);
}

// The naive model: reference counts in a map, registered blocks with count 0 in a queue.
TEST(BlockPool, RandomOperationsAgreeWithANaiveModel) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Rng rng(seed);
    SlabBudget budget((4 + rng.Below(8)) * kMiB);
    const int64_t max = seed % 3 == 0 ? 7 : 0;
    const auto pool = MakePool(budget, seed % 2 ? kMiB : 400000, rng.Below(3), max);
    struct Listener : EvictionListener {
      std::vector<BlockId> evicted;
      void OnEvict(int32_t, BlockId block) override { evicted.push_back(block); }
    } listener;
    pool->set_listener(&listener);
    std::map<BlockId, int> refs;
    std::set<BlockId> registered;
    std::deque<BlockId> lru;
    auto forget_evicted = [&] {
      for (const BlockId block : listener.evicted) {
        std::erase(lru, block);
        registered.erase(block);
      }
      listener.evicted.clear();
    };
    for (int step = 0; step < 1500; ++step) {
      const BlockId some =
          refs.empty() ? kNullBlock : std::next(refs.begin(), rng.Below(refs.size()))->first;
      switch (rng.Below(7)) {
        case 0:
        case 1: {
          const bool could_grow = !pool->at_max() && budget.available_bytes() >= pool->slab_bytes();
          const bool must_evict = pool->num_free() == 0 && !could_grow && !lru.empty();
          const BlockId oldest = lru.empty() ? kNullBlock : lru.front();
          const int64_t allocatable = pool->NumAllocatable();
          const BlockId block = pool->Allocate();
          ASSERT_EQ(block == kNullBlock, allocatable == 0);
          ASSERT_EQ(!listener.evicted.empty(), must_evict);
          if (must_evict) {
            ASSERT_EQ(listener.evicted, std::vector<BlockId>{oldest});
          }
          forget_evicted();
          if (block == kNullBlock) break;
          ASSERT_FALSE(refs.contains(block));
          ASSERT_EQ(std::count(lru.begin(), lru.end(), block), 0);
          refs[block] = 1;
          break;
        }
        case 2:
          if (some == kNullBlock) break;
          pool->AddRef(some);
          ++refs[some];
          break;
        case 3:
          if (some == kNullBlock) break;
          pool->Release(some);
          if (--refs[some] > 0) break;
          refs.erase(some);
          if (registered.contains(some)) lru.push_back(some);
          break;
        case 4:
          if (some == kNullBlock || registered.contains(some)) break;
          pool->MarkRegistered(some);
          registered.insert(some);
          break;
        case 5:
          if (!lru.empty() && rng.Below(2)) {
            const BlockId block = lru[rng.Below(lru.size())];
            std::erase(lru, block);
            pool->AddRef(block);
            refs[block] = 1;
          } else if (some != kNullBlock && registered.erase(some)) {
            pool->ClearRegistered(some);
          }
          break;
        case 6: {
          const bool evict = rng.Below(2);
          if (const auto range = pool->ReleaseSlab(evict)) {
            for (BlockId b = range->first; b < range->first + range->count; ++b) {
              ASSERT_FALSE(refs.contains(b));
              ASSERT_TRUE(evict || !registered.contains(b));
            }
          }
          forget_evicted();
          break;
        }
      }
      const Status status = pool->CheckIntegrity();
      ASSERT_TRUE(status.ok()) << status.message();
      ASSERT_EQ(pool->num_owned(), static_cast<int64_t>(refs.size()));
      ASSERT_EQ(pool->num_cached(), static_cast<int64_t>(lru.size()));
      for (const auto& [block, count] : refs) ASSERT_EQ(pool->ref_count(block), count);
      ASSERT_LE(budget.used_bytes(), budget.total_bytes());
    }
  }
}

}  // namespace
}  // namespace ink
