// SentencePiece's BPE (https://github.com/google/sentencepiece/blob/master/src/bpe_model.cc): merge
// the two neighbours whose concatenation is the token of highest score, leftmost first.
#include <algorithm>
#include <array>
#include <string>

#include "base/check.h"
#include "text/model.h"
#include "text/string_index.h"
#include "text/unicode.h"
#include "text/word_boundaries.h"

namespace ink {
namespace {

constexpr size_t kLinearSymbols = 32;  // as in bpe_model.cc

class SentencePieceBpeModel : public TokenModel {
 public:
  explicit SentencePieceBpeModel(const TokenizerSpec& spec)
      : unk_(spec.model.unk), boundaries_(spec) {
    byte_ids_.fill(kNoToken);
    scores_.reserve(spec.tokens.size());
    size_t bytes = 0;
    for (const TokenEntry& token : spec.tokens) bytes += token.text.size();
    vocab_.Reserve(spec.tokens.size(), bytes);
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      const TokenEntry& token = spec.tokens[id];
      scores_.push_back(token.score);
      if (!token.in_model) continue;
      vocab_.Insert(token.text, static_cast<int32_t>(id));
      const int byte = ParseByteToken(token.text);
      if (byte >= 0 && spec.model.byte_fallback && byte_ids_[byte] < 0) {
        byte_ids_[byte] = static_cast<int32_t>(id);
      }
    }
  }

  uint64_t memory_bytes() const override {
    return vocab_.memory_bytes() + scores_.capacity() * sizeof(float) + sizeof(*this);
  }

  size_t FirstPart(std::string_view word) const override { return boundaries_.FirstPart(word); }

  void Encode(std::string_view text, std::vector<int32_t>* out) const override {
    INK_CHECK_LT(text.size(), size_t{1} << 32);
    if (text.size() <= kLinearSymbols) {
      std::array<Symbol, kLinearSymbols> symbols;
      const size_t n = Split(text, symbols.data());
      Emit(text, symbols.data(), MergeLinear(text, symbols.data(), n), out);
      return;
    }
    std::vector<Symbol> symbols(text.size());
    symbols.resize(Split(text, symbols.data()));
    MergeByHeap(text, &symbols);
    Emit(text, symbols.data(), symbols.size(), out);
  }

 private:
  struct Symbol {
    uint32_t begin;
    uint32_t end;  // == begin: merged into the symbol on its left
    int32_t id;    // kNoToken: a character that is no token
  };

  // Into characters; there is room for as many symbols as bytes.
  size_t Split(std::string_view text, Symbol* symbols) const {
    size_t n = 0;
    for (size_t i = 0; i < text.size();) {
      const size_t length = std::max(1, Utf8Length(text.substr(i)));
      symbols[n++] = {static_cast<uint32_t>(i), static_cast<uint32_t>(i + length),
                      vocab_.Find(text.substr(i, length))};
      i += length;
    }
    return n;
  }

  void Emit(std::string_view text, const Symbol* symbols, size_t n,
            std::vector<int32_t>* out) const {
    for (size_t i = 0; i < n; ++i) {
      const Symbol& symbol = symbols[i];
      if (symbol.begin == symbol.end) continue;
      if (symbol.id >= 0) {
        out->push_back(symbol.id);
      } else {
        AppendUnknown(text.substr(symbol.begin, symbol.end - symbol.begin), out);
      }
    }
  }

  void AppendUnknown(std::string_view bytes, std::vector<int32_t>* out) const {
    for (const char c : bytes) {
      int32_t id = byte_ids_[static_cast<uint8_t>(c)];
      if (id < 0) id = vocab_.Find(std::string_view(&c, 1));
      if (id < 0) id = unk_;
      if (id >= 0) out->push_back(id);
    }
  }

  int32_t FindPair(std::string_view text, const Symbol& left, const Symbol& right) const {
    return vocab_.Find(text.substr(left.begin, right.end - left.begin));
  }

  // Returns how many symbols are left.
  size_t MergeLinear(std::string_view text, Symbol* symbols, size_t n) const {
    std::array<int32_t, kLinearSymbols> pairs;  // token of (i, i + 1), kNoToken if none
    const auto look_up = [&](size_t i) { pairs[i] = FindPair(text, symbols[i], symbols[i + 1]); };
    for (size_t i = 0; i + 1 < n; ++i) look_up(i);
    while (n > 1) {
      size_t best = n;
      for (size_t i = 0; i + 1 < n; ++i) {
        if (pairs[i] >= 0 && (best == n || scores_[pairs[i]] > scores_[pairs[best]])) best = i;
      }
      if (best == n) break;
      symbols[best].end = symbols[best + 1].end;
      symbols[best].id = pairs[best];
      std::copy(symbols + best + 2, symbols + n, symbols + best + 1);
      if (best + 2 < n) {
        std::copy(pairs.begin() + best + 2, pairs.begin() + n - 1, pairs.begin() + best + 1);
      }
      --n;
      if (best > 0) look_up(best - 1);
      if (best + 1 < n) look_up(best);
    }
    return n;
  }

  void MergeByHeap(std::string_view text, std::vector<Symbol>* all) const {
    struct Candidate {
      float score;
      uint32_t left;
      uint32_t begin, end;  // of the merged text
      int32_t id;
    };
    const auto later = [](const Candidate& a, const Candidate& b) {
      return a.score < b.score || (a.score == b.score && a.left > b.left);
    };
    std::vector<Symbol>& symbols = *all;
    const size_t n = symbols.size();
    std::vector<uint32_t> next(n), previous(n);
    std::vector<Candidate> heap;
    const auto candidate = [&](size_t i, size_t j) {
      const int32_t id = FindPair(text, symbols[i], symbols[j]);
      if (id < 0) return false;
      heap.push_back({scores_[id], static_cast<uint32_t>(i), symbols[i].begin, symbols[j].end, id});
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
      Symbol& left = symbols[top.left];
      // Outdated if either side has changed since.
      if (left.begin == left.end || left.begin != top.begin || left.end >= top.end) continue;
      const size_t j = next[top.left];
      if (j >= n || symbols[j].end != top.end) continue;
      left.end = top.end;
      left.id = top.id;
      symbols[j].begin = symbols[j].end;
      next[top.left] = next[j];
      if (next[j] < n) previous[next[j]] = top.left;
      const size_t before = previous[top.left], after = next[top.left];
      if (before < n && candidate(before, top.left)) {
        std::push_heap(heap.begin(), heap.end(), later);
      }
      if (after < n && candidate(top.left, after)) {
        std::push_heap(heap.begin(), heap.end(), later);
      }
    }
  }

  int32_t unk_;
  StringIndex vocab_;
  std::vector<float> scores_;
  std::array<int32_t, 256> byte_ids_;
  WordBoundaries boundaries_;
};

}  // namespace

std::unique_ptr<TokenModel> MakeSentencePieceBpeModel(const TokenizerSpec& spec) {
  return std::make_unique<SentencePieceBpeModel>(spec);
}

}  // namespace ink
