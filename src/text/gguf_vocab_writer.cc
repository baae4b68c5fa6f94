// SpecToGguf: a tokenizer as GGUF metadata.
#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "formats/quote.h"
#include "text/gguf_vocab.h"
#include "text/gguf_vocab_parts.h"
#include "text/pre_tokenizer_table.h"
#include "text/token_decoder.h"
#include "text/tokenizer_json_parts.h"
#include "text/unicode.h"

namespace ink {
namespace {

using gguf_vocab::Key;

constexpr std::string_view kMetaspace = "\xE2\x96\x81";

bool IsByteLevel(const TokenizerSpec& spec) {
  return !spec.pre_tokenizer.empty() &&
         spec.pre_tokenizer.back().kind == PreTokenizerStep::Kind::kByteLevel;
}

// Scores under which SentencePiece's rule comes close to a list of merges: earlier is better.
std::vector<float> ScoresFromMerges(const TokenizerSpec& spec) {
  std::vector<float> scores(spec.tokens.size(), -1e6f);
  std::vector<bool> seen(spec.tokens.size());
  float next = 0;
  for (const Merge& merge : spec.model.merges) {
    if (seen[merge.result]) continue;
    seen[merge.result] = true;
    scores[merge.result] = next--;
  }
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const TokenType type = spec.tokens[id].type;
    if (type != TokenType::kNormal && type != TokenType::kUserDefined) scores[id] = 0;
  }
  return scores;
}

class Writer {
 public:
  Writer(const TokenizerSpec& spec, Metadata* metadata) : spec_(spec), metadata_(*metadata) {}

  Status Run(std::vector<std::string>* warnings) {
    EraseOld();
    INK_RETURN_IF_ERROR(WriteModel());
    WriteTokens();
    WriteRoles();
    return WriteComponentsIfNeeded(warnings);
  }

 private:
  void EraseOld() {
    std::vector<std::string> old;
    for (const Metadata::Entry& entry : metadata_.entries()) {
      if (entry.key.starts_with("tokenizer.") || entry.key == gguf_vocab::kComponentsKey) {
        old.emplace_back(entry.key);
      }
    }
    for (const std::string& key : old) metadata_.Erase(key);
  }

  Status WriteModel() {
    switch (spec_.model.kind) {
      case ModelKind::kBpe:
        return WriteBpe();
      case ModelKind::kSentencePieceBpe:
        metadata_.SetString(Key("model"), "llama");
        metadata_.SetString(Key("pre"), "default");
        WriteScores();
        WriteSpacePrefix();
        return OkStatus();
      case ModelKind::kUnigram:
        WriteUnigram();
        return OkStatus();
      case ModelKind::kWordPiece:
        WriteWordPiece();
        return OkStatus();
    }
    return OkStatus();
  }

  Status WriteBpe() {
    std::string pre = NameOfPreTokenizer(spec_);
    if (!pre.empty() || IsByteLevel(spec_)) {
      if (pre.empty()) pre = NearNameOfPreTokenizer(spec_);
      // A name that other programs refuse rather than tokenize wrongly by.
      if (pre.empty()) pre = "inkstone";
      metadata_.SetString(Key("model"), "gpt2");
      metadata_.SetString(Key("pre"), pre);
    } else {
      metadata_.SetString(Key("model"), "llama");
      metadata_.SetString(Key("pre"), "default");
      metadata_.SetF32s(Key("scores"), ScoresFromMerges(spec_));
      WriteSpacePrefix();
    }
    std::vector<std::string> merges;
    merges.reserve(spec_.model.merges.size());
    for (const Merge& merge : spec_.model.merges) {
      const std::string& left = spec_.tokens[merge.left].text;
      if (left.find(' ', 1) != std::string::npos) {
        return Unsupported("a GGUF file cannot hold the merge of " + Quoted(left) +
                           ", which has a space inside");
      }
      merges.push_back(left + " " + spec_.tokens[merge.right].text);
    }
    metadata_.SetStrings(Key("merges"), merges);
    return OkStatus();
  }

  void WriteScores() {
    std::vector<float> scores;
    scores.reserve(spec_.tokens.size());
    for (const TokenEntry& token : spec_.tokens) scores.push_back(token.score);
    metadata_.SetF32s(Key("scores"), scores);
  }

  void WriteSpacePrefix() {
    const bool prepends = std::any_of(spec_.normalizer.begin(), spec_.normalizer.end(),
                                      [](const NormalizerStep& step) {
                                        return step.kind == NormalizerStep::Kind::kPrepend;
                                      }) ||
                          std::any_of(spec_.pre_tokenizer.begin(), spec_.pre_tokenizer.end(),
                                      [](const PreTokenizerStep& step) {
                                        return step.kind == PreTokenizerStep::Kind::kMetaspace &&
                                               step.prepend != PrependScheme::kNever;
                                      });
    metadata_.SetBool(Key("add_space_prefix"), prepends);
  }

