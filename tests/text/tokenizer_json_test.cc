// Whole tokenizer.json files made by hand, with ids derived from the definitions.
#include "text/tokenizer_json.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "text/detokenizer.h"
#include "text/tokenizer_test_util.h"

namespace ink {
namespace {

using testing_support::FromJson;
using testing_support::Pieces;
using testing_support::Strings;
using Ids = std::vector<int32_t>;

// A file around a model and optional other members.
std::string File(const std::string& model, const std::string& rest = "") {
  return R"({"version":"1.0","truncation":null,"padding":null,)" + rest +
         (rest.empty() ? "" : ",") + R"("model":)" + model + "}";
}

const char kBpe[] = R"({"type":"BPE","vocab":{"a":0,"b":1,"c":2,"ab":3,"abc":4,"bc":5},
    "merges":["b c","a b","ab c"]})";

TEST(JsonBpe, MergesByRank) {
  const auto t = FromJson(File(kBpe));
  // bc comes first: abc = a + bc, for which there is no merge.
  EXPECT_EQ(Pieces(*t, "abc"), Strings({"a", "bc"}));
  EXPECT_EQ(Pieces(*t, "abab"), Strings({"ab", "ab"}));
  EXPECT_EQ(Pieces(*t, "axb"), Strings({"ab"}));  // unknown and no unk_token: as if not there
}

TEST(JsonBpe, PairsOfStringsAreMergesToo) {
  const auto t =
      FromJson(File(R"({"type":"BPE","vocab":{" ":0,"a":1," a":2},"merges":[[" ","a"]]})"));
  EXPECT_EQ(Pieces(*t, "a a"), Strings({"a", " a"}));
}

TEST(JsonBpe, UnknownTokens) {
  const std::string vocab = R"("unk_token":"<unk>","vocab":{"<unk>":0,"a":1,"b":2},"merges":[])";
  const auto separate = FromJson(File(R"({"type":"BPE","fuse_unk":false,)" + vocab + "}"));
  EXPECT_EQ(separate->Encode("axyb"), Ids({1, 0, 0, 2}));
  const auto fused = FromJson(File(R"({"type":"BPE","fuse_unk":true,)" + vocab + "}"));
  EXPECT_EQ(fused->Encode("axyb"), Ids({1, 0, 2}));
  EXPECT_EQ(fused->unk_id(), 0);
}

TEST(JsonBpe, ByteFallbackIsAllOrNothingForACharacter) {
  const auto t = FromJson(File(R"({"type":"BPE","unk_token":"<unk>","byte_fallback":true,
      "vocab":{"<unk>":0,"a":1,"<0xC3>":2,"<0xA9>":3,"<0xE4>":4},"merges":[]})"));
  EXPECT_EQ(t->Encode("aé"), Ids({1, 2, 3}));
  EXPECT_EQ(t->Encode("ä"), Ids({0}));  // A4 has no token
}

TEST(JsonBpe, PrefixAndSuffix) {
  const auto t = FromJson(File(
      R"({"type":"BPE","continuing_subword_prefix":"##","end_of_word_suffix":"</w>",
          "vocab":{"a":0,"##b":1,"##b</w>":2,"ab</w>":3,"a</w>":4,"##c</w>":5,"ab":6},
          "merges":["a ##b</w>","a ##b"]})",
      R"("pre_tokenizer":{"type":"WhitespaceSplit"},"decoder":{"type":"BPEDecoder"})"));
  EXPECT_EQ(Pieces(*t, "ab a abc"), Strings({"ab</w>", "a</w>", "ab", "##c</w>"}));
  EXPECT_EQ(Decode(t, Ids({3, 4})), "ab a");
}

TEST(JsonBpe, IgnoreMerges) {
  const std::string vocab = R"("vocab":{"a":0,"b":1,"c":2,"bc":3,"abc":4,"ab":5},
      "merges":["b c","a b","ab c"]})";
  EXPECT_EQ(Pieces(*FromJson(File(R"({"type":"BPE","ignore_merges":true,)" + vocab)), "abc"),
            Strings({"abc"}));
  EXPECT_EQ(Pieces(*FromJson(File(R"({"type":"BPE","ignore_merges":false,)" + vocab)), "abc"),
            Strings({"a", "bc"}));
}

