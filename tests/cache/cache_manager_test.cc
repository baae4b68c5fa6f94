#include "cache/cache_manager.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "cache/simulated_memory.h"

namespace ink {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
const GroupSpec kFull{.kind = GroupKind::kFullAttention, .block_bytes = kMiB};
const GroupSpec kSliding{.kind = GroupKind::kSlidingWindow, .window = 40, .block_bytes = kMiB};
const GroupSpec kRecurrent{.kind = GroupKind::kRecurrent, .block_bytes = kMiB};
const CacheScope kScope{"model", "", "tenant", "f16"};

std::unique_ptr<CacheManager> MakeCache(CacheConfig config) {
  auto cache = CacheManager::Create(config);
  EXPECT_TRUE(cache.ok()) << cache.status().message();
  return std::move(cache).value();
}

std::vector<int32_t> Tokens(int64_t n, int32_t first = 0) {
  std::vector<int32_t> tokens(n);
  for (int64_t i = 0; i < n; ++i) tokens[i] = first + static_cast<int32_t>(i);
  return tokens;
}

/// One sequence with its tokens, driven without a scheduler.
struct Driver {
  CacheManager* cache;
  SimulatedMemory* memory;
  std::vector<int32_t> tokens;
  CacheScope scope = kScope;
  SequenceCache state;
  int64_t computed = 0;

  int64_t Start() {
    computed = cache->Attach(state, scope, tokens, static_cast<int64_t>(tokens.size()) - 1);
    return computed;
  }
  bool Run(int64_t n) {
    std::vector<BlockOp> ops;
    const int64_t end = computed + n;
    const bool reserved = cache->Reserve(state, computed, end, &ops);
    memory->Apply(ops);
    if (!reserved) return false;
    const auto states = PrefixStates(scope, tokens);
    std::vector<std::vector<BlockId>> tables;
    for (const auto& table : state.tables) {
      tables.emplace_back(table.blocks().begin(), table.blocks().end());
    }
    memory->Write(tables, states, computed, end);
    memory->Verify(tables, states, computed, end);
    computed = end;
    cache->Commit(state, tokens, static_cast<int64_t>(tokens.size()), computed, 1 << 30);
    cache->ReleaseBehindWindow(state, computed);
    return true;
  }
};

#define EXPECT_INTACT(cache, ...)                              \
  do {                                                         \
    const std::vector<const SequenceCache*> all_{__VA_ARGS__}; \
    const Status status_ = (cache).CheckIntegrity(all_);       \
    ASSERT_TRUE(status_.ok()) << status_.message();            \
  } while (0)

TEST(CacheManager, RefusesImpossibleConfigurations) {
  EXPECT_FALSE(CacheManager::Create({}).ok());
  EXPECT_FALSE(CacheManager::Create({.groups = {kFull}, .device_bytes = -1}).ok());
  EXPECT_FALSE(CacheManager::Create({.groups = {kFull}, .checkpoint_interval = 33}).ok());
  GroupSpec no_window = kSliding;
  no_window.window = 0;
  EXPECT_FALSE(CacheManager::Create({.groups = {no_window}, .device_bytes = kMiB}).ok());
}

TEST(CacheManager, CheckFitsShowsTheArithmetic) {
  const auto cache = MakeCache({.groups = {kFull, kSliding}, .device_bytes = 16 * kMiB});
  EXPECT_TRUE(cache->CheckFits(32 * 8, 32).ok());
  const Status status = cache->CheckFits(32 * 13, 32);
  EXPECT_EQ(status.code(), StatusCode::kOutOfMemory);
  for (const char* part : {"416 tokens", "14680064", "13 blocks", "20971520", "16777216"}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << part << " in " << status.message();
  }
  EXPECT_FALSE(cache->CheckFits(int64_t{1} << 40, 32).ok());
}

TEST(CacheManager, CheckFitsRespectsMaxBlocks) {
  GroupSpec small = kFull;
  small.max_blocks = 3;
  const auto cache = MakeCache({.groups = {small}, .device_bytes = 1024 * kMiB});
  EXPECT_TRUE(cache->CheckFits(96, 32).ok());
  EXPECT_EQ(cache->CheckFits(97, 32).code(), StatusCode::kOutOfMemory);
}

TEST(CacheManager, PlanIsWhatSequencesUse) {
  const std::vector<GroupSpec> groups = {kFull};
  const int64_t planned = PlanCacheBytes(groups, 3, 100, 64);
  const auto cache = MakeCache({.groups = groups, .device_bytes = planned});
  SimulatedMemory memory(*cache);
  std::vector<Driver> drivers;
  for (int i = 0; i < 3; ++i) drivers.push_back({cache.get(), &memory, Tokens(100, 1000 * i)});
  for (Driver& driver : drivers) {
    driver.Start();
    ASSERT_TRUE(driver.Run(50));
  }
  for (Driver& driver : drivers) ASSERT_TRUE(driver.Run(50));
  EXPECT_EQ(cache->device_bytes(), planned);
  for (Driver& driver : drivers) cache->Release(driver.state);
}

TEST(CacheManager, WindowBlocksAreFreedAndBecomeNull) {
  const auto cache = MakeCache({.groups = {kSliding}, .device_bytes = 64 * kMiB});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(400)};
  a.Start();
  while (a.computed < 400) {
    ASSERT_TRUE(a.Run(std::min<int64_t>(17, 400 - a.computed)));
    EXPECT_INTACT(*cache, &a.state);
    // 40 visible positions and a chunk of 17 touch at most 3 blocks.
    ASSERT_LE(a.state.tables[0].num_live(), 3);
    for (int64_t i = 0; i < a.state.tables[0].size(); ++i) {
      const bool behind = (i + 1) * kBlockTokens - 1 < a.computed - 39;
      ASSERT_EQ(a.state.tables[0][i] == kNullBlock, behind) << i << " at " << a.computed;
    }
  }
  cache->Release(a.state);
  EXPECT_INTACT(*cache);
}

