#include "text/tokenizer_json_parts.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "formats/quote.h"

namespace ink::tokenizer_json {
namespace {

// Sequences within sequences.
constexpr int kMaxDepth = 8;

struct Pattern {
  std::string text;
  bool is_regex = false;
};

Result<Pattern> ReadPattern(const JsonNode& node) {
  INK_ASSIGN_OR_RETURN(const JsonNode pattern, node.Get("pattern"));
  INK_ASSIGN_OR_RETURN(const auto regex, pattern.Find("Regex"));
  if (regex) {
    INK_ASSIGN_OR_RETURN(std::string text, regex->String());
    return Pattern{std::move(text), true};
  }
  INK_ASSIGN_OR_RETURN(const JsonNode plain, pattern.Get("String"));
  INK_ASSIGN_OR_RETURN(std::string text, plain.String());
  return Pattern{std::move(text), false};
}

constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kBehaviors = {
    {{"Removed", SplitBehavior::kRemoved},
     {"Isolated", SplitBehavior::kIsolated},
     {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
     {"MergedWithNext", SplitBehavior::kMergedWithNext},
     {"Contiguous", SplitBehavior::kContiguous}}};

constexpr std::array<std::pair<std::string_view, PrependScheme>, 3> kSchemes = {
    {{"always", PrependScheme::kAlways},
     {"first", PrependScheme::kFirst},
     {"never", PrependScheme::kNever}}};

Result<SplitBehavior> ReadBehavior(const JsonNode& node, SplitBehavior fallback) {
  INK_ASSIGN_OR_RETURN(const auto found, node.Find("behavior"));
  if (!found) return fallback;
  INK_ASSIGN_OR_RETURN(const std::string name, found->String());
  for (const auto& [text, behavior] : kBehaviors) {
    if (name == text) return behavior;
  }
  return Unsupported(found->path() + ": the behavior " + Quoted(name) + " is unknown");
}

// Metaspace, as pre-tokenizer and as decoder; older files say add_prefix_space.
Result<PrependScheme> ReadPrependScheme(const JsonNode& node) {
  INK_ASSIGN_OR_RETURN(const bool add_prefix, node.Bool("add_prefix_space", true));
  INK_ASSIGN_OR_RETURN(const auto found, node.Find("prepend_scheme"));
  if (!found) return add_prefix ? PrependScheme::kAlways : PrependScheme::kNever;
  INK_ASSIGN_OR_RETURN(const std::string name, found->String());
  for (const auto& [text, scheme] : kSchemes) {
    if (name == text) return scheme;
  }
  return Unsupported(found->path() + ": the prepend_scheme " + Quoted(name) + " is unknown");
}

Status UnknownComponent(const JsonNode& node, std::string_view stage, std::string_view type) {
  return Unsupported(node.path() + ": the " + std::string(stage) + " " + Quoted(type) +
                     " is not supported");
}

Result<std::string> TypeOf(const JsonNode& node) {
  INK_ASSIGN_OR_RETURN(const JsonNode type, node.Get("type"));
  return type.String();
}

// Calls read(element, depth + 1) for each element of the member `key`.
template <typename Read>
Status ReadSequence(const JsonNode& node, const char* key, int depth, Read read) {
  if (depth >= kMaxDepth) return Unsupported(node.path() + ": sequences are nested too deeply");
  INK_ASSIGN_OR_RETURN(const JsonNode list, node.Get(key));
  INK_RETURN_IF_ERROR(list.ExpectArray());
  for (size_t i = 0; i < list.value().size(); ++i) {
    INK_RETURN_IF_ERROR(read(list.At(i), depth + 1));
  }
  return OkStatus();
}

Status Normalizer(const JsonNode& node, int depth, std::vector<NormalizerStep>* steps) {
  using Kind = NormalizerStep::Kind;
  INK_ASSIGN_OR_RETURN(const std::string type, TypeOf(node));
  if (type == "Sequence") {
    return ReadSequence(node, "normalizers", depth, [&](const JsonNode& element, int level) {
      return Normalizer(element, level, steps);
    });
  }
  NormalizerStep step;
  static constexpr std::array<std::pair<std::string_view, Kind>, 6> kPlain = {
      {{"NFC", Kind::kNfc},
       {"NFD", Kind::kNfd},
       {"NFKC", Kind::kNfkc},
       {"NFKD", Kind::kNfkd},
       {"Lowercase", Kind::kLowercase},
       {"StripAccents", Kind::kStripAccents}}};
  for (const auto& [name, kind] : kPlain) {
    if (type != name) continue;
    step.kind = kind;
    steps->push_back(std::move(step));
    return OkStatus();
  }
  if (type == "Replace") {
    step.kind = Kind::kReplace;
    INK_ASSIGN_OR_RETURN(Pattern pattern, ReadPattern(node));
    step.pattern = std::move(pattern.text);
    step.pattern_is_regex = pattern.is_regex;
    INK_ASSIGN_OR_RETURN(step.content, node.String("content", ""));
  } else if (type == "Prepend") {
    step.kind = Kind::kPrepend;
    INK_ASSIGN_OR_RETURN(step.content, node.String("prepend", ""));
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    INK_ASSIGN_OR_RETURN(step.strip_left, node.Bool("strip_left", false));
    INK_ASSIGN_OR_RETURN(step.strip_right, node.Bool("strip_right", false));
  } else if (type == "Precompiled") {
    step.kind = Kind::kPrecompiled;
    INK_ASSIGN_OR_RETURN(const std::string text, node.String("precompiled_charsmap", ""));
    Result<std::string> bytes = DecodeBase64(text);
    if (!bytes.ok()) return bytes.status().WithContext(node.path() + ".precompiled_charsmap");
    step.charsmap = std::move(bytes).value();
  } else if (type == "BertNormalizer") {
    step.kind = Kind::kBert;
    INK_ASSIGN_OR_RETURN(step.clean_text, node.Bool("clean_text", true));
    INK_ASSIGN_OR_RETURN(step.handle_chinese_chars, node.Bool("handle_chinese_chars", true));
    INK_ASSIGN_OR_RETURN(step.lowercase, node.Bool("lowercase", true));
    INK_ASSIGN_OR_RETURN(step.strip_accents, node.Bool("strip_accents", step.lowercase));
  } else {
    return UnknownComponent(node, "normalizer", type);
  }
  steps->push_back(std::move(step));
  return OkStatus();
}

Status PreTokenizer(const JsonNode& node, int depth, std::vector<PreTokenizerStep>* steps) {
  using Kind = PreTokenizerStep::Kind;
  INK_ASSIGN_OR_RETURN(const std::string type, TypeOf(node));
  if (type == "Sequence") {
    return ReadSequence(node, "pretokenizers", depth, [&](const JsonNode& element, int level) {
      return PreTokenizer(element, level, steps);
    });
  }
  PreTokenizerStep step;
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
    INK_ASSIGN_OR_RETURN(step.add_prefix_space, node.Bool("add_prefix_space", true));
    INK_ASSIGN_OR_RETURN(step.use_regex, node.Bool("use_regex", true));
  } else if (type == "Split") {
    step.kind = Kind::kSplit;
    INK_ASSIGN_OR_RETURN(Pattern pattern, ReadPattern(node));
    step.pattern = std::move(pattern.text);
    step.pattern_is_regex = pattern.is_regex;
    INK_ASSIGN_OR_RETURN(step.behavior, ReadBehavior(node, SplitBehavior::kIsolated));
    INK_ASSIGN_OR_RETURN(step.invert, node.Bool("invert", false));
    if (step.pattern_is_regex && !step.invert && step.behavior == SplitBehavior::kIsolated) {
      for (const DigitGroupsRegex& row : kDigitGroupsRegexes) {
        if (step.pattern != row.regex) continue;
        step = PreTokenizerStep{.kind = Kind::kDigitGroups, .digits = row.digits};
        break;
      }
    }
  } else if (type == "Metaspace") {
    step.kind = Kind::kMetaspace;
    INK_ASSIGN_OR_RETURN(step.replacement, node.String("replacement", step.replacement));
    if (step.replacement.empty()) return Corrupt(node.path() + ": the replacement is empty");
    INK_ASSIGN_OR_RETURN(step.prepend, ReadPrependScheme(node));
    INK_ASSIGN_OR_RETURN(step.split, node.Bool("split", true));
  } else if (type == "Digits") {
    step.kind = Kind::kDigits;
    INK_ASSIGN_OR_RETURN(step.individual_digits, node.Bool("individual_digits", false));
  } else if (type == "Punctuation") {
    step.kind = Kind::kPunctuation;
    INK_ASSIGN_OR_RETURN(step.behavior, ReadBehavior(node, SplitBehavior::kIsolated));
  } else if (type == "Whitespace") {
    step.kind = Kind::kWhitespace;
  } else if (type == "WhitespaceSplit") {
    step.kind = Kind::kWhitespaceSplit;
  } else if (type == "BertPreTokenizer") {
    step.kind = Kind::kBert;
  } else {
    return UnknownComponent(node, "pre-tokenizer", type);
  }
  steps->push_back(std::move(step));
  return OkStatus();
}

Status Decoder(const JsonNode& node, int depth, std::vector<DecoderStep>* steps) {
  using Kind = DecoderStep::Kind;
  INK_ASSIGN_OR_RETURN(const std::string type, TypeOf(node));
  if (type == "Sequence") {
    return ReadSequence(node, "decoders", depth, [&](const JsonNode& element, int level) {
      return Decoder(element, level, steps);
    });
  }
  DecoderStep step;
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
  } else if (type == "WordPiece") {
    step.kind = Kind::kWordPiece;
    INK_ASSIGN_OR_RETURN(step.content, node.String("prefix", "##"));
    INK_ASSIGN_OR_RETURN(step.cleanup, node.Bool("cleanup", true));
  } else if (type == "Metaspace") {
    step.kind = Kind::kMetaspace;
    INK_ASSIGN_OR_RETURN(step.content, node.String("replacement", "\xE2\x96\x81"));
    INK_ASSIGN_OR_RETURN(step.prepend, ReadPrependScheme(node));
  } else if (type == "BPEDecoder") {
    step.kind = Kind::kBpe;
    INK_ASSIGN_OR_RETURN(step.content, node.String("suffix", "</w>"));
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "Fuse") {
    step.kind = Kind::kFuse;
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    INK_ASSIGN_OR_RETURN(step.content, node.String("content", " "));
    INK_ASSIGN_OR_RETURN(const int64_t start, node.Integer("start", 0));
    INK_ASSIGN_OR_RETURN(const int64_t stop, node.Integer("stop", 0));
    step.start = static_cast<int32_t>(std::clamp<int64_t>(start, 0, 1 << 20));
    step.stop = static_cast<int32_t>(std::clamp<int64_t>(stop, 0, 1 << 20));
    if (step.content.empty()) return Corrupt(node.path() + ": the content is empty");
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    INK_ASSIGN_OR_RETURN(Pattern pattern, ReadPattern(node));
    step.pattern = std::move(pattern.text);
    step.pattern_is_regex = pattern.is_regex;
    INK_ASSIGN_OR_RETURN(step.content, node.String("content", ""));
  } else {
    return UnknownComponent(node, "decoder", type);
  }
  steps->push_back(std::move(step));
  return OkStatus();
}

Result<int32_t> TokenId(const JsonNode& node) {
  INK_ASSIGN_OR_RETURN(const int64_t id, node.Integer());
  if (id < 0 || id > INT32_MAX) return node.Wrong("a token id");
  return static_cast<int32_t>(id);
}

// ["[SEP]", 102]
Result<int32_t> TokenAndId(const JsonNode& node, const char* key) {
  INK_ASSIGN_OR_RETURN(const JsonNode pair, node.Get(key));
  INK_RETURN_IF_ERROR(pair.ExpectArray());
  if (pair.value().size() != 2) return pair.Wrong("a token and its id");
  return TokenId(pair.At(1));
}

Status Template(const JsonNode& node, std::vector<int32_t>* prefix, std::vector<int32_t>* suffix) {
  INK_ASSIGN_OR_RETURN(const JsonNode single, node.Get("single"));
  INK_RETURN_IF_ERROR(single.ExpectArray());
  std::vector<int32_t> before, after;
  int texts = 0;
  for (size_t i = 0; i < single.value().size(); ++i) {
    const JsonNode piece = single.At(i);
    INK_ASSIGN_OR_RETURN(const auto text, piece.Find("Sequence"));
    if (text) {
      ++texts;
      continue;
    }
    INK_ASSIGN_OR_RETURN(const JsonNode token, piece.Get("SpecialToken"));
    INK_ASSIGN_OR_RETURN(const std::string name, token.String("id", ""));
    INK_ASSIGN_OR_RETURN(const JsonNode tokens, node.Get("special_tokens"));
    INK_ASSIGN_OR_RETURN(const JsonNode entry, tokens.Get(name.c_str()));
    INK_ASSIGN_OR_RETURN(const JsonNode ids, entry.Get("ids"));
    INK_RETURN_IF_ERROR(ids.ExpectArray());
    for (size_t j = 0; j < ids.value().size(); ++j) {
      INK_ASSIGN_OR_RETURN(const int32_t id, TokenId(ids.At(j)));
      (texts == 0 ? before : after).push_back(id);
    }
  }
  if (texts != 1) {
    return Unsupported(single.path() + ": a template with the text in it " + std::to_string(texts) +
                       " times, expected once");
  }
  prefix->insert(prefix->begin(), before.begin(), before.end());
  suffix->insert(suffix->end(), after.begin(), after.end());
  return OkStatus();
}

Status PostProcessor(const JsonNode& node, int depth, std::vector<int32_t>* prefix,
                     std::vector<int32_t>* suffix) {
  INK_ASSIGN_OR_RETURN(const std::string type, TypeOf(node));
  if (type == "Sequence") {
    return ReadSequence(node, "processors", depth, [&](const JsonNode& element, int level) {
      return PostProcessor(element, level, prefix, suffix);
    });
  }
  if (type == "ByteLevel") return OkStatus();  // about offsets only
  if (type == "TemplateProcessing") return Template(node, prefix, suffix);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    INK_ASSIGN_OR_RETURN(const int32_t cls, TokenAndId(node, "cls"));
    INK_ASSIGN_OR_RETURN(const int32_t sep, TokenAndId(node, "sep"));
    prefix->insert(prefix->begin(), cls);
    suffix->push_back(sep);
    return OkStatus();
  }
  return UnknownComponent(node, "post-processor", type);
}

constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

Status ReadNormalizer(const JsonNode& node, std::vector<NormalizerStep>* steps) {
  return Normalizer(node, 0, steps);
}
Status ReadPreTokenizer(const JsonNode& node, std::vector<PreTokenizerStep>* steps) {
  return PreTokenizer(node, 0, steps);
}
Status ReadDecoder(const JsonNode& node, std::vector<DecoderStep>* steps) {
  return Decoder(node, 0, steps);
}
Status ReadPostProcessor(const JsonNode& node, std::vector<int32_t>* prefix,
                         std::vector<int32_t>* suffix) {
  return PostProcessor(node, 0, prefix, suffix);
}

std::string_view BehaviorName(SplitBehavior behavior) {
  for (const auto& [text, value] : kBehaviors) {
    if (value == behavior) return text;
  }
  return "";
}

std::string_view PrependSchemeName(PrependScheme scheme) {
  for (const auto& [text, value] : kSchemes) {
    if (value == scheme) return text;
  }
  return "";
}

Result<std::string> DecodeBase64(std::string_view text) {
  std::array<int8_t, 256> values;
  values.fill(-1);
  for (size_t i = 0; i < kBase64.size(); ++i) {
    values[static_cast<uint8_t>(kBase64[i])] = static_cast<int8_t>(i);
  }
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int value = values[static_cast<uint8_t>(c)];
    if (value < 0) return Corrupt("expected base64, found the character " + Quoted({&c, 1}));
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>(bits >> count & 0xFF));
    }
  }
  return out;
}

std::string EncodeBase64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j) {
      bits = bits << 8 | (j < n ? static_cast<uint8_t>(bytes[i + j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) {
      out += j <= n ? kBase64[bits >> (18 - 6 * j) & 63] : '=';
    }
  }
  return out;
}

}  // namespace ink::tokenizer_json