// The shape of GPT-2 and Llama 3 files.
TEST(JsonBpe, ByteLevel) {
  const auto t =
      FromJson(File(R"({"type":"BPE","vocab":{"h":0,"i":1,"Ġ":2,"Ġh":3,"Ġhi":4,"Ã":5,"©":6,"hi":7},
              "merges":["Ġ h","Ġh i","h i"]})",
                    R"("added_tokens":[
                {"id":8,"content":"<|begin|>","special":true,"normalized":false},
                {"id":9,"content":"<|end|>","special":true,"normalized":false}],
              "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},
              "decoder":{"type":"ByteLevel"},
              "post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},
                {"type":"TemplateProcessing",
                 "single":[{"SpecialToken":{"id":"<|begin|>","type_id":0}},
                           {"Sequence":{"id":"A","type_id":0}}],
                 "special_tokens":{"<|begin|>":{"id":"<|begin|>","ids":[8],
                                                "tokens":["<|begin|>"]}}}]})"),
               R"({"bos_token":"<|begin|>","eos_token":{"content":"<|end|>","lstrip":false},
          "chat_template":[{"name":"tool_use","template":"T"},{"name":"default","template":"D"}]})");
  EXPECT_EQ(Pieces(*t, "hi hié"), Strings({"hi", "Ġhi", "Ã", "©"}));
  EXPECT_EQ(t->Encode("hi", {.add_special = true}), Ids({8, 7}));
  EXPECT_EQ(t->Encode("hi<|end|>", {.parse_special = true}), Ids({7, 9}));
  EXPECT_EQ(Pieces(*t, "<|end|>hi"), Strings({"hi"}));  // ordinary text, of unknown characters
  EXPECT_EQ(t->bos_id(), 8);
  EXPECT_EQ(t->eos_id(), 9);
  EXPECT_TRUE(t->add_bos());
  EXPECT_FALSE(t->add_eos());
  EXPECT_TRUE(t->IsEndOfGeneration(9));
  EXPECT_EQ(t->chat_template(), "D");
  EXPECT_EQ(t->TokenBytes(4), " hi");
  EXPECT_EQ(Decode(t, Ids({8, 7, 4, 5, 6, 9})), "hi hié");
  EXPECT_EQ(Decode(t, Ids({8, 7}), {.skip_special = false}), "<|begin|>hi");
}

// The shape of Llama 2 and Gemma files.
TEST(JsonBpe, SentencePieceLike) {
  const auto t =
      FromJson(File(R"({"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,
              "vocab":{"<unk>":0,"<s>":1,"</s>":2,"<0x0A>":3,"▁":4,"a":5,"b":6,"▁a":7,"ab":8,
                       "▁ab":9},
              "merges":["▁ a","a b","▁a b","▁ ab"]})",
                    R"("added_tokens":[{"id":0,"content":"<unk>","special":true,"normalized":false},
                {"id":1,"content":"<s>","special":true,"normalized":false},
                {"id":2,"content":"</s>","special":true,"normalized":false}],
              "normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},
                {"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
              "decoder":{"type":"Sequence","decoders":[
                {"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},
                {"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})"),
               R"({"tokenizer_class":"LlamaTokenizer","bos_token":"<s>","eos_token":"</s>",
          "add_bos_token":true,"add_eos_token":false})");
  EXPECT_EQ(Pieces(*t, "ab ab"), Strings({"▁ab", "▁ab"}));
  EXPECT_EQ(Pieces(*t, " a\n"), Strings({"▁", "▁a", "<0x0A>"}));
  EXPECT_EQ(Pieces(*t, "aé"), Strings({"▁a", "<unk>"}));
  EXPECT_EQ(t->Encode("a", {.add_special = true}), Ids({1, 7}));
  EXPECT_EQ(t->token_type(3), TokenType::kByte);
  EXPECT_EQ(Decode(t, t->Encode("ab a\nb")), "ab a\nb");
  EXPECT_EQ(Decode(t, Ids({9}), {.starts_text = false}), " ab");
  // Each text piece behind a special token gets its own space.
  EXPECT_EQ(t->Encode("a</s>a", {.parse_special = true}), Ids({7, 2, 7}));
}

TEST(JsonUnigram, ViterbiTakesTheBestSum) {
  const std::string model = R"({"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["a",-1.0],
      ["b",-1.0],["ab",-1.5],["abc",-4.0],["c",-2.0],["bc",-1.2]]})";
  const auto t = FromJson(File(model));
  EXPECT_EQ(Pieces(*t, "ab"), Strings({"ab"}));        // -1.5 against -2
  EXPECT_EQ(Pieces(*t, "abc"), Strings({"a", "bc"}));  // -2.2 against -3.5, -4, -4
  EXPECT_EQ(t->Encode("axyb"), Ids({1, 0, 2}));        // unknowns are fused
  EXPECT_EQ(t->unk_id(), 0);
}

