#include "text/gguf_vocab.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <unordered_map>
#include <utility>

#include "formats/quote.h"
#include "text/gguf_vocab_parts.h"
#include "text/pre_tokenizer_table.h"
#include "text/string_index.h"
#include "text/tokenizer_json_parts.h"
#include "text/unicode.h"

namespace ink {

namespace gguf_vocab {

std::span<const RoleKey> RoleKeys() {
  static constexpr RoleKey kKeys[] = {
      {"bos_token_id", &SpecialIds::bos},         {"eos_token_id", &SpecialIds::eos},
      {"eot_token_id", &SpecialIds::eot},         {"eom_token_id", &SpecialIds::eom},
      {"unknown_token_id", &SpecialIds::unk},     {"seperator_token_id", &SpecialIds::sep},
      {"padding_token_id", &SpecialIds::pad},     {"cls_token_id", &SpecialIds::cls},
      {"mask_token_id", &SpecialIds::mask},       {"fim_pre_token_id", &SpecialIds::fim_pre},
      {"fim_suf_token_id", &SpecialIds::fim_suf}, {"fim_mid_token_id", &SpecialIds::fim_mid},
      {"fim_pad_token_id", &SpecialIds::fim_pad}, {"fim_rep_token_id", &SpecialIds::fim_rep},
      {"fim_sep_token_id", &SpecialIds::fim_sep},
  };
  return kKeys;
}

std::string Key(std::string_view name) { return "tokenizer.ggml." + std::string(name); }

}  // namespace gguf_vocab

namespace {

using gguf_vocab::kChatTemplateKey;
using gguf_vocab::kComponentsKey;
using gguf_vocab::Key;

class Reader {
 public:
  Reader(const Metadata& metadata, std::vector<std::string>* warnings)
      : metadata_(metadata), warnings_(warnings) {}

  Result<TokenizerSpec> Run() {
    INK_ASSIGN_OR_RETURN(const std::string_view model, metadata_.GetString(Key("model")));
    INK_ASSIGN_OR_RETURN(const std::string_view pre, metadata_.GetString(Key("pre"), ""));
    INK_ASSIGN_OR_RETURN(const std::string_view components,
                         metadata_.GetString(kComponentsKey, ""));
    spec_.pre_name = pre;
    INK_RETURN_IF_ERROR(ReadTokens());
    if (model == "gpt2" || model == "gemma4") {
      INK_RETURN_IF_ERROR(ReadMerges(/*required=*/pre != "kimi-k2"));
      if (components.empty()) INK_RETURN_IF_ERROR(MakeBpe(model == "gemma4" ? "gemma4" : pre));
    } else if (model == "llama") {
      if (!components.empty()) INK_RETURN_IF_ERROR(ReadMerges(/*required=*/false));
      INK_RETURN_IF_ERROR(MakeSentencePiece());
    } else if (model == "t5") {
      INK_RETURN_IF_ERROR(MakeUnigram());
    } else if (model == "bert") {
      INK_RETURN_IF_ERROR(MakeWordPiece());
    } else {
      return Unsupported(metadata_.source() + ": tokenizer.ggml.model is " + Quoted(model) +
                         ", expected \"gpt2\", \"llama\", \"t5\", \"bert\" or \"gemma4\"");
    }
    INK_ASSIGN_OR_RETURN(spec_.chat_template, String(kChatTemplateKey));
    if (!components.empty()) {
      INK_RETURN_IF_ERROR(ApplyComponents(components));
    } else {
      INK_RETURN_IF_ERROR(ReadRoles());
      DetectSpecialTokens(spec_, /*control_only=*/false);
      MakeAddedTokens();
      INK_RETURN_IF_ERROR(ReadAffixes(model == "bert"));
      spec_.model.unk = unknown_model_token_ ? spec_.special.unk : kNoToken;
    }
    return std::move(spec_);
  }

 private:
  void Warn(std::string message) {
    if (warnings_ != nullptr) warnings_->push_back(std::move(message));
  }

  Result<std::string> String(std::string_view key) const {
    INK_ASSIGN_OR_RETURN(const std::string_view value, metadata_.GetString(key, ""));
    return std::string(value);
  }

