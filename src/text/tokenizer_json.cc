#include "text/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <unordered_set>
#include <utility>

#include "base/atomic_file.h"
#include "formats/quote.h"
#include "text/json_reader.h"
#include "text/string_index.h"
#include "text/tokenizer_json_parts.h"
#include "text/unicode.h"

namespace ink {
namespace {

constexpr int64_t kMaxId = int64_t{1} << 24;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return id != kNoToken && std::find(ids.begin(), ids.end(), id) != ids.end();
}

class Reader {
 public:
  explicit Reader(const TokenizerFiles& files) : files_(files) {}

  Result<TokenizerSpec> Run() {
    {
      INK_ASSIGN_OR_RETURN(const nlohmann::json document,
                           JsonNode::Parse(files_.tokenizer_json, "tokenizer.json"));
      const JsonNode root(document, "tokenizer.json");
      INK_ASSIGN_OR_RETURN(const auto added, root.Find("added_tokens"));
      if (added) id_limit_ += 2 * static_cast<int64_t>(added->value().size());
      INK_RETURN_IF_ERROR(ReadModel(root));
      INK_RETURN_IF_ERROR(ReadComponents(root));
      if (added) INK_RETURN_IF_ERROR(ReadAddedTokens(*added));
    }
    spec_.special.unk = spec_.model.unk;
    if (!files_.tokenizer_config.empty()) INK_RETURN_IF_ERROR(ReadConfig());
    if (!files_.generation_config.empty()) INK_RETURN_IF_ERROR(ReadGenerationConfig());
    if (!files_.chat_template.empty()) spec_.chat_template = files_.chat_template;
    FillGaps();
    SetTypes();
    spec_.add_bos = Contains(spec_.prefix, spec_.special.bos);
    spec_.add_eos = Contains(spec_.suffix, spec_.special.eos);
    INK_RETURN_IF_ERROR(ValidateSpec(spec_));
    DetectSpecialTokens(spec_, /*control_only=*/true);
    return std::move(spec_);
  }

  // For a vocabulary that is there already: everything but tokens, merges and scores.
  Status ReadComponentsInto(std::string_view json, TokenizerSpec* spec) {
    spec_ = std::move(*spec);
    for (size_t id = 0; id < spec_.tokens.size(); ++id) {
      index_.Insert(spec_.tokens[id].text, static_cast<int32_t>(id));
    }
    INK_ASSIGN_OR_RETURN(const nlohmann::json document,
                         JsonNode::Parse(json, "the tokenizer's components"));
    const JsonNode root(document, "components");
    INK_ASSIGN_OR_RETURN(const JsonNode model, root.Get("model"));
    INK_ASSIGN_OR_RETURN(const std::string type, model.String("type", ""));
    std::vector<Merge> merges = std::move(spec_.model.merges);
    spec_.model = ModelSpec();
    INK_RETURN_IF_ERROR(ReadOptions(model, type));
    if (spec_.model.kind == ModelKind::kBpe) spec_.model.merges = std::move(merges);
    for (TokenEntry& token : spec_.tokens) token.in_model = true;
    spec_.normalizer.clear();
    spec_.pre_tokenizer.clear();
    spec_.decoder.clear();
    spec_.prefix.clear();
    spec_.suffix.clear();
    spec_.added.clear();
    INK_RETURN_IF_ERROR(ReadComponents(root));
    INK_ASSIGN_OR_RETURN(const auto added, root.Find("added_tokens"));
    if (added) INK_RETURN_IF_ERROR(ReadAddedTokens(*added));
    spec_.added_longest_first = false;
    spec_.added_decode_verbatim = false;
    INK_ASSIGN_OR_RETURN(const auto own, root.Find("inkstone"));
    if (own) INK_RETURN_IF_ERROR(ReadOwn(*own));
    SetTypes();
    *spec = std::move(spec_);
    return OkStatus();
  }

