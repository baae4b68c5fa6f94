#include "text/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <queue>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "formats/quote.h"
#include "text/pre_tokenizer.h"
#include "text/pre_tokenizer_table.h"
#include "text/string_index.h"
#include "text/unicode.h"

namespace ink {
namespace {

// Longer words are cut: a merge looks through whole words, which would be quadratic for a text
// without spaces.
constexpr size_t kMaxWordBytes = 256;
// A vocabulary far beyond any in use; bounds the memory of a mistyped size.
constexpr int32_t kMaxVocab = 1 << 22;
constexpr int64_t kProgressEvery = 128;

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// Different words and how often they occur.
class WordCounts {
 public:
  void Add(std::string_view word) {
    for (; word.size() > kMaxWordBytes; word.remove_prefix(kMaxWordBytes)) {
      AddOne(word.substr(0, kMaxWordBytes));
    }
    if (!word.empty()) AddOne(word);
  }
  size_t size() const { return counts_.size(); }
  int64_t count(size_t i) const { return counts_[i]; }
  std::string_view word(size_t i) const {
    const size_t end = i + 1 < offsets_.size() ? offsets_[i + 1] : bytes_.size();
    return std::string_view(bytes_).substr(offsets_[i], end - offsets_[i]);
  }

 private:
  void AddOne(std::string_view word) {
    const int32_t known = index_.Find(word);
    if (known >= 0) {
      ++counts_[known];
      return;
    }
    index_.Insert(word, static_cast<int32_t>(counts_.size()));
    offsets_.push_back(bytes_.size());
    bytes_ += word;
    counts_.push_back(1);
  }

  StringIndex index_;
  std::string bytes_;
  std::vector<size_t> offsets_;
  std::vector<int64_t> counts_;
};

// The words as lists of tokens, and for each pair of neighbours how often it occurs and where.
class PairTable {
 public:
  struct Best {
    int64_t count;
    int32_t left, right;
    // The most frequent pair is the largest; of equals the one with the smaller ids.
    friend bool operator<(const Best& a, const Best& b) {
      if (a.count != b.count) return a.count < b.count;
      return PairKey(a.left, a.right) > PairKey(b.left, b.right);
    }
  };

  PairTable(const WordCounts& words, const std::array<int32_t, 256>& byte_ids) {
    starts_.reserve(words.size() + 1);
    for (size_t w = 0; w < words.size(); ++w) {
      starts_.push_back(symbols_.size());
      counts_.push_back(words.count(w));
      for (const char c : words.word(w)) symbols_.push_back(byte_ids[static_cast<uint8_t>(c)]);
      lengths_.push_back(static_cast<uint32_t>(symbols_.size() - starts_.back()));
    }
    for (size_t w = 0; w < counts_.size(); ++w) {
      const int32_t* s = symbols_.data() + starts_[w];
      for (uint32_t i = 0; i + 1 < lengths_[w]; ++i) {
        Pair& pair = pairs_[PairKey(s[i], s[i + 1])];
        pair.count += counts_[w];
        Note(static_cast<uint32_t>(w), &pair);
      }
    }
    for (const auto& [key, pair] : pairs_) Push(key, pair.count);
  }

  /// The most frequent pair that occurs at least `min_count` times; count 0 if there is none.
  Best Pop(int64_t min_count) {
    while (!heap_.empty()) {
      const Best top = heap_.top();
      heap_.pop();
      if (top.count < min_count) break;
      const auto it = pairs_.find(PairKey(top.left, top.right));
      if (it == pairs_.end()) continue;
      if (it->second.count == top.count) return top;
      // Fewer since it was pushed (more would have been pushed again).
      if (it->second.count >= min_count && it->second.count < top.count) {
        Push(it->first, it->second.count);
      }
    }
    return {0, 0, 0};
  }

  /// A pair that must not be merged.
  void Forget(int32_t left, int32_t right) { pairs_.erase(PairKey(left, right)); }

  void Merge(int32_t left, int32_t right, int32_t result) {
    const auto it = pairs_.find(PairKey(left, right));
    INK_CHECK(it != pairs_.end());
    const std::vector<uint32_t> where = std::move(it->second.words);
    std::vector<uint64_t> grown;
    for (const uint32_t w : where) MergeInWord(w, left, right, result, &grown);
    pairs_.erase(PairKey(left, right));
    std::sort(grown.begin(), grown.end());
    grown.erase(std::unique(grown.begin(), grown.end()), grown.end());
    for (const uint64_t key : grown) {
      const auto pair = pairs_.find(key);
      if (pair != pairs_.end()) Push(key, pair->second.count);
    }
  }

