#include "text/byte_trie.h"

#include <algorithm>
#include <deque>

#include "base/check.h"

namespace ink {

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, int32_t>>& keys) {
  root_.fill(-1);
  std::sort(keys.begin(), keys.end());
  // Breadth first, so that the children of a node are neighbours.
  struct Range {
    size_t begin, end, depth;
    int32_t node;  // -1: the root
  };
  std::deque<Range> todo;
  todo.push_back({0, keys.size(), 0, -1});
  while (!todo.empty()) {
    Range range = todo.front();
    todo.pop_front();
    // Keys that end here come first in sorted order.
    if (range.begin < range.end && keys[range.begin].first.size() == range.depth) {
      INK_CHECK_GE(range.node, 0);
      nodes_[range.node].value = keys[range.begin].second;
      ++range.begin;
    }
    const int32_t first_child = static_cast<int32_t>(nodes_.size());
    for (size_t i = range.begin; i < range.end;) {
      const char label = keys[i].first[range.depth];
      size_t j = i + 1;
      while (j < range.end && keys[j].first[range.depth] == label) ++j;
      const int32_t node = static_cast<int32_t>(nodes_.size());
      nodes_.push_back({.label = static_cast<uint8_t>(label)});
      if (range.node < 0) root_[static_cast<uint8_t>(label)] = node;
      todo.push_back({i, j, range.depth + 1, node});
      i = j;
    }
    if (range.node >= 0) {
      nodes_[range.node].first_child = first_child;
      nodes_[range.node].num_children =
          static_cast<uint16_t>(static_cast<int32_t>(nodes_.size()) - first_child);
    }
  }
  nodes_.shrink_to_fit();
}

}  // namespace ink
