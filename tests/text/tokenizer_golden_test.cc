// Every line of goldens/tokenizers, which llama.cpp made, must come out the same.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "support/shared.h"
#include "text/detokenizer.h"
#include "text/gguf_vocab.h"

namespace ink {
namespace {

struct Line {
  std::string text;
  std::vector<int32_t> ids;
};

std::vector<Line> ReadLines(const std::string& path) {
  std::vector<Line> lines;
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    const nlohmann::json json = nlohmann::json::parse(line);
    lines.push_back({json["text"], json["ids"]});
  }
  return lines;
}

class TokenizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerGolden, EncodesAsTheReference) {
  INK_NEEDS_SHARED();
  const std::string base = testing_support::Shared("goldens/tokenizers/") + GetParam();
  const Result<GgufFile> file = GgufFile::Open(base + ".gguf");
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto tokenizer = TokenizerFromGguf(file->metadata());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const std::vector<Line> lines = ReadLines(base + ".jsonl");
  ASSERT_GT(lines.size(), 100u);
  for (const Line& line : lines) {
    EXPECT_EQ((*tokenizer)->Encode(line.text), line.ids) << line.text;
    EXPECT_EQ(Decode(*tokenizer, line.ids), line.text);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerGolden,
                         testing::Values("deepseek-llm", "gpt-2", "llama-bpe", "llama-spm"));

}  // namespace
}  // namespace ink