  void WriteUnigram() {
    metadata_.SetString(Key("model"), "t5");
    metadata_.SetString(Key("pre"), "default");
    WriteScores();
    bool add_prefix = true, merge_spaces = true;
    for (const NormalizerStep& step : spec_.normalizer) {
      if (!step.charsmap.empty()) {
        metadata_.SetBytes(
            Key("precompiled_charsmap"),
            {reinterpret_cast<const uint8_t*>(step.charsmap.data()), step.charsmap.size()});
      }
      if (step.kind == NormalizerStep::Kind::kSentencePiece) {
        add_prefix = step.add_space_prefix;
        merge_spaces = step.merge_spaces;
      }
    }
    metadata_.SetBool(Key("add_space_prefix"), add_prefix);
    metadata_.SetBool(Key("remove_extra_whitespaces"), merge_spaces);
  }

  void WriteWordPiece() {
    metadata_.SetString(Key("model"), "bert");
    metadata_.SetString(Key("pre"), "default");
    for (const NormalizerStep& step : spec_.normalizer) {
      if (step.kind != NormalizerStep::Kind::kBert) continue;
      metadata_.SetBool(Key("normalizer.lowercase"), step.lowercase);
      metadata_.SetBool(Key("normalizer.strip_accents"), step.strip_accents);
    }
  }

  std::string TextInFile(const TokenEntry& token) const {
    if (spec_.model.kind != ModelKind::kWordPiece) return token.text;
    const std::string& prefix = spec_.model.word_prefix;
    if (token.text.starts_with(prefix) && token.text.size() > prefix.size()) {
      return token.text.substr(prefix.size());
    }
    if (token.text.starts_with('[') && token.text.ends_with(']')) return token.text;
    return std::string(kMetaspace) + token.text;
  }

  void WriteTokens() {
    std::vector<std::string> texts;
    std::vector<int32_t> types;
    texts.reserve(spec_.tokens.size());
    types.reserve(spec_.tokens.size());
    for (const TokenEntry& token : spec_.tokens) {
      texts.push_back(TextInFile(token));
      types.push_back(static_cast<int32_t>(token.type));
    }
    metadata_.SetStrings(Key("tokens"), texts);
    metadata_.SetI32s(Key("token_type"), types);
  }

  void WriteRoles() {
    for (const gguf_vocab::RoleKey& role : gguf_vocab::RoleKeys()) {
      const int32_t id = spec_.special.*role.id;
      if (id != kNoToken) metadata_.SetU32(Key(role.name), static_cast<uint32_t>(id));
    }
    metadata_.SetBool(Key("add_bos_token"), spec_.add_bos);
    metadata_.SetBool(Key("add_eos_token"), spec_.add_eos);
    if (!spec_.chat_template.empty()) {
      metadata_.SetString(gguf_vocab::kChatTemplateKey, spec_.chat_template);
    }
    if (!spec_.end_of_generation.empty()) {
      metadata_.SetI32s(Key("eos_token_ids"), spec_.end_of_generation);
    }
  }

  Status WriteComponentsIfNeeded(std::vector<std::string>* warnings) {
    const Result<TokenizerSpec> plain = SpecFromGguf(metadata_);
    if (plain.ok() && gguf_vocab::TokenizesAlike(spec_, *plain)) return OkStatus();
    metadata_.SetString(gguf_vocab::kComponentsKey, tokenizer_json::WriteComponents(spec_));
    const Result<TokenizerSpec> full = SpecFromGguf(metadata_);
    if (!full.ok()) return full.status();
    for (size_t id = 0; id < spec_.tokens.size(); ++id) {
      if (full->tokens[id].text == spec_.tokens[id].text) continue;
      return Unsupported("a GGUF file cannot hold token " + std::to_string(id) + ", " +
                         Quoted(spec_.tokens[id].text) + " reads back as " +
                         Quoted(full->tokens[id].text));
    }
    if (warnings != nullptr) {
      warnings->push_back(
          "GGUF's own keys cannot say how this tokenizer works exactly; the key " +
          std::string(gguf_vocab::kComponentsKey) +
          " does, which other programs do not read, so that they may tokenize some texts "
          "differently");
    }
    return OkStatus();
  }

