// The four models against the simplest possible programs for their definitions, on random
// vocabularies and words of all lengths (short ones, and those that take the heap).
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "text/model.h"
#include "text/tokenizer_test_util.h"

namespace ink {
namespace {

using Ids = std::vector<int32_t>;

std::string RandomWord(Rng& rng, size_t max_chars, bool spaces) {
  static const std::vector<std::string> alphabet = {"a", "b", "c", "é", "▁"};
  std::string word;
  const size_t n = 1 + rng.Below(max_chars);
  for (size_t i = 0; i < n; ++i) word += alphabet[rng.Below(spaces ? 5 : 4)];
  return word;
}

std::vector<std::string> Characters(std::string_view word) {
  std::vector<std::string> out;
  for (size_t i = 0; i < word.size();) {
    const size_t start = i;
    Utf8Next(word, &i);
    out.emplace_back(word.substr(start, i - start));
  }
  return out;
}

// Some of the characters, and random short strings of them.
TokenizerSpec RandomVocab(Rng& rng, ModelKind kind) {
  std::set<std::string> texts;
  for (const char* c : {"a", "b", "c", "é", "▁"}) {
    if (rng.Below(8) != 0) texts.insert(c);
  }
  texts.insert("a");
  for (int i = 0; i < 30; ++i) texts.insert(RandomWord(rng, 4, true));
  TokenizerSpec spec;
  spec.model.kind = kind;
  std::vector<std::string> order(texts.begin(), texts.end());
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.Below(i)]);
  for (const std::string& text : order) {
    // Few different scores, so that ties are frequent.
    spec.tokens.push_back({.text = text, .score = -static_cast<float>(rng.Below(6))});
  }
  return spec;
}

// As the tokenizer does it: part by part.
Ids EncodeParts(const TokenModel& model, std::string_view word) {
  Ids ids;
  while (!word.empty()) {
    const size_t part = model.FirstPart(word);
    model.Encode(word.substr(0, part), &ids);
    word.remove_prefix(part);
  }
  return ids;
}

std::map<std::string, int32_t> Index(const TokenizerSpec& spec) {
  std::map<std::string, int32_t> index;
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    index[spec.tokens[i].text] = static_cast<int32_t>(i);
  }
  return index;
}

TEST(BpeModel, EqualsRepeatedSearchForTheBestPair) {
  Rng rng(11);
  for (int round = 0; round < 60; ++round) {
    TokenizerSpec spec = RandomVocab(rng, ModelKind::kBpe);
    spec.model.unknown_separates = round % 2 == 0;
    const auto index = Index(spec);
    std::vector<Merge> merges;
    for (const auto& [text, id] : index) {
      for (size_t cut = 1; cut < text.size(); ++cut) {
        const auto left = index.find(text.substr(0, cut)), right = index.find(text.substr(cut));
        if (left != index.end() && right != index.end() && rng.Below(4) != 0) {
          merges.push_back({left->second, right->second, id});
        }
      }
    }
    for (size_t i = merges.size(); i > 1; --i) std::swap(merges[i - 1], merges[rng.Below(i)]);
    spec.model.merges = merges;
    const auto model = MakeBpeModel(spec, /*byte_level=*/false);
    for (int i = 0; i < 60; ++i) {
      const std::string word = RandomWord(rng, i % 3 == 0 ? 150 : 12, true);
      Ids expected;
      for (const std::string& c : Characters(word)) {
        const auto it = index.find(c);
        if (it != index.end()) {
          expected.push_back(it->second);
        } else if (spec.model.unknown_separates) {
          expected.push_back(-1);
        }
      }
      for (bool merged = true; merged;) {
        merged = false;
        for (const Merge& merge : merges) {  // by rank
          for (size_t j = 0; j + 1 < expected.size(); ++j) {
            if (expected[j] != merge.left || expected[j + 1] != merge.right) continue;
            expected[j] = merge.result;
            expected.erase(expected.begin() + static_cast<ptrdiff_t>(j) + 1);
            merged = true;
            break;
          }
          if (merged) break;
        }
      }
      std::erase(expected, -1);
      const Ids actual = EncodeParts(*model, word);
      ASSERT_EQ(actual, expected) << word;
    }
  }
}

TEST(SentencePieceBpeModel, EqualsRepeatedSearchForTheBestPair) {
  Rng rng(12);
  for (int round = 0; round < 60; ++round) {
    TokenizerSpec spec = RandomVocab(rng, ModelKind::kSentencePieceBpe);
    spec.model.unk = 0;
    const auto index = Index(spec);
    const auto model = MakeSentencePieceBpeModel(spec);
    for (int i = 0; i < 60; ++i) {
      const std::string word = RandomWord(rng, i % 3 == 0 ? 150 : 12, true);
      std::vector<std::string> symbols = Characters(word);
      for (;;) {
        size_t best = symbols.size();
        float best_score = 0;
        for (size_t j = 0; j + 1 < symbols.size(); ++j) {
          const auto it = index.find(symbols[j] + symbols[j + 1]);
          if (it == index.end()) continue;
          const float score = spec.tokens[it->second].score;
          if (best == symbols.size() || score > best_score) {
            best = j;
            best_score = score;
          }
        }
        if (best == symbols.size()) break;
        symbols[best] += symbols[best + 1];
        symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
      }
      Ids expected;
      for (const std::string& symbol : symbols) {
        const auto it = index.find(symbol);
        if (it != index.end()) {
          expected.push_back(it->second);
        } else {
          expected.insert(expected.end(), symbol.size(), 0);  // one unknown for each byte
        }
      }
      const Ids actual = EncodeParts(*model, word);
      ASSERT_EQ(actual, expected) << word;
    }
  }
}

