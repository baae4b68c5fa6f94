#include "text/tokenizer_spec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <span>
#include <unordered_map>
#include <unordered_set>

#include "formats/quote.h"
#include "text/string_index.h"

namespace ink {
namespace {

constexpr size_t kMaxTokens = size_t{1} << 24;
constexpr size_t kMaxTokenBytes = size_t{1} << 16;
constexpr size_t kMaxVocabBytes = size_t{1} << 28;

bool InRange(const TokenizerSpec& spec, int32_t id) {
  return id >= 0 && static_cast<size_t>(id) < spec.tokens.size();
}

std::string OutOfRange(std::string_view what, int64_t id, const TokenizerSpec& spec) {
  return std::string(what) + " is token " + std::to_string(id) + ", the vocabulary has " +
         std::to_string(spec.tokens.size());
}

Status CheckTokens(const TokenizerSpec& spec) {
  if (spec.tokens.empty()) return Corrupt("the vocabulary has no tokens");
  if (spec.tokens.size() > kMaxTokens) {
    return Corrupt("the vocabulary has " + std::to_string(spec.tokens.size()) +
                   " tokens, at most " + std::to_string(kMaxTokens) + " are possible");
  }
  const bool scored =
      spec.model.kind == ModelKind::kSentencePieceBpe || spec.model.kind == ModelKind::kUnigram;
  // Open addressing over token numbers: this runs at every start, over some 100 000 texts.
  std::vector<uint32_t> seen(std::bit_ceil(spec.tokens.size() * 2), UINT32_MAX);
  size_t bytes = 0;
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const TokenEntry& token = spec.tokens[i];
    if (token.text.empty()) return Corrupt("token " + std::to_string(i) + " has an empty text");
    if (token.text.size() > kMaxTokenBytes) {
      return Corrupt("token " + std::to_string(i) + " has " + std::to_string(token.text.size()) +
                     " bytes, at most " + std::to_string(kMaxTokenBytes) + " are possible");
    }
    bytes += token.text.size();
    if (bytes > kMaxVocabBytes) {
      return Corrupt("the vocabulary's texts have more than " + std::to_string(kMaxVocabBytes) +
                     " bytes");
    }
    size_t slot = HashBytes(token.text) & (seen.size() - 1);
    for (; seen[slot] != UINT32_MAX; slot = (slot + 1) & (seen.size() - 1)) {
      if (spec.tokens[seen[slot]].text != token.text) continue;
      return Corrupt("tokens " + std::to_string(seen[slot]) + " and " + std::to_string(i) +
                     " have the same text " + Quoted(token.text));
    }
    seen[slot] = static_cast<uint32_t>(i);
    if (scored && !std::isfinite(token.score)) {
      return Corrupt("token " + std::to_string(i) + " has the score " +
                     std::to_string(token.score) + ", expected a finite number");
    }
  }
  return OkStatus();
}

Status CheckMerges(const TokenizerSpec& spec) {
  const std::string& prefix = spec.model.continuing_subword_prefix;
  for (size_t i = 0; i < spec.model.merges.size(); ++i) {
    const Merge& merge = spec.model.merges[i];
    for (const int32_t id : {merge.left, merge.right, merge.result}) {
      if (!InRange(spec, id)) {
        return Corrupt(OutOfRange("a part of merge " + std::to_string(i), id, spec));
      }
    }
    const std::string_view left = spec.tokens[merge.left].text;
    std::string_view right = spec.tokens[merge.right].text;
    if (right.starts_with(prefix)) right.remove_prefix(prefix.size());
    const std::string_view result = spec.tokens[merge.result].text;
    if (result.size() != left.size() + right.size() || !result.starts_with(left) ||
        !result.ends_with(right)) {
      return Corrupt("merge " + std::to_string(i) + " of " + Quoted(left) + " and " +
                     Quoted(right) + " gives " + Quoted(result));
    }
  }
  return OkStatus();
}

// The texts by which llama.cpp knows tokens that files do not state (src/llama-vocab.cpp).
using Texts = std::span<const std::string_view>;

constexpr std::string_view kEndOfTurn[] = {
    "<|eot_id|>",        "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
    "<|end_of_text|>",   "<EOT>",      "_<EOT>",  "[EOT]",         "<｜end▁of▁sentence｜>",
    "<end_of_utterance>"};
constexpr std::string_view kEndOfMessage[] = {"<|eom_id|>"};
constexpr std::string_view kFimPre[] = {"<|fim_prefix|>",  "<fim-prefix>", "<fim_prefix>",
                                        "<｜fim▁begin｜>", "<PRE>",        "▁<PRE>",
                                        "<|code_prefix|>", "<|prefix|>"};
constexpr std::string_view kFimSuf[] = {"<|fim_suffix|>",  "<fim-suffix>", "<fim_suffix>",
                                        "<｜fim▁hole｜>",  "<SUF>",        "▁<SUF>",
                                        "<|code_suffix|>", "<|suffix|>"};
constexpr std::string_view kFimMid[] = {"<|fim_middle|>",  "<fim-middle>", "<fim_middle>",
                                        "<｜fim▁end｜>",   "<MID>",        "▁<MID>",
                                        "<|code_middle|>", "<|middle|>"};
constexpr std::string_view kFimPad[] = {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"};
constexpr std::string_view kFimRep[] = {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>",
                                        "<reponame>"};
constexpr std::string_view kFimSep[] = {"<|file_sep|>"};
constexpr std::string_view kEndOfGeneration[] = {"<|eot_id|>",
                                                 "<|im_end|>",
                                                 "<|end|>",
                                                 "<|return|>",
                                                 "<|call|>",
                                                 "<|flush|>",
                                                 "<|calls|>",
                                                 "<end_of_turn>",
                                                 "<|endoftext|>",
                                                 "</s>",
                                                 "<|eom_id|>",
                                                 "<EOT>",
                                                 "_<EOT>",
                                                 "[EOT]",
                                                 "[EOS]",
                                                 "<|end_of_text|>",
                                                 "<end_of_utterance>",
                                                 "<eos>",
                                                 "<turn|>",
                                                 "<|tool_response>",
                                                 "<｜end▁of▁sentence｜>",
                                                 "[e~["};
// Channel marks of gpt-oss, which are shown.
constexpr std::string_view kAlwaysShown[] = {"<|channel|>", "<|message|>", "<|start|>",
                                             "<|constrain|>"};

}  // namespace

Status ValidateSpec(const TokenizerSpec& spec) {
  INK_RETURN_IF_ERROR(CheckTokens(spec));
  INK_RETURN_IF_ERROR(CheckMerges(spec));
  for (const AddedToken& token : spec.added) {
    if (!InRange(spec, token.id)) return Corrupt(OutOfRange("an added token", token.id, spec));
  }
  const auto check_ids = [&](std::string_view what, const std::vector<int32_t>& ids) {
    for (const int32_t id : ids) {
      if (!InRange(spec, id)) return Corrupt(OutOfRange(what, id, spec));
    }
    return OkStatus();
  };
  INK_RETURN_IF_ERROR(check_ids("what goes before a text", spec.prefix));
  INK_RETURN_IF_ERROR(check_ids("what goes behind a text", spec.suffix));
  INK_RETURN_IF_ERROR(check_ids("an end-of-generation token", spec.end_of_generation));
  const SpecialIds& s = spec.special;
  const std::array<std::pair<std::string_view, int32_t>, 16> roles = {
      {{"bos", s.bos},
       {"eos", s.eos},
       {"eot", s.eot},
       {"eom", s.eom},
       {"unk", s.unk},
       {"sep", s.sep},
       {"pad", s.pad},
       {"cls", s.cls},
       {"mask", s.mask},
       {"fim_pre", s.fim_pre},
       {"fim_suf", s.fim_suf},
       {"fim_mid", s.fim_mid},
       {"fim_pad", s.fim_pad},
       {"fim_rep", s.fim_rep},
       {"fim_sep", s.fim_sep},
       {"the model's unknown token", spec.model.unk}}};
  for (const auto& [name, id] : roles) {
    if (id != kNoToken && !InRange(spec, id)) return Corrupt(OutOfRange(name, id, spec));
  }
  return OkStatus();
}

int32_t FindTokenLinear(const TokenizerSpec& spec, std::string_view text) {
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    if (spec.tokens[i].text == text) return static_cast<int32_t>(i);
  }
  return kNoToken;
}