 private:
  // Gives token `id` its text; a gap between ids is filled later. Ids far beyond the number of
  // tokens that are listed would only cost memory.
  Status SetToken(const JsonNode& at, std::string_view text, int64_t id, bool in_model) {
    if (id < 0 || id >= std::min(kMaxId, id_limit_)) {
      return Corrupt(at.path() + ": token " + Quoted(text) + " has the id " + std::to_string(id) +
                     ", expected 0 to " + std::to_string(std::min(kMaxId, id_limit_) - 1));
    }
    if (text.empty()) return Corrupt(at.path() + ": token " + std::to_string(id) + " is empty");
    const size_t index = static_cast<size_t>(id);
    if (index >= spec_.tokens.size()) spec_.tokens.resize(index + 1);
    TokenEntry& token = spec_.tokens[index];
    if (!token.text.empty()) {
      return Corrupt(at.path() + ": the id " + std::to_string(id) + " belongs to " +
                     Quoted(token.text) + " and to " + Quoted(text));
    }
    if (!index_.Insert(text, static_cast<int32_t>(id))) {
      return Corrupt(at.path() + ": the token " + Quoted(text) + " is there twice");
    }
    token.text = text;
    token.in_model = in_model;
    return OkStatus();
  }

  Status ReadModel(const JsonNode& root) {
    INK_ASSIGN_OR_RETURN(const JsonNode model, root.Get("model"));
    INK_ASSIGN_OR_RETURN(const JsonNode vocab, model.Get("vocab"));
    INK_ASSIGN_OR_RETURN(std::string type, model.String("type", ""));
    if (type.empty()) {  // files of old versions
      INK_ASSIGN_OR_RETURN(const auto merges, model.Find("merges"));
      INK_ASSIGN_OR_RETURN(const auto longest, model.Find("max_input_chars_per_word"));
      type = vocab.value().is_array() ? "Unigram" : merges ? "BPE" : longest ? "WordPiece" : "";
    }
    if (type != "BPE" && type != "WordPiece" && type != "Unigram") {
      return Unsupported(model.path() + ": the model " + Quoted(type) + " is not supported");
    }
    id_limit_ += 2 * static_cast<int64_t>(vocab.value().size());
    index_.Reserve(vocab.value().size(), 0);
    spec_.tokens.reserve(std::min<size_t>(vocab.value().size(), kMaxId));
    if (type == "Unigram") {
      INK_RETURN_IF_ERROR(ReadScoredVocab(vocab));
    } else {
      INK_RETURN_IF_ERROR(vocab.ExpectObject());
      for (const auto& [text, id] : vocab.value().items()) {
        INK_ASSIGN_OR_RETURN(const int64_t value, JsonNode(id, vocab.path()).Integer());
        INK_RETURN_IF_ERROR(SetToken(vocab, text, value, true));
      }
    }
    INK_RETURN_IF_ERROR(ReadOptions(model, type));
    return type == "BPE" ? ReadMerges(model) : OkStatus();
  }

  // All of the model but its vocabulary and merges.
  Status ReadOptions(const JsonNode& model, const std::string& type) {
    ModelSpec& m = spec_.model;
    INK_ASSIGN_OR_RETURN(const std::string unk, model.String("unk_token", ""));
    if (!unk.empty()) m.unk = index_.Find(unk);
    INK_ASSIGN_OR_RETURN(m.byte_fallback, model.Bool("byte_fallback", false));
    if (type == "BPE") {
      m.kind = ModelKind::kBpe;
      INK_ASSIGN_OR_RETURN(const auto dropout, model.Find("dropout"));
      if (dropout) {
        INK_ASSIGN_OR_RETURN(const double value, dropout->Number());
        if (value != 0) {
          return Unsupported(dropout->path() + ": merges that are left out at random (" +
                             std::to_string(value) + ") are not supported");
        }
      }
      INK_ASSIGN_OR_RETURN(m.continuing_subword_prefix,
                           model.String("continuing_subword_prefix", ""));
      INK_ASSIGN_OR_RETURN(m.end_of_word_suffix, model.String("end_of_word_suffix", ""));
      INK_ASSIGN_OR_RETURN(m.fuse_unk, model.Bool("fuse_unk", false));
      INK_ASSIGN_OR_RETURN(m.ignore_merges, model.Bool("ignore_merges", false));
      return OkStatus();
    }
    if (type == "WordPiece") {
      m.kind = ModelKind::kWordPiece;
      INK_ASSIGN_OR_RETURN(m.word_prefix, model.String("continuing_subword_prefix", "##"));
      INK_ASSIGN_OR_RETURN(const int64_t longest, model.Integer("max_input_chars_per_word", 100));
      if (longest < 1 || longest > INT32_MAX) {
        return Corrupt(model.path() + ": max_input_chars_per_word is " + std::to_string(longest) +
                       ", expected 1 or more");
      }
      m.max_word_chars = static_cast<int32_t>(longest);
      if (m.unk == kNoToken) {
        return Corrupt(model.path() + ": unk_token is not in the vocabulary");
      }
      return OkStatus();
    }
    if (type == "Unigram") {
      m.kind = ModelKind::kUnigram;
      INK_ASSIGN_OR_RETURN(const int64_t id, model.Integer("unk_id", kNoToken));
      if (id < kNoToken || id >= static_cast<int64_t>(spec_.tokens.size())) {
        return Corrupt(model.path() + ": unk_id is " + std::to_string(id) +
                       ", the vocabulary has " + std::to_string(spec_.tokens.size()) + " tokens");
      }
      m.unk = static_cast<int32_t>(id);
      return OkStatus();
    }
    return Unsupported(model.path() + ": the model " + Quoted(type) + " is not supported");
  }

