// An immutable trie over byte strings, for finding all keys that a text starts with.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace ink {

class ByteTrie {
 public:
  ByteTrie() { root_.fill(-1); }
  /// Keys must be non-empty and different; values >= 0. Sorts `keys`.
  explicit ByteTrie(std::vector<std::pair<std::string_view, int32_t>>& keys);

  bool empty() const { return nodes_.empty(); }
  bool StartsKey(char c) const { return root_[static_cast<uint8_t>(c)] >= 0; }

  /// Calls visit(length, value) for each key that is a prefix of `text`, shortest first.
  template <typename Visit>
  void ForEachPrefix(std::string_view text, Visit&& visit) const {
    if (text.empty()) return;
    int32_t node = root_[static_cast<uint8_t>(text[0])];
    for (size_t length = 1; node >= 0; ++length) {
      const Node& n = nodes_[node];
      if (n.value >= 0) visit(length, n.value);
      if (length >= text.size()) return;
      node = Child(n, static_cast<uint8_t>(text[length]));
    }
  }
  /// The longest key that is a prefix of `text`: its length and value, {0, -1} if none.
  std::pair<size_t, int32_t> Longest(std::string_view text) const {
    std::pair<size_t, int32_t> best{0, -1};
    ForEachPrefix(text, [&](size_t length, int32_t value) { best = {length, value}; });
    return best;
  }
  uint64_t memory_bytes() const { return nodes_.capacity() * sizeof(Node); }

 private:
  struct Node {
    int32_t value = -1;
    int32_t first_child = 0;  // children are neighbours, ascending by label
    uint16_t num_children = 0;
    uint8_t label = 0;
  };

  int32_t Child(const Node& n, uint8_t label) const {
    int32_t low = n.first_child, high = n.first_child + n.num_children;
    while (high - low > 4) {
      const int32_t middle = (low + high) / 2;
      if (nodes_[middle].label <= label) {
        low = middle;
      } else {
        high = middle;
      }
    }
    for (; low < high; ++low) {
      if (nodes_[low].label == label) return low;
    }
    return -1;
  }

  std::vector<Node> nodes_;
  std::array<int32_t, 256> root_;
};

}  // namespace ink
