#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include "text/tokenizer_test_util.h"

namespace ink {
namespace {

using Ids = std::vector<int32_t>;

// All bytes as tokens, some pairs of bytes, and control tokens.
std::shared_ptr<const Tokenizer> ByteTokenizer(Rng& rng) {
  TokenizerSpec spec;
  spec.pre_tokenizer.push_back({.kind = PreTokenizerStep::Kind::kByteLevel});
  spec.decoder.push_back({.kind = DecoderStep::Kind::kByteLevel});
  for (int b = 0; b < 256; ++b) {
    spec.tokens.push_back({.text = BytesToPrintable(std::string(1, static_cast<char>(b)))});
  }
  spec.tokens.push_back({.text = "<s>", .type = TokenType::kControl});
  spec.added.push_back({.id = 256, .special = true});
  spec.added_decode_verbatim = true;
  for (const char* part : {"\xE2\x82", "\x82\xAC", "\xF0\x9F", "\x9A\x80",
                           "\xC3\xA9"
                           "a",
                           " \xE2", "\x80\x80\x80", "\xFF\xFE"}) {
    spec.tokens.push_back({.text = BytesToPrintable(part)});
  }
  return testing_support::Build(spec);
}

TEST(Detokenizer, NeverEmitsHalfACharacter) {
  Rng rng(21);
  const auto tokenizer = ByteTokenizer(rng);
  for (int i = 0; i < 3000; ++i) {
    Ids ids;
    if (i % 2 == 0) {
      ids = tokenizer->Encode(testing_support::RandomText(rng, 4));
    } else {
      for (uint64_t n = rng.Below(12); n > 0; --n) {
        ids.push_back(static_cast<int32_t>(rng.Below(tokenizer->vocab_size())));
      }
    }
    const bool skip = rng.Below(2) == 0;
    Detokenizer detokenizer(tokenizer, {.skip_special = skip});
    std::string all;
    for (const int32_t id : ids) {
      const std::string text = detokenizer.Add(id);
      ASSERT_TRUE(IsValidUtf8(text));
      ASSERT_LE(detokenizer.pending().size(), 3u);
      all += text;
    }
    all += detokenizer.Flush();
    ASSERT_TRUE(IsValidUtf8(all));
    ASSERT_EQ(all, Decode(tokenizer, ids, {.skip_special = skip}));
    // What was held back is out as soon as it can be: a whole character is never kept.
    const std::string bytes = DecodeBytes(*tokenizer, ids, {.skip_special = skip});
    if (IsValidUtf8(bytes)) {
      ASSERT_EQ(all, bytes);
    }
  }
}

TEST(Detokenizer, HoldsBackAndGoesOn) {
  Rng rng(22);
  const auto t = ByteTokenizer(rng);
  Detokenizer d(t);
  EXPECT_EQ(d.Add(0xE2), "");
  EXPECT_EQ(d.Add(0x82), "");
  EXPECT_EQ(d.Add(256), "");  // <s> is skipped and does not disturb
  EXPECT_EQ(d.Add(0xAC), "€");
  EXPECT_EQ(d.Add(0xF0), "");
  EXPECT_EQ(d.Add('a'),
            "\xEF\xBF\xBD"
            "a");
  EXPECT_EQ(d.Add(0xC3), "");
  EXPECT_EQ(d.Flush(), "\xEF\xBF\xBD");
  EXPECT_EQ(d.Flush(), "");
  EXPECT_EQ(d.Add('b'), "b");
}

TokenizerSpec SpaceSpec(DecoderStep::Kind kind) {
  TokenizerSpec spec;
  spec.model.kind = ModelKind::kSentencePieceBpe;
  for (const char* text : {"▁", "▁a", "b", "▁▁", "<s>"}) spec.tokens.push_back({.text = text});
  spec.tokens[4].type = TokenType::kControl;
  spec.added.push_back({.id = 4, .special = true});
  if (kind == DecoderStep::Kind::kMetaspace) {
    spec.decoder.push_back({.kind = kind, .content = "▁"});
  } else {
    spec.decoder.push_back({.kind = DecoderStep::Kind::kReplace, .pattern = "▁", .content = " "});
    spec.decoder.push_back({.kind = DecoderStep::Kind::kFuse});
    spec.decoder.push_back({.kind = DecoderStep::Kind::kStrip, .content = " ", .start = 1});
  }
  return spec;
}

TEST(Detokenizer, TheTokenizersOwnSpaceIsTakenOffOnce) {
  const auto one = testing_support::Build(SpaceSpec(DecoderStep::Kind::kStrip));
  EXPECT_EQ(Decode(one, Ids({1, 1})), "a a");
  EXPECT_EQ(Decode(one, Ids({0, 1})), " a");
  EXPECT_EQ(Decode(one, Ids({3, 2})), " b");
  EXPECT_EQ(Decode(one, Ids({4, 1})), "a");  // a skipped token is not the first
  EXPECT_EQ(Decode(one, Ids({1}), {.starts_text = false}), " a");
  const auto all = testing_support::Build(SpaceSpec(DecoderStep::Kind::kMetaspace));
  EXPECT_EQ(Decode(all, Ids({3, 2})), "b");
  EXPECT_EQ(Decode(all, Ids({1, 3, 2})), "a  b");
}

TEST(Detokenizer, EndOfWordMarkAtTheEndIsNoSpace) {
  TokenizerSpec spec;
  spec.model.end_of_word_suffix = "</w>";
  for (const char* text : {"a", "b</w>", "</w>"}) spec.tokens.push_back({.text = text});
  spec.decoder.push_back({.kind = DecoderStep::Kind::kBpe, .content = "</w>"});
  const auto t = testing_support::Build(spec);
  EXPECT_EQ(Decode(t, Ids({0, 1, 1})), "ab b");
  Detokenizer d(t);
  EXPECT_EQ(d.Add(1), "b");
  EXPECT_EQ(d.Add(0), " a");
  EXPECT_EQ(d.Add(1), "b");
  EXPECT_EQ(d.Flush(), "");
}

}  // namespace
}  // namespace ink