TEST(CacheManager, PrefixIsSharedAndNotRecomputed) {
  const auto cache = MakeCache({.groups = {kFull, kSliding, kRecurrent},
                                .device_bytes = 128 * kMiB,
                                .checkpoint_interval = 64});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(200)};
  EXPECT_EQ(a.Start(), 0);
  while (a.computed < 200) {
    const int64_t limit = cache->ChunkLimit(a.computed, 200) - a.computed;
    ASSERT_TRUE(a.Run(std::min({int64_t{50}, 200 - a.computed, limit})));
  }
  Driver b{cache.get(), &memory, Tokens(200)};
  EXPECT_EQ(b.Start(), 192);  // the last boundary before the end, where a checkpoint was taken
  EXPECT_INTACT(*cache, &a.state, &b.state);
  ASSERT_TRUE(b.Run(8));
  EXPECT_INTACT(*cache, &a.state, &b.state);
  auto other = Tokens(200);
  other[150] = 9999;
  Driver c{cache.get(), &memory, other};
  EXPECT_EQ(c.Start(), 128);  // the checkpoint before the change
  ASSERT_TRUE(c.Run(72));
  Driver d{cache.get(), &memory, Tokens(200), {"model", "", "another tenant", "f16"}};
  EXPECT_EQ(d.Start(), 0);
  for (Driver* driver : {&a, &b, &c, &d}) cache->Release(driver->state);
  EXPECT_INTACT(*cache);
}

TEST(CacheManager, ForkCopiesOnlyWhatIsWritten) {
  const auto cache = MakeCache({.groups = {kFull, kRecurrent}, .device_bytes = 64 * kMiB});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(50)};
  a.Start();
  ASSERT_TRUE(a.Run(32));
  ASSERT_TRUE(a.Run(18));
  Driver b = a;
  b.state = cache->Fork(a.state);
  EXPECT_EQ(a.state.tables[0][1], b.state.tables[0][1]);
  a.tokens.push_back(1);
  b.tokens.push_back(2);
  ASSERT_TRUE(a.Run(1));
  ASSERT_TRUE(b.Run(1));
  EXPECT_EQ(a.state.tables[0][0], b.state.tables[0][0]);
  EXPECT_NE(a.state.tables[0][1], b.state.tables[0][1]);
  EXPECT_INTACT(*cache, &a.state, &b.state);
  cache->Release(a.state);
  b.tokens.push_back(3);
  ASSERT_TRUE(b.Run(1));
  EXPECT_INTACT(*cache, &b.state);
  cache->Release(b.state);
}