 private:
  struct Pair {
    int64_t count = 0;
    std::vector<uint32_t> words;  // ascending runs; may name a word that no longer has the pair
  };
  struct KeyHash {
    size_t operator()(uint64_t key) const {
      key *= 0x9E3779B97F4A7C15u;
      return key ^ key >> 32;
    }
  };

  static void Note(uint32_t word, Pair* pair) {
    if (pair->words.empty() || pair->words.back() != word) pair->words.push_back(word);
  }

  void Push(uint64_t key, int64_t count) {
    heap_.push({count, static_cast<int32_t>(key >> 32), static_cast<int32_t>(key & 0xFFFFFFFFu)});
  }

  void MergeInWord(uint32_t w, int32_t left, int32_t right, int32_t result,
                   std::vector<uint64_t>* grown) {
    int32_t* s = symbols_.data() + starts_[w];
    const uint32_t n = lengths_[w];
    const int64_t count = counts_[w];
    scratch_.clear();
    for (uint32_t i = 0; i < n;) {
      if (i + 1 < n && s[i] == left && s[i + 1] == right) {
        scratch_.push_back(result);
        i += 2;
      } else {
        scratch_.push_back(s[i++]);
      }
    }
    if (scratch_.size() == n) return;  // the pair has gone from here
    for (uint32_t i = 0; i + 1 < n; ++i) {
      const auto it = pairs_.find(PairKey(s[i], s[i + 1]));
      if (it != pairs_.end()) it->second.count -= count;
    }
    for (size_t i = 0; i + 1 < scratch_.size(); ++i) {
      const uint64_t key = PairKey(scratch_[i], scratch_[i + 1]);
      const bool is_new = scratch_[i] == result || scratch_[i + 1] == result;
      // A pair that was forgotten stays so: only pairs with the new token are made.
      if (!is_new) {
        const auto it = pairs_.find(key);
        if (it != pairs_.end()) it->second.count += count;
        continue;
      }
      Pair& pair = pairs_[key];
      pair.count += count;
      Note(w, &pair);
      grown->push_back(key);
    }
    std::copy(scratch_.begin(), scratch_.end(), s);
    lengths_[w] = static_cast<uint32_t>(scratch_.size());
  }

