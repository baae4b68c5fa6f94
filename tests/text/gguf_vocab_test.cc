#include "text/gguf_vocab.h"

#include <gtest/gtest.h>

#include <limits>

#include "text/detokenizer.h"
#include "text/pre_tokenizer_table.h"
#include "text/tokenizer_test_util.h"

namespace ink {
namespace {

using testing_support::Pieces;
using testing_support::Strings;
using Ids = std::vector<int32_t>;

void Set(Metadata* m, const std::string& model, const Strings& tokens) {
  m->SetString("tokenizer.ggml.model", model);
  m->SetStrings("tokenizer.ggml.tokens", std::span<const std::string>(tokens));
}

// Six ordinary tokens, merges, two control tokens, a user-defined one.
Metadata Gpt2() {
  Metadata m("test.gguf");
  Set(&m, "gpt2", {"a", "b", "Ġ", "ab", "Ġab", "<|im_end|>", "<bos>", "<tool>"});
  m.SetString("tokenizer.ggml.pre", "gpt-2");
  m.SetStrings("tokenizer.ggml.merges", std::span<const std::string>(Strings{"a b", "Ġ ab"}));
  m.SetI32s("tokenizer.ggml.token_type", Ids({1, 1, 1, 1, 1, 1, 3, 4}));
  m.SetU32("tokenizer.ggml.bos_token_id", 6);
  m.SetU32("tokenizer.ggml.eos_token_id", 5);
  return m;
}

Metadata Llama(bool bytes = true) {
  Metadata m("test.gguf");
  Strings tokens = {"<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "▁ab"};
  std::vector<float> scores = {0, 0, 0, -9, -9, -9, -1, -2, -3};
  Ids types = {2, 3, 3, 1, 1, 1, 1, 1, 1};
  for (int b = 0; bytes && b < 256; ++b) {
    tokens.push_back(ByteTokenText(static_cast<uint8_t>(b)));
    scores.push_back(0);
    types.push_back(6);
  }
  Set(&m, "llama", tokens);
  m.SetF32s("tokenizer.ggml.scores", scores);
  m.SetI32s("tokenizer.ggml.token_type", types);
  return m;
}

std::shared_ptr<const Tokenizer> Load(const Metadata& m) {
  auto t = TokenizerFromGguf(m);
  EXPECT_TRUE(t.ok()) << t.status().message();
  return t.ok() ? *t : nullptr;
}

TEST(GgufVocab, ByteLevelBpe) {
  const auto t = Load(Gpt2());
  EXPECT_EQ(Pieces(*t, "ab ab"), Strings({"ab", "Ġab"}));
  EXPECT_EQ(t->Encode("a", {.add_special = true}), Ids({0}));  // no add_bos_token, gpt-2 adds none
  EXPECT_EQ(t->bos_id(), 6);
  // A token with a well-known text is a control token, whatever its type says.
  EXPECT_TRUE(t->IsControl(5));
  EXPECT_TRUE(t->IsEndOfGeneration(5));
  EXPECT_EQ(t->eot_id(), 5);
  EXPECT_EQ(t->Encode("a<|im_end|>", {.parse_special = true}), Ids({0, 5}));
  // A user-defined token is always one.
  EXPECT_EQ(t->Encode("a<tool>b"), Ids({0, 7, 1}));
  EXPECT_EQ(Decode(t, Ids({6, 3, 7, 4, 5})), "ab<tool> ab");
}

TEST(GgufVocab, FlagsDecideAboutBosAndEos) {
  Metadata m = Gpt2();
  m.SetBool("tokenizer.ggml.add_bos_token", true);
  m.SetBool("tokenizer.ggml.add_eos_token", true);
  const auto t = Load(m);
  EXPECT_EQ(t->Encode("a", {.add_special = true}), Ids({6, 0, 5}));
  EXPECT_TRUE(t->add_bos());
  EXPECT_TRUE(t->add_eos());
  m.SetString("tokenizer.ggml.pre", "llama-bpe");
  m.Erase("tokenizer.ggml.add_bos_token");
  m.SetBool("tokenizer.ggml.add_eos_token", false);
  EXPECT_EQ(Load(m)->Encode("a", {.add_special = true}), Ids({6, 0}));
  m.SetBool("tokenizer.ggml.add_bos_token", false);
  EXPECT_EQ(Load(m)->Encode("a", {.add_special = true}), Ids({0}));
}

TEST(GgufVocab, SentencePiece) {
  const auto t = Load(Llama());
  EXPECT_EQ(Pieces(*t, "ab"), Strings({"▁ab"}));
  EXPECT_EQ(Pieces(*t, "aab"), Strings({"▁a", "ab"}));
  EXPECT_EQ(Pieces(*t, "é"), Strings({"▁", "<0xC3>", "<0xA9>"}));
  EXPECT_EQ(Pieces(*t, "a\xFF"), Strings({"▁a", "<0xFF>"}));
  EXPECT_EQ(t->Encode("a", {.add_special = true}), Ids({1, 6}));
  EXPECT_EQ(Decode(t, t->Encode("a b\né")), "a b\né");
  Metadata m = Llama();
  m.SetBool("tokenizer.ggml.add_space_prefix", false);
  EXPECT_EQ(Pieces(*Load(m), "ab"), Strings({"ab"}));
  EXPECT_EQ(Load(Llama(false))->Encode("é"), Ids({3, 0, 0}));  // no bytes: unknown
}

TEST(GgufVocab, LongestUserDefinedTokenFirst) {
  Metadata m = Llama(false);
  Strings tokens = {"<unk>", "<s>", "</s>", "▁", "a", "ab", "bcd", "c", "d", "b"};
  Set(&m, "llama", tokens);
  m.SetF32s("tokenizer.ggml.scores", std::vector<float>(10, 0));
  m.SetI32s("tokenizer.ggml.token_type", Ids({2, 3, 3, 1, 1, 4, 4, 1, 1, 1}));
  m.SetBool("tokenizer.ggml.add_space_prefix", false);
  EXPECT_EQ(Load(m)->Encode("abcd"), Ids({4, 6}));
}

TEST(GgufVocab, PhiSwallowsSpaceBehindItsTokens) {
  Metadata m = Llama();
  m.SetString("general.name", "Phi-3 mini");
  const auto t = Load(m);
  EXPECT_EQ(t->Encode("a</s> a", {.parse_special = true}), Ids({6, 2, 6}));
  EXPECT_EQ(t->Encode("a<s> a", {.parse_special = true}), Ids({6, 1, 3, 6}));
}

TEST(GgufVocab, WordPiece) {
  Metadata m("test.gguf");
  Set(&m, "bert", {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁un", "able", "▁!", "▁a"});
  m.SetU32("tokenizer.ggml.bos_token_id", 2);
  m.SetU32("tokenizer.ggml.unknown_token_id", 1);
  m.SetU32("tokenizer.ggml.seperator_token_id", 3);
  const auto t = Load(m);
  EXPECT_EQ(t->Encode("Unable! Ünable x"), Ids({4, 5, 6, 4, 5, 1}));
  EXPECT_EQ(t->Encode("a", {.add_special = true}), Ids({2, 7, 3}));
  EXPECT_EQ(Decode(t, Ids({4, 5, 7})), "unable a");
}

TEST(GgufVocab, Unigram) {
  Metadata m("test.gguf");
  Set(&m, "t5", {"<pad>", "</s>", "<unk>", "▁a", "b", "▁", "ab", "<x>"});
  m.SetF32s("tokenizer.ggml.scores", std::vector<float>({0, 0, 0, -1, -1, -2, -1.5, 0}));
  m.SetI32s("tokenizer.ggml.token_type", Ids({3, 3, 2, 1, 1, 1, 1, 4}));
  m.SetBool("tokenizer.ggml.add_space_prefix", true);
  m.SetBool("tokenizer.ggml.remove_extra_whitespaces", true);
  const auto t = Load(m);
  EXPECT_EQ(Pieces(*t, "  ab   a "), Strings({"▁a", "b", "▁a"}));
  EXPECT_EQ(t->Encode("a", {.add_special = true}), Ids({3, 1}));
  EXPECT_EQ(t->Encode("axy"), Ids({3, 2}));
  EXPECT_EQ(t->Encode("a<x>"), Ids({3, 7}));
  EXPECT_EQ(t->Encode("   "), Ids());
  m.SetBool("tokenizer.ggml.remove_extra_whitespaces", false);
  EXPECT_EQ(Pieces(*Load(m), "a  a"), Strings({"▁a", "▁", "▁a"}));
}

TEST(GgufVocab, CharacterBpeWithByteFallback) {
  Metadata m("test.gguf");
  Set(&m, "gemma4", {"<bos>", "a", "▁", "▁a", "\n", "\n\n", "<0xC3>", "<0xA9>", "\n\n\n"});
  m.SetStrings("tokenizer.ggml.merges", std::span<const std::string>(Strings{"▁ a"}));
  m.SetU32("tokenizer.ggml.bos_token_id", 0);
  const auto t = Load(m);
  EXPECT_EQ(t->Encode("a a\n\né", {.add_special = true}), Ids({0, 1, 3, 5, 6, 7}));
  EXPECT_EQ(Decode(t, Ids({1, 3, 5, 6, 7})), "a a\n\né");
}

TEST(GgufVocab, OddButUsableIsAWarning) {
  Metadata m = Gpt2();
  m.Erase("tokenizer.ggml.pre");
  m.SetU32("tokenizer.ggml.padding_token_id", 0xFFFFFFFFu);
  std::vector<std::string> warnings;
  const auto t = TokenizerFromGguf(m, &warnings);
  ASSERT_TRUE(t.ok());
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_NE(warnings[0].find("tokenizer.ggml.pre"), std::string::npos);
  EXPECT_NE(warnings[1].find("padding_token_id"), std::string::npos);
  EXPECT_EQ((*t)->pad_id(), kNoToken);
}

TEST(GgufVocab, ErrorsNameTheKey) {
  const auto expect = [](const Metadata& m, const std::string& message) {
    const auto t = TokenizerFromGguf(m);
    ASSERT_FALSE(t.ok()) << message;
    EXPECT_NE(t.status().message().find(message), std::string::npos) << t.status().message();
  };
  expect(Metadata("test.gguf"), "tokenizer.ggml.model");
  Metadata m = Gpt2();
  m.SetString("tokenizer.ggml.model", "rwkv");
  expect(m, "\"rwkv\"");
  m = Gpt2();
  m.SetString("tokenizer.ggml.pre", "no-such-rule");
  expect(m, "\"no-such-rule\"");
  m = Gpt2();
  m.SetStrings("tokenizer.ggml.merges", std::span<const std::string>(Strings{"a zz"}));
  expect(m, "needs the token \"zz\"");
  m.SetStrings("tokenizer.ggml.merges", std::span<const std::string>(Strings{"b a"}));
  expect(m, "needs the token \"ba\"");
  m.SetStrings("tokenizer.ggml.merges", std::span<const std::string>(Strings{"ab"}));
  expect(m, "two tokens");
  m.Erase("tokenizer.ggml.merges");
  expect(m, "tokenizer.ggml.merges");
  m = Gpt2();
  m.SetI32s("tokenizer.ggml.token_type", Ids({1, 1}));
  expect(m, "tokenizer.ggml.token_type");
  m = Llama();
  m.SetF32s("tokenizer.ggml.scores", std::vector<float>({1}));
  expect(m, "tokenizer.ggml.scores");
  m.SetF32s("tokenizer.ggml.scores",
            std::vector<float>(265, std::numeric_limits<float>::quiet_NaN()));
  expect(m, "finite");
  m = Gpt2();
  Set(&m, "gpt2", {"a", "b", "Ġ", "ab", "Ġab", "a"});
  m.Erase("tokenizer.ggml.token_type");
  expect(m, "same text \"a\"");
  m = Gpt2();
  Set(&m, "gpt2", {});
  m.Erase("tokenizer.ggml.token_type");
  m.SetStrings("tokenizer.ggml.merges", std::span<const std::string>());
  expect(m, "no tokens");
  m = Gpt2();
  Set(&m, "gpt2", {std::string(70000, 'a')});
  m.Erase("tokenizer.ggml.token_type");
  m.SetStrings("tokenizer.ggml.merges", std::span<const std::string>());
  expect(m, "70000 bytes");
  m = Gpt2();
  m.SetString("tokenizer.ggml.bos_token_id", "x");
  expect(m, "bos_token_id");
  m = Gpt2();
  m.SetString("inkstone.tokenizer", "{");
  expect(m, "inkstone.tokenizer");
}

TEST(GgufVocab, EveryPreTokenizerNameLoads) {
  for (const std::string_view name : PreTokenizerNames()) {
    Metadata m = Gpt2();
    m.SetString("tokenizer.ggml.pre", name);
    const auto t = TokenizerFromGguf(m);
    ASSERT_TRUE(t.ok()) << name << ": " << t.status().message();
    EXPECT_EQ((*t)->Encode("ab").size(), 1u) << name;
  }
}

}  // namespace
}  // namespace ink
