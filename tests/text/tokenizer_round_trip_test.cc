// Between GGUF, tokenizer.json and back a tokenizer stays what it was; and texts survive encoding
// and decoding.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "formats/gguf.h"
#include "support/shared.h"
#include "text/detokenizer.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer_test_util.h"

namespace ink {
namespace {

using testing_support::FromJson;
using testing_support::RandomBytes;
using testing_support::RandomText;

std::shared_ptr<const Tokenizer> Load(const std::string& name) {
  const Result<GgufFile> file =
      GgufFile::Open(testing_support::Shared("goldens/tokenizers/" + name + ".gguf"));
  EXPECT_TRUE(file.ok()) << file.status().message();
  auto tokenizer = TokenizerFromGguf(file->metadata());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return *tokenizer;
}

std::shared_ptr<const Tokenizer> ThroughJson(const Tokenizer& tokenizer) {
  const Result<WrittenTokenizer> written = SpecToJson(tokenizer.spec());
  EXPECT_TRUE(written.ok()) << written.status().message();
  return FromJson(written->tokenizer_json, written->tokenizer_config);
}

std::shared_ptr<const Tokenizer> ThroughGguf(const Tokenizer& tokenizer,
                                             std::vector<std::string>* warnings) {
  Metadata metadata("memory");
  const Status written = SpecToGguf(tokenizer.spec(), metadata, warnings);
  EXPECT_TRUE(written.ok()) << written.message();
  auto back = TokenizerFromGguf(metadata);
  EXPECT_TRUE(back.ok()) << back.status().message();
  return back.ok() ? *back : nullptr;
}

void ExpectSame(const Tokenizer& a, const Tokenizer& b, uint64_t seed, int texts = 300) {
  ASSERT_EQ(a.vocab_size(), b.vocab_size());
  for (int32_t id = 0; id < a.vocab_size(); ++id) {
    ASSERT_EQ(a.TokenText(id), b.TokenText(id));
    ASSERT_EQ(a.TokenBytes(id), b.TokenBytes(id));
    ASSERT_EQ(a.IsControl(id), b.IsControl(id)) << a.TokenText(id);
  }
  EXPECT_EQ(a.bos_id(), b.bos_id());
  EXPECT_EQ(a.eos_id(), b.eos_id());
  EXPECT_EQ(a.add_bos(), b.add_bos());
  EXPECT_EQ(a.add_eos(), b.add_eos());
  EXPECT_EQ(a.leading_space(), b.leading_space());
  EXPECT_EQ(a.chat_template(), b.chat_template());
  for (const int32_t id : a.end_of_generation()) EXPECT_TRUE(b.IsEndOfGeneration(id));
  Rng rng(seed);
  for (int i = 0; i < texts; ++i) {
    const std::string text = i % 5 == 0 ? RandomBytes(rng, 30) : RandomText(rng);
    const EncodeOptions options{.add_special = i % 2 == 0, .parse_special = i % 3 == 0};
    ASSERT_EQ(a.Encode(text, options), b.Encode(text, options)) << text;
  }
}

class GoldenVocab : public testing::TestWithParam<const char*> {};

TEST_P(GoldenVocab, SurvivesJsonAndGguf) {
  INK_NEEDS_SHARED();
  const auto original = Load(GetParam());
  const auto json = ThroughJson(*original);
  ASSERT_NE(json, nullptr);
  ExpectSame(*original, *json, 1);
  std::vector<std::string> warnings;
  const auto gguf = ThroughGguf(*json, &warnings);
  ASSERT_NE(gguf, nullptr);
  ExpectSame(*original, *gguf, 2);
  EXPECT_TRUE(warnings.empty()) << warnings[0];  // the standard keys say all of it
}

// What other programs read, without the extensions, must agree on ordinary text.
TEST_P(GoldenVocab, PlainJsonAgrees) {
  INK_NEEDS_SHARED();
  const auto original = Load(GetParam());
  const Result<WrittenTokenizer> written = SpecToJson(original->spec());
  ASSERT_TRUE(written.ok());
  const auto plain = FromJson(written->tokenizer_json);
  Rng rng(3);
  for (int i = 0; i < 300; ++i) {
    const std::string text = RandomText(rng);
    EXPECT_EQ(plain->Encode(text), original->Encode(text)) << text;
  }
}

TEST_P(GoldenVocab, DecodingInvertsEncoding) {
  INK_NEEDS_SHARED();
  const auto tokenizer = Load(GetParam());
  Rng rng(4);
  for (int i = 0; i < 500; ++i) {
    const std::string text = i % 2 == 0 ? RandomText(rng) : RandomBytes(rng, 40);
    const std::vector<int32_t> ids = tokenizer->Encode(text);
    std::string expected = text;
    if (std::string(GetParam()) == "llama-spm") {
      // ▁ and the space are one there.
      for (size_t at; (at = expected.find("▁")) != std::string::npos;) expected.replace(at, 3, " ");
    }
    // Not all vocabularies have all bytes.
    if (std::string(GetParam()) != "deepseek-llm") {
      ASSERT_EQ(DecodeBytes(*tokenizer, ids), expected);
    }
    ASSERT_EQ(Decode(tokenizer, ids), RepairUtf8(DecodeBytes(*tokenizer, ids)));
  }
}

// A long text is encoded with a cache of words and in parts: as its lines would be, one by one.
TEST_P(GoldenVocab, LongTextsAreEncodedAsTheirParts) {
  INK_NEEDS_SHARED();
  const auto tokenizer = Load(GetParam());
  std::ifstream in(testing_support::Shared("data/wikitext2-valid.txt"));
  std::stringstream buffer;
  buffer << in.rdbuf();
  const std::string text = buffer.str().substr(0, 200000);
  const std::vector<int32_t> ids = tokenizer->Encode(text);
  EXPECT_EQ(DecodeBytes(*tokenizer, ids), text);
  EXPECT_LT(ids.size(), text.size() / 3);
  std::vector<std::thread> threads;  // many threads, one tokenizer
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] { EXPECT_EQ(tokenizer->Encode(text), ids); });
  }
  for (std::thread& thread : threads) thread.join();
}