void DetectSpecialTokens(TokenizerSpec& spec, bool control_only) {
  // All texts of interest, found in one pass over the vocabulary.
  std::unordered_map<std::string_view, int32_t> ids;
  for (const Texts texts : {Texts(kEndOfTurn), Texts(kEndOfMessage), Texts(kFimPre), Texts(kFimSuf),
                            Texts(kFimMid), Texts(kFimPad), Texts(kFimRep), Texts(kFimSep),
                            Texts(kEndOfGeneration), Texts(kAlwaysShown)}) {
    for (const std::string_view text : texts) ids.emplace(text, kNoToken);
  }
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const auto it = ids.find(spec.tokens[i].text);
    if (it == ids.end()) continue;
    if (control_only && spec.tokens[i].type != TokenType::kControl) continue;
    it->second = static_cast<int32_t>(i);
  }
  std::unordered_map<int32_t, AddedToken*> added;
  for (AddedToken& token : spec.added) added.emplace(token.id, &token);
  const auto set_type = [&](int32_t id, TokenType type) {
    spec.tokens[id].type = type;
    const auto it = added.find(id);
    if (it != added.end() && !control_only) it->second->special = type == TokenType::kControl;
  };

  SpecialIds& special = spec.special;
  const std::array<std::pair<int32_t*, Texts>, 8> roles = {{{&special.eot, kEndOfTurn},
                                                            {&special.eom, kEndOfMessage},
                                                            {&special.fim_pre, kFimPre},
                                                            {&special.fim_suf, kFimSuf},
                                                            {&special.fim_mid, kFimMid},
                                                            {&special.fim_pad, kFimPad},
                                                            {&special.fim_rep, kFimRep},
                                                            {&special.fim_sep, kFimSep}}};
  for (const auto& [role, texts] : roles) {
    if (*role != kNoToken) continue;
    for (const std::string_view text : texts) {
      const int32_t id = ids.at(text);
      if (id == kNoToken) continue;
      *role = id;
      set_type(id, TokenType::kControl);
      break;
    }
  }

  std::unordered_set<int32_t> ends(spec.end_of_generation.begin(), spec.end_of_generation.end());
  for (const int32_t id :
       {special.fim_pad, special.fim_rep, special.fim_sep, special.eos, special.eot, special.eom}) {
    if (id != kNoToken) ends.insert(id);
  }
  for (const std::string_view text : kEndOfGeneration) {
    const int32_t id = ids.at(text);
    if (id == kNoToken) continue;
    ends.insert(id);
    set_type(id, TokenType::kControl);
  }
  for (const std::string_view text : kAlwaysShown) {
    const int32_t id = ids.at(text);
    if (id != kNoToken) set_type(id, TokenType::kUserDefined);
  }
  // gpt-oss and Solar: <|end|> ends a message, not the generation.
  const auto ends_with = [&](std::string_view text) {
    const int32_t id = ids.at(text);
    return id != kNoToken && ends.contains(id);
  };
  const bool call = ends_with("<|call|>") || ends_with("<|calls|>");
  if (ends_with("<|end|>") && call && (ends_with("<|return|>") || ends_with("<|flush|>"))) {
    ends.erase(ids.at("<|end|>"));
    set_type(ids.at("<|end|>"), TokenType::kUserDefined);
  }
  // Gemma 4: </s> is a piece of HTML there.
  if (ends_with("<|tool_response>") && ends_with("</s>")) {
    ends.erase(ids.at("</s>"));
    set_type(ids.at("</s>"), TokenType::kNormal);
  }
  spec.end_of_generation.assign(ends.begin(), ends.end());
  std::sort(spec.end_of_generation.begin(), spec.end_of_generation.end());
}

}  // namespace ink