TEST(CacheManager, TruncateRollsBackAndKeepsCachedContent) {
  const auto cache = MakeCache({.groups = {kFull}, .device_bytes = 64 * kMiB});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(100)};
  a.Start();
  ASSERT_TRUE(a.Run(100));
  EXPECT_EQ(cache->Truncate(a.state, 100, 70), 70);
  a.computed = 70;
  a.tokens.resize(70);
  a.tokens.push_back(5);
  ASSERT_TRUE(a.Run(1));  // block 2 is registered: it is copied, not overwritten
  EXPECT_INTACT(*cache, &a.state);
  Driver b{cache.get(), &memory, Tokens(100)};
  EXPECT_EQ(b.Start(), 96);
  ASSERT_TRUE(b.Run(4));
  EXPECT_EQ(cache->Truncate(a.state, 71, 0), 0);
  EXPECT_TRUE(a.state.empty());
  cache->Release(b.state);
  EXPECT_INTACT(*cache);
}

// After an edit inside a registered block, what follows belongs to the edited prefix, not to the
// old.
TEST(CacheManager, AnEditedPrefixIsNotFoundUnderTheOldOne) {
  const auto cache = MakeCache({.groups = {kFull}, .device_bytes = 64 * kMiB});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(128)};
  a.Start();
  ASSERT_TRUE(a.Run(100));
  a.computed = cache->Truncate(a.state, 100, 40);
  a.tokens[45] = -1;
  ASSERT_TRUE(a.Run(88));
  Driver b{cache.get(), &memory, Tokens(130)};
  EXPECT_EQ(b.Start(), 96);
  ASSERT_TRUE(b.Run(34));
  Driver c{cache.get(), &memory, a.tokens};
  c.tokens.push_back(0);
  EXPECT_EQ(c.Start(), 128);
  ASSERT_TRUE(c.Run(1));
  for (Driver* driver : {&a, &b, &c}) cache->Release(driver->state);
}

TEST(CacheManager, NeedOfAWindowIsBounded) {
  const auto cache = MakeCache({.groups = {kFull, kSliding}, .device_bytes = 256 * kMiB});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(1000)};
  std::vector<int64_t> need = {5, 5};
  cache->AddNeed(a.state, 0, 1000, 32, &need);
  EXPECT_EQ(need, (std::vector<int64_t>{5 + 32, 5 + 4}));  // 39 + 32 positions, anywhere
  a.Start();
  ASSERT_TRUE(a.Run(500));
  ASSERT_EQ(a.state.tables[1].num_live(), 2);
  need = {0, 0};
  cache->AddNeed(a.state, 500, 1000, 32, &need);
  EXPECT_EQ(need, (std::vector<int64_t>{16, 2}));
  cache->Release(a.state);
}

TEST(CacheManager, TruncateBehindTheWindowStartsOver) {
  const auto cache = MakeCache({.groups = {kSliding}, .device_bytes = 64 * kMiB});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(200)};
  a.Start();
  ASSERT_TRUE(a.Run(200));
  EXPECT_EQ(cache->Truncate(a.state, 200, 199), 199);
  EXPECT_EQ(cache->Truncate(a.state, 199, 100), 0);
  EXPECT_INTACT(*cache, &a.state);
}

TEST(CacheManager, RecurrentStateReturnsToTheCheckpoint) {
  const auto cache =
      MakeCache({.groups = {kFull, kRecurrent}, .device_bytes = 64 * kMiB, .prefix_cache = false});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(60)};
  a.Start();
  ASSERT_TRUE(a.Run(50));
  cache->KeepCheckpoint(a.state, 50);
  ASSERT_TRUE(a.Run(6));
  EXPECT_INTACT(*cache, &a.state);
  EXPECT_EQ(cache->Truncate(a.state, 56, 53), 50);
  a.computed = 50;
  a.tokens[53] = -1;
  ASSERT_TRUE(a.Run(10));                          // verifies the state before position 50
  EXPECT_EQ(cache->Truncate(a.state, 60, 55), 0);  // no checkpoint any more
  EXPECT_INTACT(*cache, &a.state);
}

