#include "sampling/constraint/vocabulary.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "sampling/constraint/string_masks.h"

namespace ink {

VocabularyTrie::VocabularyTrie() = default;
VocabularyTrie::~VocabularyTrie() = default;

std::shared_ptr<const VocabularyTrie> VocabularyTrie::Build(std::vector<std::string> token_bytes,
                                                            std::vector<int32_t> end_ids) {
  std::shared_ptr<VocabularyTrie> trie(new VocabularyTrie());
  VocabularyTrie& t = *trie;
  t.token_bytes_ = std::move(token_bytes);
  t.is_end_.assign(t.token_bytes_.size(), 0);
  for (int32_t id : end_ids) {
    INK_CHECK(id >= 0 && static_cast<size_t>(id) < t.token_bytes_.size());
    t.is_end_[id] = 1;
  }
  t.end_ids_ = std::move(end_ids);
  std::vector<int32_t> order;
  for (size_t id = 0; id < t.token_bytes_.size(); ++id) {
    // Tokens of more bytes than a depth can hold are not allowed by any mask.
    const size_t length = t.token_bytes_[id].size();
    if (length > 0 && length < 65536 && !t.is_end_[id]) order.push_back(static_cast<int32_t>(id));
  }
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const int c = t.token_bytes_[a].compare(t.token_bytes_[b]);
    return c != 0 ? c < 0 : a < b;
  });
  for (int32_t id : order) {
    const std::string& bytes = t.token_bytes_[id];
    const size_t spaces = std::min(bytes.find_first_not_of(" \t\r\n"), bytes.size());
    for (size_t e = bytes.find_first_of("eE"); e != std::string::npos;
         e = bytes.find_first_of("eE", e + 1)) {
      size_t i = e + 1;
      if (i < bytes.size() && (bytes[i] == '+' || bytes[i] == '-')) ++i;
      const size_t digits = std::min(bytes.find_first_not_of("0123456789", i), bytes.size()) - i;
      if (digits >= 3) t.has_long_exponents_ = true;
    }
    if (spaces > 0) t.leading_spaces_.emplace_back(static_cast<uint32_t>(spaces), id);
  }
  std::stable_sort(t.leading_spaces_.begin(), t.leading_spaces_.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  // Depth-first: each token shares a path with the one before it and adds the rest.
  std::vector<int32_t> path = {0};
  t.byte_.push_back(0);
  t.depth_.push_back(0);
  t.end_.push_back(0);
  t.height_.push_back(0);
  t.first_.push_back(0);
  std::string_view previous;
  const auto close = [&](size_t depth) {
    while (path.size() > depth + 1) {
      const int32_t node = path.back();
      path.pop_back();
      t.end_[node] = static_cast<int32_t>(t.byte_.size());
      const int32_t parent = path.back();
      t.height_[parent] =
          std::max<uint16_t>(t.height_[parent], static_cast<uint16_t>(t.height_[node] + 1));
    }
  };
  for (int32_t id : order) {
    const std::string_view bytes = t.token_bytes_[id];
    size_t shared = 0;
    while (shared < previous.size() && shared < bytes.size() && previous[shared] == bytes[shared]) {
      ++shared;
    }
    close(shared);
    for (size_t i = shared; i < bytes.size(); ++i) {
      path.push_back(static_cast<int32_t>(t.byte_.size()));
      t.byte_.push_back(static_cast<uint8_t>(bytes[i]));
      t.depth_.push_back(static_cast<uint16_t>(i + 1));
      t.end_.push_back(0);
      t.height_.push_back(0);
      t.first_.push_back(static_cast<int32_t>(t.sorted_ids_.size()));
    }
    t.sorted_ids_.push_back(id);
    t.max_depth_ = std::max(t.max_depth_, static_cast<int32_t>(bytes.size()));
    previous = bytes;
  }
  close(0);
  t.end_[0] = static_cast<int32_t>(t.byte_.size());
  t.first_.push_back(static_cast<int32_t>(t.sorted_ids_.size()));
  t.string_masks_ = std::make_unique<constraint::StringMasks>(t);
  return trie;
}

std::string VocabularyTrie::PathBytes(int32_t node) const {
  // Some token of the subtree begins with the path.
  const std::span<const int32_t> ids = subtree_tokens(node);
  INK_CHECK(!ids.empty() || node == 0);
  return node == 0 ? "" : token_bytes_[ids[0]].substr(0, static_cast<size_t>(depth_[node]));
}

uint64_t VocabularyTrie::memory_bytes() const {
  uint64_t bytes = sizeof(*this) + string_masks_->memory_bytes();
  for (const std::string& s : token_bytes_) {
    bytes += sizeof(s) + (s.capacity() > 15 ? s.capacity() : 0);
  }
  bytes += is_end_.size() + byte_.size() * (1 + 2 + 2 + 4 + 4) + sorted_ids_.size() * 4;
  return bytes;
}

}  // namespace ink
