// Byte pair encoding by merge rank: GPT-2 and everything after it, and SentencePiece vocabularies
// in the form that Hugging Face converts them to.
#include <algorithm>
#include <array>
#include <bit>
#include <string>

#include "base/check.h"
#include "text/model.h"
#include "text/string_index.h"
#include "text/unicode.h"
#include "text/word_boundaries.h"

namespace ink {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;
// Words up to this many symbols are merged by looking through all pairs each time, which is faster
// than a heap: n^2/2 steps over an array in L1 against n log n steps with cache misses.
constexpr size_t kLinearSymbols = 40;

// (left, right) -> (rank, result), open addressing.
class MergeTable {
 public:
  explicit MergeTable(const std::vector<Merge>& merges) {
    slots_.resize(std::bit_ceil(std::max<size_t>(16, merges.size() + merges.size() / 2)));
    mask_ = slots_.size() - 1;
    for (size_t rank = 0; rank < merges.size(); ++rank) {
      const uint64_t key = Key(merges[rank].left, merges[rank].right);
      size_t i = Hash(key) & mask_;
      while (slots_[i].rank != kNoRank && slots_[i].key != key) i = (i + 1) & mask_;
      // Of a pair that is listed twice the first line counts.
      if (slots_[i].rank == kNoRank) {
        slots_[i] = {key, static_cast<uint32_t>(rank), merges[rank].result};
      }
    }
  }

  struct Slot {
    uint64_t key = 0;
    uint32_t rank = kNoRank;
    int32_t result = kNoToken;
  };
  /// A slot with rank kNoRank if the pair does not merge.
  const Slot& Find(int32_t left, int32_t right) const {
    const uint64_t key = Key(left, right);
    for (size_t i = Hash(key) & mask_;; i = (i + 1) & mask_) {
      if (slots_[i].rank == kNoRank || slots_[i].key == key) return slots_[i];
    }
  }
  uint64_t memory_bytes() const { return slots_.capacity() * sizeof(Slot); }

 private:
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  static size_t Hash(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return key ^ key >> 29;
  }

  std::vector<Slot> slots_;
  size_t mask_;
};

// Unknown characters that keep their neighbours apart: one negative id for each, so that output can
// tell them apart; they never merge.
constexpr int32_t kSeparator = -1;

class BpeModel : public TokenModel {
 public:
  BpeModel(const TokenizerSpec& spec, bool byte_level)
      : options_(spec.model),
        merges_(spec.model.merges),
        takes_bytes_(byte_level && spec.model.continuing_subword_prefix.empty() &&
                     spec.model.end_of_word_suffix.empty()) {
    options_.merges.clear();
    options_.merges.shrink_to_fit();
    byte_ids_.fill(kNoToken);
    fallback_ids_.fill(kNoToken);
    // Bytes have their own table: whole words are only looked up where they may skip the merges.
    const bool needs_vocab = !takes_bytes_ || options_.ignore_merges || options_.newline_runs_whole;
    size_t bytes = 0;
    for (const TokenEntry& token : spec.tokens) bytes += token.text.size();
    if (needs_vocab) vocab_.Reserve(spec.tokens.size(), bytes);
    std::string raw;
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      const TokenEntry& token = spec.tokens[id];
      if (!token.in_model) continue;
      const int32_t token_id = static_cast<int32_t>(id);
      const int byte = ParseByteToken(token.text);
      if (byte >= 0 && fallback_ids_[byte] == kNoToken) fallback_ids_[byte] = token_id;
      if (!takes_bytes_) {
        vocab_.Insert(token.text, token_id);
      } else if ((needs_vocab || token.text.size() <= 2) && PrintableToBytes(token.text, &raw)) {
        if (needs_vocab) vocab_.Insert(raw, token_id);
        if (raw.size() == 1) byte_ids_[static_cast<uint8_t>(raw[0])] = token_id;
      }
    }
    if (!byte_level) boundaries_ = WordBoundaries(spec);
  }