TEST(CacheManager, SwapMovesEverythingAndBack) {
  const auto cache = MakeCache({.groups = {kFull, kSliding, kRecurrent},
                                .device_bytes = 64 * kMiB,
                                .host_bytes = 32 * kMiB});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(130)};
  a.Start();
  ASSERT_TRUE(a.Run(128));
  std::vector<BlockOp> ops;
  ASSERT_TRUE(cache->SwapOut(a.state, &ops));
  EXPECT_INTACT(*cache, &a.state);
  EXPECT_EQ(cache->pool(2).num_owned(), 0);
  // Others use the device blocks meanwhile.
  memory.Apply(ops);
  cache->EvictAll();
  Driver b{cache.get(), &memory, Tokens(400, 7)};
  b.Start();
  ASSERT_TRUE(b.Run(400));
  cache->Release(b.state);
  ops.clear();
  ASSERT_TRUE(cache->SwapIn(a.state, kScope, &ops));
  memory.Apply(ops);
  EXPECT_INTACT(*cache, &a.state);
  ASSERT_TRUE(a.Run(2));
  cache->Release(a.state);
  EXPECT_EQ(cache->host_pool(0).num_owned(), 0);
}

TEST(CacheManager, SwapOutWithoutRoomChangesNothing) {
  const auto cache =
      MakeCache({.groups = {kFull}, .device_bytes = 64 * kMiB, .host_bytes = 2 * kMiB});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(100)};
  a.Start();
  ASSERT_TRUE(a.Run(99));
  std::vector<BlockOp> ops;
  EXPECT_FALSE(cache->SwapOut(a.state, &ops));
  EXPECT_TRUE(ops.empty());
  EXPECT_INTACT(*cache, &a.state);
  ASSERT_TRUE(a.Run(1));
  cache->Release(a.state);
}

TEST(CacheManager, AGroupTakesIdleSlabsOfAnother) {
  const auto cache = MakeCache({.groups = {kFull, kRecurrent}, .device_bytes = 8 * kMiB});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(192)};
  a.Start();
  ASSERT_TRUE(a.Run(192));  // six blocks: three slabs, and one for the state
  EXPECT_EQ(cache->device_bytes(), 8 * kMiB);
  cache->Release(a.state);
  std::vector<Driver> others;
  std::vector<const SequenceCache*> states;
  for (int i = 0; i < 4; ++i) others.push_back({cache.get(), &memory, Tokens(20, 1000 + i)});
  for (Driver& other : others) {
    other.Start();
    ASSERT_TRUE(other.Run(20));  // three states need a second slab: cached blocks must go
    states.push_back(&other.state);
  }
  const Status status = cache->CheckIntegrity(states);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_LE(cache->device_bytes(), 8 * kMiB);
}

TEST(CacheManager, ReleasePolicyGivesSlabsBack) {
  GroupSpec group = kFull;
  group.initial_blocks = 2;
  const auto cache = MakeCache({.groups = {group}, .device_bytes = 64 * kMiB});
  SimulatedMemory memory(*cache);
  Driver a{cache.get(), &memory, Tokens(320)};
  a.Start();
  ASSERT_TRUE(a.Run(320));
  cache->Release(a.state);
  EXPECT_TRUE(cache->ReleaseUnusedSlabs(false).empty());  // all blocks are cached
  EXPECT_EQ(cache->ReleaseUnusedSlabs(true).size(), 4u);
  EXPECT_EQ(cache->device_bytes(), 2 * kMiB);
  EXPECT_INTACT(*cache);
}

TEST(CacheManager, TokensPastTheLimitAreNeverCached) {
  const auto cache = MakeCache({.groups = {kFull}, .device_bytes = 64 * kMiB});
  SequenceCache state;
  std::vector<BlockOp> ops;
  const auto tokens = Tokens(128);
  EXPECT_EQ(cache->Attach(state, kScope, tokens, 127), 0);
  ASSERT_TRUE(cache->Reserve(state, 0, 128, &ops));
  cache->Commit(state, tokens, 128, 128, /*max_tokens=*/70);
  cache->Release(state);
  EXPECT_EQ(cache->Attach(state, kScope, tokens, 127), 64);
  cache->Release(state);
}

}  // namespace
}  // namespace ink