  Status ApplyComponents(std::string_view json) {
    const Status read = tokenizer_json::ReadComponents(json, &spec_);
    if (!read.ok()) {
      return read.WithContext(metadata_.source() + ": " + std::string(kComponentsKey));
    }
    spec_.special = SpecialIds();
    INK_RETURN_IF_ERROR(ReadRoles());
    DetectSpecialTokens(spec_, /*control_only=*/true);
    const auto has = [](const std::vector<int32_t>& ids, int32_t id) {
      return id != kNoToken && std::find(ids.begin(), ids.end(), id) != ids.end();
    };
    spec_.add_bos = has(spec_.prefix, spec_.special.bos);
    spec_.add_eos = has(spec_.suffix, spec_.special.eos);
    return OkStatus();
  }

  Status ReadTokens() {
    INK_ASSIGN_OR_RETURN(const StringArray texts, metadata_.GetStrings(Key("tokens")));
    NumberArray scores, types;
    if (metadata_.Has(Key("scores"))) {
      INK_ASSIGN_OR_RETURN(scores, metadata_.GetFloats(Key("scores")));
      INK_RETURN_IF_ERROR(CheckCount("scores", scores.size(), texts.size()));
    }
    if (metadata_.Has(Key("token_type"))) {
      INK_ASSIGN_OR_RETURN(types, metadata_.GetInts(Key("token_type")));
      INK_RETURN_IF_ERROR(CheckCount("token_type", types.size(), texts.size()));
    }
    spec_.tokens.reserve(texts.size());
    for (const std::string_view text : texts) {
      const size_t id = spec_.tokens.size();
      TokenEntry token;
      token.text = text.empty() ? "[EMPTY_" + std::to_string(id) + "]" : std::string(text);
      if (!scores.empty()) token.score = static_cast<float>(scores.Float(id));
      if (!types.empty()) {
        const int64_t type = types.Int(id);
        token.type = type >= 0 && type <= 6 ? static_cast<TokenType>(type) : TokenType::kUndefined;
      }
      spec_.tokens.push_back(std::move(token));
    }
    return OkStatus();
  }

  Status CheckCount(std::string_view key, size_t actual, size_t tokens) const {
    if (actual >= tokens) return OkStatus();
    return Corrupt(Mismatch(metadata_.source(), Key(key),
                            std::to_string(tokens) + " values, one for each token",
                            std::to_string(actual)));
  }

  Status MakeBpe(std::string_view pre) {
    if (pre.empty()) {
      Warn(metadata_.source() +
           ": tokenizer.ggml.pre is missing, text is split by the rule \"default\"");
    }
    Result<PreTokenizerInfo> found = FindPreTokenizer(pre);
    if (!found.ok()) return found.status().WithContext(metadata_.source());
    PreTokenizerInfo info = std::move(found).value();
    ModelSpec& model = spec_.model;
    model.kind = ModelKind::kBpe;
    model.ignore_merges = info.ignore_merges;
    model.unknown_separates = true;
    model.newline_runs_whole = info.newline_runs_whole;
    spec_.pre_tokenizer = std::move(info.steps);
    default_add_bos_ = info.add_bos;
    always_add_bos_ = info.newline_runs_whole;
    if (info.byte_level) {
      spec_.decoder.push_back({.kind = DecoderStep::Kind::kByteLevel});
    } else {
      model.byte_fallback = true;
      spec_.normalizer.push_back(
          {.kind = NormalizerStep::Kind::kReplace, .pattern = " ", .content = kMetaspace});
      AddSentencePieceDecoder(/*strip=*/false);
    }
    return OkStatus();
  }

