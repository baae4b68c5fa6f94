// Vocabularies, random walks and the brute-force mask for tests of constraints.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "sampling/constraint/constraint.h"

namespace ink::constraint_testing {

/// Every byte, pieces of JSON that cross its boundaries, parts of characters, duplicates, an unused
/// token (0) and two end tokens (1, and 2 whose bytes are text).
inline std::shared_ptr<const VocabularyTrie> SmallVocabulary() {
  std::vector<std::string> tokens = {"", "<end>", "}"};
  for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
  for (std::string_view s : {"\",",
                             "\":",
                             "\": ",
                             "\",\"",
                             "\", \"",
                             "{\"",
                             "\"}",
                             "\"]",
                             "[]",
                             "{}",
                             "[[",
                             "]]",
                             "}}",
                             "[{\"",
                             "},{\"",
                             "}, {\"",
                             "\":\"",
                             "\":{\"",
                             "\":[",
                             "\":1,\"a\":",
                             "\":[{\"",
                             "true",
                             "false",
                             "null",
                             "tr",
                             "ue",
                             "fal",
                             "se",
                             "nul",
                             "10",
                             "12",
                             "100",
                             "007",
                             "0.",
                             ".5",
                             "e1",
                             "e+",
                             "e-2",
                             "1e308",
                             "-1",
                             "-0",
                             "00",
                             "99",
                             "123456789",
                             "  ",
                             "\n",
                             "\n  ",
                             "\r\n\t",
                             " ,",
                             "a",
                             "b",
                             "ab",
                             "abc",
                             "aaaa",
                             "foo",
                             "bar",
                             "name",
                             "age",
                             "kind",
                             "id",
                             "value",
                             "the",
                             " the",
                             "red",
                             "green",
                             "\\",
                             "\\n",
                             "\\u",
                             "\\u00",
                             "\\u00e9",
                             "\\ud83d",
                             "\\ude00",
                             "\\\"",
                             "\"\"",
                             "\"a\"",
                             "\"b\":",
                             "\xc3",
                             "\xa9",
                             "\xc3\xa9",
                             "\xf0\x9f",
                             "\x98\x80",
                             "\xf0\x9f\x98\x80",
                             "\xe2\x80",
                             "\xa8",
                             "a\",\"b",
                             "x\":1}",
                             "\":0,\"b\":1,\"c",
                             "1,2",
                             "1]",
                             "1}",
                             "2,3]",
                             "]}",
                             "\"]}",
                             "<tool",
                             "_call>",
                             "<tool_call>",
                             "</tool_call>",
                             "2024-",
                             "-01",
                             "T10:",
                             "Z\"",
                             "@",
                             ".com",
                             "\t",
                             "a",
                             "foo"}) {
    tokens.emplace_back(s);
  }
  return VocabularyTrie::Build(std::move(tokens), {1, 2});
}

inline std::vector<uint32_t> Mask(const ConstraintState& state, const VocabularyTrie& v) {
  std::vector<uint32_t> mask(v.mask_words());
  state.FillMask(mask);
  return mask;
}

inline bool Allows(const std::vector<uint32_t>& mask, int32_t id) {
  return (mask[id / 32] >> (id % 32) & 1) != 0;
}

/// Compares the mask with trying every token.
inline void ExpectMaskIsExact(const ConstraintState& state, const VocabularyTrie& v,
                              const std::string& where) {
  const std::vector<uint32_t> mask = Mask(state, v);
  for (int32_t id = 0; id < v.vocab_size(); ++id) {
    bool allowed = false;
    if (v.IsEnd(id)) {
      allowed = state.IsAccepting();
    } else if (!v.token_bytes(id).empty()) {
      ConstraintState copy = state;
      allowed = copy.Advance(v.token_bytes(id));
    }
    ASSERT_EQ(Allows(mask, id), allowed)
        << where << " token " << id << " '" << v.token_bytes(id) << "'";
  }
}

/// Draws a text, uniformly among the allowed tokens, and completes it after `max_tokens`. Checks on
/// the way that some token is allowed and (every `check`-th step) that the mask is exact.
inline std::string RandomText(const std::shared_ptr<const CompiledConstraint>& c, Rng& rng,
                              int max_tokens, int check) {
  const VocabularyTrie& v = *c->vocabulary();
  ConstraintState state(c);
  std::string text;
  for (int i = 0; i < max_tokens; ++i) {
    if (check > 0 && i % check == 0) {
      ExpectMaskIsExact(state, v, "after '" + text + "'");
      if (::testing::Test::HasFatalFailure()) return text;
    }
    const std::vector<uint32_t> mask = Mask(state, v);
    std::vector<int32_t> allowed;
    for (int32_t id = 0; id < v.vocab_size(); ++id) {
      if (Allows(mask, id)) allowed.push_back(id);
    }
    EXPECT_FALSE(allowed.empty()) << "dead end after '" << text << "'";
    if (allowed.empty()) return text;
    const int32_t id = allowed[rng.Below(allowed.size())];
    EXPECT_TRUE(state.AdvanceToken(id)) << "after '" << text << "'";
    if (state.IsClosed()) return text;
    text += v.token_bytes(id);
  }
  const std::string rest = state.Completion();
  EXPECT_TRUE(state.Advance(rest)) << "'" << text << "' + '" << rest << "'";
  EXPECT_TRUE(state.IsAccepting()) << "'" << text << "' + '" << rest << "'";
  return text + rest;
}

}  // namespace ink::constraint_testing