TEST(JsonUnigram, ByteFallbackAndMetaspace) {
  const auto t = FromJson(
      File(R"({"type":"Unigram","unk_id":0,"byte_fallback":true,"vocab":[["<unk>",0.0],
              ["<0xC3>",0.0],["<0xA9>",0.0],["▁a",-1.0],["b",-1.0]]})",
           R"("pre_tokenizer":{"type":"Metaspace"},"decoder":{"type":"Sequence","decoders":[
                {"type":"ByteFallback"},{"type":"Metaspace"}]})"));
  EXPECT_EQ(t->Encode("abé ab"), Ids({3, 4, 1, 2, 3, 4}));
  EXPECT_EQ(t->Encode("aä"), Ids({3, 0}));
  EXPECT_EQ(t->Encode("b<0xC3>"), Ids({0, 4, 0}));  // that text is not the byte
  EXPECT_EQ(Decode(t, Ids({3, 4, 1, 2, 3})), "abé a");
}

TEST(JsonWordPiece, LongestMatchFirst) {
  const auto t =
      FromJson(File(R"({"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",
              "max_input_chars_per_word":10,"vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"un":3,"##aff":4,
              "##able":5,"##a":6,"!":7,"una":8}})",
                    R"("added_tokens":[{"id":1,"content":"[CLS]","special":true},
                              {"id":2,"content":"[SEP]","special":true}],
              "normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"},
              "post_processor":{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]},
              "decoder":{"type":"WordPiece"})"));
  // The longest beginning is "una", after which "ffable" cannot be covered: no way back.
  EXPECT_EQ(t->Encode("unaffable"), Ids({0}));
  EXPECT_EQ(t->Encode("Una!"), Ids({8, 7}));
  EXPECT_EQ(t->Encode("unable"), Ids({0}));
  EXPECT_EQ(t->Encode("unx un"), Ids({0, 3}));
  EXPECT_EQ(t->Encode("unaaaaaaaaa"), Ids({0}));  // eleven characters
  EXPECT_EQ(t->Encode("unaaaaaaaa"), Ids({8, 6, 6, 6, 6, 6, 6, 6}));
  EXPECT_EQ(t->Encode("un", {.add_special = true}), Ids({1, 3, 2}));
  EXPECT_EQ(Decode(t, Ids({1, 8, 6, 7, 3, 2})), "unaa! un");  // " !" is cleaned up
}

TEST(JsonPostProcessors, RobertaPutsClsAndSep) {
  const auto t = FromJson(File(kBpe, R"("post_processor":{"type":"RobertaProcessing",
      "sep":["c",2],"cls":["b",1],"trim_offsets":true,"add_prefix_space":true})"));
  EXPECT_EQ(t->Encode("a", {.add_special = true}), Ids({1, 0, 2}));
}

std::string WithAdded(const std::string& flags, const std::string& rest = "") {
  return File(R"({"type":"BPE","vocab":{"a":0,"b":1," ":2,"A":3},"merges":[]})",
              R"("added_tokens":[{"id":4,"content":"<X>",)" + flags + "}]" + rest);
}