  Status ReadMerges(bool required) {
    if (!required && !metadata_.Has(Key("merges"))) return OkStatus();
    INK_ASSIGN_OR_RETURN(const StringArray merges, metadata_.GetStrings(Key("merges")));
    StringIndex index;
    size_t bytes = 0;
    for (const TokenEntry& token : spec_.tokens) bytes += token.text.size();
    index.Reserve(spec_.tokens.size(), bytes);
    for (size_t id = 0; id < spec_.tokens.size(); ++id) {
      index.Insert(spec_.tokens[id].text, static_cast<int32_t>(id));
    }
    spec_.model.merges.reserve(merges.size());
    std::string joined;
    for (const std::string_view merge : merges) {
      // The left part may itself begin with a space.
      const size_t space = merge.find(' ', 1);
      if (space == std::string_view::npos) {
        return Corrupt(Mismatch(metadata_.source(), Key("merges"),
                                "two tokens with a space between them", Quoted(merge)));
      }
      const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
      joined.assign(left);
      joined += right;
      const Merge ids{index.Find(left), index.Find(right), index.Find(joined)};
      if (ids.left < 0 || ids.right < 0 || ids.result < 0) {
        const std::string_view missing = ids.left < 0 ? left : ids.right < 0 ? right : joined;
        return Corrupt(metadata_.source() + ": tokenizer.ggml.merges: " + Quoted(merge) +
                       " needs the token " + Quoted(missing) + ", there is none");
      }
      spec_.model.merges.push_back(ids);
    }
    return OkStatus();
  }

  Status MakeSentencePiece() {
    spec_.model.kind = ModelKind::kSentencePieceBpe;
    spec_.model.byte_fallback = true;
    unknown_model_token_ = true;
    default_add_bos_ = true;
    spec_.special.bos = Default(1);
    spec_.special.eos = Default(2);
    spec_.special.unk = Default(0);
    INK_ASSIGN_OR_RETURN(const bool add_prefix, metadata_.GetBool(Key("add_space_prefix"), true));
    if (add_prefix) {
      spec_.normalizer.push_back({.kind = NormalizerStep::Kind::kPrepend, .content = kMetaspace});
    }
    spec_.normalizer.push_back(
        {.kind = NormalizerStep::Kind::kReplace, .pattern = " ", .content = kMetaspace});
    AddSentencePieceDecoder(add_prefix);
    return OkStatus();
  }

  void AddSentencePieceDecoder(bool strip) {
    using Kind = DecoderStep::Kind;
    spec_.decoder.push_back({.kind = Kind::kReplace, .pattern = kMetaspace, .content = " "});
    spec_.decoder.push_back({.kind = Kind::kByteFallback});
    spec_.decoder.push_back({.kind = Kind::kFuse});
    if (strip) spec_.decoder.push_back({.kind = Kind::kStrip, .content = " ", .start = 1});
  }

  Status MakeUnigram() {
    spec_.model.kind = ModelKind::kUnigram;
    unknown_model_token_ = true;
    default_add_eos_ = true;
    spec_.special.eos = Default(1);
    spec_.special.unk = Default(2);
    spec_.special.pad = Default(0);
    NormalizerStep step{.kind = NormalizerStep::Kind::kSentencePiece};
    INK_ASSIGN_OR_RETURN(step.add_space_prefix, metadata_.GetBool(Key("add_space_prefix"), false));
    INK_ASSIGN_OR_RETURN(step.merge_spaces,
                         metadata_.GetBool(Key("remove_extra_whitespaces"), false));
    if (metadata_.Has(Key("precompiled_charsmap"))) {
      INK_ASSIGN_OR_RETURN(const NumberArray map, metadata_.GetInts(Key("precompiled_charsmap")));
      if (map.type() != MetadataType::kU8 && map.type() != MetadataType::kI8) {
        return Corrupt(Mismatch(metadata_.source(), Key("precompiled_charsmap"),
                                "an array of bytes",
                                "one of " + std::string(MetadataTypeName(map.type()))));
      }
      step.charsmap.reserve(map.size());
      for (size_t i = 0; i < map.size(); ++i) {
        step.charsmap.push_back(static_cast<char>(map.Int(i)));
      }
    }
    const bool strip = step.add_space_prefix;
    spec_.normalizer.push_back(std::move(step));
    AddSentencePieceDecoder(strip);
    for (TokenEntry& token : spec_.tokens) {
      // Only these take part in the search, and user-defined ones are certain.
      token.in_model = token.type == TokenType::kNormal || token.type == TokenType::kUserDefined ||
                       token.type == TokenType::kUnused;
      if (token.type == TokenType::kUserDefined) token.score = 0;
    }
    return OkStatus();
  }

