#include "text/unicode.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "text/tokenizer_test_util.h"

namespace ink {
namespace {

TEST(Utf8, LengthFollowsTheStandardsTable) {
  EXPECT_EQ(Utf8Length(""), 0);
  EXPECT_EQ(Utf8Length("a"), 1);
  EXPECT_EQ(Utf8Length("\xC3\xA9"), 2);
  EXPECT_EQ(Utf8Length("\xE2\x82\xAC"), 3);
  EXPECT_EQ(Utf8Length("\xF0\x9F\x9A\x80"), 4);
  for (const char* bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xC3", "\xE2\x82", "\xC3(", "\xFF"}) {
    EXPECT_EQ(Utf8Length(bad), 0) << bad;
  }
}

TEST(Utf8, EncodingAndDecodingAreInverse) {
  for (char32_t c = 1; c < 0x110000; c += c < 0x3000 ? 1 : 97) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, &text);
    ASSERT_EQ(Utf8Length(text), static_cast<int>(text.size()));
    ASSERT_EQ(Utf8Decode(text.data(), Utf8Length(text)), c);
    for (size_t n = 1; n < text.size(); ++n) {
      EXPECT_EQ(IncompleteUtf8Suffix(text.substr(0, n)), static_cast<int>(n));
    }
    EXPECT_EQ(IncompleteUtf8Suffix(text), 0);
  }
}

// The examples of the Unicode standard, table 3-8 and 3-11.
TEST(Utf8, RepairReplacesMaximalParts) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(RepairUtf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(RepairUtf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(RepairUtf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(RepairUtf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
}

TEST(Utf8, EscapingInvalidBytesIsReversible) {
  Rng rng(1);
  for (int i = 0; i < 2000; ++i) {
    std::string text = testing_support::RandomBytes(rng, 12) + testing_support::RandomText(rng, 3);
    if (i % 3 == 0) AppendUtf8(static_cast<char32_t>(0x10FF00 + rng.Below(256)), &text);
    const std::string escaped = EscapeInvalidUtf8(text);
    ASSERT_TRUE(IsValidUtf8(escaped));
    ASSERT_EQ(UnescapeInvalidUtf8(escaped), text);
    ASSERT_TRUE(IsValidUtf8(RepairUtf8(text)));
    if (IsValidUtf8(text)) {
      ASSERT_EQ(RepairUtf8(text), text);
    }
  }
}

TEST(Unicode, PrintableBytesAreGpt2s) {
  EXPECT_EQ(BytesToPrintable(" \n\tA"), "ĠĊĉA");
  EXPECT_EQ(ByteToPrintable(0), 0x100u);
  EXPECT_EQ(ByteToPrintable(0xAD), 0x143u);
  EXPECT_EQ(PrintableToByte(0x144), -1);
  std::string all, back;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  ASSERT_TRUE(PrintableToBytes(BytesToPrintable(all), &back));
  EXPECT_EQ(back, all);
  EXPECT_FALSE(PrintableToBytes("a b", &back));
}

TEST(Unicode, NormalForms) {
  EXPECT_EQ(NormalizeUnicode("e\xCC\x81", NormalForm::kNfc), "é");
  EXPECT_EQ(NormalizeUnicode("é", NormalForm::kNfd), "e\xCC\x81");
  EXPECT_EQ(NormalizeUnicode("ﬁ①", NormalForm::kNfkc), "fi1");
  EXPECT_EQ(NormalizeUnicode("가", NormalForm::kNfd), "\xE1\x84\x80\xE1\x85\xA1");
  EXPECT_EQ(NormalizeUnicode(std::string_view("a\0b", 3), NormalForm::kNfkd),
            std::string("a\0b", 3));
  EXPECT_EQ(LowercaseUnicode("ÀΣİ"), "àσi\xCC\x87");
}

TEST(Unicode, ByteTokens) {
  EXPECT_EQ(ParseByteToken("<0x0A>"), 10);
  EXPECT_EQ(ParseByteToken("<0xfF>"), 255);
  EXPECT_EQ(ParseByteToken("<0xG0>"), -1);
  EXPECT_EQ(ParseByteToken("<0x0A"), -1);
  for (int b = 0; b < 256; ++b) {
    EXPECT_EQ(ParseByteToken(ByteTokenText(static_cast<uint8_t>(b))), b);
  }
}

}  // namespace
}  // namespace ink
