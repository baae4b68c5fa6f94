#include "text/split_regex.h"

#include <gtest/gtest.h>

#include <ctime>

#include "text/pre_tokenizer.h"
#include "text/pre_tokenizer_table.h"
#include "text/tokenizer_test_util.h"

namespace ink {
namespace {

using testing_support::Strings;

Strings Matches(std::string_view pattern, std::string_view text) {
  const Result<SplitRegex> regex = SplitRegex::Compile(pattern);
  EXPECT_TRUE(regex.ok()) << regex.status().message();
  if (!regex.ok()) return {};
  std::vector<Span> spans;
  regex->FindAll(text, &spans);
  Strings out;
  for (const Span& span : spans) out.emplace_back(text.substr(span.begin, span.end - span.begin));
  return out;
}

// Where Oniguruma and PCRE2 mean different things by the same text.
TEST(SplitRegex, SpeaksOniguruma) {
  // U+180E is white space to PCRE2 only; U+0085 to both.
  EXPECT_EQ(Matches(R"(\s+)",
                    "a\xE1\xA0\x8E"
                    "b\xC2\x85"
                    "c \xE3\x80\x80"),
            Strings({"\xC2\x85", " \xE3\x80\x80"}));
  EXPECT_EQ(Matches(R"([^\s]+)", "a\xE1\xA0\x8E"), Strings({"a\xE1\xA0\x8E"}));
  EXPECT_EQ(Matches(R"([\S]+)", "a\xE1\xA0\x8E b"), Strings({"a\xE1\xA0\x8E", "b"}));
  // Marks and connectors are word characters.
  EXPECT_EQ(Matches(R"(\w+)", "e\xCC\x81\xE2\x80\xBF-x"), Strings({"e\xCC\x81\xE2\x80\xBF", "x"}));
  EXPECT_EQ(Matches(R"(e\b)", "e\xCC\x81 e"), Strings({"e"}));
  EXPECT_EQ(Matches(R"([\W]+)", "a-+b"), Strings({"-+"}));
  EXPECT_EQ(Matches(R"(\h+)", "xAf9g "), Strings({"Af9"}));
  EXPECT_EQ(Matches(R"(^a$)", "a\nb\na"), Strings({"a", "a"}));
  EXPECT_EQ(Matches(R"((?m:a.b))", "a\nb"), Strings({"a\nb"}));
  EXPECT_EQ(Matches(R"(a.b)", "a\nb"), Strings());
  // The script itself: U+3001 has Han among its extensions.
  EXPECT_EQ(Matches(R"(\p{Han}+)", "漢、字"), Strings({"漢", "字"}));
  EXPECT_EQ(Matches(R"(\p{Letter}+\p{^L})", "ab1"), Strings({"ab1"}));
  EXPECT_EQ(Matches(R"([[:alpha:]]+)", "ab1é"), Strings({"ab", "é"}));
  EXPECT_EQ(Matches(R"([a-z&&[^aeiou]]+)", "abcde"), Strings({"bcd"}));
  EXPECT_EQ(Matches(R"([^a-z&&[^aeiou]]+)", "abc-"), Strings({"a", "-"}));
  EXPECT_EQ(Matches(R"([a[b-d]e]+)", "fabcdef"), Strings({"abcde"}));
  EXPECT_EQ(Matches(R"([\p{L}&&[^\p{Han}]]+)", "ab漢c"), Strings({"ab", "c"}));
  // An interval has no possessive form: (a{1,2})+.
  EXPECT_EQ(Matches(R"(a{1,2}+)", "aaaaa"), Strings({"aaaaa"}));
  EXPECT_EQ(Matches(R"(\p{N}{1,3}+b)", "12345b"), Strings({"12345b"}));
  EXPECT_EQ(Matches(R"(a++a)", "aaa"), Strings());
  EXPECT_EQ(Matches(R"(x{,2}y)", "xxxy"), Strings({"xxy"}));
  EXPECT_EQ(Matches(R"(\u0041\x{42}\x43)", "ABC"), Strings({"ABC"}));
  EXPECT_EQ(Matches(R"([\-\]\\]+)", "-]\\"), Strings({"-]\\"}));
  EXPECT_EQ(Matches(R"((?i:'S))", "'s'S"), Strings({"'s", "'S"}));
}

TEST(SplitRegex, EmptyMatchesAreFoundOnce) {
  const Result<SplitRegex> regex = SplitRegex::Compile("(?=b)");
  ASSERT_TRUE(regex.ok());
  std::vector<Span> spans;
  regex->FindAll("abéb", &spans);
  EXPECT_EQ(spans, (std::vector<Span>{{1, 1}, {4, 4}}));
  spans.clear();
  regex->FindAll("", &spans);
  EXPECT_TRUE(spans.empty());
}

TEST(SplitRegex, RefusesWhatItCannotSay) {
  for (const char* pattern :
       {"(", ")", "[a", "a\\", "\\p{L", "\\q", "(?~a)", "[b-a]", "(?#x)", "\\p{NoSuchScript}",
        "[[[[[[[[[[[[[[[[[[[[a]]]]]]]]]]]]]]]]]]]]", "\xFF"}) {
    EXPECT_FALSE(SplitRegex::Compile(pattern).ok()) << pattern;
  }
}

TEST(SplitRegex, BacktrackingIsBounded) {
  const Result<SplitRegex> regex = SplitRegex::Compile("(a+)+$");
  ASSERT_TRUE(regex.ok());
  std::vector<Span> spans;
  regex->FindAll(std::string(60, 'a') + "b", &spans);  // 2^60 ways
  EXPECT_TRUE(spans.empty());
}

TEST(PreTokenizerTable, EveryNameCompilesAndCoversTheText) {
  Rng rng(2);
  for (const std::string_view name : PreTokenizerNames()) {
    const Result<PreTokenizerInfo> info = FindPreTokenizer(name);
    ASSERT_TRUE(info.ok()) << name;
    const Result<PreTokenizer> pre = PreTokenizer::Build(info->steps);
    ASSERT_TRUE(pre.ok()) << name << ": " << pre.status().message();
    for (int i = 0; i < 50; ++i) {
      const std::string text = testing_support::RandomText(rng);
      const PreTokenized pieces = pre->Apply(text, TextBegin::kInput);
      std::string joined;
      for (const Span& span : pieces.words) {
        EXPECT_LT(span.begin, span.end);
        joined += pieces.text.substr(span.begin, span.end - span.begin);
      }
      EXPECT_EQ(joined, text) << name;
    }
  }
  EXPECT_FALSE(FindPreTokenizer("no-such").ok());
}

Strings Words(std::string_view name, const std::string& text) {
  const Result<PreTokenizerInfo> info = FindPreTokenizer(name);
  const Result<PreTokenizer> pre = PreTokenizer::Build(info->steps);
  const PreTokenized pieces = pre->Apply(text, TextBegin::kInput);
  Strings words;
  for (const Span& span : pieces.words) {
    words.push_back(pieces.text.substr(span.begin, span.end - span.begin));
  }
  return words;
}

// Expected values from the definitions of the published models' rules.
TEST(PreTokenizerTable, KnownRules) {
  EXPECT_EQ(Words("gpt-2", "I'll go  there 123!"),
            Strings({"I", "'ll", " go", " ", " there", " 123", "!"}));
  EXPECT_EQ(Words("llama-bpe", "I'LL pay $12345.\n\nok "),
            Strings({"I", "'LL", " pay", " $", "123", "45", ".\n\n", "ok", " "}));
  EXPECT_EQ(Words("qwen2", "a 123"), Strings({"a", " ", "1", "2", "3"}));
  EXPECT_EQ(Words("starcoder", "x=42 y"), Strings({"x", "=", "4", "2", " y"}));
  EXPECT_EQ(Words("deepseek-v3", "a 1234 漢字ab"),
            Strings({"a", " ", "123", "4", " ", "漢字", "ab"}));
  EXPECT_EQ(Words("gpt-4o", "helloWorld's"), Strings({"hello", "World's"}));
  EXPECT_EQ(Words("tekken", "helloWorld 12"), Strings({"hello", "World", " ", "1", "2"}));
  EXPECT_EQ(Words("superbpe", "a1234567"), Strings({"a", "1", "234", "567"}));
  EXPECT_EQ(Words("qwen35", "हिन्दी x"), Strings({"हिन्दी", " x"}));
  EXPECT_EQ(Words("falcon", "a 12345--b"), Strings({"a", " ", "123", "45", "--", "b"}));
}

// Quadratic time on any of these would take hours.
TEST(PreTokenizerTable, LongRunsTakeLinearTime) {
  const std::clock_t start = std::clock();
  for (const std::string_view name :
       {"default", "llama-bpe", "gpt-2", "deepseek-llm", "deepseek-v3", "gpt-4o", "tiny_aya",
        "superbpe", "qwen35", "kimi-k2", "jais-2", "afmoe"}) {
    for (const std::string& text :
         {std::string(1 << 18, ' ') + "5", std::string(1 << 18, '7'), std::string(1 << 18, 'a'),
          std::string(1 << 18, 'A'), std::string(1 << 18, '\n') + "x", std::string(1 << 18, '!')}) {
      size_t bytes = 0;
      for (const std::string& word : Words(name, text)) bytes += word.size();
      EXPECT_EQ(bytes, text.size()) << name;
    }
  }
  EXPECT_LT(std::clock() - start, 60 * CLOCKS_PER_SEC);
}

}  // namespace
}  // namespace ink