  const TokenizerSpec& spec_;
  Metadata& metadata_;
};

// Whether no two added tokens can claim overlapping parts of a text, so that the order in which
// they are looked for does not matter: no token has the first byte of any token further inside.
bool AddedTokensNeverOverlap(const TokenizerSpec& spec) {
  std::array<bool, 256> first{};
  for (const AddedToken& token : spec.added) {
    first[static_cast<uint8_t>(spec.tokens[token.id].text[0])] = true;
  }
  return std::none_of(spec.added.begin(), spec.added.end(), [&](const AddedToken& token) {
    const std::string& text = spec.tokens[token.id].text;
    return std::any_of(text.begin() + 1, text.end(),
                       [&](char c) { return first[static_cast<uint8_t>(c)]; });
  });
}

bool SameAdded(const TokenizerSpec& a, const TokenizerSpec& b) {
  const auto collect = [](const TokenizerSpec& spec) {
    std::map<int32_t, std::array<bool, 5>> all;
    for (const AddedToken& t : spec.added) {
      all[t.id] = {t.special, t.normalized && !spec.normalizer.empty(), t.lstrip, t.rstrip,
                   t.single_word};
    }
    return all;
  };
  if (collect(a) != collect(b)) return false;
  return a.added_longest_first == b.added_longest_first || AddedTokensNeverOverlap(a);
}

// Whether every byte has a token, so that no character is unknown to a byte-level model.
bool KnowsAllBytes(const TokenizerSpec& spec) {
  std::array<bool, 256> known{};
  std::string bytes;
  for (const TokenEntry& token : spec.tokens) {
    if (token.in_model && PrintableToBytes(token.text, &bytes) && bytes.size() == 1) {
      known[static_cast<uint8_t>(bytes[0])] = true;
    }
  }
  return std::all_of(known.begin(), known.end(), [](bool k) { return k; });
}

bool SameModel(const TokenizerSpec& a, const TokenizerSpec& b) {
  const ModelSpec& m = a.model;
  const ModelSpec& n = b.model;
  if (m.kind != n.kind) return false;
  switch (m.kind) {
    case ModelKind::kBpe:
      if (m.merges != n.merges || m.ignore_merges != n.ignore_merges ||
          m.continuing_subword_prefix != n.continuing_subword_prefix ||
          m.end_of_word_suffix != n.end_of_word_suffix ||
          m.newline_runs_whole != n.newline_runs_whole) {
        return false;
      }
      if (IsByteLevel(a) && KnowsAllBytes(a)) return true;
      return m.unk == n.unk && m.byte_fallback == n.byte_fallback && m.fuse_unk == n.fuse_unk &&
             m.unknown_separates == n.unknown_separates;
    case ModelKind::kSentencePieceBpe:
      return m.unk == n.unk && m.byte_fallback == n.byte_fallback;
    case ModelKind::kUnigram:
      return m.unk == n.unk && m.byte_fallback == n.byte_fallback;
    case ModelKind::kWordPiece:
      return m.unk == n.unk && m.word_prefix == n.word_prefix &&
             m.max_word_chars == n.max_word_chars;
  }
  return false;
}

bool SameTokens(const TokenizerSpec& a, const TokenizerSpec& b) {
  if (a.tokens.size() != b.tokens.size()) return false;
  const bool scored =
      a.model.kind == ModelKind::kSentencePieceBpe || a.model.kind == ModelKind::kUnigram;
  for (size_t i = 0; i < a.tokens.size(); ++i) {
    const TokenEntry& x = a.tokens[i];
    const TokenEntry& y = b.tokens[i];
    if (x.text != y.text || (scored && (x.score != y.score || x.in_model != y.in_model))) {
      return false;
    }
  }
  return true;
}

bool SamePreTokenizer(const TokenizerSpec& a, const TokenizerSpec& b) {
  if (a.pre_tokenizer == b.pre_tokenizer) return true;
  const std::string name = NameOfPreTokenizer(a);
  return a.model.kind == ModelKind::kBpe && !name.empty() && name == NameOfPreTokenizer(b);
}

bool SameDecoding(const TokenizerSpec& a, const TokenizerSpec& b) {
  const Result<DecodeTable> x = MakeDecodeTable(a), y = MakeDecodeTable(b);
  return x.ok() && y.ok() && x->bytes == y->bytes && x->offsets == y->offsets &&
         x->leading_space == y->leading_space && x->drops_final_space == y->drops_final_space;
}

}  // namespace

bool gguf_vocab::TokenizesAlike(const TokenizerSpec& a, const TokenizerSpec& b) {
  return SameTokens(a, b) && SameModel(a, b) && a.normalizer == b.normalizer &&
         SamePreTokenizer(a, b) && SameAdded(a, b) && a.prefix == b.prefix &&
         a.suffix == b.suffix && SameDecoding(a, b);
}

Status SpecToGguf(const TokenizerSpec& spec, Metadata& metadata,
                  std::vector<std::string>* warnings) {
  INK_RETURN_IF_ERROR(ValidateSpec(spec));
  return Writer(spec, &metadata).Run(warnings);
}

}  // namespace ink