  Status MakeWordPiece() {
    spec_.model.kind = ModelKind::kWordPiece;
    spec_.model.max_word_chars = 0;
    unknown_model_token_ = true;
    spec_.special.bos = Default(101);
    spec_.special.unk = Default(100);
    spec_.special.sep = Default(102);
    spec_.special.pad = Default(0);
    spec_.special.mask = Default(103);
    NormalizerStep step{.kind = NormalizerStep::Kind::kBert};
    INK_ASSIGN_OR_RETURN(step.lowercase, metadata_.GetBool(Key("normalizer.lowercase"), true));
    INK_ASSIGN_OR_RETURN(step.strip_accents,
                         metadata_.GetBool(Key("normalizer.strip_accents"), step.lowercase));
    step.llama_cpp_bert = true;
    spec_.normalizer.push_back(step);
    spec_.pre_tokenizer.push_back({.kind = PreTokenizerStep::Kind::kBert});
    spec_.decoder.push_back({.kind = DecoderStep::Kind::kWordPiece,
                             .content = spec_.model.word_prefix,
                             .cleanup = false});
    // The file marks words by a leading ▁ and leaves continuations bare; here it is the reverse.
    for (TokenEntry& token : spec_.tokens) {
      if (token.text.starts_with(kMetaspace) && token.text.size() > kMetaspace.size()) {
        token.text.erase(0, kMetaspace.size());
      } else if (!token.text.starts_with('[') || !token.text.ends_with(']')) {
        token.text = spec_.model.word_prefix + token.text;
      }
    }
    return OkStatus();
  }

  int32_t Default(int32_t id) const {
    return static_cast<size_t>(id) < spec_.tokens.size() ? id : kNoToken;
  }

  Status ReadRoles() {
    for (const gguf_vocab::RoleKey& role : gguf_vocab::RoleKeys()) {
      INK_RETURN_IF_ERROR(ReadId(Key(role.name), &(spec_.special.*role.id)));
    }
    INK_RETURN_IF_ERROR(ReadId(Key("prefix_token_id"), &spec_.special.fim_pre));
    INK_RETURN_IF_ERROR(ReadId(Key("suffix_token_id"), &spec_.special.fim_suf));
    INK_RETURN_IF_ERROR(ReadId(Key("middle_token_id"), &spec_.special.fim_mid));
    // SpecToGguf's own: all tokens that end generation, where there are several.
    if (!metadata_.Has(Key("eos_token_ids"))) return OkStatus();
    INK_ASSIGN_OR_RETURN(const NumberArray ids, metadata_.GetInts(Key("eos_token_ids")));
    for (size_t i = 0; i < ids.size(); ++i) {
      const int64_t id = ids.Int(i);
      if (id >= 0 && static_cast<size_t>(id) < spec_.tokens.size()) {
        spec_.end_of_generation.push_back(static_cast<int32_t>(id));
      }
    }
    return OkStatus();
  }

  Status ReadId(const std::string& key, int32_t* id) {
    if (!metadata_.Has(key)) return OkStatus();
    INK_ASSIGN_OR_RETURN(const int64_t value, metadata_.GetI64(key));
    if (value >= 0 && static_cast<size_t>(value) < spec_.tokens.size()) {
      *id = static_cast<int32_t>(value);
    } else {
      // Published files use out-of-range values, -1 and 2^32-1 among them, for "none".
      Warn(Mismatch(metadata_.source(), key, "a token of " + std::to_string(spec_.tokens.size()),
                    std::to_string(value)) +
           "; it is ignored");
    }
    return OkStatus();
  }

  void MakeAddedTokens() {
    spec_.added_longest_first = true;
    spec_.added_decode_verbatim = true;
    for (size_t id = 0; id < spec_.tokens.size(); ++id) {
      const TokenType type = spec_.tokens[id].type;
      if (type != TokenType::kControl && type != TokenType::kUserDefined &&
          type != TokenType::kUnknown) {
        continue;
      }
      spec_.added.push_back(
          {.id = static_cast<int32_t>(id), .special = type != TokenType::kUserDefined});
    }
    ApplyStripRules();
  }

