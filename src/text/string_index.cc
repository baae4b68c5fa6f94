#include "text/string_index.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"

namespace ink {

void StringIndex::Reserve(size_t count, size_t bytes) {
  arena_.reserve(bytes);
  Rehash(std::bit_ceil(std::max<size_t>(16, count + count / 2)));
}

void StringIndex::Rehash(size_t slots) {
  std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots));
  mask_ = slots - 1;
  for (const Slot& slot : old) {
    if (slot.id < 0) continue;
    size_t i = HashBytes(Key(slot)) & mask_;
    while (slots_[i].id >= 0) i = (i + 1) & mask_;
    slots_[i] = slot;
  }
}

bool StringIndex::Insert(std::string_view key, int32_t id) {
  INK_CHECK_GE(id, 0);
  INK_CHECK_LT(arena_.size() + key.size(), size_t{1} << 32);
  if (slots_.empty() || count_ + count_ / 2 >= slots_.size()) {
    Rehash(std::max<size_t>(16, slots_.size() * 2));
  }
  const uint64_t hash = HashBytes(key);
  size_t i = hash & mask_;
  for (; slots_[i].id >= 0; i = (i + 1) & mask_) {
    if (slots_[i].tag == static_cast<uint32_t>(hash >> 32) && Key(slots_[i]) == key) return false;
  }
  slots_[i] = {static_cast<uint32_t>(hash >> 32), id, static_cast<uint32_t>(arena_.size()),
               static_cast<uint32_t>(key.size())};
  arena_ += key;
  ++count_;
  max_key_ = std::max(max_key_, key.size());
  return true;
}

}  // namespace ink
