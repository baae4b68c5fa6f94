// A set of small integers with insert, erase and minimum in O(log64 n): a tree of bit words.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "base/check.h"

namespace ink {

/// Taking the smallest free block keeps owned blocks together, so that whole slabs become free and
/// can be given back.
class IdSet {
 public:
  /// Makes ids in [0, limit) representable; never shrinks. O(limit / 64).
  void Grow(int64_t limit);

  /// `id` must be absent (Insert) or present (Erase), and below the limit.
  void Insert(int64_t id);
  void Erase(int64_t id);
  bool Contains(int64_t id) const { return (levels_[0][id / 64] >> (id % 64)) & 1; }
  /// The smallest id, or -1 when empty.
  int64_t Min() const;
  int64_t size() const { return size_; }

 private:
  // levels_[0] has a bit per id; a bit of levels_[k + 1] says that a word of levels_[k] is not 0.
  std::vector<std::vector<uint64_t>> levels_;
  int64_t size_ = 0;
};

inline void IdSet::Grow(int64_t limit) {
  int64_t words = (limit + 63) / 64;
  if (words == 0) return;
  if (levels_.empty()) levels_.emplace_back();
  for (size_t level = 0;; ++level) {
    if (level == levels_.size()) {
      // A new top level summarizes the one below, which may already hold ids.
      std::vector<uint64_t> top(words);
      const std::vector<uint64_t>& below = levels_[level - 1];
      for (size_t i = 0; i < below.size(); ++i) {
        if (below[i] != 0) top[i / 64] |= uint64_t{1} << (i % 64);
      }
      levels_.push_back(std::move(top));
    } else if (static_cast<int64_t>(levels_[level].size()) < words) {
      levels_[level].resize(words);
    }
    const int64_t size = levels_[level].size();
    if (size == 1 && level + 1 == levels_.size()) break;
    words = (size + 63) / 64;
  }
}

inline void IdSet::Insert(int64_t id) {
  INK_CHECK(!Contains(id));
  for (auto& level : levels_) {
    uint64_t& word = level[id / 64];
    const bool was_empty = word == 0;
    word |= uint64_t{1} << (id % 64);
    if (!was_empty) break;
    id /= 64;
  }
  ++size_;
}

inline void IdSet::Erase(int64_t id) {
  INK_CHECK(Contains(id));
  for (auto& level : levels_) {
    uint64_t& word = level[id / 64];
    word &= ~(uint64_t{1} << (id % 64));
    if (word != 0) break;
    id /= 64;
  }
  --size_;
}

inline int64_t IdSet::Min() const {
  if (size_ == 0) return -1;
  int64_t id = 0;
  for (size_t level = levels_.size(); level-- > 0;) {
    id = id * 64 + std::countr_zero(levels_[level][id]);
  }
  return id;
}

}  // namespace ink