  // What files do not say about white space around added tokens, by the model's name.
  void ApplyStripRules() {
    const Result<std::string_view> stated = metadata_.GetString("general.name", "");
    std::string name(stated.ok() ? *stated : "");
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const auto contains = [](std::string_view text, std::string_view part) {
      return text.find(part) != std::string_view::npos;
    };
    const auto each = [&](auto apply) {
      for (AddedToken& token : spec_.added) apply(spec_.tokens[token.id].text, &token);
    };
    const std::string& pre = spec_.pre_name;
    if (contains(pre, "jina-v2-de") || contains(pre, "jina-v2-es") ||
        contains(pre, "jina-v2-code")) {
      each([](const std::string& text, AddedToken* token) {
        if (text == "<mask>") token->lstrip = true;
      });
    } else if (contains(name, "phi-3") || contains(name, "phi3")) {
      each([](const std::string& text, AddedToken* token) {
        token->rstrip = text != "<unk>" && text != "<s>" && text != "<|endoftext|>";
      });
    } else if (contains(name, "modern-bert")) {
      each([](const std::string& text, AddedToken* token) {
        if (text == "[MASK]") token->lstrip = true;
      });
    }
  }

  // `always`: BERT puts its tokens around every text, whatever the flags say.
  Status ReadAffixes(bool always) {
    INK_ASSIGN_OR_RETURN(bool bos, metadata_.GetBool(Key("add_bos_token"), default_add_bos_));
    INK_ASSIGN_OR_RETURN(bool eos, metadata_.GetBool(Key("add_eos_token"), default_add_eos_));
    bos |= always_add_bos_ || always;
    if (always) {
      spec_.special.cls = spec_.special.bos;
      if (spec_.special.bos != kNoToken) spec_.prefix.push_back(spec_.special.bos);
      if (spec_.special.sep != kNoToken) spec_.suffix.push_back(spec_.special.sep);
      spec_.add_bos = !spec_.prefix.empty();
      return OkStatus();
    }
    if (bos && spec_.special.bos == kNoToken) {
      Warn(metadata_.source() + ": texts should begin with a bos token, but the file names none");
      bos = false;
    }
    if (eos && spec_.special.eos == kNoToken) {
      Warn(metadata_.source() + ": texts should end with an eos token, but the file names none");
      eos = false;
    }
    if (bos) spec_.prefix.push_back(spec_.special.bos);
    if (eos) spec_.suffix.push_back(spec_.special.eos);
    spec_.add_bos = bos;
    spec_.add_eos = eos;
    return OkStatus();
  }

  static constexpr std::string_view kMetaspaceView = "\xE2\x96\x81";
  const std::string kMetaspace{kMetaspaceView};

  const Metadata& metadata_;
  std::vector<std::string>* warnings_;
  TokenizerSpec spec_;
  bool default_add_bos_ = false, default_add_eos_ = false, always_add_bos_ = false;
  bool unknown_model_token_ = false;
};

}  // namespace

Result<TokenizerSpec> SpecFromGguf(const Metadata& metadata, std::vector<std::string>* warnings) {
  INK_ASSIGN_OR_RETURN(TokenizerSpec spec, Reader(metadata, warnings).Run());
  const Status valid = ValidateSpec(spec);
  if (!valid.ok()) return valid.WithContext(metadata.source());
  return spec;
}

Result<std::shared_ptr<const Tokenizer>> TokenizerFromGguf(const Metadata& metadata,
                                                           std::vector<std::string>* warnings) {
  INK_ASSIGN_OR_RETURN(TokenizerSpec spec, Reader(metadata, warnings).Run());
  Result<std::shared_ptr<const Tokenizer>> tokenizer = BuildTokenizer(std::move(spec));
  if (!tokenizer.ok()) return tokenizer.status().WithContext(metadata.source());
  return tokenizer;
}

}  // namespace ink
