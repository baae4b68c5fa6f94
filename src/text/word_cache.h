// Remembers the ids of words met before within one Encode call. Natural text repeats its words, and
// looking a word up is several times cheaper than merging it anew. Internal to src/text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/string_index.h"

namespace ink {

class WordCache {
 public:
  /// Texts shorter than this gain nothing.
  static constexpr size_t kMinText = 1024;
  static constexpr size_t kMaxWord = 40;

  /// Sized for a text of `text_bytes`.
  explicit WordCache(size_t text_bytes) {
    size_t slots = 256;
    while (slots < text_bytes / 16 && slots < 16384) slots *= 2;
    slots_.resize(slots);
  }

  /// Appends the ids of `word`; false if it is not known.
  bool Find(std::string_view word, std::vector<int32_t>* out) const {
    const Slot& slot = slots_[HashBytes(word) & (slots_.size() - 1)];
    if (slot.size != word.size() || std::string_view(keys_).substr(slot.key, slot.size) != word) {
      return false;
    }
    out->insert(out->end(), ids_.begin() + slot.first, ids_.begin() + slot.first + slot.count);
    return true;
  }

  void Insert(std::string_view word, const int32_t* ids, size_t count) {
    if (keys_.size() > kMaxBytes || ids_.size() > kMaxBytes) return;
    slots_[HashBytes(word) & (slots_.size() - 1)] = {
        static_cast<uint32_t>(keys_.size()), static_cast<uint32_t>(ids_.size()),
        static_cast<uint16_t>(count), static_cast<uint16_t>(word.size())};
    keys_ += word;
    ids_.insert(ids_.end(), ids, ids + count);
  }

 private:
  // A slot that is overwritten leaves its key behind: this bounds the waste.
  static constexpr size_t kMaxBytes = size_t{1} << 21;

  struct Slot {
    uint32_t key = 0;
    uint32_t first = 0;
    uint16_t count = 0;
    uint16_t size = 0;  // 0: empty, no word is
  };
  std::vector<Slot> slots_;
  std::string keys_;
  std::vector<int32_t> ids_;
};

}  // namespace ink