TEST(UnigramModel, EqualsTheBestOfAllSegmentations) {
  Rng rng(13);
  for (int round = 0; round < 60; ++round) {
    TokenizerSpec spec = RandomVocab(rng, ModelKind::kUnigram);
    double lowest = 0;
    for (TokenEntry& token : spec.tokens) {
      token.score = static_cast<float>(-10 * rng.Uniform());  // no ties
      lowest = std::min(lowest, static_cast<double>(token.score));
    }
    const auto index = Index(spec);
    const auto model = MakeUnigramModel(spec);  // no unknown token: unknown characters vanish
    for (int i = 0; i < 40; ++i) {
      const std::string word = RandomWord(rng, 9, true);
      const std::vector<std::string> chars = Characters(word);
      double best = -std::numeric_limits<double>::infinity();
      Ids expected;
      std::function<void(size_t, double, Ids)> search = [&](size_t at, double score, Ids ids) {
        if (at == chars.size()) {
          if (score > best) {
            best = score;
            expected = ids;
          }
          return;
        }
        if (!index.contains(chars[at])) search(at + 1, score + (lowest - 10), ids);
        std::string piece;
        for (size_t end = at; end < chars.size(); ++end) {
          piece += chars[end];
          const auto it = index.find(piece);
          if (it == index.end()) continue;
          Ids longer = ids;
          longer.push_back(it->second);
          search(end + 1, score + static_cast<double>(spec.tokens[it->second].score), longer);
        }
      };
      search(0, 0, {});
      const Ids actual = EncodeParts(*model, word);
      ASSERT_EQ(actual, expected) << word;
    }
  }
}

TEST(WordPieceModel, EqualsGreedySearch) {
  Rng rng(14);
  for (int round = 0; round < 60; ++round) {
    TokenizerSpec spec = RandomVocab(rng, ModelKind::kWordPiece);
    for (TokenEntry& token : spec.tokens) {
      if (rng.Below(2) == 0) token.text = "##" + token.text;
    }
    spec.tokens.push_back({.text = "[UNK]"});
    spec.model.unk = static_cast<int32_t>(spec.tokens.size()) - 1;
    const auto index = Index(spec);
    const auto model = MakeWordPieceModel(spec);
    for (int i = 0; i < 60; ++i) {
      const std::string word = RandomWord(rng, 120, true);
      Ids expected;
      if (Characters(word).size() > 100) expected = {spec.model.unk};
      for (size_t at = 0; at < word.size() && expected != Ids{spec.model.unk};) {
        size_t end = word.size();
        for (; end > at; --end) {
          const auto it = index.find((at > 0 ? "##" : "") + word.substr(at, end - at));
          if (it == index.end()) continue;
          expected.push_back(it->second);
          break;
        }
        if (end == at) expected = {spec.model.unk};
        at = end;
      }
      const Ids actual = EncodeParts(*model, word);
      ASSERT_EQ(actual, expected) << word;
    }
  }
}

// A long text without a space: quadratic time would be many minutes.
TEST(TokenModels, LongWordsTakeNearlyLinearTime) {
  const std::clock_t start = std::clock();
  Rng rng(15);
  for (const ModelKind kind :
       {ModelKind::kBpe, ModelKind::kSentencePieceBpe, ModelKind::kUnigram}) {
    TokenizerSpec spec;
    spec.model.kind = kind;
    for (const char* text : {"a", "b", "aa", "ab", "aaaa", "aaaaaaaa", "bb", "bbb"}) {
      spec.tokens.push_back({.text = text, .score = -static_cast<float>(spec.tokens.size())});
    }
    spec.model.merges = {{0, 0, 2}, {0, 1, 3}, {2, 2, 4}, {4, 4, 5}, {1, 1, 6}, {6, 1, 7}};
    const auto tokenizer = testing_support::Build(spec);
    std::string mixed(1 << 18, 'a');
    for (char& c : mixed) c = rng.Below(2) != 0 ? 'a' : 'b';
    for (const std::string& text : {std::string(1 << 18, 'a'), mixed}) {
      size_t bytes = 0;
      for (const int32_t id : tokenizer->Encode(text)) bytes += tokenizer->TokenText(id).size();
      EXPECT_EQ(bytes, text.size());
    }
  }
  EXPECT_LT(std::clock() - start, 60 * CLOCKS_PER_SEC);
}

}  // namespace
}  // namespace ink