INSTANTIATE_TEST_SUITE_P(All, GoldenVocab,
                         testing::Values("deepseek-llm", "gpt-2", "llama-bpe", "llama-spm"));

// tokenizer.json files whose rules GGUF's own keys cannot say.
TEST(JsonToGguf, KeepsWhatTheKeysCannotSay) {
  const std::string bpe = R"("model":{"type":"BPE","vocab":{"h":0,"i":1,"Ġ":2,"Ġh":3,"hi":4},
      "merges":["Ġ h","h i"]})";
  const std::string byte_level = R"("decoder":{"type":"ByteLevel"},)";
  const std::vector<std::string> files = {
      // Qwen 2's NFC.
      R"({"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"ByteLevel",
          "add_prefix_space":false},)" +
          byte_level + bpe + "}",
      // An unknown split.
      R"({"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split",
          "pattern":{"Regex":"h"},"behavior":"Isolated"},{"type":"ByteLevel",
          "add_prefix_space":true}]},)" +
          byte_level + bpe + "}",
      // Gemma's and Llama's form.
      R"({"added_tokens":[{"id":0,"content":"<unk>","special":true},
                          {"id":8,"content":"  ","special":false,"normalized":false}],
          "normalizer":{"type":"Replace","pattern":{"String":" "},"content":"▁"},
          "decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},
            "content":" "},{"type":"ByteFallback"},{"type":"Fuse"}]},
          "model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,
            "vocab":{"<unk>":0,"<0x0A>":1,"▁":2,"a":3,"b":4,"▁a":5,"ab":6,"▁ab":7},
            "merges":["▁ a","a b","▁a b","▁ ab"]}})",
      // T5's form.
      R"({"added_tokens":[{"id":1,"content":"</s>","special":true,"normalized":false}],
          "normalizer":{"type":"NFKC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[
            {"type":"WhitespaceSplit"},{"type":"Metaspace"}]},
          "post_processor":{"type":"TemplateProcessing","single":[
            {"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}],
            "special_tokens":{"</s>":{"id":"</s>","ids":[1],"tokens":["</s>"]}}},
          "decoder":{"type":"Metaspace"},
          "model":{"type":"Unigram","unk_id":2,"vocab":[["<pad>",0.0],["</s>",0.0],["<unk>",0.0],
            ["▁",-2.0],["▁a",-2.5],["a",-3.25],["b",-3.5]]}})",
      // BERT's.
      R"({"added_tokens":[{"id":0,"content":"[UNK]","special":true},
                          {"id":1,"content":"[CLS]","special":true},
                          {"id":2,"content":"[SEP]","special":true}],
          "normalizer":{"type":"BertNormalizer","lowercase":true},
          "pre_tokenizer":{"type":"BertPreTokenizer"},
          "post_processor":{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]},
          "decoder":{"type":"WordPiece"},
          "model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,
            "a":3,"##b":4,"##a":5,"!":6,"hi":7}}})",
      // CLIP's.
      R"({"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace",
            "pattern":{"Regex":"\\s+"},"content":" "},{"type":"Lowercase"}]},
          "pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{
            "Regex":"'s|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"},"behavior":"Removed",
            "invert":true},{"type":"ByteLevel","add_prefix_space":false}]},
          "decoder":{"type":"ByteLevel"},
          "model":{"type":"BPE","unk_token":"u","continuing_subword_prefix":"",
            "end_of_word_suffix":"</w>","vocab":{"u":0,"a":1,"b":2,"b</w>":3,"a</w>":4,
            "ab</w>":5},"merges":["a b</w>"]}})"};
  for (size_t i = 0; i < files.size(); ++i) {
    SCOPED_TRACE(files[i]);
    const auto original = FromJson(files[i]);
    ASSERT_NE(original, nullptr);
    std::vector<std::string> warnings;
    const auto gguf = ThroughGguf(*original, &warnings);
    ASSERT_NE(gguf, nullptr);
    ExpectSame(*original, *gguf, i);
    EXPECT_EQ(warnings.size(), 1u);
    const auto json = ThroughJson(*gguf);
    ASSERT_NE(json, nullptr);
    ExpectSame(*original, *json, i + 100);
  }
}

}  // namespace
}  // namespace ink
