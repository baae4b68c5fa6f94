#include "text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <map>

#include "text/detokenizer.h"
#include "text/gguf_vocab.h"
#include "text/pre_tokenizer.h"
#include "text/pre_tokenizer_table.h"
#include "text/tokenizer_test_util.h"

namespace ink {
namespace {

TextSource From(const std::vector<std::string>& texts) {
  return [&texts, i = size_t{0}]() mutable -> std::optional<std::string_view> {
    if (i >= texts.size()) return std::nullopt;
    return texts[i++];
  };
}

std::vector<std::string> RandomTexts(Rng& rng, int count) {
  static const std::vector<std::string> words = {"low",  "lower",   "lowest", "newest", "wider",
                                                 "aaaa", "aaaaaaa", "abab",   "né",     "42"};
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) {
    std::string text;
    for (uint64_t n = rng.Below(20); n > 0; --n) text += words[rng.Below(words.size())] + " ";
    texts.push_back(text);
  }
  return texts;
}

// The algorithm as the paper gives it: count all pairs, merge the most frequent, begin again.
std::vector<std::string> NaiveTokens(const std::vector<std::string>& texts,
                                     const BpeTrainerOptions& options) {
  std::vector<std::string> tokens = options.special_tokens;  // printable forms
  std::map<std::string, size_t> ids;
  std::map<char32_t, std::string> alphabet;
  for (int b = 0; b < 256; ++b) {
    const char32_t c = ByteToPrintable(static_cast<uint8_t>(b));
    AppendUtf8(c, &alphabet[c]);
  }
  for (const auto& [c, text] : alphabet) {
    ids[text] = tokens.size();
    tokens.push_back(text);
  }
  const PreTokenizerInfo info = *FindPreTokenizer(options.pre_name);
  const Result<PreTokenizer> pre = PreTokenizer::Build(info.steps);
  std::vector<std::vector<size_t>> words;
  for (const std::string& text : texts) {
    const PreTokenized pieces = pre->Apply(text, TextBegin::kInput);
    for (const Span& span : pieces.words) {
      std::vector<size_t> word;
      for (size_t i = span.begin; i < span.end; ++i) {
        word.push_back(ids.at(BytesToPrintable(pieces.text.substr(i, 1))));
      }
      words.push_back(word);
    }
  }
  while (tokens.size() < static_cast<size_t>(options.vocab_size)) {
    std::map<std::pair<size_t, size_t>, int64_t> counts;
    for (const auto& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    }
    std::pair<size_t, size_t> best;
    int64_t count = 0;
    for (const auto& [pair, n] : counts) {
      if (n > count) {
        best = pair;
        count = n;
      }
    }
    if (count < options.min_pair_count) break;
    const std::string text = tokens[best.first] + tokens[best.second];
    if (!ids.contains(text)) {
      ids[text] = tokens.size();
      tokens.push_back(text);
    }
    for (auto& word : words) {
      std::vector<size_t> merged;
      for (size_t i = 0; i < word.size(); ++i) {
        if (i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second) {
          merged.push_back(ids[text]);
          ++i;
        } else {
          merged.push_back(word[i]);
        }
      }
      word = merged;
    }
  }
  return tokens;
}

TEST(BpeTrainer, EqualsTheNaiveAlgorithm) {
  Rng rng(31);
  for (int round = 0; round < 12; ++round) {
    const std::vector<std::string> texts = RandomTexts(rng, 30);
    BpeTrainerOptions options;
    options.vocab_size = 256 + 2 + 10 * (round + 1);
    options.special_tokens = {"<|endoftext|>", "<pad>"};
    options.pre_name = round % 2 == 0 ? "gpt-2" : "llama-bpe";
    const Result<TokenizerSpec> spec = TrainBpe(From(texts), options);
    ASSERT_TRUE(spec.ok()) << spec.status().message();
    std::vector<std::string> tokens;
    for (const TokenEntry& token : spec->tokens) tokens.push_back(token.text);
    ASSERT_EQ(tokens, NaiveTokens(texts, options));
  }
}

TEST(BpeTrainer, TheResultTokenizes) {
  Rng rng(32);
  const std::vector<std::string> texts = RandomTexts(rng, 50);
  BpeTrainerOptions options;
  options.vocab_size = 320;
  options.special_tokens = {"<s>", "</s>"};
  options.bos = "<s>";
  options.eos = "</s>";
  options.add_bos = true;
  options.chat_template = "{{ x }}";
  const Result<TokenizerSpec> spec = TrainBpe(From(texts), options);
  ASSERT_TRUE(spec.ok()) << spec.status().message();
  const auto t = testing_support::Build(*spec);
  EXPECT_EQ(t->Encode("low", {.add_special = true})[0], 0);
  EXPECT_EQ(t->Encode(" lowest").size(), 1u);
  EXPECT_TRUE(t->IsEndOfGeneration(1));
  EXPECT_EQ(t->chat_template(), "{{ x }}");
  for (int i = 0; i < 200; ++i) {
    const std::string bytes = testing_support::RandomBytes(rng, 30);
    EXPECT_EQ(DecodeBytes(*t, t->Encode(bytes)), bytes);
  }
  // And it goes through a file without help of extensions.
  Metadata metadata("memory");
  std::vector<std::string> warnings;
  ASSERT_TRUE(SpecToGguf(*spec, metadata, &warnings).ok());
  EXPECT_TRUE(warnings.empty());
  const auto back = TokenizerFromGguf(metadata);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ((*back)->Encode(texts[0]), t->Encode(texts[0]));
}

TEST(BpeTrainer, StopsWhenPairsRunOut) {
  const std::vector<std::string> texts = {"aa aa"};
  BpeTrainerOptions options;
  options.vocab_size = 1000;
  const Result<TokenizerSpec> spec = TrainBpe(From(texts), options);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->tokens.size(), 257u);  // "aa" twice, "Ġaa" only once
}

