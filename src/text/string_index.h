// An immutable map from byte strings to int32 ids, made for very many short lookups.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace ink {

/// A 64-bit hash of short keys (multiply and fold, 8 bytes at a time).
inline uint64_t HashBytes(std::string_view bytes) {
  const char* p = bytes.data();
  size_t n = bytes.size();
  uint64_t h = 0x9E3779B97F4A7C15u ^ n;
  const auto mix = [&](uint64_t word) {
    const auto product = static_cast<unsigned __int128>(h ^ word) * 0xD6E8FEB86659FD93u;
    h = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  };
  while (n >= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    mix(word);
    p += 8;
    n -= 8;
  }
  uint64_t word = 0;
  std::memcpy(&word, p, n);
  mix(word);
  return h;
}

class StringIndex {
 public:
  StringIndex() = default;
  /// Makes room for `count` keys of `bytes` bytes together.
  void Reserve(size_t count, size_t bytes);
  /// False, and nothing changes, if the key is there already.
  bool Insert(std::string_view key, int32_t id);
  /// -1 if absent.
  int32_t Find(std::string_view key) const {
    if (key.size() > max_key_ || slots_.empty()) return -1;
    const uint64_t hash = HashBytes(key);
    for (size_t i = hash & mask_;; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.id < 0) return -1;
      if (slot.tag == static_cast<uint32_t>(hash >> 32) && Key(slot) == key) return slot.id;
    }
  }
  size_t max_key_bytes() const { return max_key_; }
  size_t size() const { return count_; }
  uint64_t memory_bytes() const { return slots_.capacity() * sizeof(Slot) + arena_.capacity(); }

 private:
  struct Slot {
    uint32_t tag = 0;
    int32_t id = -1;
    uint32_t offset = 0;
    uint32_t size = 0;
  };
  std::string_view Key(const Slot& slot) const {
    return std::string_view(arena_).substr(slot.offset, slot.size);
  }
  void Rehash(size_t slots);

  std::vector<Slot> slots_;
  std::string arena_;
  size_t mask_ = 0;
  size_t count_ = 0;
  size_t max_key_ = 0;
};

}  // namespace ink
