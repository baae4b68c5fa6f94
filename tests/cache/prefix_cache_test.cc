#include "cache/prefix_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "base/rng.h"

namespace ink {
namespace {

using NodeId = PrefixCache::NodeId;

uint64_t SameHash(uint64_t, std::span<const int32_t>, uint64_t) { return 42; }

const CacheScope kScope{"model", "", "tenant-a", "f16/f16"};

struct Fixture {
  explicit Fixture(std::vector<GroupSpec> groups, BlockHashFn hash = &XxBlockHash)
      : budget(int64_t{64} << 20) {
    std::vector<BlockPool*> raw;
    for (size_t g = 0; g < groups.size(); ++g) {
      auto pool = BlockPool::Create({.group = static_cast<int32_t>(g),
                                     .block_bytes = groups[g].block_bytes,
                                     .max_blocks = groups[g].max_blocks},
                                    &budget);
      EXPECT_TRUE(pool.ok());
      raw.push_back(pool.value().get());
      pools.push_back(std::move(pool).value());
    }
    cache = std::make_unique<PrefixCache>(groups, raw, hash);
    for (BlockPool* pool : raw) pool->set_listener(cache.get());
  }

  /// Registers fresh blocks for the prefix in every group; returns the last node, unpinned.
  NodeId Insert(const CacheScope& scope, const std::vector<int32_t>& tokens) {
    NodeId node = cache->PinRoot(scope);
    for (size_t i = 0; i + kBlockTokens <= tokens.size(); i += kBlockTokens) {
      const NodeId child = cache->PinChild(node, std::span(tokens).subspan(i, kBlockTokens));
      cache->Unpin(node);
      node = child;
      for (size_t g = 0; g < pools.size(); ++g) {
        const BlockId block = pools[g]->Allocate();
        EXPECT_NE(block, kNullBlock);
        cache->Register(node, static_cast<int32_t>(g), block);
        pools[g]->Release(block);
      }
    }
    cache->Unpin(node);
    return node;
  }

  int64_t Hit(const CacheScope& scope, const std::vector<int32_t>& tokens) const {
    return static_cast<int64_t>(
        cache->Lookup(scope, tokens, static_cast<int64_t>(tokens.size())).size());
  }

