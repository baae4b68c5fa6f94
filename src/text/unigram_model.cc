// Unigram language model (Kudo 2018, "Subword regularization"): the segmentation of highest summed
// log probability, by Viterbi.
#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>

#include "text/byte_trie.h"
#include "text/model.h"
#include "text/unicode.h"

namespace ink {
namespace {

// What an unknown character costs below the least likely token (SentencePiece's kUnkPenalty).
constexpr double kUnknownPenalty = 10.0;

class UnigramModel : public TokenModel {
 public:
  explicit UnigramModel(const TokenizerSpec& spec)
      : unk_(spec.model.unk), byte_fallback_(spec.model.byte_fallback) {
    byte_ids_.fill(kNoToken);
    double lowest = std::numeric_limits<double>::infinity();
    std::vector<std::pair<std::string_view, int32_t>> keys;
    keys.reserve(spec.tokens.size());
    scores_.reserve(spec.tokens.size());
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      const TokenEntry& token = spec.tokens[id];
      scores_.push_back(token.score);
      if (!token.in_model) continue;
      const int32_t token_id = static_cast<int32_t>(id);
      if (token.type == TokenType::kNormal || token.type == TokenType::kByte) {
        lowest = std::min(lowest, static_cast<double>(token.score));
      }
      const int byte = ParseByteToken(token.text);
      if (byte >= 0 && byte_ids_[byte] < 0) byte_ids_[byte] = token_id;
      // As in SentencePiece, the text "<0x0A>" is not the byte. (Hugging Face takes it for it.)
      if (byte < 0 || !byte_fallback_) keys.emplace_back(token.text, token_id);
    }
    unknown_score_ = (lowest > 1e300 ? 0.0 : lowest) - kUnknownPenalty;
    trie_ = ByteTrie(keys);
  }

  uint64_t memory_bytes() const override {
    return trie_.memory_bytes() + scores_.capacity() * sizeof(float) + sizeof(*this);
  }

  void Encode(std::string_view word, std::vector<int32_t>* out) const override {
    struct Node {
      double score = -std::numeric_limits<double>::infinity();
      size_t start = SIZE_MAX;
      int32_t id = kNoToken;
    };
    std::vector<Node> best(word.size() + 1);  // the best path that ends here
    best[0].score = 0;
    const auto offer = [&](size_t start, size_t end, int32_t id, double score) {
      Node& node = best[end];
      if (node.start == SIZE_MAX || score > node.score) node = {score, start, id};
    };
    for (size_t i = 0; i < word.size();) {
      const size_t length = std::max(1, Utf8Length(word.substr(i)));
      const double so_far = best[i].score;
      bool single = false;
      trie_.ForEachPrefix(word.substr(i), [&](size_t n, int32_t id) {
        offer(i, i + n, id, so_far + static_cast<double>(scores_[id]));
        single |= n == length;
      });
      if (!single) offer(i, i + length, kUnknown, so_far + unknown_score_);
      i += length;
    }

    const size_t first = out->size();
    for (size_t end = word.size(); end > 0;) {
      size_t start = best[end].start;
      int32_t id = best[end].id;
      if (id != kUnknown && id != unk_) {
        out->push_back(id);
        end = start;
        continue;
      }
      // Neighbouring unknown characters are one unknown token.
      while (start > 0 && (best[start].id == kUnknown || best[start].id == unk_)) {
        start = best[start].start;
      }
      AppendUnknownReversed(word.substr(start, end - start), out);
      end = start;
    }
    std::reverse(out->begin() + static_cast<ptrdiff_t>(first), out->end());
  }

 private:
  static constexpr int32_t kUnknown = -2;

  void AppendUnknownReversed(std::string_view text, std::vector<int32_t>* out) const {
    const bool has_bytes = byte_fallback_ && std::all_of(text.begin(), text.end(), [&](char c) {
                             return byte_ids_[static_cast<uint8_t>(c)] >= 0;
                           });
    if (has_bytes) {
      for (auto it = text.rbegin(); it != text.rend(); ++it) {
        out->push_back(byte_ids_[static_cast<uint8_t>(*it)]);
      }
    } else if (unk_ >= 0) {
      out->push_back(unk_);
    }
  }

  int32_t unk_;
  bool byte_fallback_;
  double unknown_score_;
  ByteTrie trie_;
  std::vector<float> scores_;
  std::array<int32_t, 256> byte_ids_;
};

}  // namespace

std::unique_ptr<TokenModel> MakeUnigramModel(const TokenizerSpec& spec) {
  return std::make_unique<UnigramModel>(spec);
}

}  // namespace ink