  bool takes_bytes() const override { return takes_bytes_; }
  uint64_t memory_bytes() const override {
    return merges_.memory_bytes() + vocab_.memory_bytes() + sizeof(*this);
  }

  size_t FirstPart(std::string_view word) const override { return boundaries_.FirstPart(word); }

  void Encode(std::string_view word, std::vector<int32_t>* out) const override {
    if (options_.ignore_merges || IsWholeNewlineRun(word)) {
      const int32_t id = vocab_.Find(word);
      if (id >= 0) {
        out->push_back(id);
        return;
      }
    }
    if (takes_bytes_ && word.size() <= kLinearSymbols) {
      std::array<int32_t, kLinearSymbols> ids;
      size_t n = 0;
      bool all_known = true;
      for (const char c : word) {
        ids[n] = byte_ids_[static_cast<uint8_t>(c)];
        all_known &= ids[n++] >= 0;
      }
      if (all_known) {
        MergeLinear(ids.data(), n, out);
        return;
      }
    }
    std::vector<int32_t> symbols;
    symbols.reserve(word.size());
    AppendSymbols(word, &symbols);
    if (symbols.size() <= kLinearSymbols) {
      MergeLinear(symbols.data(), symbols.size(), out);
    } else {
      MergeByHeap(&symbols, out);
    }
  }

 private:
  bool IsWholeNewlineRun(std::string_view word) const {
    return options_.newline_runs_whole && word.find_first_not_of('\n') == std::string_view::npos;
  }

  // The characters' ids, and what stands for characters that are not in the vocabulary.
  void AppendSymbols(std::string_view word, std::vector<int32_t>* symbols) const {
    int32_t pending_unk = 0;  // unknown tokens to come
    const auto flush = [&] {
      for (; pending_unk > 0; --pending_unk) symbols->push_back(options_.unk);
    };
    std::string text;
    size_t i = 0;
    while (i < word.size()) {
      const size_t start = i;
      size_t length = 1;
      int32_t id;
      if (takes_bytes_) {
        id = byte_ids_[static_cast<uint8_t>(word[i])];
      } else {
        length = std::max(1, Utf8Length(word.substr(i)));
        const std::string_view c = word.substr(i, length);
        const bool plain = (start == 0 || options_.continuing_subword_prefix.empty()) &&
                           (start + length < word.size() || options_.end_of_word_suffix.empty());
        if (plain) {
          id = vocab_.Find(c);
        } else {
          text.clear();
          if (start > 0) text += options_.continuing_subword_prefix;
          text += c;
          if (start + length == word.size()) text += options_.end_of_word_suffix;
          id = vocab_.Find(text);
        }
      }
      i += length;
      if (id >= 0) {
        flush();
        symbols->push_back(id);
        continue;
      }
      std::string_view unknown = word.substr(start, length);
      std::string printable;
      if (takes_bytes_) unknown = printable = BytesToPrintable(unknown);
      if (options_.byte_fallback && AppendFallback(unknown, symbols)) continue;
      if (options_.unk >= 0) {
        if (pending_unk == 0 || !options_.fuse_unk) ++pending_unk;
      } else if (options_.unknown_separates) {
        symbols->push_back(kSeparator);
      }
    }
    flush();
  }

  bool AppendFallback(std::string_view bytes, std::vector<int32_t>* symbols) const {
    for (const char c : bytes) {
      if (fallback_ids_[static_cast<uint8_t>(c)] < 0) return false;
    }
    for (const char c : bytes) symbols->push_back(fallback_ids_[static_cast<uint8_t>(c)]);
    return true;
  }

  static void Emit(int32_t id, std::vector<int32_t>* out) {
    if (id >= 0) out->push_back(id);
  }

  const MergeTable::Slot& FindMerge(int32_t left, int32_t right) const {
    static constexpr MergeTable::Slot kNone;
    return left < 0 || right < 0 ? kNone : merges_.Find(left, right);
  }

