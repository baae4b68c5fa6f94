// SpecToJson: a tokenizer as tokenizer.json and tokenizer_config.json.
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "base/atomic_file.h"
#include "formats/quote.h"
#include "text/string_index.h"
#include "text/tokenizer_json.h"
#include "text/tokenizer_json_parts.h"
#include "text/unicode.h"

namespace ink {
namespace {

using Json = nlohmann::ordered_json;
using tokenizer_json::BehaviorName;
using tokenizer_json::PrependSchemeName;

// Longer tokens are not taken apart into merges: trying every cut is quadratic.
constexpr size_t kMaxMergedToken = 512;
constexpr std::string_view kMetaspace = "\xE2\x96\x81";

std::string Dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

Json Pattern(const std::string& text, bool is_regex) {
  return {{is_regex ? "Regex" : "String", text}};
}

// None, one, or a sequence of them.
Json Sequence(std::vector<Json> parts, const char* key) {
  if (parts.empty()) return nullptr;
  if (parts.size() == 1) return std::move(parts[0]);
  return {{"type", "Sequence"}, {key, std::move(parts)}};
}

Json Replace(const std::string& pattern, bool is_regex, const std::string& content) {
  return {{"type", "Replace"}, {"pattern", Pattern(pattern, is_regex)}, {"content", content}};
}

void AppendNormalizer(const NormalizerStep& step, std::vector<Json>* out) {
  using Kind = NormalizerStep::Kind;
  const auto precompiled = [&] {
    out->push_back({{"type", "Precompiled"},
                    {"precompiled_charsmap", tokenizer_json::EncodeBase64(step.charsmap)}});
  };
  switch (step.kind) {
    case Kind::kNfc:
      out->push_back({{"type", "NFC"}});
      return;
    case Kind::kNfd:
      out->push_back({{"type", "NFD"}});
      return;
    case Kind::kNfkc:
      out->push_back({{"type", "NFKC"}});
      return;
    case Kind::kNfkd:
      out->push_back({{"type", "NFKD"}});
      return;
    case Kind::kLowercase:
      out->push_back({{"type", "Lowercase"}});
      return;
    case Kind::kStripAccents:
      out->push_back({{"type", "StripAccents"}});
      return;
    case Kind::kReplace:
      out->push_back(Replace(step.pattern, step.pattern_is_regex, step.content));
      return;
    case Kind::kPrepend:
      out->push_back({{"type", "Prepend"}, {"prepend", step.content}});
      return;
    case Kind::kStrip:
      out->push_back(
          {{"type", "Strip"}, {"strip_left", step.strip_left}, {"strip_right", step.strip_right}});
      return;
    case Kind::kPrecompiled:
      precompiled();
      return;
    case Kind::kBert:
      out->push_back({{"type", "BertNormalizer"},
                      {"clean_text", step.clean_text},
                      {"handle_chinese_chars", step.handle_chinese_chars},
                      {"strip_accents", step.strip_accents},
                      {"lowercase", step.lowercase}});
      return;
    case Kind::kSentencePiece:  // the spaces that it adds are the pre-tokenizer's, see below
      if (!step.charsmap.empty()) precompiled();
      if (step.merge_spaces) {
        out->push_back({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}});
        out->push_back(Replace(" {2,}", true, " "));
      }
      return;
  }
}

Json PreTokenizer(const PreTokenizerStep& step) {
  using Kind = PreTokenizerStep::Kind;
  switch (step.kind) {
    case Kind::kByteLevel:
      return {{"type", "ByteLevel"},
              {"add_prefix_space", step.add_prefix_space},
              {"trim_offsets", true},
              {"use_regex", step.use_regex}};
    case Kind::kSplit:
      return {{"type", "Split"},
              {"pattern", Pattern(step.pattern, step.pattern_is_regex)},
              {"behavior", BehaviorName(step.behavior)},
              {"invert", step.invert}};
    case Kind::kMetaspace:
      return {{"type", "Metaspace"},
              {"replacement", step.replacement},
              {"prepend_scheme", PrependSchemeName(step.prepend)},
              {"split", step.split}};
    case Kind::kDigits:
      return {{"type", "Digits"}, {"individual_digits", step.individual_digits}};
    case Kind::kWhitespace:
      return {{"type", "Whitespace"}};
    case Kind::kWhitespaceSplit:
      return {{"type", "WhitespaceSplit"}};
    case Kind::kPunctuation:
      return {{"type", "Punctuation"}, {"behavior", BehaviorName(step.behavior)}};
    case Kind::kBert:
      return {{"type", "BertPreTokenizer"}};
    case Kind::kDigitGroups:
      for (const auto& row : tokenizer_json::kDigitGroupsRegexes) {
        if (row.digits != step.digits) continue;
        return {{"type", "Split"},
                {"pattern", Pattern(std::string(row.regex), true)},
                {"behavior", "Isolated"},
                {"invert", false}};
      }
  }
  return nullptr;
}

Json Decoder(const DecoderStep& step) {
  using Kind = DecoderStep::Kind;
  switch (step.kind) {
    case Kind::kByteLevel:
      return {{"type", "ByteLevel"},
              {"add_prefix_space", false},
              {"trim_offsets", true},
              {"use_regex", true}};
    case Kind::kWordPiece:
      return {{"type", "WordPiece"}, {"prefix", step.content}, {"cleanup", step.cleanup}};
    case Kind::kMetaspace:
      return {{"type", "Metaspace"},
              {"replacement", step.content},
              {"prepend_scheme", PrependSchemeName(step.prepend)},
              {"split", true}};
    case Kind::kBpe:
      return {{"type", "BPEDecoder"}, {"suffix", step.content}};
    case Kind::kByteFallback:
      return {{"type", "ByteFallback"}};
    case Kind::kFuse:
      return {{"type", "Fuse"}};
    case Kind::kStrip:
      return {
          {"type", "Strip"}, {"content", step.content}, {"start", step.start}, {"stop", step.stop}};
    case Kind::kReplace:
      return Replace(step.pattern, step.pattern_is_regex, step.content);
  }
  return nullptr;
}

// Tokens joined by spaces: what a file without a decoder means.
bool IsDefaultDecoder(const std::vector<DecoderStep>& steps) {
  return steps.size() == 3 && steps[0].kind == DecoderStep::Kind::kReplace &&
         steps[0].pattern_is_regex && steps[0].pattern == "\\A";
}

Json PostProcessor(const TokenizerSpec& spec) {
  if (spec.prefix.empty() && spec.suffix.empty()) return nullptr;
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  const auto put = [&](const std::vector<int32_t>& ids) {
    for (const int32_t id : ids) {
      const std::string& text = spec.tokens[id].text;
      single.push_back({{"SpecialToken", {{"id", text}, {"type_id", 0}}}});
      tokens[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
    }
  };
  put(spec.prefix);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  put(spec.suffix);
  pair = single;
  for (const Json& piece : single) {
    Json second = piece;
    for (auto& [key, value] : second.items()) {
      value["type_id"] = 1;
      if (key == "Sequence") value["id"] = "B";
    }
    pair.push_back(std::move(second));
  }
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(tokens)}};
}