  Status ReadMerges(const JsonNode& model) {
    ModelSpec& m = spec_.model;
    INK_ASSIGN_OR_RETURN(const JsonNode merges, model.Get("merges"));
    INK_RETURN_IF_ERROR(merges.ExpectArray());
    m.merges.reserve(merges.value().size());
    std::string joined;
    for (size_t i = 0; i < merges.value().size(); ++i) {
      const nlohmann::json& entry = merges.value()[i];
      std::string_view left, right;
      if (entry.is_string()) {
        const std::string_view line = entry.get_ref<const std::string&>();
        const size_t space = line.find(' ');
        if (space == std::string_view::npos || line.find(' ', space + 1) != line.npos) {
          return merges.At(i).Wrong("two tokens with one space between them");
        }
        left = line.substr(0, space);
        right = line.substr(space + 1);
      } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() &&
                 entry[1].is_string()) {
        left = entry[0].get_ref<const std::string&>();
        right = entry[1].get_ref<const std::string&>();
      } else {
        return merges.At(i).Wrong("a string or a pair of strings");
      }
      joined.assign(left);
      const std::string_view prefix = m.continuing_subword_prefix;
      joined += right.starts_with(prefix) ? right.substr(prefix.size()) : right;
      const Merge merge{index_.Find(left), index_.Find(right), index_.Find(joined)};
      if (merge.left < 0 || merge.right < 0 || merge.result < 0) {
        const std::string_view missing = merge.left < 0 ? left : merge.right < 0 ? right : joined;
        return Corrupt(merges.At(i).path() + ": the merge of " + Quoted(left) + " and " +
                       Quoted(right) + " needs the token " + Quoted(missing) + ", there is none");
      }
      m.merges.push_back(merge);
    }
    return OkStatus();
  }

