// Each component of tokenizer.json alone. Expected values follow from the definitions in
// https://github.com/huggingface/tokenizers (many are examples of its own documentation).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "text/charsmap.h"
#include "text/json_reader.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer_json_parts.h"
#include "text/tokenizer_test_util.h"

namespace ink {
namespace {

using testing_support::Strings;

Result<std::string> Normalize(const std::string& json, const std::string& text) {
  const nlohmann::json document = nlohmann::json::parse(json);
  std::vector<NormalizerStep> steps;
  INK_RETURN_IF_ERROR(tokenizer_json::ReadNormalizer(JsonNode(document, "normalizer"), &steps));
  INK_ASSIGN_OR_RETURN(const Normalizer normalizer, Normalizer::Build(steps));
  return normalizer.Apply(text);
}

std::string N(const std::string& json, const std::string& text) {
  const Result<std::string> result = Normalize(json, text);
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? *result : "";
}

Strings P(const std::string& json, const std::string& text, bool at_start = true) {
  const nlohmann::json document = nlohmann::json::parse(json);
  std::vector<PreTokenizerStep> steps;
  const Status read = tokenizer_json::ReadPreTokenizer(JsonNode(document, "pre_tokenizer"), &steps);
  EXPECT_TRUE(read.ok()) << read.message();
  const Result<PreTokenizer> pre = PreTokenizer::Build(steps);
  EXPECT_TRUE(pre.ok()) << pre.status().message();
  const PreTokenized pieces = pre->Apply(text, at_start ? TextBegin::kInput : TextBegin::kToken);
  Strings words;
  for (const Span& span : pieces.words) {
    const std::string word = pieces.text.substr(span.begin, span.end - span.begin);
    words.push_back(pieces.byte_level ? BytesToPrintable(word) : word);
  }
  return words;
}

TEST(Normalizers, UnicodeForms) {
  EXPECT_EQ(N(R"({"type":"NFC"})", "e\xCC\x81"), "é");
  EXPECT_EQ(N(R"({"type":"NFD"})", "é"), "e\xCC\x81");
  EXPECT_EQ(N(R"({"type":"NFKC"})", "ﬁ２"), "fi2");
  EXPECT_EQ(N(R"({"type":"NFKD"})", "é²"),
            "e\xCC\x81"
            "2");
  EXPECT_EQ(N(R"({"type":"Lowercase"})", "HÉLLO"), "héllo");
}

TEST(Normalizers, StripAccentsRemovesMarks) {
  EXPECT_EQ(N(R"({"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"StripAccents"}]})",
              "Héllò hôw"),
            "Hello how");
  EXPECT_EQ(N(R"({"type":"StripAccents"})", "é"), "é");  // composed: no mark to see
}

TEST(Normalizers, ReplacePrependStrip) {
  EXPECT_EQ(N(R"({"type":"Replace","pattern":{"String":" "},"content":"▁"})", " a  b"), "▁a▁▁b");
  EXPECT_EQ(N(R"({"type":"Replace","pattern":{"String":""},"content":"x"})", "ab"), "ab");
  EXPECT_EQ(N(R"({"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "})", "a   b c"),
            "a b c");
  EXPECT_EQ(N(R"({"type":"Prepend","prepend":"▁"})", "a"), "▁a");
  EXPECT_EQ(N(R"({"type":"Prepend","prepend":"▁"})", ""), "");
  EXPECT_EQ(N(R"({"type":"Strip","strip_left":true,"strip_right":true})", " \xE3\x80\x80 a b\n\t"),
            "a b");
  EXPECT_EQ(N(R"({"type":"Strip","strip_left":true,"strip_right":false})", "  a "), "a ");
  EXPECT_EQ(N(R"({"type":"Strip","strip_left":false,"strip_right":true})", "   "), "");
}

TEST(Normalizers, Bert) {
  const std::string plain = R"({"type":"BertNormalizer","clean_text":true,
      "handle_chinese_chars":true,"strip_accents":null,"lowercase":true})";
  EXPECT_EQ(N(plain, "Héllo\tWÖRLD"), "hello world");
  EXPECT_EQ(N(plain,
              "a\x01\xEF\xBF\xBD"
              "b\xC2\x85"
              "c\xE2\x80\x8B"),
            "abc");  // control characters and U+FFFD go; U+0085 is one of them
  EXPECT_EQ(N(plain, "a中国b"), "a 中  国 b");
  EXPECT_EQ(N(plain, "हिन्दी"), N(R"({"type":"NFD"})", "हिनदी"));  // only the Mn marks go, Mc stay
  const std::string cased = R"({"type":"BertNormalizer","clean_text":true,
      "handle_chinese_chars":false,"strip_accents":null,"lowercase":false})";
  EXPECT_EQ(N(cased, "Héllo中"), "Héllo中");
  const std::string accents = R"({"type":"BertNormalizer","strip_accents":true,"lowercase":false})";
  EXPECT_EQ(N(accents, "Héllo"), "Hello");
}