// Merges that build the tokens of a scored vocabulary in the order of their scores, as Hugging Face
// derives them from SentencePiece models.
std::vector<Merge> MergesFromScores(const TokenizerSpec& spec) {
  StringIndex index;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.tokens[id].in_model) index.Insert(spec.tokens[id].text, static_cast<int32_t>(id));
  }
  struct Scored {
    Merge merge;
    float score;
    size_t left_chars, right_chars;
  };
  std::vector<Scored> all;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const TokenEntry& token = spec.tokens[id];
    if (!token.in_model || token.text.size() > kMaxMergedToken) continue;
    const std::string_view text = token.text;
    std::vector<size_t> cuts;
    for (size_t i = 0; i < text.size();) {
      Utf8Next(text, &i);
      cuts.push_back(i);
    }
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      const int32_t left = index.Find(text.substr(0, cuts[i]));
      if (left < 0) continue;
      const int32_t right = index.Find(text.substr(cuts[i]));
      if (right < 0) continue;
      all.push_back(
          {{left, right, static_cast<int32_t>(id)}, token.score, i + 1, cuts.size() - i - 1});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Scored& a, const Scored& b) {
    return std::tie(b.score, b.left_chars, b.right_chars) <
           std::tie(a.score, a.left_chars, a.right_chars);
  });
  std::vector<Merge> merges;
  merges.reserve(all.size());
  for (const Scored& scored : all) merges.push_back(scored.merge);
  return merges;
}

Json ModelOptions(const TokenizerSpec& spec) {
  const ModelSpec& m = spec.model;
  const Json unk = m.unk == kNoToken ? Json(nullptr) : Json(spec.tokens[m.unk].text);
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
  };
  switch (m.kind) {
    case ModelKind::kBpe:
    case ModelKind::kSentencePieceBpe:
      return {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", unk},
              {"continuing_subword_prefix", text_or_null(m.continuing_subword_prefix)},
              {"end_of_word_suffix", text_or_null(m.end_of_word_suffix)},
              {"fuse_unk", m.fuse_unk || m.kind == ModelKind::kSentencePieceBpe},
              {"byte_fallback", m.byte_fallback},
              {"ignore_merges", m.ignore_merges}};
    case ModelKind::kWordPiece:
      return {{"type", "WordPiece"},
              {"unk_token", unk},
              {"continuing_subword_prefix", m.word_prefix},
              {"max_input_chars_per_word", m.max_word_chars == 0 ? INT32_MAX : m.max_word_chars}};
    case ModelKind::kUnigram: {
      const Json id = m.unk == kNoToken ? Json(nullptr) : Json(m.unk);
      return {{"type", "Unigram"}, {"unk_id", id}, {"byte_fallback", m.byte_fallback}};
    }
  }
  return nullptr;
}

