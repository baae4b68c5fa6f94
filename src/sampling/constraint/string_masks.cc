#include "sampling/constraint/string_masks.h"

#include <algorithm>

namespace ink::constraint {

void StringMasks::Entry::AddInside(uint64_t limit, std::span<uint32_t> mask) const {
  if (by_length.empty() || by_length.front().first <= limit) {
    for (size_t i = 0; i < inside.size(); ++i) mask[i] |= inside[i];
    return;
  }
  const auto first = std::partition_point(by_length.begin(), by_length.end(),
                                          [&](const auto& t) { return t.first > limit; });
  if (first - by_length.begin() > by_length.end() - first) {
    for (auto it = first; it != by_length.end(); ++it) {
      mask[it->second / 32] |= 1u << (it->second % 32);
    }
    return;
  }
  std::vector<uint32_t> shorter = inside;
  for (auto it = by_length.begin(); it != first; ++it) {
    shorter[it->second / 32] &= ~(1u << (it->second % 32));
  }
  for (size_t i = 0; i < shorter.size(); ++i) mask[i] |= shorter[i];
}

StringMasks::StringMasks(const VocabularyTrie& vocabulary)
    : vocabulary_(vocabulary),
      any_(std::make_shared<Dfa>(AnyTextDfa()), Lexer::Mode::kJson, {1}, {1}) {}

const StringMasks::Entry& StringMasks::Find(const Lexer& lexer, int32_t state) {
  std::lock_guard<std::mutex> lock(mutex_);
  const int32_t own = any_.Counterpart(lexer, state);
  std::unique_ptr<Entry>& entry = entries_[own];
  if (entry == nullptr) {
    auto made = std::make_unique<Entry>();
    Fill(own, *made);
    entry = std::move(made);
  }
  return *entry;
}

void StringMasks::Fill(int32_t start, Entry& entry) {
  entry.inside.assign(vocabulary_.mask_words(), 0);
  struct Level {
    int32_t state;
    uint32_t chars;
  };
  std::vector<Level> levels(static_cast<size_t>(vocabulary_.max_depth()) + 1);
  levels[0] = {start, 0};
  for (int32_t i = 1; i < vocabulary_.num_nodes();) {
    const int32_t depth = vocabulary_.depth(i);
    const Level& above = levels[depth - 1];
    const int32_t next = any_.Next(above.state, vocabulary_.byte(i));
    if (next < 0) {
      if (next == Lexer::kQuote) {
        entry.exits.push_back({i, above.chars});
        entry.longest_exit = std::max(entry.longest_exit, above.chars);
      }
      i = vocabulary_.subtree_end(i);
      continue;
    }
    const bool whole = any_.Whole(next);
    levels[depth] = {next, above.chars + (whole ? 1 : 0)};
    for (int32_t id : vocabulary_.tokens(i)) {
      entry.inside[id / 32] |= 1u << (id % 32);
      entry.by_length.emplace_back(levels[depth].chars + (whole ? 0 : 1), id);
    }
    ++i;
  }
  std::sort(entry.by_length.begin(), entry.by_length.end(),
            [](const auto& a, const auto& b) { return a.first > b.first; });
}

uint64_t StringMasks::memory_bytes() {
  std::lock_guard<std::mutex> lock(mutex_);
  uint64_t bytes = any_.memory_bytes();
  for (const auto& [state, entry] : entries_) {
    bytes += entry->inside.size() * 4 + entry->by_length.size() * 8 + entry->exits.size() * 8;
  }
  return bytes;
}

}  // namespace ink::constraint