// A charsmap made by hand: "A" -> "xy", "AB" -> "z" (a darts-clone double array).
std::string TinyCharsmap() {
  // Node n has units_[n]; a child by c is at base(n) ^ c. Root base 0: 'A' at 0x41 with base
  // offset 0x100 -> leaf at 0x41 ^ 0x100, 'B' at 0x41 ^ 0x100 ^ 0x42, and so on.
  std::vector<uint32_t> units(0x400, 0);
  const auto unit = [](uint32_t offset, uint8_t label, bool leaf) {
    return offset << 10 | (leaf ? 1u << 8 : 0u) | label;
  };
  units[0] = unit(0, 0, false);
  units[0x41] = unit(0x100, 'A', true);
  units[0x141] = 1u << 31 | 0;                   // value of "A"
  units[0x141 ^ 0x42] = unit(0x200, 'B', true);  // "AB"
  units[0x141 ^ 0x42 ^ 0x200] = 1u << 31 | 3;    // value of "AB"
  const uint32_t bytes = static_cast<uint32_t>(units.size() * 4);
  std::string blob(4 + bytes, '\0');
  std::memcpy(blob.data(), &bytes, 4);
  std::memcpy(blob.data() + 4, units.data(), bytes);
  return blob + std::string("xy\0z\0", 5);
}

TEST(Normalizers, Charsmap) {
  const Result<Charsmap> map = Charsmap::Parse(TinyCharsmap());
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(map->Longest("ABC")->length, 2u);
  EXPECT_EQ(map->Longest("ABC")->replacement, "z");
  EXPECT_EQ(map->Shortest("ABC")->replacement, "xy");
  EXPECT_FALSE(map->Longest("BA").has_value());
  EXPECT_FALSE(map->Longest("").has_value());
  const std::string base64 = tokenizer_json::EncodeBase64(TinyCharsmap());
  EXPECT_EQ(*tokenizer_json::DecodeBase64(base64), TinyCharsmap());
  EXPECT_EQ(N(R"({"type":"Precompiled","precompiled_charsmap":")" + base64 + R"("})", "cAAB"),
            "cxyxyB");  // character by character: "AB" is two clusters
}

TEST(Normalizers, BrokenCharsmapsAreErrors) {
  Rng rng(5);
  EXPECT_FALSE(Charsmap::Parse("abc").ok());
  EXPECT_FALSE(Charsmap::Parse(std::string("\xFF\xFF\0\0abc", 7)).ok());
  const std::string good = TinyCharsmap();
  for (int i = 0; i < 300; ++i) {
    std::string bad = good;
    for (int j = 0; j < 20; ++j) bad[rng.Below(bad.size())] = static_cast<char>(rng.Below(256));
    const Result<Charsmap> map = Charsmap::Parse(bad);
    if (!map.ok()) continue;
    map->Longest(testing_support::RandomBytes(rng, 20));  // whatever it finds, within bounds
    map->Longest("ABAB");
  }
}

TEST(PreTokenizers, ByteLevel) {
  EXPECT_EQ(P(R"({"type":"ByteLevel","add_prefix_space":false})", "Hello my friend, how"),
            Strings({"Hello", "Ġmy", "Ġfriend", ",", "Ġhow"}));
  EXPECT_EQ(P(R"({"type":"ByteLevel"})", "Hello"), Strings({"ĠHello"}));
  EXPECT_EQ(P(R"({"type":"ByteLevel","add_prefix_space":true})", " Hello"), Strings({"ĠHello"}));
  EXPECT_EQ(P(R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})", "a b\n"),
            Strings({"aĠbĊ"}));
  EXPECT_EQ(P(R"({"type":"ByteLevel","add_prefix_space":false})", "é"), Strings({"Ã©"}));
}