TEST(JsonAddedTokens, StripFlags) {
  const auto left = FromJson(WithAdded(R"("special":false,"normalized":false,"lstrip":true)"));
  EXPECT_EQ(left->Encode("a  <X> b"), Ids({0, 4, 2, 1}));
  const auto right = FromJson(WithAdded(R"("special":false,"normalized":false,"rstrip":true)"));
  EXPECT_EQ(right->Encode("a <X>  b"), Ids({0, 2, 4, 1}));
  EXPECT_EQ(right->Encode("<X> <X>"), Ids({4, 4}));
}

TEST(JsonAddedTokens, SingleWord) {
  const auto t = FromJson(WithAdded(R"("special":false,"normalized":false,"single_word":true)"));
  EXPECT_EQ(t->Encode("a <X> b"), Ids({0, 2, 4, 2, 1}));
  EXPECT_EQ(t->Encode("a<X>b"), Ids({0, 1}));  // its characters are unknown
  EXPECT_EQ(t->Encode("<X>"), Ids({4}));
}

TEST(JsonAddedTokens, NormalizedOnesAreFoundInNormalizedText) {
  const std::string lower = R"(,"normalizer":{"type":"Lowercase"})";
  const auto normalized = FromJson(WithAdded(R"("special":false,"normalized":true)", lower));
  EXPECT_EQ(normalized->Encode("A<x>B"), Ids({0, 4, 1}));
  const auto verbatim = FromJson(WithAdded(R"("special":false,"normalized":false)", lower));
  EXPECT_EQ(verbatim->Encode("A<x>B"), Ids({0, 1}));
  EXPECT_EQ(verbatim->Encode("A<X>B"), Ids({0, 4, 1}));
}

TEST(JsonAddedTokens, SpecialOnesNeedParseSpecial) {
  const auto t = FromJson(WithAdded(R"("special":true,"normalized":false)"));
  EXPECT_EQ(t->Encode("a<X>"), Ids({0}));
  EXPECT_EQ(t->Encode("a<X>", {.parse_special = true}), Ids({0, 4}));
  EXPECT_TRUE(t->IsControl(4));
}

TEST(JsonAddedTokens, LeftmostThenLongest) {
  const auto t = FromJson(File(kBpe, R"("added_tokens":[
      {"id":6,"content":"xy","normalized":false},{"id":7,"content":"xyz","normalized":false},
      {"id":8,"content":"yzab","normalized":false}])"));
  EXPECT_EQ(t->Encode("xyzab"), Ids({7, 3}));
}

TEST(JsonAddedTokens, AlsoFromTheConfig) {
  const auto t = FromJson(File(kBpe), R"({"added_tokens_decoder":{
      "6":{"content":"<|im_end|>","special":true,"normalized":false}},"eos_token":"<|im_end|>"})");
  EXPECT_EQ(t->eos_id(), 6);
  EXPECT_EQ(t->Encode("a<|im_end|>", {.parse_special = true}), Ids({0, 6}));
}

TEST(JsonFile, GapsBetweenIdsAreUnusedTokens) {
  const auto t = FromJson(File(R"({"type":"BPE","vocab":{"a":0,"b":3},"merges":[]})"));
  EXPECT_EQ(t->vocab_size(), 4);
  EXPECT_EQ(t->token_type(1), TokenType::kUnused);
  EXPECT_EQ(t->Encode("ab"), Ids({0, 3}));
}

TEST(JsonFile, WithoutDecoderTokensAreJoinedBySpaces) {
  const auto t = FromJson(File(kBpe));
  EXPECT_EQ(Decode(t, Ids({0, 3, 5})), "a ab bc");
}

TEST(JsonFile, GenerationConfigAddsEndTokens) {
  const std::string json = File(kBpe);
  const auto t = TokenizerFromJson({.tokenizer_json = json,
                                    .generation_config = R"({"eos_token_id":[2,4,99]})",
                                    .chat_template = "hello"});
  ASSERT_TRUE(t.ok());
  EXPECT_TRUE((*t)->IsEndOfGeneration(2));
  EXPECT_TRUE((*t)->IsEndOfGeneration(4));
  EXPECT_FALSE((*t)->IsEndOfGeneration(0));
  EXPECT_EQ((*t)->chat_template(), "hello");
}

