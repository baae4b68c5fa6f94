// Stand-in for a device: every slot holds a hash of the whole prefix that its state depends on, so
// that any wrong block, lost copy, stale state or write to shared memory shows as a wrong value.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cache/cache_manager.h"

namespace ink {

inline uint64_t Mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

/// What the state of a sequence is after each token: result[p] depends on tokens[0..p] and scope.
inline std::vector<uint64_t> PrefixStates(const CacheScope& scope,
                                          std::span<const int32_t> tokens) {
  uint64_t hash = 17;
  for (const std::string* field :
       {&scope.model, &scope.adapter, &scope.tenant, &scope.cache_dtype}) {
    for (const char c : *field) hash = Mix(hash, static_cast<unsigned char>(c));
    hash = Mix(hash, 1000);
  }
  std::vector<uint64_t> states;
  for (const int32_t token : tokens)
    states.push_back(hash = Mix(hash, static_cast<uint32_t>(token)));
  return states;
}

class SimulatedMemory {
 public:
  explicit SimulatedMemory(const CacheManager& cache)
      : cache_(cache), device_(cache.num_groups()), host_(cache.num_groups()) {}

  void Apply(std::span<const BlockOp> ops) {
    for (const BlockOp& op : ops) {
      switch (op.kind) {
        case BlockOpKind::kCopy:
          Copy(device_[op.group], op.src, device_[op.group], op.dst);
          break;
        case BlockOpKind::kSwapOut:
          Copy(device_[op.group], op.src, host_[op.group], op.dst);
          break;
        case BlockOpKind::kSwapIn:
          Copy(host_[op.group], op.src, device_[op.group], op.dst);
          break;
        case BlockOpKind::kRelease:
          for (int i = 0; i < op.count; ++i) Poison(op.group, op.src + i);
          break;
      }
    }
  }

  void Drop(std::span<const BlockRange> ranges) {
    for (const BlockRange& range : ranges) {
      for (int i = 0; i < range.count; ++i) Poison(range.group, range.first + i);
    }
  }

  /// Phase 1 of a step: writes positions [start, end) of a sequence with these prefix states.
  void Write(const std::vector<std::vector<BlockId>>& tables, std::span<const uint64_t> states,
             int64_t start, int64_t end) {
    for (int32_t g = 0; g < cache_.num_groups(); ++g) {
      const auto& table = tables[g];
      if (cache_.group(g).kind == GroupKind::kRecurrent) {
        ASSERT_EQ(table.size(), 1u);
        CheckWritable(g, table[0]);
        uint64_t& state = Slot(device_[g], table[0], 0);
        if (start > 0) {
          ASSERT_EQ(state, states[start - 1]) << "recurrent state before position " << start;
        }
        state = states[end - 1];
        continue;
      }
      for (int64_t p = start; p < end; ++p) {
        ASSERT_LT(p / kBlockTokens, static_cast<int64_t>(table.size()));
        CheckWritable(g, table[p / kBlockTokens]);
        Slot(device_[g], table[p / kBlockTokens], p % kBlockTokens) = states[p];
      }
    }
  }

  /// Phase 2: every position that [start, end) sees holds what it must.
  void Verify(const std::vector<std::vector<BlockId>>& tables, std::span<const uint64_t> states,
              int64_t start, int64_t end) {
    for (int32_t g = 0; g < cache_.num_groups(); ++g) {
      const GroupSpec& group = cache_.group(g);
      const auto& table = tables[g];
      if (group.kind == GroupKind::kRecurrent) {
        ASSERT_EQ(Slot(device_[g], table[0], 0), states[end - 1]);
        continue;
      }
      const int64_t first = group.kind == GroupKind::kSlidingWindow
                                ? std::max<int64_t>(0, start - group.window + 1)
                                : 0;
      for (int64_t p = first; p < end; ++p) {
        const BlockId block = table[p / kBlockTokens];
        ASSERT_NE(block, kNullBlock) << "group " << g << " position " << p << " is visible";
        ASSERT_EQ(Slot(device_[g], block, p % kBlockTokens), states[p])
            << "group " << g << " position " << p << " block " << block;
      }
    }
  }

 private:
  using Memory = std::vector<uint64_t>;
  static uint64_t& Slot(Memory& memory, BlockId block, int64_t offset) {
    const size_t index = static_cast<size_t>(block) * kBlockTokens + offset;
    if (index >= memory.size()) memory.resize(index + 1, 0xdead);
    return memory[index];
  }
  static void Copy(Memory& from, BlockId src, Memory& to, BlockId dst) {
    for (int64_t i = 0; i < kBlockTokens; ++i) {
      const uint64_t value = Slot(from, src, i);
      Slot(to, dst, i) = value;
    }
  }
  void Poison(int32_t group, BlockId block) {
    for (int64_t i = 0; i < kBlockTokens; ++i) Slot(device_[group], block, i) = 0xbad;
  }
  void CheckWritable(int32_t g, BlockId block) {
    ASSERT_NE(block, kNullBlock);
    ASSERT_TRUE(cache_.pool(g).IsPresent(block));
    ASSERT_EQ(cache_.pool(g).ref_count(block), 1) << "write to shared block " << block;
    ASSERT_FALSE(cache_.pool(g).registered(block)) << "write to registered block " << block;
  }

  const CacheManager& cache_;
  std::vector<Memory> device_;
  std::vector<Memory> host_;
};

}  // namespace ink