  Status ReadScoredVocab(const JsonNode& vocab) {
    INK_RETURN_IF_ERROR(vocab.ExpectArray());
    for (size_t i = 0; i < vocab.value().size(); ++i) {
      const nlohmann::json& entry = vocab.value()[i];
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() ||
          !entry[1].is_number()) {
        return vocab.At(i).Wrong("a token and its score");
      }
      INK_RETURN_IF_ERROR(
          SetToken(vocab, entry[0].get_ref<const std::string&>(), static_cast<int64_t>(i), true));
      spec_.tokens[i].score = entry[1].get<float>();
    }
    return OkStatus();
  }

  Status ReadComponents(const JsonNode& root) {
    using namespace tokenizer_json;  // NOLINT: the reader's own pieces
    INK_ASSIGN_OR_RETURN(const auto normalizer, root.Find("normalizer"));
    if (normalizer) INK_RETURN_IF_ERROR(ReadNormalizer(*normalizer, &spec_.normalizer));
    INK_ASSIGN_OR_RETURN(const auto pre_tokenizer, root.Find("pre_tokenizer"));
    if (pre_tokenizer) {
      INK_RETURN_IF_ERROR(ReadPreTokenizer(*pre_tokenizer, &spec_.pre_tokenizer));
    }
    INK_ASSIGN_OR_RETURN(const auto post, root.Find("post_processor"));
    if (post) INK_RETURN_IF_ERROR(ReadPostProcessor(*post, &spec_.prefix, &spec_.suffix));
    INK_ASSIGN_OR_RETURN(const auto decoder, root.Find("decoder"));
    if (decoder) return ReadDecoder(*decoder, &spec_.decoder);
    // Without a decoder tokens are joined by spaces.
    using Kind = DecoderStep::Kind;
    spec_.decoder.push_back(
        {.kind = Kind::kReplace, .pattern = "\\A", .pattern_is_regex = true, .content = " "});
    spec_.decoder.push_back({.kind = Kind::kFuse});
    spec_.decoder.push_back({.kind = Kind::kStrip, .content = " ", .start = 1});
    return OkStatus();
  }

  // The id of an added token: that of the model's vocabulary, if it is there.
  Result<int32_t> AddToken(const JsonNode& at, const std::string& content, int64_t id) {
    const int32_t known = index_.Find(content);
    if (known >= 0) return known;
    INK_RETURN_IF_ERROR(SetToken(at, content, id, false));
    return static_cast<int32_t>(id);
  }

  Result<AddedToken> ReadAddedToken(const JsonNode& node, int64_t id) {
    INK_ASSIGN_OR_RETURN(const JsonNode content_node, node.Get("content"));
    INK_ASSIGN_OR_RETURN(const std::string content, content_node.String());
    AddedToken token;
    INK_ASSIGN_OR_RETURN(token.special, node.Bool("special", false));
    INK_ASSIGN_OR_RETURN(token.normalized, node.Bool("normalized", !token.special));
    INK_ASSIGN_OR_RETURN(token.lstrip, node.Bool("lstrip", false));
    INK_ASSIGN_OR_RETURN(token.rstrip, node.Bool("rstrip", false));
    INK_ASSIGN_OR_RETURN(token.single_word, node.Bool("single_word", false));
    INK_ASSIGN_OR_RETURN(token.id, AddToken(node, content, id));
    return token;
  }

  Status ReadAddedTokens(const JsonNode& list) {
    INK_RETURN_IF_ERROR(list.ExpectArray());
    for (size_t i = 0; i < list.value().size(); ++i) {
      const JsonNode node = list.At(i);
      INK_ASSIGN_OR_RETURN(const JsonNode id_node, node.Get("id"));
      INK_ASSIGN_OR_RETURN(const int64_t id, id_node.Integer());
      INK_ASSIGN_OR_RETURN(const AddedToken token, ReadAddedToken(node, id));
      if (!added_ids_.insert(token.id).second) {
        return Corrupt(node.path() + ": the token " + Quoted(spec_.tokens[token.id].text) +
                       " is added twice");
      }
      spec_.added.push_back(token);
    }
    return OkStatus();
  }

  // "</s>" or {"content": "</s>", ...}; kNoToken when absent or not in the vocabulary.
  Result<int32_t> Role(const JsonNode& config, const char* key) {
    INK_ASSIGN_OR_RETURN(const auto found, config.Find(key));
    if (!found) return kNoToken;
    if (found->value().is_object()) {
      INK_ASSIGN_OR_RETURN(const std::string content, found->String("content", ""));
      return content.empty() ? kNoToken : index_.Find(content);
    }
    INK_ASSIGN_OR_RETURN(const std::string content, found->String());
    return content.empty() ? kNoToken : index_.Find(content);
  }

  Status ReadConfig() {
    INK_ASSIGN_OR_RETURN(const nlohmann::json document,
                         JsonNode::Parse(files_.tokenizer_config, "tokenizer_config.json"));
    const JsonNode config(document, "tokenizer_config.json");
    INK_RETURN_IF_ERROR(config.ExpectObject());
    INK_ASSIGN_OR_RETURN(const auto decoder, config.Find("added_tokens_decoder"));
    if (decoder) INK_RETURN_IF_ERROR(ReadAddedTokensDecoder(*decoder));

    SpecialIds& special = spec_.special;
    const std::array<std::pair<const char*, int32_t*>, 7> roles = {{{"bos_token", &special.bos},
                                                                    {"eos_token", &special.eos},
                                                                    {"unk_token", &special.unk},
                                                                    {"sep_token", &special.sep},
                                                                    {"pad_token", &special.pad},
                                                                    {"cls_token", &special.cls},
                                                                    {"mask_token", &special.mask}}};
    for (const auto& [key, id] : roles) {
      INK_ASSIGN_OR_RETURN(const int32_t found, Role(config, key));
      if (found != kNoToken) *id = found;
    }
    INK_RETURN_IF_ERROR(ApplyBosFlags(config));
    INK_RETURN_IF_ERROR(ReadChatTemplate(config));
    INK_ASSIGN_OR_RETURN(const auto own, config.Find("inkstone"));
    if (own) return ReadOwn(*own);
    return OkStatus();
  }

  // {"32000": {"content": "<|im_end|>", "special": true, ...}, ...}: mostly what tokenizer.json
  // says too.
  Status ReadAddedTokensDecoder(const JsonNode& list) {
    INK_RETURN_IF_ERROR(list.ExpectObject());
    id_limit_ += 2 * static_cast<int64_t>(list.value().size());
    for (const auto& [key, value] : list.value().items()) {
      const JsonNode node(value, list.path() + "." + key);
      INK_ASSIGN_OR_RETURN(const std::string content, node.String("content", ""));
      if (content.empty() || index_.Find(content) >= 0) continue;
      int64_t id = 0;
      for (const char c : key) {
        if (c < '0' || c > '9' || id > kMaxId) return Corrupt(node.path() + " is no token id");
        id = id * 10 + (c - '0');
      }
      if (static_cast<size_t>(id) < spec_.tokens.size() && !spec_.tokens[id].text.empty()) continue;
      INK_ASSIGN_OR_RETURN(const AddedToken token, ReadAddedToken(node, id));
      if (added_ids_.insert(token.id).second) spec_.added.push_back(token);
    }
    return OkStatus();
  }

  // The tokenizer classes of these families rewrite their post-processor from the flags.
  Status ApplyBosFlags(const JsonNode& config) {
    INK_ASSIGN_OR_RETURN(const std::string name, config.String("tokenizer_class", ""));
    static constexpr std::array<std::string_view, 6> kClasses = {
        "LlamaTokenizer",         "LlamaTokenizerFast", "CodeLlamaTokenizer",
        "CodeLlamaTokenizerFast", "GemmaTokenizer",     "GemmaTokenizerFast"};
    if (std::find(kClasses.begin(), kClasses.end(), name) == kClasses.end()) return OkStatus();
    INK_ASSIGN_OR_RETURN(const auto has_bos, config.Find("add_bos_token"));
    INK_ASSIGN_OR_RETURN(const auto has_eos, config.Find("add_eos_token"));
    if (has_bos) {
      INK_ASSIGN_OR_RETURN(const bool add, config.Bool("add_bos_token", false));
      spec_.prefix.clear();
      if (add && spec_.special.bos != kNoToken) spec_.prefix.push_back(spec_.special.bos);
    }
    if (has_eos) {
      INK_ASSIGN_OR_RETURN(const bool add, config.Bool("add_eos_token", false));
      spec_.suffix.clear();
      if (add && spec_.special.eos != kNoToken) spec_.suffix.push_back(spec_.special.eos);
    }
    return OkStatus();
  }

  // A string, or [{"name": "default", "template": "..."}, ...].
  Status ReadChatTemplate(const JsonNode& config) {
    INK_ASSIGN_OR_RETURN(const auto found, config.Find("chat_template"));
    if (!found) return OkStatus();
    if (found->value().is_string()) {
      INK_ASSIGN_OR_RETURN(spec_.chat_template, found->String());
      return OkStatus();
    }
    INK_RETURN_IF_ERROR(found->ExpectArray());
    for (size_t i = 0; i < found->value().size(); ++i) {
      const JsonNode entry = found->At(i);
      INK_ASSIGN_OR_RETURN(const std::string name, entry.String("name", ""));
      INK_ASSIGN_OR_RETURN(std::string text, entry.String("template", ""));
      if (i == 0 || name == "default") spec_.chat_template = std::move(text);
    }
    return OkStatus();
  }

  // What SpecToJson keeps beyond the components of Hugging Face.
  Status ReadOwn(const JsonNode& own) {
    INK_ASSIGN_OR_RETURN(spec_.added_longest_first, own.Bool("added_longest_first", false));
    INK_ASSIGN_OR_RETURN(spec_.added_decode_verbatim, own.Bool("added_decode_verbatim", false));
    INK_ASSIGN_OR_RETURN(spec_.model.unknown_separates, own.Bool("unknown_separates", false));
    INK_ASSIGN_OR_RETURN(spec_.model.newline_runs_whole, own.Bool("newline_runs_whole", false));
    INK_ASSIGN_OR_RETURN(spec_.pre_name, own.String("pre", ""));
    INK_ASSIGN_OR_RETURN(const bool no_limit, own.Bool("words_of_any_length", false));
    if (no_limit) spec_.model.max_word_chars = 0;
    INK_ASSIGN_OR_RETURN(const bool bert, own.Bool("llama_cpp_bert", false));
    if (bert) {
      // The plain components beside it only come close.
      std::erase_if(spec_.normalizer, [](const NormalizerStep& step) {
        return step.kind != NormalizerStep::Kind::kBert;
      });
      INK_ASSIGN_OR_RETURN(const bool accents, own.Bool("strip_accents", true));
      for (NormalizerStep& step : spec_.normalizer) {
        step.llama_cpp_bert = true;
        step.strip_accents = accents;
      }
    }
    INK_ASSIGN_OR_RETURN(const auto spaces, own.Find("sentencepiece_normalizer"));
    if (spaces) {
      NormalizerStep step{.kind = NormalizerStep::Kind::kSentencePiece};
      for (const NormalizerStep& plain : spec_.normalizer) {
        if (plain.kind == NormalizerStep::Kind::kPrecompiled) step.charsmap = plain.charsmap;
      }
      INK_ASSIGN_OR_RETURN(step.add_space_prefix, spaces->Bool("add_space_prefix", true));
      INK_ASSIGN_OR_RETURN(step.space_as_suffix, spaces->Bool("space_as_suffix", false));
      INK_ASSIGN_OR_RETURN(step.merge_spaces, spaces->Bool("merge_spaces", true));
      spec_.normalizer = {std::move(step)};
      spec_.pre_tokenizer.clear();
    }
    INK_RETURN_IF_ERROR(
        ForEachId(own, "outside_model", [](TokenEntry& token) { token.in_model = false; }));
    INK_RETURN_IF_ERROR(
        ForEachId(own, "unused", [](TokenEntry& token) { token.type = TokenType::kUnused; }));
    INK_ASSIGN_OR_RETURN(const bool sentencepiece, own.Bool("sentencepiece_bpe", false));
    if (sentencepiece) {
      spec_.model.kind = ModelKind::kSentencePieceBpe;
      spec_.model.merges.clear();
    }
    INK_ASSIGN_OR_RETURN(const auto scores, own.Find("scores"));
    if (!scores) return OkStatus();
    INK_RETURN_IF_ERROR(scores->ExpectArray());
    if (scores->value().size() != spec_.tokens.size()) {
      return Corrupt(scores->path() + ": expected " + std::to_string(spec_.tokens.size()) +
                     " scores, found " + std::to_string(scores->value().size()));
    }
    for (size_t i = 0; i < spec_.tokens.size(); ++i) {
      INK_ASSIGN_OR_RETURN(const double score, scores->At(i).Number());
      spec_.tokens[i].score = static_cast<float>(score);
    }
    return OkStatus();
  }

  template <typename Apply>
  Status ForEachId(const JsonNode& own, const char* key, Apply apply) {
    INK_ASSIGN_OR_RETURN(const auto list, own.Find(key));
    if (!list) return OkStatus();
    INK_RETURN_IF_ERROR(list->ExpectArray());
    for (size_t i = 0; i < list->value().size(); ++i) {
      INK_ASSIGN_OR_RETURN(const int64_t id, list->At(i).Integer());
      if (id < 0 || static_cast<size_t>(id) >= spec_.tokens.size()) {
        return list->At(i).Wrong("a token id");
      }
      apply(spec_.tokens[id]);
    }
    return OkStatus();
  }

  // eos_token_id may be a list there: <|end_of_text|> and <|eot_id|>.
  Status ReadGenerationConfig() {
    INK_ASSIGN_OR_RETURN(const nlohmann::json document,
                         JsonNode::Parse(files_.generation_config, "generation_config.json"));
    const JsonNode config(document, "generation_config.json");
    INK_ASSIGN_OR_RETURN(const auto found, config.Find("eos_token_id"));
    if (!found) return OkStatus();
    const size_t count = found->value().is_array() ? found->value().size() : 1;
    for (size_t i = 0; i < count; ++i) {
      const JsonNode node = found->value().is_array() ? found->At(i) : *found;
      INK_ASSIGN_OR_RETURN(const int64_t id, node.Integer());
      if (id >= 0 && static_cast<size_t>(id) < spec_.tokens.size()) {
        spec_.end_of_generation.push_back(static_cast<int32_t>(id));
      }
    }
    return OkStatus();
  }

  void FillGaps() {
    for (size_t i = 0; i < spec_.tokens.size(); ++i) {
      TokenEntry& token = spec_.tokens[i];
      if (!token.text.empty()) continue;
      token.text = "[PAD" + std::to_string(i) + "]";
      while (!index_.Insert(token.text, static_cast<int32_t>(i))) token.text += "_";
      token.type = TokenType::kUnused;
      token.in_model = false;
    }
  }

  void SetTypes() {
    if (spec_.model.byte_fallback) {
      for (TokenEntry& token : spec_.tokens) {
        if (ParseByteToken(token.text) >= 0) token.type = TokenType::kByte;
      }
    }
    for (const AddedToken& token : spec_.added) {
      spec_.tokens[token.id].type = token.special ? TokenType::kControl : TokenType::kUserDefined;
    }
    if (spec_.model.unk != kNoToken) spec_.tokens[spec_.model.unk].type = TokenType::kUnknown;
  }

  const TokenizerFiles files_;
  TokenizerSpec spec_;
  StringIndex index_;
  std::unordered_set<int32_t> added_ids_;
  int64_t id_limit_ = 1 << 16;
};