// Which tokens are only in added_tokens and not in the model's vocabulary.
std::vector<bool> OnlyAdded(const TokenizerSpec& spec) {
  std::vector<bool> only(spec.tokens.size());
  if (spec.model.kind == ModelKind::kUnigram) return only;  // its vocabulary is a list of all ids
  for (const AddedToken& token : spec.added) only[token.id] = !spec.tokens[token.id].in_model;
  return only;
}

void AppendVocab(const TokenizerSpec& spec, Json* model) {
  if (spec.model.kind == ModelKind::kUnigram) {
    Json vocab = Json::array();
    for (const TokenEntry& token : spec.tokens) vocab.push_back({token.text, token.score});
    (*model)["vocab"] = std::move(vocab);
    return;
  }
  // The object's members are known to be different: a lookup for each would be quadratic.
  Json::object_t vocab;
  vocab.reserve(spec.tokens.size());
  const std::vector<bool> only_added = OnlyAdded(spec);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (!only_added[id]) {
      static_cast<std::vector<Json::object_t::value_type>&>(vocab).emplace_back(
          spec.tokens[id].text, id);
    }
  }
  (*model)["vocab"] = std::move(vocab);
  if (spec.model.kind == ModelKind::kWordPiece) return;

  const bool scored = spec.model.kind == ModelKind::kSentencePieceBpe;
  const std::vector<Merge> derived = scored ? MergesFromScores(spec) : std::vector<Merge>();
  const std::vector<Merge>& merges = scored ? derived : spec.model.merges;
  const auto has_space = [&](int32_t id) {
    return spec.tokens[id].text.find(' ') != std::string::npos;
  };
  // One line for each is what all versions read; tokens with spaces need the newer form.
  const bool lines = std::none_of(merges.begin(), merges.end(), [&](const Merge& merge) {
    return has_space(merge.left) || has_space(merge.right);
  });
  Json list = Json::array();
  for (const Merge& merge : merges) {
    const std::string& left = spec.tokens[merge.left].text;
    const std::string& right = spec.tokens[merge.right].text;
    if (lines) {
      list.push_back(left + " " + right);
    } else {
      list.push_back({left, right});
    }
  }
  (*model)["merges"] = std::move(list);
}

Json AddedTokens(const TokenizerSpec& spec) {
  std::vector<AddedToken> sorted = spec.added;
  std::sort(sorted.begin(), sorted.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  Json list = Json::array();
  for (const AddedToken& token : sorted) {
    list.push_back({{"id", token.id},
                    {"content", spec.tokens[token.id].text},
                    {"single_word", token.single_word},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip},
                    {"normalized", token.normalized},
                    {"special", token.special}});
  }
  return list;
}

void AppendComponents(const TokenizerSpec& spec, Json* root) {
  std::vector<Json> normalizers, pre_tokenizers, decoders;
  for (const NormalizerStep& step : spec.normalizer) {
    AppendNormalizer(step, &normalizers);
    if (step.kind == NormalizerStep::Kind::kSentencePiece) {
      const bool prepend = step.merge_spaces || (step.add_space_prefix && !step.space_as_suffix);
      pre_tokenizers.push_back(
          PreTokenizer({.kind = PreTokenizerStep::Kind::kMetaspace,
                        .prepend = prepend ? PrependScheme::kAlways : PrependScheme::kNever,
                        .split = false}));
    }
  }
  for (const PreTokenizerStep& step : spec.pre_tokenizer) {
    pre_tokenizers.push_back(PreTokenizer(step));
  }
  if (!IsDefaultDecoder(spec.decoder)) {
    for (const DecoderStep& step : spec.decoder) decoders.push_back(Decoder(step));
  }
  (*root)["added_tokens"] = AddedTokens(spec);
  (*root)["normalizer"] = Sequence(std::move(normalizers), "normalizers");
  (*root)["pre_tokenizer"] = Sequence(std::move(pre_tokenizers), "pretokenizers");
  (*root)["post_processor"] = PostProcessor(spec);
  (*root)["decoder"] = Sequence(std::move(decoders), "decoders");
}

