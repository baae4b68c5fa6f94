// A vocabulary as byte strings, laid out as a prefix tree, for token masks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ink {

namespace constraint {
class StringMasks;
}

/// Immutable and shared by every constraint of a model. Nodes are numbered in depth-first order,
/// children by ascending byte, so that the subtree of node i is [i, subtree_end(i)) and its tokens
/// are a contiguous range of sorted_ids().
class VocabularyTrie {
 public:
  /// `token_bytes[id]` is what the token adds to the text; an empty string (control and unused
  /// tokens) is never allowed by a mask. `end_ids` are the tokens that end generation: allowed
  /// exactly where the text is complete, whatever their bytes.
  static std::shared_ptr<const VocabularyTrie> Build(std::vector<std::string> token_bytes,
                                                     std::vector<int32_t> end_ids);

  ~VocabularyTrie();

  int32_t vocab_size() const { return static_cast<int32_t>(token_bytes_.size()); }
  /// Words of a mask: bit id % 32 of word id / 32.
  size_t mask_words() const { return (token_bytes_.size() + 31) / 32; }
  std::string_view token_bytes(int32_t id) const { return token_bytes_[id]; }
  std::span<const int32_t> end_ids() const { return end_ids_; }
  bool IsEnd(int32_t id) const { return is_end_[id] != 0; }

  int32_t num_nodes() const { return static_cast<int32_t>(byte_.size()); }  // node 0 is the root
  uint8_t byte(int32_t node) const { return byte_[node]; }
  int32_t depth(int32_t node) const { return depth_[node]; }  // root 0
  int32_t subtree_end(int32_t node) const { return end_[node]; }
  /// Tokens that end at `node`: several where the vocabulary has duplicates, often none.
  std::span<const int32_t> tokens(int32_t node) const {
    return std::span(sorted_ids_).subspan(first_[node], first_[node + 1] - first_[node]);
  }
  std::span<const int32_t> subtree_tokens(int32_t node) const {
    return std::span(sorted_ids_).subspan(first_[node], first_[end_[node]] - first_[node]);
  }
  int32_t max_depth() const { return max_depth_; }
  /// How many bytes the longest token in the subtree of `node` has beyond it.
  int32_t height(int32_t node) const { return height_[node]; }
  /// Tokens that begin with JSON white space, by how many bytes of it, most first.
  std::span<const std::pair<uint32_t, int32_t>> leading_spaces() const { return leading_spaces_; }
  /// Some token holds three digits of a number's exponent, as in "e300".
  bool has_long_exponents() const { return has_long_exponents_; }
  /// Bytes that lead to `node`.
  std::string PathBytes(int32_t node) const;
  /// Bytes of memory held, for the ledger.
  uint64_t memory_bytes() const;
  /// What all constraints share about JSON strings; thread-safe.
  constraint::StringMasks& string_masks() const { return *string_masks_; }

 private:
  VocabularyTrie();

  std::vector<std::string> token_bytes_;
  std::vector<int32_t> end_ids_;
  std::vector<uint8_t> is_end_;
  std::vector<uint8_t> byte_;
  std::vector<uint16_t> depth_;
  std::vector<uint16_t> height_;
  std::vector<int32_t> end_;
  std::vector<int32_t> first_;       // [num_nodes + 1] into sorted_ids_
  std::vector<int32_t> sorted_ids_;  // token ids in node order
  std::vector<std::pair<uint32_t, int32_t>> leading_spaces_;
  int32_t max_depth_ = 0;
  bool has_long_exponents_ = false;
  std::unique_ptr<constraint::StringMasks> string_masks_;
};

}  // namespace ink