TEST(JsonFile, ErrorsNameThePlace) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "tokenizer.json is not valid JSON"},
      {"[1", "not valid JSON"},
      {"[]", "expected an object"},
      {"{}", "\"model\""},
      {File(R"({"type":"WordLevel","vocab":{}})"), "WordLevel"},
      {File(R"({"type":"BPE","vocab":[],"merges":[]})"), "expected an object"},
      {File(R"({"type":"BPE","vocab":{"a":0},"merges":["a b"]})"), "needs the token \"b\""},
      {File(R"({"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"]})"), "needs the token \"ab\""},
      {File(R"({"type":"BPE","vocab":{"a":0},"merges":["a"]})"), "two tokens"},
      {File(R"({"type":"BPE","vocab":{"a":0},"merges":[1]})"), "pair of strings"},
      {File(R"({"type":"BPE","vocab":{"a":0,"b":0},"merges":[]})"), "belongs to"},
      {File(R"({"type":"BPE","vocab":{"a":-1},"merges":[]})"), "has the id -1"},
      {File(R"({"type":"BPE","vocab":{"a":9000000},"merges":[]})"), "has the id 9000000"},
      {File(R"({"type":"BPE","vocab":{"a":"x"},"merges":[]})"), "an integer"},
      {File(R"({"type":"BPE","vocab":{},"merges":[]})"), "no tokens"},
      {File(R"({"type":"BPE","dropout":0.1,"vocab":{"a":0},"merges":[]})"), "random"},
      {File(R"({"type":"Unigram","unk_id":5,"vocab":[["a",0.0]]})"), "unk_id is 5"},
      {File(R"({"type":"Unigram","unk_id":0,"vocab":[["a"]]})"), "a token and its score"},
      {File(R"({"type":"Unigram","unk_id":0,"vocab":[["a",0],["a",0]]})"), "twice"},
      {File(R"({"type":"WordPiece","unk_token":"[UNK]","vocab":{"a":0}})"), "unk_token"},
      {File(kBpe, R"("normalizer":{"type":"Nmt"})"), "normalizer: the normalizer \"Nmt\""},
      {File(kBpe, R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},
                     "behavior":"Isolated"})"),
       "regex"},
      {File(kBpe, R"("pre_tokenizer":{"type":"Split","pattern":{"String":"x"},
                     "behavior":"Sideways"})"),
       "Sideways"},
      {File(kBpe, R"("post_processor":{"type":"TemplateProcessing","single":[],
                     "special_tokens":{}})"),
       "0 times"},
      {File(kBpe, R"("post_processor":{"type":"RobertaProcessing","sep":["x",77],
                     "cls":["y",1]})"),
       "token 77"},
      {File(kBpe, R"("decoder":{"type":"Sequence","decoders":[{"type":"Fuse"},
                     {"type":"Strip","content":" ","start":0,"stop":1}]})"),
       "Strip"},
      {File(kBpe, R"("added_tokens":[{"id":0,"content":"zzz"}])"), "belongs to"},
      {File(kBpe, R"("added_tokens":[{"content":"zzz"}])"), "\"id\""},
  };
  for (const auto& [json, message] : cases) {
    const auto t = TokenizerFromJson({.tokenizer_json = json});
    ASSERT_FALSE(t.ok()) << json;
    EXPECT_NE(t.status().message().find(message), std::string::npos) << json << "\n"
                                                                     << t.status().message();
  }
}

TEST(JsonFile, Folder) {
  const std::string folder = testing::TempDir() + "/ink_tokenizer_folder";
  std::filesystem::remove_all(folder);
  EXPECT_EQ(SpecFromFolder(folder).status().code(), StatusCode::kNotFound);
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/tokenizer.json") << File(kBpe);
  auto t = TokenizerFromFolder(folder);
  ASSERT_TRUE(t.ok()) << t.status().message();
  EXPECT_EQ(Pieces(**t, "abab"), Strings({"ab", "ab"}));
  std::ofstream(folder + "/tokenizer_config.json") << "{";
  t = TokenizerFromFolder(folder);
  ASSERT_FALSE(t.ok());
  EXPECT_NE(t.status().message().find("tokenizer_config.json"), std::string::npos);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace ink
