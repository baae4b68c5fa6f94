// WordPiece as BERT uses it: the longest token that begins the word, then the longest that
// continues it, and so on; a word that cannot be covered is unknown as a whole.
#include <string>
#include <utility>

#include "text/byte_trie.h"
#include "text/model.h"
#include "text/unicode.h"

namespace ink {
namespace {

class WordPieceModel : public TokenModel {
 public:
  explicit WordPieceModel(const TokenizerSpec& spec)
      : unk_(spec.model.unk), max_chars_(spec.model.max_word_chars) {
    const std::string& prefix = spec.model.word_prefix;
    std::vector<std::pair<std::string_view, int32_t>> starts, continues;
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      const TokenEntry& token = spec.tokens[id];
      if (!token.in_model) continue;
      const std::string_view text = token.text;
      starts.emplace_back(text, static_cast<int32_t>(id));
      if (text.starts_with(prefix) && text.size() > prefix.size()) {
        continues.emplace_back(text.substr(prefix.size()), static_cast<int32_t>(id));
      }
    }
    starts_ = ByteTrie(starts);
    continues_ = ByteTrie(continues);
  }

  uint64_t memory_bytes() const override {
    return starts_.memory_bytes() + continues_.memory_bytes() + sizeof(*this);
  }

  void Encode(std::string_view word, std::vector<int32_t>* out) const override {
    const size_t first = out->size();
    if (max_chars_ > 0 && IsLongerThan(word, max_chars_)) {
      AppendUnknown(out);
      return;
    }
    size_t i = 0;
    while (i < word.size()) {
      const ByteTrie& trie = i == 0 ? starts_ : continues_;
      size_t length = 0;
      int32_t id = kNoToken;
      trie.ForEachPrefix(word.substr(i), [&](size_t n, int32_t value) {
        length = n;
        id = value;
      });
      if (length == 0) {
        out->resize(first);
        AppendUnknown(out);
        return;
      }
      out->push_back(id);
      i += length;
    }
  }

 private:
  static bool IsLongerThan(std::string_view word, int32_t chars) {
    size_t i = 0;
    for (int32_t n = 0; n < chars; ++n) {
      if (i >= word.size()) return false;
      Utf8Next(word, &i);
    }
    return i < word.size();
  }
  void AppendUnknown(std::vector<int32_t>* out) const {
    if (unk_ >= 0) out->push_back(unk_);
  }

  int32_t unk_;
  int32_t max_chars_;
  ByteTrie starts_;
  ByteTrie continues_;
};

}  // namespace

std::unique_ptr<TokenModel> MakeWordPieceModel(const TokenizerSpec& spec) {
  return std::make_unique<WordPieceModel>(spec);
}

}  // namespace ink