  std::vector<int32_t> symbols_;
  std::vector<size_t> starts_;
  std::vector<uint32_t> lengths_;
  std::vector<int64_t> counts_;
  std::unordered_map<uint64_t, Pair, KeyHash> pairs_;
  std::priority_queue<Best> heap_;
  std::vector<int32_t> scratch_;
};

Status AddSpecialTokens(const BpeTrainerOptions& options, StringIndex* index, TokenizerSpec* spec) {
  for (const std::string& text : options.special_tokens) {
    const int32_t id = static_cast<int32_t>(spec->tokens.size());
    if (text.empty()) return InvalidArgument("a special token is empty");
    if (!IsValidUtf8(text)) {
      return InvalidArgument("the special token " + Quoted(text) + " is not valid UTF-8");
    }
    if (!index->Insert(text, id)) {
      return InvalidArgument("the special token " + Quoted(text) + " is there twice");
    }
    spec->tokens.push_back({.text = text, .type = TokenType::kControl, .in_model = false});
    spec->added.push_back({.id = id, .special = true});
  }
  const std::array<std::pair<const std::string*, int32_t*>, 3> roles = {
      {{&options.bos, &spec->special.bos},
       {&options.eos, &spec->special.eos},
       {&options.pad, &spec->special.pad}}};
  for (const auto& [text, id] : roles) {
    if (text->empty()) continue;
    *id = index->Find(*text);
    if (*id < 0) return InvalidArgument(Quoted(*text) + " is not one of the special tokens");
  }
  if (options.add_bos) {
    if (spec->special.bos < 0) return InvalidArgument("add_bos is set, but no bos token is named");
    spec->prefix = {spec->special.bos};
  }
  if (options.add_eos) {
    if (spec->special.eos < 0) return InvalidArgument("add_eos is set, but no eos token is named");
    spec->suffix = {spec->special.eos};
  }
  spec->add_bos = options.add_bos;
  spec->add_eos = options.add_eos;
  return OkStatus();
}

// The 256 bytes in the order of their printable forms, as GPT-2 has them.
Status AddBytes(StringIndex* index, TokenizerSpec* spec, std::array<int32_t, 256>* ids) {
  std::vector<std::pair<char32_t, int>> bytes;
  for (int b = 0; b < 256; ++b) bytes.emplace_back(ByteToPrintable(static_cast<uint8_t>(b)), b);
  std::sort(bytes.begin(), bytes.end());
  for (const auto& [c, byte] : bytes) {
    const int32_t id = static_cast<int32_t>(spec->tokens.size());
    std::string text;
    AppendUtf8(c, &text);
    if (!index->Insert(text, id)) {
      return InvalidArgument("the special token " + Quoted(text) + " is the token of a byte");
    }
    spec->tokens.push_back({.text = std::move(text)});
    (*ids)[byte] = id;
  }
  return OkStatus();
}

Result<WordCounts> CountWords(const TextSource& texts, const PreTokenizer& pre_tokenizer) {
  WordCounts words;
  bool any = false;
  while (const std::optional<std::string_view> text = texts()) {
    if (text->empty()) continue;
    any = true;
    const bool escaped = !IsValidUtf8(*text);
    const PreTokenized pieces = pre_tokenizer.Apply(
        escaped ? EscapeInvalidUtf8(*text) : std::string(*text), TextBegin::kInput);
    for (const Span& span : pieces.words) {
      const std::string_view word =
          std::string_view(pieces.text).substr(span.begin, span.end - span.begin);
      if (escaped) {
        words.Add(UnescapeInvalidUtf8(word));
      } else {
        words.Add(word);
      }
    }
  }
  if (!any) return InvalidArgument("there is no text to train a tokenizer on");
  return words;
}

}  // namespace

Result<TokenizerSpec> TrainBpe(const TextSource& texts, const BpeTrainerOptions& options,
                               const std::function<bool(int64_t, int64_t)>& progress) {
  const int64_t smallest = 256 + static_cast<int64_t>(options.special_tokens.size());
  if (options.vocab_size < smallest || options.vocab_size > kMaxVocab) {
    return InvalidArgument("the vocabulary should have " + std::to_string(options.vocab_size) +
                           " tokens, expected " + std::to_string(smallest) +
                           " (256 bytes and the special tokens) to " + std::to_string(kMaxVocab));
  }
  INK_ASSIGN_OR_RETURN(PreTokenizerInfo info, FindPreTokenizer(options.pre_name));
  if (!info.byte_level) {
    return InvalidArgument("the pre-tokenizer " + Quoted(options.pre_name) +
                           " is not one of byte-level BPE");
  }
  INK_ASSIGN_OR_RETURN(const PreTokenizer pre_tokenizer, PreTokenizer::Build(info.steps));

  TokenizerSpec spec;
  StringIndex index;
  std::array<int32_t, 256> byte_ids;
  INK_RETURN_IF_ERROR(AddSpecialTokens(options, &index, &spec));
  INK_RETURN_IF_ERROR(AddBytes(&index, &spec, &byte_ids));
  spec.model.kind = ModelKind::kBpe;
  spec.model.ignore_merges = info.ignore_merges;
  spec.model.unknown_separates = true;
  spec.pre_name = options.pre_name;
  spec.pre_tokenizer = std::move(info.steps);
  spec.decoder.push_back({.kind = DecoderStep::Kind::kByteLevel});
  spec.added_longest_first = true;
  spec.added_decode_verbatim = true;
  spec.chat_template = options.chat_template;

  INK_ASSIGN_OR_RETURN(const WordCounts words, CountWords(texts, pre_tokenizer));
  PairTable table(words, byte_ids);
  const size_t target = static_cast<size_t>(options.vocab_size);
  const int64_t total = options.vocab_size - static_cast<int64_t>(spec.tokens.size());
  std::vector<int32_t> bytes_of(spec.tokens.size(), 1);  // length of each token in bytes
  const int64_t min_count = std::max<int64_t>(1, options.min_pair_count);
  while (spec.tokens.size() < target) {
    const PairTable::Best best = table.Pop(min_count);
    if (best.count == 0) break;
    const int32_t bytes = bytes_of[best.left] + bytes_of[best.right];
    const std::string text = spec.tokens[best.left].text + spec.tokens[best.right].text;
    int32_t id = index.Find(text);
    if (bytes > options.max_token_bytes || (id >= 0 && !spec.tokens[id].in_model)) {
      table.Forget(best.left, best.right);
      continue;
    }
    if (id < 0) {
      id = static_cast<int32_t>(spec.tokens.size());
      index.Insert(text, id);
      spec.tokens.push_back({.text = text});
      bytes_of.push_back(bytes);
    }
    spec.model.merges.push_back({best.left, best.right, id});
    table.Merge(best.left, best.right, id);
    const int64_t done = total - static_cast<int64_t>(target - spec.tokens.size());
    if (progress != nullptr && spec.model.merges.size() % kProgressEvery == 0 &&
        !progress(done, total)) {
      return Cancelled("tokenizer training was stopped");
    }
  }
  if (progress != nullptr) progress(total, total);
  DetectSpecialTokens(spec, /*control_only=*/true);
  INK_RETURN_IF_ERROR(ValidateSpec(spec));
  return spec;
}

}  // namespace ink
