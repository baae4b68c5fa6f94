// The pieces of the tokenizer.json reader. Internal to src/text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/json_reader.h"
#include "text/tokenizer_spec.h"

namespace ink::tokenizer_json {

// Each reads the component at `node` into `steps`. Errors: kCorrupt, and kUnsupported naming a
// component that Inkstone does not have.
Status ReadNormalizer(const JsonNode& node, std::vector<NormalizerStep>* steps);
Status ReadPreTokenizer(const JsonNode& node, std::vector<PreTokenizerStep>* steps);
Status ReadDecoder(const JsonNode& node, std::vector<DecoderStep>* steps);
/// What the post-processor puts around a single text.
Status ReadPostProcessor(const JsonNode& node, std::vector<int32_t>* prefix,
                         std::vector<int32_t>* suffix);

/// Names in files, both ways.
std::string_view BehaviorName(SplitBehavior behavior);
std::string_view PrependSchemeName(PrependScheme scheme);

/// The regexes whose quadratic look-ahead PreTokenizerStep::Kind::kDigitGroups stands for.
struct DigitGroupsRegex {
  std::string_view regex;
  PreTokenizerStep::DigitKind digits;
};
inline constexpr DigitGroupsRegex kDigitGroupsRegexes[] = {
    {R"(\d{1,3}(?=(?:\d{3})*\b))", PreTokenizerStep::DigitKind::kDecimalWordEnd},
    {R"(\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N})))", PreTokenizerStep::DigitKind::kNumberClass},
    {R"((?=([0-9]{3})+(?![0-9])))", PreTokenizerStep::DigitKind::kDecimalAscii},
};

/// tokenizer.json without vocabulary, merges and scores, and with "inkstone" inside: what a GGUF
/// file's own keys cannot say.
std::string WriteComponents(const TokenizerSpec& spec);
/// Sets everything but tokens, merges and scores from such a text. On failure `spec` is
/// unspecified.
Status ReadComponents(std::string_view json, TokenizerSpec* spec);

Result<std::string> DecodeBase64(std::string_view text);
std::string EncodeBase64(std::string_view bytes);

}  // namespace ink::tokenizer_json