TEST(PreTokenizers, SplitBehaviors) {
  const auto split = [](const std::string& behavior, bool invert = false) {
    return R"({"type":"Split","pattern":{"String":"-"},"behavior":")" + behavior +
           R"(","invert":)" + (invert ? "true" : "false") + "}";
  };
  const std::string text = "the-final--countdown";
  EXPECT_EQ(P(split("Removed"), text), Strings({"the", "final", "countdown"}));
  EXPECT_EQ(P(split("Isolated"), text), Strings({"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(P(split("MergedWithPrevious"), text), Strings({"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(P(split("MergedWithNext"), text), Strings({"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(P(split("Contiguous"), text), Strings({"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(P(split("Removed", true), text), Strings({"-", "-", "-"}));
  EXPECT_EQ(P(R"({"type":"Split","pattern":{"Regex":"\\w+|[^\\w\\s]+"},"behavior":"Removed",
                  "invert":true})",
              "Hey friend!  How"),
            Strings({"Hey", "friend", "!", "How"}));
}

TEST(PreTokenizers, Metaspace) {
  EXPECT_EQ(P(R"({"type":"Metaspace"})", "Hey friend!"), Strings({"▁Hey", "▁friend!"}));
  EXPECT_EQ(P(R"({"type":"Metaspace"})", " Hey   friend"), Strings({"▁Hey", "▁", "▁", "▁friend"}));
  EXPECT_EQ(P(R"({"type":"Metaspace","prepend_scheme":"never"})", "Hey you"),
            Strings({"Hey", "▁you"}));
  EXPECT_EQ(P(R"({"type":"Metaspace","add_prefix_space":false})", "Hey"), Strings({"Hey"}));
  EXPECT_EQ(P(R"({"type":"Metaspace","prepend_scheme":"first"})", "Hey", true), Strings({"▁Hey"}));
  EXPECT_EQ(P(R"({"type":"Metaspace","prepend_scheme":"first"})", "Hey", false), Strings({"Hey"}));
  EXPECT_EQ(P(R"({"type":"Metaspace","split":false})", "Hey you"), Strings({"▁Hey▁you"}));
}

TEST(PreTokenizers, CharacterClasses) {
  EXPECT_EQ(P(R"({"type":"Digits","individual_digits":true})", "a12½b"),
            Strings({"a", "1", "2", "½", "b"}));
  EXPECT_EQ(P(R"({"type":"Digits","individual_digits":false})", "a12 3b"),
            Strings({"a", "12", " ", "3", "b"}));
  EXPECT_EQ(P(R"({"type":"Whitespace"})", "Hey man! e\xCC\x81--"),
            Strings({"Hey", "man", "!", "e\xCC\x81", "--"}));
  EXPECT_EQ(P(R"({"type":"WhitespaceSplit"})", " Hey man,\xE3\x80\x80 you "),
            Strings({"Hey", "man,", "you"}));
  EXPECT_EQ(P(R"({"type":"Punctuation"})", "Hey man!?$"), Strings({"Hey man", "!", "?", "$"}));
  EXPECT_EQ(P(R"({"type":"Punctuation","behavior":"Contiguous"})", "a!?b"),
            Strings({"a", "!?", "b"}));
  EXPECT_EQ(P(R"({"type":"BertPreTokenizer"})", "Hey friend!  How are you?!?"),
            Strings({"Hey", "friend", "!", "How", "are", "you", "?", "!", "?"}));
}

TEST(PreTokenizers, SequenceAndDigitGroups) {
  EXPECT_EQ(P(R"({"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},
                  {"type":"Punctuation"}]})",
              "Hey friend! 你好"),
            Strings({"Hey", "friend", "!", "你好"}));
  // The steps before see the printable form of bytes.
  EXPECT_EQ(P(R"({"type":"Sequence","pretokenizers":[
                  {"type":"ByteLevel","add_prefix_space":false,"use_regex":false},
                  {"type":"Split","pattern":{"String":"Ġ"},"behavior":"Isolated"}]})",
              "a b"),
            Strings({"a", "Ġ", "b"}));
  const std::string groups =
      R"re({"type":"Split","pattern":{"Regex":"\\d{1,3}(?=(?:\\d{3})*\\b)"},
            "behavior":"Isolated","invert":false})re";
  EXPECT_EQ(P(groups, "1234567 x12"), Strings({"1", "234", "567", " x", "12"}));
  EXPECT_EQ(P(groups, "1234a 56"), Strings({"1234a ", "56"}));  // no word end behind the digits
}

TEST(Components, UnknownOnesAreNamed) {
  for (const auto& [json, name] : std::vector<std::pair<std::string, std::string>>{
           {R"({"type":"Nmt"})", "Nmt"},
           {R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"ByteLevel"}]})",
            "ByteLevel"}}) {
    const Result<std::string> result = Normalize(json, "");
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.status().code(), StatusCode::kUnsupported);
    EXPECT_NE(result.status().message().find(name), std::string::npos);
  }
  const auto expect_unsupported = [](auto read, const std::string& json, const std::string& name) {
    const nlohmann::json document = nlohmann::json::parse(json);
    const Status status = read(JsonNode(document, "x"));
    EXPECT_EQ(status.code(), StatusCode::kUnsupported);
    EXPECT_NE(status.message().find(name), std::string::npos) << status.message();
  };
  std::vector<PreTokenizerStep> pre;
  std::vector<DecoderStep> decoder;
  std::vector<int32_t> prefix, suffix;
  expect_unsupported([&](const JsonNode& n) { return tokenizer_json::ReadPreTokenizer(n, &pre); },
                     R"({"type":"UnicodeScripts"})", "UnicodeScripts");
  expect_unsupported([&](const JsonNode& n) { return tokenizer_json::ReadDecoder(n, &decoder); },
                     R"({"type":"CTC"})", "CTC");
  expect_unsupported(
      [&](const JsonNode& n) { return tokenizer_json::ReadPostProcessor(n, &prefix, &suffix); },
      R"({"type":"Custom"})", "Custom");
}

TEST(Components, DeepSequencesAreRefused) {
  std::string json = R"({"type":"NFC"})";
  for (int i = 0; i < 100; ++i) json = R"({"type":"Sequence","normalizers":[)" + json + "]}";
  EXPECT_FALSE(Normalize(json, "a").ok());
}

}  // namespace
}  // namespace ink
