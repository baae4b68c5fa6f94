// Shared by the tokenizer tests.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"

namespace ink::testing_support {

inline std::shared_ptr<const Tokenizer> FromJson(const std::string& json,
                                                 const std::string& config = "") {
  auto tokenizer = TokenizerFromJson({.tokenizer_json = json, .tokenizer_config = config});
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer.ok() ? *tokenizer : nullptr;
}

inline std::shared_ptr<const Tokenizer> Build(TokenizerSpec spec) {
  auto tokenizer = BuildTokenizer(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer.ok() ? *tokenizer : nullptr;
}

/// The vocabulary texts of the ids: easier to read than numbers.
inline std::vector<std::string> Pieces(const Tokenizer& tokenizer, std::string_view text,
                                       EncodeOptions options = {}) {
  std::vector<std::string> pieces;
  for (const int32_t id : tokenizer.Encode(text, options)) {
    pieces.emplace_back(tokenizer.TokenText(id));
  }
  return pieces;
}

using Strings = std::vector<std::string>;

/// Text that tends to hit the rules of tokenizers: scripts, marks, digits, white space,
/// contractions.
inline std::string RandomText(Rng& rng, int max_parts = 12) {
  static const std::vector<std::string> parts = {" ",        "  ",
                                                 "   ",      "\n",
                                                 "\r\n",     "\t",
                                                 "'s",       "'LL",
                                                 "I'm",      "Hello",
                                                 "WORLD",    "aB",
                                                 "Ünï",      "Привет",
                                                 "你好",     "日本",
                                                 "한국어",   "हिन्दी",
                                                 "ภาษา",     "שלום",
                                                 "12",       "1234567",
                                                 "½",        "!?",
                                                 "...",      "<s>",
                                                 "</s>",     "<|x|>",
                                                 "🚀",        "😶‍🌫️",
                                                 "é",        "e\xCC\x81",
                                                 "\xC2\xA0", "\xE3\x80\x80",
                                                 "▁",        "▁▁",
                                                 "aaaaaa",   "abab",
                                                 "_",        "#",
                                                 "\\",       "\xEF\xBC\xA1",
                                                 "\x01",     "\xEF\xBF\xBD"};
  std::string text;
  const uint64_t n = rng.Below(static_cast<uint64_t>(max_parts) + 1);
  for (uint64_t i = 0; i < n; ++i) {
    if (rng.Below(10) == 0) {
      char32_t c = static_cast<char32_t>(1 + rng.Below(0x2FFFF));
      if (c >= 0xD800 && c < 0xE000) c -= 0x1000;
      AppendUtf8(c, &text);
    } else {
      text += parts[rng.Below(parts.size())];
    }
  }
  return text;
}

inline std::string RandomBytes(Rng& rng, size_t max_size) {
  std::string bytes(rng.Below(max_size + 1), '\0');
  for (char& c : bytes) c = static_cast<char>(rng.Below(256));
  return bytes;
}

}  // namespace ink::testing_support