// The text of a file that may be absent.
Result<std::string> ReadIfThere(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::string();
  return ReadFile(path, kMaxFileBytes);
}

}  // namespace

Result<TokenizerSpec> SpecFromJson(const TokenizerFiles& files) { return Reader(files).Run(); }

Status tokenizer_json::ReadComponents(std::string_view json, TokenizerSpec* spec) {
  return Reader(TokenizerFiles()).ReadComponentsInto(json, spec);
}

Result<std::shared_ptr<const Tokenizer>> TokenizerFromJson(const TokenizerFiles& files) {
  INK_ASSIGN_OR_RETURN(TokenizerSpec spec, SpecFromJson(files));
  return BuildTokenizer(std::move(spec));
}

Result<TokenizerSpec> SpecFromFolder(const std::string& folder) {
  INK_ASSIGN_OR_RETURN(const std::string json, ReadFile(folder + "/tokenizer.json", kMaxFileBytes));
  INK_ASSIGN_OR_RETURN(const std::string config, ReadIfThere(folder + "/tokenizer_config.json"));
  INK_ASSIGN_OR_RETURN(const std::string generation,
                       ReadIfThere(folder + "/generation_config.json"));
  INK_ASSIGN_OR_RETURN(const std::string chat, ReadIfThere(folder + "/chat_template.jinja"));
  Result<TokenizerSpec> spec = SpecFromJson({json, config, generation, chat});
  if (!spec.ok()) return spec.status().WithContext(folder);
  return spec;
}

Result<std::shared_ptr<const Tokenizer>> TokenizerFromFolder(const std::string& folder) {
  INK_ASSIGN_OR_RETURN(TokenizerSpec spec, SpecFromFolder(folder));
  Result<std::shared_ptr<const Tokenizer>> tokenizer = BuildTokenizer(std::move(spec));
  if (!tokenizer.ok()) return tokenizer.status().WithContext(folder);
  return tokenizer;
}

}  // namespace ink