  // Destroys ids[0, n).
  void MergeLinear(int32_t* ids, size_t n, std::vector<int32_t>* out) const {
    std::array<uint32_t, kLinearSymbols> ranks;  // of pair (i, i + 1)
    std::array<int32_t, kLinearSymbols> results;
    const auto look_up = [&](size_t i) {
      const MergeTable::Slot& slot = FindMerge(ids[i], ids[i + 1]);
      ranks[i] = slot.rank;
      results[i] = slot.result;
    };
    for (size_t i = 0; i + 1 < n; ++i) look_up(i);
    while (n > 1) {
      size_t best = 0;
      for (size_t i = 1; i + 1 < n; ++i) {
        if (ranks[i] < ranks[best]) best = i;
      }
      if (ranks[best] == kNoRank) break;
      ids[best] = results[best];
      std::copy(ids + best + 2, ids + n, ids + best + 1);
      if (best + 2 < n) {
        std::copy(ranks.begin() + best + 2, ranks.begin() + n - 1, ranks.begin() + best + 1);
        std::copy(results.begin() + best + 2, results.begin() + n - 1, results.begin() + best + 1);
      }
      --n;
      if (best > 0) look_up(best - 1);
      if (best + 1 < n) look_up(best);
    }
    for (size_t i = 0; i < n; ++i) Emit(ids[i], out);
  }

  void MergeByHeap(std::vector<int32_t>* symbols, std::vector<int32_t>* out) const {
    struct Candidate {
      uint64_t order;  // rank, then position: the smallest comes first
      int32_t left, right;
    };
    constexpr int32_t kGone = -2;
    std::vector<int32_t>& ids = *symbols;
    const size_t n = ids.size();
    INK_CHECK_LT(n, size_t{1} << 32);
    std::vector<uint32_t> next(n), previous(n);  // n stands for none at either end
    std::vector<Candidate> heap;
    const auto later = [](const Candidate& a, const Candidate& b) { return a.order > b.order; };
    const auto candidate = [&](size_t i, size_t j) {
      const uint32_t rank = FindMerge(ids[i], ids[j]).rank;
      if (rank == kNoRank) return false;
      heap.push_back({static_cast<uint64_t>(rank) << 32 | i, ids[i], ids[j]});
      return true;
    };
    for (size_t i = 0; i < n; ++i) {
      next[i] = static_cast<uint32_t>(i + 1);
      previous[i] = static_cast<uint32_t>(i == 0 ? n : i - 1);
      if (i + 1 < n) candidate(i, i + 1);
    }
    std::make_heap(heap.begin(), heap.end(), later);
    while (!heap.empty()) {
      std::pop_heap(heap.begin(), heap.end(), later);
      const Candidate top = heap.back();
      heap.pop_back();
      const size_t i = static_cast<uint32_t>(top.order);
      if (ids[i] != top.left) continue;
      const size_t j = next[i];
      if (j >= n || ids[j] != top.right) continue;
      ids[i] = merges_.Find(top.left, top.right).result;
      ids[j] = kGone;
      next[i] = next[j];
      if (next[j] < n) previous[next[j]] = static_cast<uint32_t>(i);
      if (previous[i] < n && candidate(previous[i], i)) {
        std::push_heap(heap.begin(), heap.end(), later);
      }
      if (next[i] < n && candidate(i, next[i])) std::push_heap(heap.begin(), heap.end(), later);
    }
    for (size_t i = 0; i < n; i = next[i]) Emit(ids[i], out);
  }

  ModelSpec options_;
  MergeTable merges_;
  StringIndex vocab_;
  bool takes_bytes_;
  std::array<int32_t, 256> byte_ids_;      // takes_bytes: of the byte's printable character
  std::array<int32_t, 256> fallback_ids_;  // of <0xXX>
  WordBoundaries boundaries_;
};

}  // namespace

std::unique_ptr<TokenModel> MakeBpeModel(const TokenizerSpec& spec, bool byte_level) {
  return std::make_unique<BpeModel>(spec, byte_level);
}

}  // namespace ink
