// layers: text
// Any bytes, cut into words by any of the known rules and encoded by small models of each kind:
// decoding must give the bytes back where the vocabulary has them all, and the detokenizer must
// never emit half a character.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "text/detokenizer.h"
#include "text/pre_tokenizer_table.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace {

using ink::TokenizerSpec;

std::shared_ptr<const ink::Tokenizer> Build(TokenizerSpec spec) {
  auto tokenizer = ink::BuildTokenizer(std::move(spec));
  INK_CHECK(tokenizer.ok());
  return *tokenizer;
}

// All bytes and a few merges.
TokenizerSpec ByteLevel(std::string_view name) {
  TokenizerSpec spec;
  ink::PreTokenizerInfo info = *ink::FindPreTokenizer(name);
  spec.pre_tokenizer = info.steps;
  spec.model.ignore_merges = info.ignore_merges;
  spec.decoder.push_back({.kind = ink::DecoderStep::Kind::kByteLevel});
  for (int b = 0; b < 256; ++b) {
    spec.tokens.push_back({.text = ink::BytesToPrintable(std::string(1, static_cast<char>(b)))});
  }
  const auto merge = [&](int32_t left, int32_t right) {
    spec.model.merges.push_back({left, right, static_cast<int32_t>(spec.tokens.size())});
    spec.tokens.push_back({.text = spec.tokens[left].text + spec.tokens[right].text});
    return static_cast<int32_t>(spec.tokens.size()) - 1;
  };
  const int32_t spaces = merge(' ', ' ');
  merge(spaces, spaces);
  merge(merge('a', 'a'), 'b');
  merge(0xE2, merge(0x82, 0xAC));
  spec.tokens.push_back({.text = "<s>", .type = ink::TokenType::kControl});
  spec.added.push_back({.id = static_cast<int32_t>(spec.tokens.size()) - 1, .special = true});
  spec.added_decode_verbatim = true;
  return spec;
}

TokenizerSpec Scored(ink::ModelKind kind) {
  TokenizerSpec spec;
  spec.model.kind = kind;
  spec.model.byte_fallback = true;
  spec.model.unk = 0;
  spec.normalizer.push_back(
      {.kind = ink::NormalizerStep::Kind::kReplace, .pattern = " ", .content = "\xE2\x96\x81"});
  spec.decoder.push_back(
      {.kind = ink::DecoderStep::Kind::kReplace, .pattern = "\xE2\x96\x81", .content = " "});
  spec.decoder.push_back({.kind = ink::DecoderStep::Kind::kByteFallback});
  spec.tokens.push_back({.text = "<unk>", .type = ink::TokenType::kUnknown, .in_model = false});
  for (int b = 0; b < 256; ++b) {
    spec.tokens.push_back(
        {.text = ink::ByteTokenText(static_cast<uint8_t>(b)), .type = ink::TokenType::kByte});
  }
  for (const char* text : {"\xE2\x96\x81", "a", "b", "aa", "ab",
                           "\xE2\x96\x81"
                           "a",
                           "\xE2\x96\x81\xE2\x96\x81", "a\xE2\x96\x81", "\xC3\xA9"}) {
    spec.tokens.push_back({.text = text, .score = -static_cast<float>(spec.tokens.size())});
  }
  return spec;
}

struct Subjects {
  std::vector<std::shared_ptr<const ink::Tokenizer>> byte_level;
  std::vector<std::shared_ptr<const ink::Tokenizer>> scored;
};

const Subjects& AllSubjects() {
  static const Subjects subjects = [] {
    Subjects all;
    for (const std::string_view name : ink::PreTokenizerNames()) {
      if (ink::FindPreTokenizer(name)->byte_level) all.byte_level.push_back(Build(ByteLevel(name)));
    }
    all.scored.push_back(Build(Scored(ink::ModelKind::kSentencePieceBpe)));
    all.scored.push_back(Build(Scored(ink::ModelKind::kUnigram)));
    return all;
  }();
  return subjects;
}

void CheckDetokenizer(const std::shared_ptr<const ink::Tokenizer>& tokenizer,
                      const std::vector<int32_t>& ids) {
  ink::Detokenizer detokenizer(tokenizer);
  std::string all;
  for (const int32_t id : ids) {
    const std::string text = detokenizer.Add(id);
    if (!ink::IsValidUtf8(text)) std::abort();
    all += text;
  }
  all += detokenizer.Flush();
  if (all != ink::Decode(tokenizer, ids)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const Subjects& subjects = AllSubjects();
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto& tokenizer = subjects.byte_level[data[0] % subjects.byte_level.size()];
  const std::vector<int32_t> ids = tokenizer->Encode(text);
  if (ink::DecodeBytes(*tokenizer, ids) != text) std::abort();
  CheckDetokenizer(tokenizer, ids);
  CheckDetokenizer(tokenizer, tokenizer->Encode(text, {.parse_special = true}));

  std::string spaces(text);  // the space and U+2581 are one to these
  for (size_t i; (i = spaces.find("\xE2\x96\x81")) != std::string::npos;) spaces.replace(i, 3, " ");
  for (const auto& scored : subjects.scored) {
    const std::vector<int32_t> pieces = scored->Encode(text);
    if (ink::DecodeBytes(*scored, pieces) != spaces) std::abort();
    CheckDetokenizer(scored, pieces);
  }
  return 0;
}