// What no component of Hugging Face says; null if there is nothing.
Json OwnExtensions(const TokenizerSpec& spec, bool with_scores) {
  Json own = Json::object();
  const auto flag = [&](const char* name, bool value) {
    if (value) own[name] = true;
  };
  flag("added_longest_first", spec.added_longest_first);
  flag("added_decode_verbatim", spec.added_decode_verbatim);
  flag("unknown_separates", spec.model.unknown_separates);
  flag("newline_runs_whole", spec.model.newline_runs_whole);
  flag("words_of_any_length",
       spec.model.kind == ModelKind::kWordPiece && spec.model.max_word_chars == 0);
  for (const NormalizerStep& step : spec.normalizer) {
    if (step.kind == NormalizerStep::Kind::kBert && step.llama_cpp_bert) {
      own["llama_cpp_bert"] = true;
      own["strip_accents"] = step.strip_accents;
    }
    if (step.kind == NormalizerStep::Kind::kSentencePiece) {
      own["sentencepiece_normalizer"] = {{"add_space_prefix", step.add_space_prefix},
                                         {"space_as_suffix", step.space_as_suffix},
                                         {"merge_spaces", step.merge_spaces}};
    }
  }
  const std::vector<bool> only_added = OnlyAdded(spec);
  Json outside = Json::array(), unused = Json::array();
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const TokenEntry& token = spec.tokens[id];
    if (!token.in_model && (!with_scores || !only_added[id])) outside.push_back(id);
    if (token.type == TokenType::kUnused) unused.push_back(id);
  }
  if (!outside.empty()) own["outside_model"] = std::move(outside);
  if (!unused.empty()) own["unused"] = std::move(unused);
  if (spec.model.kind == ModelKind::kSentencePieceBpe) {
    own["sentencepiece_bpe"] = true;
    if (with_scores) {
      Json scores = Json::array();
      for (const TokenEntry& token : spec.tokens) scores.push_back(token.score);
      own["scores"] = std::move(scores);
    }
  }
  if (!own.empty() && !spec.pre_name.empty()) own["pre"] = spec.pre_name;
  return own.empty() ? Json(nullptr) : own;
}

std::string WriteConfig(const TokenizerSpec& spec) {
  Json config;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  config["clean_up_tokenization_spaces"] = false;
  config["add_bos_token"] = spec.add_bos;
  config["add_eos_token"] = spec.add_eos;
  const SpecialIds& special = spec.special;
  const std::array<std::pair<const char*, int32_t>, 7> roles = {{{"bos_token", special.bos},
                                                                 {"eos_token", special.eos},
                                                                 {"unk_token", special.unk},
                                                                 {"sep_token", special.sep},
                                                                 {"pad_token", special.pad},
                                                                 {"cls_token", special.cls},
                                                                 {"mask_token", special.mask}}};
  for (const auto& [key, id] : roles) {
    if (id != kNoToken) config[key] = spec.tokens[id].text;
  }
  if (!spec.chat_template.empty()) config["chat_template"] = spec.chat_template;
  Json own = OwnExtensions(spec, /*with_scores=*/true);
  if (!own.is_null()) config["inkstone"] = std::move(own);
  return Dump(config, 2) + "\n";
}

}  // namespace

std::string tokenizer_json::WriteComponents(const TokenizerSpec& spec) {
  Json root;
  AppendComponents(spec, &root);
  root["model"] = ModelOptions(spec);
  Json own = OwnExtensions(spec, /*with_scores=*/false);
  if (!own.is_null()) root["inkstone"] = std::move(own);
  return Dump(root, -1);
}

Result<WrittenTokenizer> SpecToJson(const TokenizerSpec& spec) {
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (IsValidUtf8(spec.tokens[id].text)) continue;
    return Unsupported("token " + std::to_string(id) + " (" + Quoted(spec.tokens[id].text) +
                       ") is not valid UTF-8, which tokenizer.json requires");
  }
  Json root;
  root["version"] = "1.0";
  root["truncation"] = nullptr;
  root["padding"] = nullptr;
  AppendComponents(spec, &root);
  Json model = ModelOptions(spec);
  AppendVocab(spec, &model);
  root["model"] = std::move(model);
  return WrittenTokenizer{Dump(root, 1) + "\n", WriteConfig(spec)};
}

Status SpecToFolder(const TokenizerSpec& spec, const std::string& folder) {
  INK_ASSIGN_OR_RETURN(const WrittenTokenizer written, SpecToJson(spec));
  INK_RETURN_IF_ERROR(WriteFileAtomic(folder + "/tokenizer.json", written.tokenizer_json));
  return WriteFileAtomic(folder + "/tokenizer_config.json", written.tokenizer_config);
}

}  // namespace ink
