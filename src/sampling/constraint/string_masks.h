// Which tokens stay inside a JSON string that may hold any text: most of a vocabulary, found once.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "sampling/constraint/lexer.h"
#include "sampling/constraint/vocabulary.h"

namespace ink::constraint {

class StringMasks {
 public:
  struct Exit {
    int32_t node = 0;    // whose byte is the closing quote
    uint32_t chars = 0;  // characters before it
  };
  struct Entry {
    std::vector<uint32_t> inside;
    // Tokens of `inside` by the number of characters they begin or go on with, most first.
    std::vector<std::pair<uint32_t, int32_t>> by_length;
    std::vector<Exit> exits;
    uint32_t longest_exit = 0;  // most characters before a closing quote

    /// ORs the tokens of at most `limit` characters into `mask`.
    void AddInside(uint64_t limit, std::span<uint32_t> mask) const;
  };

  explicit StringMasks(const VocabularyTrie& vocabulary);

  /// For a lexer in `state`, from where any characters may follow for ever.
  const Entry& Find(const Lexer& lexer, int32_t state);
  uint64_t memory_bytes();

 private:
  void Fill(int32_t state, Entry& entry);

  const VocabularyTrie& vocabulary_;
  std::mutex mutex_;
  Lexer any_;
  std::map<int32_t, std::unique_ptr<Entry>> entries_;
};

}  // namespace ink::constraint
