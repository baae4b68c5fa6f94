#include "text/tokenizer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "text/added_tokens.h"
#include "text/model.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/string_index.h"
#include "text/token_decoder.h"
#include "text/unicode.h"
#include "text/word_cache.h"

namespace ink {
namespace {

class PipelineTokenizer : public Tokenizer {
 public:
  static Result<std::shared_ptr<const Tokenizer>> Build(TokenizerSpec spec) {
    INK_RETURN_IF_ERROR(ValidateSpec(spec));
    auto t = std::make_shared<PipelineTokenizer>();
    t->spec_ = std::move(spec);
    const TokenizerSpec& s = t->spec_;
    INK_ASSIGN_OR_RETURN(t->normalizer_, Normalizer::Build(s.normalizer));
    INK_ASSIGN_OR_RETURN(t->pre_tokenizer_, PreTokenizer::Build(s.pre_tokenizer));
    INK_ASSIGN_OR_RETURN(t->decode_, MakeDecodeTable(s));
    switch (s.model.kind) {
      case ModelKind::kBpe:
        t->model_ = MakeBpeModel(s, t->pre_tokenizer_.byte_level());
        break;
      case ModelKind::kSentencePieceBpe:
        t->model_ = MakeSentencePieceBpeModel(s);
        break;
      case ModelKind::kUnigram:
        t->model_ = MakeUnigramModel(s);
        break;
      case ModelKind::kWordPiece:
        t->model_ = MakeWordPieceModel(s);
        break;
    }
    t->added_ = AddedTokenMatcher(s, t->normalizer_);
    size_t bytes = 0;
    for (const TokenEntry& token : s.tokens) bytes += token.text.size();
    t->index_.Reserve(s.tokens.size(), bytes);
    for (size_t id = 0; id < s.tokens.size(); ++id) {
      t->index_.Insert(s.tokens[id].text, static_cast<int32_t>(id));
    }
    return std::shared_ptr<const Tokenizer>(std::move(t));
  }

  std::vector<int32_t> Encode(std::string_view text, EncodeOptions options) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 3 + 4);
    if (options.add_special) ids = spec_.prefix;
    std::optional<WordCache> cache;
    if (text.size() >= WordCache::kMinText) cache.emplace(text.size());
    for (const TextPiece& piece : added_.Split(text, options.parse_special)) {
      if (piece.id != kNoToken) {
        ids.push_back(piece.id);
        continue;
      }
      EncodeText(text.substr(piece.span.begin, piece.span.end - piece.span.begin),
                 piece.span.begin > 0 ? TextBegin::kToken
                 : options.continues  ? TextBegin::kText
                                      : TextBegin::kInput,
                 options.parse_special, cache ? &*cache : nullptr, &ids);
    }
    if (options.add_special) ids.insert(ids.end(), spec_.suffix.begin(), spec_.suffix.end());
    return ids;
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(spec_.tokens.size()); }
  std::string_view TokenText(int32_t id) const override { return Entry(id).text; }
  std::string_view TokenBytes(int32_t id) const override {
    Entry(id);
    return std::string_view(decode_.bytes)
        .substr(decode_.offsets[id], decode_.offsets[id + 1] - decode_.offsets[id]);
  }
  TokenType token_type(int32_t id) const override { return Entry(id).type; }
  int32_t FindToken(std::string_view text) const override { return index_.Find(text); }
  LeadingSpace leading_space() const override { return decode_.leading_space; }
  bool drops_final_space() const override { return decode_.drops_final_space; }
  const SpecialIds& special() const override { return spec_.special; }
  std::span<const int32_t> end_of_generation() const override { return spec_.end_of_generation; }
  bool add_bos() const override { return spec_.add_bos; }
  bool add_eos() const override { return spec_.add_eos; }
  const std::string& chat_template() const override { return spec_.chat_template; }
  const TokenizerSpec& spec() const override { return spec_; }

  uint64_t memory_bytes() const override {
    uint64_t bytes = sizeof(*this) + model_->memory_bytes() + index_.memory_bytes() +
                     decode_.bytes.capacity() + decode_.offsets.capacity() * sizeof(uint32_t) +
                     spec_.tokens.capacity() * sizeof(TokenEntry) +
                     spec_.model.merges.capacity() * sizeof(Merge) +
                     spec_.added.capacity() * sizeof(AddedToken) + spec_.chat_template.capacity();
    for (const TokenEntry& token : spec_.tokens) {
      if (token.text.capacity() > 15) bytes += token.text.capacity() + 1;  // beyond the object
    }
    return bytes;
  }

 private:
  const TokenEntry& Entry(int32_t id) const {
    INK_CHECK_GE(id, 0);
    INK_CHECK_LT(id, vocab_size());
    return spec_.tokens[id];
  }

  void EncodeText(std::string_view text, TextBegin begin, bool parse_special, WordCache* cache,
                  std::vector<int32_t>* ids) const {
    const bool escaped = !IsValidUtf8(text);
    std::string work = escaped ? EscapeInvalidUtf8(text) : std::string(text);
    if (!normalizer_.empty()) work = normalizer_.Apply(work, begin == TextBegin::kText);
    if (!added_.has_normalized()) {
      EncodeWords(pre_tokenizer_.Apply(std::move(work), begin), escaped, cache, ids);
      return;
    }
    for (const TextPiece& piece : added_.SplitNormalized(work, parse_special)) {
      if (piece.id != kNoToken) {
        ids->push_back(piece.id);
        continue;
      }
      EncodeWords(
          pre_tokenizer_.Apply(work.substr(piece.span.begin, piece.span.end - piece.span.begin),
                               piece.span.begin == 0 ? begin : TextBegin::kToken),
          escaped, cache, ids);
    }
  }

  void EncodeWords(const PreTokenized& pieces, bool escaped, WordCache* cache,
                   std::vector<int32_t>* ids) const {
    const bool printable = pieces.byte_level && !model_->takes_bytes();
    std::string changed;
    for (const Span& span : pieces.words) {
      std::string_view word =
          std::string_view(pieces.text).substr(span.begin, span.end - span.begin);
      if (escaped) word = changed = UnescapeInvalidUtf8(word);
      if (printable) word = changed = BytesToPrintable(word);
      while (!word.empty()) {
        const size_t part = model_->FirstPart(word);
        EncodeWord(word.substr(0, part), cache, ids);
        word.remove_prefix(part);
      }
    }
  }

  void EncodeWord(std::string_view word, WordCache* cache, std::vector<int32_t>* ids) const {
    if (cache == nullptr || word.size() > WordCache::kMaxWord) {
      model_->Encode(word, ids);
      return;
    }
    if (cache->Find(word, ids)) return;
    const size_t before = ids->size();
    model_->Encode(word, ids);
    cache->Insert(word, ids->data() + before, ids->size() - before);
  }

  TokenizerSpec spec_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  DecodeTable decode_;
  std::unique_ptr<TokenModel> model_;
  AddedTokenMatcher added_;
  StringIndex index_;
};

}  // namespace

bool Tokenizer::IsEndOfGeneration(int32_t id) const {
  const std::span<const int32_t> ends = end_of_generation();
  return std::binary_search(ends.begin(), ends.end(), id);
}

Result<std::shared_ptr<const Tokenizer>> BuildTokenizer(TokenizerSpec spec) {
  return PipelineTokenizer::Build(std::move(spec));
}

}  // namespace ink