  SlabBudget budget;
  std::vector<std::unique_ptr<BlockPool>> pools;
  std::unique_ptr<PrefixCache> cache;
};

const GroupSpec kFull{.kind = GroupKind::kFullAttention, .block_bytes = 1 << 16};

std::vector<int32_t> Tokens(int64_t n, int32_t first = 0) {
  std::vector<int32_t> tokens(n);
  for (int64_t i = 0; i < n; ++i) tokens[i] = first + static_cast<int32_t>(i);
  return tokens;
}

TEST(PrefixCache, FindsWholeBlocksOnly) {
  Fixture f({kFull});
  f.Insert(kScope, Tokens(96));
  EXPECT_EQ(f.Hit(kScope, Tokens(96)), 3);
  EXPECT_EQ(f.Hit(kScope, Tokens(95)), 2);
  EXPECT_EQ(f.Hit(kScope, Tokens(1000)), 3);
  EXPECT_EQ(f.Hit(kScope, Tokens(31)), 0);
  EXPECT_EQ(f.cache->Lookup(kScope, Tokens(96), 95).size(), 2u);
  EXPECT_EQ(f.cache->Lookup(kScope, Tokens(96), -1).size(), 0u);
  auto changed = Tokens(96);
  changed[40] = 7;
  EXPECT_EQ(f.Hit(kScope, changed), 1);
  EXPECT_TRUE(f.cache->CheckIntegrity().ok());
}

TEST(PrefixCache, EachScopeFieldSeparates) {
  for (const BlockHashFn hash : {&XxBlockHash, &SameHash}) {
    Fixture f({kFull}, hash);
    f.Insert(kScope, Tokens(64));
    for (int field = 0; field < 4; ++field) {
      CacheScope other = kScope;
      (field == 0   ? other.model
       : field == 1 ? other.adapter
       : field == 2 ? other.tenant
                    : other.cache_dtype) += "x";
      EXPECT_EQ(f.Hit(other, Tokens(64)), 0);
    }
    EXPECT_EQ(f.Hit(kScope, Tokens(64)), 2);
  }
}

// With one hash value for everything, every lookup collides; content must still decide.
TEST(PrefixCache, CollisionsNeverReturnOtherContent) {
  Fixture f({kFull}, &SameHash);
  const NodeId a = f.Insert(kScope, Tokens(64, 0));
  auto b_tokens = Tokens(64, 0);
  b_tokens[0] = 99;  // the second block has equal ids but another prefix
  const NodeId b = f.Insert(kScope, b_tokens);
  EXPECT_NE(a, b);
  EXPECT_EQ(f.cache->Lookup(kScope, Tokens(64, 0), 64).back(), a);
  EXPECT_EQ(f.cache->Lookup(kScope, b_tokens, 64).back(), b);
  EXPECT_EQ(f.Hit(kScope, Tokens(64, 5)), 0);
  const auto second_block_alone = Tokens(32, 32);
  EXPECT_EQ(f.Hit(kScope, second_block_alone), 0);
}

TEST(PrefixCache, SlidingWindowNeedsOnlyTheVisibleBlocks) {
  // A token at 96 sees positions 96-40+1 = 57 and later: blocks 1 and 2.
  Fixture f({{.kind = GroupKind::kSlidingWindow, .window = 40, .block_bytes = 1 << 16}});
  const NodeId node = f.Insert(kScope, Tokens(96));
  EXPECT_EQ(f.Hit(kScope, Tokens(96)), 3);
  const NodeId middle = f.cache->parent(node);
  const NodeId first = f.cache->parent(middle);
  f.cache->Unregister(0, f.cache->block(first, 0));
  EXPECT_EQ(f.Hit(kScope, Tokens(96)), 3);
  EXPECT_EQ(f.Hit(kScope, Tokens(95)), 0);  // at 64, positions 25.. are visible: block 0 is gone
  f.cache->Unregister(0, f.cache->block(middle, 0));
  EXPECT_EQ(f.Hit(kScope, Tokens(96)), 0);
  EXPECT_TRUE(f.cache->CheckIntegrity().ok());
}

TEST(PrefixCache, HybridHitNeedsEveryGroup) {
  Fixture f({kFull,
             {.kind = GroupKind::kSlidingWindow, .window = 33, .block_bytes = 1 << 16},
             {.kind = GroupKind::kRecurrent, .block_bytes = 1 << 16}});
  const NodeId node = f.Insert(kScope, Tokens(128));
  EXPECT_EQ(f.Hit(kScope, Tokens(128)), 4);
  f.cache->Unregister(2, f.cache->block(node, 2));  // no checkpoint at 128
  EXPECT_EQ(f.Hit(kScope, Tokens(128)), 3);
  const NodeId third = f.cache->parent(node);
  f.cache->Unregister(1, f.cache->block(third, 1));
  EXPECT_EQ(f.Hit(kScope, Tokens(128)), 2);
  f.cache->Unregister(0, f.cache->block(f.cache->parent(third), 0));
  EXPECT_EQ(f.Hit(kScope, Tokens(128)), 1);
  EXPECT_TRUE(f.cache->CheckIntegrity().ok());
}

TEST(PrefixCache, EvictionForgetsAndNodesDie) {
  Fixture f({kFull});
  f.Insert(kScope, Tokens(320));
  EXPECT_EQ(f.cache->num_nodes(), 11);
  while (f.pools[0]->EvictOne()) {
    ASSERT_TRUE(f.cache->CheckIntegrity().ok());
  }
  EXPECT_EQ(f.cache->num_nodes(), 0);
  EXPECT_EQ(f.Hit(kScope, Tokens(320)), 0);
}

// Random inserts, evictions and lookups over few token values, so that prefixes overlap a lot.
// The naive model keeps, per (scope, whole prefix), which groups have a block, and searches from
// the longest prefix down.
TEST(PrefixCache, RandomLookupsAgreeWithANaiveModel) {
  const std::vector<GroupSpec> all = {
      kFull,
      {.kind = GroupKind::kSlidingWindow, .window = 50, .block_bytes = 1 << 16},
      {.kind = GroupKind::kRecurrent, .block_bytes = 1 << 17}};
  const std::vector<std::vector<GroupSpec>> models = {{all[0]},         {all[1]},         {all[2]},
                                                      {all[0], all[1]}, {all[0], all[2]}, all};
  for (uint64_t seed = 0; seed < 24; ++seed) {
    Rng rng(seed);
    const auto& groups = models[seed % models.size()];
    Fixture f(groups, seed % 4 == 0 ? &SameHash : &XxBlockHash);
    using Prefix = std::pair<std::string, std::vector<int32_t>>;
    std::map<Prefix, std::vector<BlockId>> model;
    auto random_tokens = [&] {
      std::vector<int32_t> tokens;
      for (int64_t block = 0, n = 1 + rng.Below(7); block < n; ++block) {
        const int32_t value = static_cast<int32_t>(rng.Below(2));
        tokens.insert(tokens.end(), kBlockTokens, value);
      }
      return tokens;
    };
    for (int step = 0; step < 400; ++step) {
      const CacheScope scope{"m", "", rng.Below(2) ? "a" : "b", "f16"};
      const auto tokens = random_tokens();
      if (rng.Below(2)) {
        NodeId node = f.cache->PinRoot(scope);
        for (size_t i = 0; i < tokens.size(); i += kBlockTokens) {
          const NodeId child = f.cache->PinChild(node, std::span(tokens).subspan(i, kBlockTokens));
          f.cache->Unpin(node);
          node = child;
          const Prefix prefix{scope.tenant, {tokens.begin(), tokens.begin() + i + kBlockTokens}};
          for (size_t g = 0; g < groups.size(); ++g) {
            if (rng.Below(4) == 0) continue;
            const BlockId block = f.pools[g]->Allocate();
            const bool registered = f.cache->Register(node, g, block);
            auto& blocks = model.try_emplace(prefix, groups.size(), kNullBlock).first->second;
            ASSERT_EQ(registered, blocks[g] == kNullBlock);
            if (registered) blocks[g] = block;
            f.pools[g]->Release(block);
          }
        }
        f.cache->Unpin(node);
      } else if (!model.empty()) {
        auto it = std::next(model.begin(), rng.Below(model.size()));
        const size_t g = rng.Below(groups.size());
        if (it->second[g] != kNullBlock) {
          f.cache->Unregister(g, it->second[g]);
          it->second[g] = kNullBlock;
        }
      }
      const Status status = f.cache->CheckIntegrity();
      ASSERT_TRUE(status.ok()) << status.message();

      const auto query = random_tokens();
      auto has = [&](int64_t block, size_t g) {
        const auto it =
            model.find({scope.tenant, {query.begin(), query.begin() + (block + 1) * kBlockTokens}});
        return it != model.end() && it->second[g] != kNullBlock;
      };
      int64_t expected = static_cast<int64_t>(query.size()) / kBlockTokens;
      for (; expected > 0; --expected) {
        bool valid = true;
        for (size_t g = 0; g < groups.size(); ++g) {
          for (int64_t b = 0; b < expected; ++b) {
            bool needed = true;
            if (groups[g].kind == GroupKind::kRecurrent) needed = b == expected - 1;
            if (groups[g].kind == GroupKind::kSlidingWindow) {
              const int64_t first_seen = expected * kBlockTokens - (groups[g].window - 1);
              needed = b * kBlockTokens + kBlockTokens - 1 >= first_seen;
            }
            if (needed && !has(b, g)) valid = false;
          }
        }
        if (valid) break;
      }
      const auto path = f.cache->Lookup(scope, query, query.size());
      ASSERT_EQ(static_cast<int64_t>(path.size()), expected) << "seed " << seed;
      if (expected > 0) {
        const Prefix prefix{scope.tenant, {query.begin(), query.begin() + expected * kBlockTokens}};
        for (size_t g = 0; g < groups.size(); ++g) {
          ASSERT_EQ(f.cache->block(path.back(), g), model[prefix][g]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ink