TEST(BpeTrainer, LongWordsAndTokensAreBounded) {
  const std::vector<std::string> texts = {std::string(1 << 20, 'a')};
  BpeTrainerOptions options;
  options.vocab_size = 300;
  options.max_token_bytes = 16;
  const Result<TokenizerSpec> spec = TrainBpe(From(texts), options);
  ASSERT_TRUE(spec.ok());
  for (const TokenEntry& token : spec->tokens) EXPECT_LE(token.text.size(), 16u);
}

TEST(BpeTrainer, CanBeStopped) {
  Rng rng(33);
  const std::vector<std::string> texts = RandomTexts(rng, 50);
  BpeTrainerOptions options;
  options.vocab_size = 100000;
  options.min_pair_count = 1;
  std::vector<std::string> long_texts;
  for (int i = 0; i < 400; ++i) long_texts.push_back(testing_support::RandomText(rng, 40));
  const Result<TokenizerSpec> spec =
      TrainBpe(From(long_texts), options, [](int64_t, int64_t) { return false; });
  EXPECT_EQ(spec.status().code(), StatusCode::kCancelled);
}

TEST(BpeTrainer, BadOptionsAreErrors) {
  const std::vector<std::string> texts = {"abc"}, none, empty = {"", ""};
  const auto code = [&](auto change, const std::vector<std::string>& from) {
    BpeTrainerOptions options;
    change(&options);
    return TrainBpe(From(from), options).status().code();
  };
  using O = BpeTrainerOptions;
  EXPECT_EQ(code([](O*) {}, none), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](O*) {}, empty), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](O* o) { o->vocab_size = 255; }, texts), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](O* o) { o->vocab_size = 1 << 30; }, texts), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(
                [](O* o) {
                  o->special_tokens = {"x", "x"};
                },
                texts),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](O* o) { o->special_tokens = {"a"}; }, texts), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](O* o) { o->bos = "<s>"; }, texts), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](O* o) { o->add_bos = true; }, texts), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](O* o) { o->pre_name = "gemma4"; }, texts), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](O* o) { o->pre_name = "nothing"; }, texts), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace ink
