#include "train/data.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/rng.h"
#include "text/chat_template.h"
#include "text/unicode.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxFileBytes = uint64_t{4} << 30;

// Offset of the first byte that is not UTF-8, or npos.
size_t FirstInvalidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const int length = byte < 0x80                   ? 1
                       : byte >= 0xC2 && byte < 0xE0 ? 2
                       : byte >= 0xE0 && byte < 0xF0 ? 3
                       : byte >= 0xF0 && byte < 0xF5 ? 4
                                                     : 0;
    if (length == 0 || i + static_cast<size_t>(length) > text.size()) return i;
    uint32_t code = length == 1 ? byte : byte & (0x7Fu >> length);
    for (int k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + static_cast<size_t>(k)]);
      if ((next & 0xC0) != 0x80) return i;
      code = code << 6 | (next & 0x3Fu);
    }
    if ((length == 3 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) ||
        (length == 4 && (code < 0x10000 || code > 0x10FFFF))) {
      return i;
    }
    i += static_cast<size_t>(length);
  }
  return std::string_view::npos;
}

Status CheckText(std::string_view text, const std::string& where) {
  if (text.empty()) return InvalidArgument(where + ": expected text, got nothing");
  const size_t bad = FirstInvalidUtf8(text);
  if (bad != std::string_view::npos) {
    return InvalidArgument(where + ": expected UTF-8, got another byte at offset " +
                           std::to_string(bad));
  }
  return OkStatus();
}

// Every kind of line end becomes "\n": how a file came to this machine is not worth learning.
void UnifyLineEnds(std::string* text) {
  size_t to = 0;
  for (size_t i = 0; i < text->size(); ++i) {
    char c = (*text)[i];
    if (c == '\r') {
      if (i + 1 < text->size() && (*text)[i + 1] == '\n') ++i;
      c = '\n';
    }
    (*text)[to++] = c;
  }
  text->resize(to);
}

Result<std::vector<std::string>> FilesOf(const DataSource& source) {
  std::error_code error;
  if (!fs::exists(source.path, error)) return NotFound(source.path + ": no such file or folder");
  std::vector<std::string> files;
  if (!fs::is_directory(source.path, error)) {
    files.push_back(source.path);
    return files;
  }
  const std::string extension = source.format == DataFormat::kText ? ".txt" : ".jsonl";
  for (const auto& entry : fs::directory_iterator(source.path, error)) {
    if (entry.path().extension() == extension) files.push_back(entry.path().string());
  }
  // A folder's own order depends on the file system.
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    return InvalidArgument(source.path + ": expected files *" + extension + ", got none");
  }
  return files;
}

Status ForEachJson(const std::string& path,
                   const std::function<Status(const Json&, const std::string&)>& visit) {
  INK_ASSIGN_OR_RETURN(const std::string content, ReadFile(path, kMaxFileBytes));
  int64_t line_number = 0, documents = 0;
  for (size_t at = 0; at < content.size();) {
    size_t end = content.find('\n', at);
    if (end == std::string::npos) end = content.size();
    std::string_view line(content.data() + at, end - at);
    at = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = path + ":" + std::to_string(line_number);
    INK_RETURN_IF_ERROR(CheckText(line, where));
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return InvalidArgument(where + ": expected a JSON object on one line");
    INK_RETURN_IF_ERROR(visit(json, where));
    ++documents;
  }
  if (documents == 0) return InvalidArgument(path + ": expected JSON lines, the file has none");
  return OkStatus();
}

Result<std::string> StringField(const Json& json, const char* name, const std::string& where) {
  auto at = json.find(name);
  if (at == json.end() || !at->is_string()) {
    return InvalidArgument(where + ": expected a string \"" + name + "\"");
  }
  return at->get<std::string>();
}

Result<const Json*> Messages(const Json& json, const std::string& where) {
  auto at = json.find("messages");
  if (at == json.end() || !at->is_array() || at->empty()) {
    return InvalidArgument(where + ": expected \"messages\", a list of role and content");
  }
  for (const Json& message : *at) {
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string() ||
        !message.contains("content")) {
      return InvalidArgument(where + ": expected every message to have \"role\" and \"content\"");
    }
    auto weight = message.find("weight");
    if (weight != message.end() && *weight != 0 && *weight != 1) {
      return InvalidArgument(where + ": expected a message's \"weight\" to be 0 or 1, got " +
                             weight->dump(-1, ' ', false, Json::error_handler_t::replace));
    }
  }
  return &*at;
}

// Text in parts, with what counts as a target.
struct Part {
  std::string text;
  bool counts;
};

// The conversation as the template writes it, cut where the assistant begins and ends. `line` may
// hold "tools" beside "messages", and a message a "weight" of 0: it is read, not learned.
Result<std::vector<Part>> ChatParts(const Json& line, const Json& messages,
                                    const ChatTemplate& chat, const Tokenizer& tokenizer,
                                    const std::string& where) {
  Json context;
  if (line.contains("tools")) context["tools"] = line["tools"];
  if (tokenizer.bos_id() >= 0) context["bos_token"] = tokenizer.TokenText(tokenizer.bos_id());
  if (tokenizer.eos_id() >= 0) context["eos_token"] = tokenizer.TokenText(tokenizer.eos_id());
  auto render = [&](size_t count, bool prompt) -> Result<std::string> {
    context["messages"] = Json(messages.begin(), messages.begin() + static_cast<int64_t>(count));
    context["add_generation_prompt"] = prompt;
    auto text = chat.Render(context);
    if (text.ok()) return text;
    if (count > 0) return text.status().WithContext(where);
    return InvalidArgument(where +
                           ": expected another message before the assistant's first, since the "
                           "chat template cannot begin with it (" +
                           text.status().message() + ")");
  };
  if (std::none_of(messages.begin(), messages.end(),
                   [](const Json& message) { return message["role"] == "assistant"; })) {
    return InvalidArgument(where + ": expected a message of the assistant to learn from");
  }
  std::vector<Part> parts;
  std::string done;
  auto extend = [&](const std::string& text, bool counts) -> Status {
    if (!text.starts_with(done)) {
      return InvalidArgument(where +
                             ": the chat template changes earlier text as a conversation "
                             "grows, so the assistant's part cannot be told");
    }
    if (text.size() > done.size()) parts.push_back({text.substr(done.size()), counts});
    done = text;
    return OkStatus();
  };
  for (size_t i = 0; i < messages.size(); ++i) {
    const bool assistant = messages[i]["role"] == "assistant";
    if (assistant) {
      INK_ASSIGN_OR_RETURN(const std::string before, render(i, true));
      INK_RETURN_IF_ERROR(extend(before, false));
    }
    if (assistant || i + 1 == messages.size()) {
      const bool learned = assistant && messages[i].value("weight", 1) != 0;
      INK_ASSIGN_OR_RETURN(const std::string after, render(i + 1, false));
      INK_RETURN_IF_ERROR(extend(after, learned));
    }
  }
  return parts;
}

}  // namespace

Status ForEachText(const DataSource& source, const std::function<Status(std::string_view)>& text) {
  INK_ASSIGN_OR_RETURN(const std::vector<std::string> files, FilesOf(source));
  for (const std::string& file : files) {
    if (source.format == DataFormat::kText) {
      INK_ASSIGN_OR_RETURN(std::string content, ReadFile(file, kMaxFileBytes));
      INK_RETURN_IF_ERROR(CheckText(content, file));
      UnifyLineEnds(&content);
      INK_RETURN_IF_ERROR(text(content));
      continue;
    }
    INK_RETURN_IF_ERROR(ForEachJson(file, [&](const Json& json, const std::string& where) {
      std::string all;
      if (source.format == DataFormat::kJsonText) {
        INK_ASSIGN_OR_RETURN(all, StringField(json, "text", where));
      } else if (source.format == DataFormat::kPrompt) {
        INK_ASSIGN_OR_RETURN(all, StringField(json, "prompt", where));
        INK_ASSIGN_OR_RETURN(const std::string completion, StringField(json, "completion", where));
        all += completion;
      } else if (source.format == DataFormat::kLabel) {
        INK_ASSIGN_OR_RETURN(const std::string text_part, StringField(json, "text", where));
        INK_ASSIGN_OR_RETURN(const std::string label, StringField(json, "label", where));
        all = LabelPrompt(source.label_template, text_part) + " " + label;
      } else {
        INK_ASSIGN_OR_RETURN(const Json* messages, Messages(json, where));
        for (const Json& message : *messages) {
          if (message["content"].is_string()) all += message["content"].get<std::string>() + "\n";
        }
      }
      INK_RETURN_IF_ERROR(CheckText(all, where));
      return text(all);
    }));
  }
  return OkStatus();
}

Result<std::vector<Document>> ReadDocuments(const DataSource& source, const Tokenizer& tokenizer) {
  std::vector<Document> documents;
  auto add = [&](const std::vector<Part>& parts) {
    Document document;
    const bool all =
        std::all_of(parts.begin(), parts.end(), [](const Part& p) { return p.counts; });
    if (tokenizer.add_bos() && tokenizer.bos_id() >= 0 && source.format != DataFormat::kChat) {
      document.tokens.push_back(tokenizer.bos_id());
      if (!all) document.counts.push_back(false);
    }
    EncodeOptions options;
    options.parse_special = source.format == DataFormat::kChat;
    options.continues = false;
    for (const Part& part : parts) {
      const std::vector<int32_t> ids = tokenizer.Encode(part.text, options);
      if (!part.text.empty()) options.continues = true;
      document.tokens.insert(document.tokens.end(), ids.begin(), ids.end());
      if (all) continue;
      // What a template puts behind the token that ends an answer, nobody asks the model for.
      auto counted = ids.end();
      if (source.format == DataFormat::kChat) {
        const auto end = std::find_if(ids.rbegin(), ids.rend(),
                                      [&](int32_t id) { return tokenizer.IsEndOfGeneration(id); });
        if (end != ids.rend()) counted = end.base();
      }
      for (auto id = ids.begin(); id != ids.end(); ++id) {
        document.counts.push_back(part.counts && id < counted);
      }
    }
    if (tokenizer.eos_id() >= 0 && source.format != DataFormat::kChat) {
      document.tokens.push_back(tokenizer.eos_id());
      if (!all) document.counts.push_back(parts.back().counts);
    }
    documents.push_back(std::move(document));
  };
  if (source.format == DataFormat::kText || source.format == DataFormat::kJsonText) {
    INK_RETURN_IF_ERROR(ForEachText(source, [&](std::string_view text) {
      add({{std::string(text), true}});
      return OkStatus();
    }));
    return documents;
  }
  INK_ASSIGN_OR_RETURN(const std::vector<std::string> files, FilesOf(source));
  const bool is_chat = source.format == DataFormat::kChat;
  if (is_chat && tokenizer.chat_template().empty()) {
    return InvalidArgument(source.path +
                           ": chat data needs a chat template, the tokenizer has none");
  }
  std::vector<ChatTemplate> chat;  // one or none
  if (is_chat) {
    INK_ASSIGN_OR_RETURN(ChatTemplate parsed, ChatTemplate::Parse(tokenizer.chat_template()));
    chat.push_back(std::move(parsed));
  }
  for (const std::string& file : files) {
    INK_RETURN_IF_ERROR(ForEachJson(file, [&](const Json& json, const std::string& where) {
      std::vector<Part> parts;
      std::string label;
      if (is_chat) {
        INK_ASSIGN_OR_RETURN(const Json* messages, Messages(json, where));
        INK_ASSIGN_OR_RETURN(parts, ChatParts(json, *messages, chat[0], tokenizer, where));
      } else if (source.format == DataFormat::kLabel) {
        INK_ASSIGN_OR_RETURN(std::string text, StringField(json, "text", where));
        INK_ASSIGN_OR_RETURN(label, StringField(json, "label", where));
        INK_RETURN_IF_ERROR(CheckText(label, where));
        parts = {{LabelPrompt(source.label_template, text), false}, {" " + label, true}};
      } else {
        INK_ASSIGN_OR_RETURN(std::string prompt, StringField(json, "prompt", where));
        INK_ASSIGN_OR_RETURN(std::string completion, StringField(json, "completion", where));
        INK_RETURN_IF_ERROR(CheckText(completion, where));
        parts = {{std::move(prompt), false}, {std::move(completion), true}};
      }
      for (const Part& part : parts) {
        if (!part.text.empty()) INK_RETURN_IF_ERROR(CheckText(part.text, where));
      }
      add(parts);
      Document& added = documents.back();
      added.label = std::move(label);
      if (source.format == DataFormat::kLabel) {
        added.prompt_tokens =
            std::find(added.counts.begin(), added.counts.end(), true) - added.counts.begin();
      }
      return OkStatus();
    }));
  }
  return documents;
}

PieceOrder::PieceOrder(std::vector<Input> inputs, int64_t context, uint64_t seed,
                       const Options& options)
    : inputs_(std::move(inputs)), context_(context), seed_(seed), options_(options) {
  BuildEpoch();
}

void PieceOrder::BuildEpoch() {
  pieces_.clear();
  epoch_tokens_ = 0;
  Rng rng(seed_, static_cast<uint64_t>(epoch_));
  for (const Input& input : inputs_) {
    for (const Document& document : *input.documents) {
      const auto length = static_cast<int64_t>(document.tokens.size());
      auto copies = static_cast<int64_t>(input.weight);
      if (rng.Uniform() < input.weight - static_cast<double>(copies)) ++copies;
      for (int64_t c = 0; c < copies; ++c) {
        // Long documents are cut at another place each time. The last token has no successor.
        int64_t first = 0;
        int64_t next = length - 1 > context_
                           ? 1 + static_cast<int64_t>(rng.Below(static_cast<uint64_t>(context_)))
                           : context_;
        while (first < length - 1) {
          const int64_t take = std::min(next, length - 1) - first;
          pieces_.push_back({&document, first, take});
          epoch_tokens_ += take;
          first += take;
          next = first + context_;
        }
      }
    }
  }
  for (size_t i = pieces_.size(); i > 1; --i) std::swap(pieces_[i - 1], pieces_[rng.Below(i)]);
}

void PieceOrder::Seek(int64_t epoch, int64_t piece) {
  epoch_ = epoch;
  BuildEpoch();
  piece_ = std::clamp<int64_t>(piece, 0, static_cast<int64_t>(pieces_.size()));
}

void PieceOrder::NextBatch(int64_t max_tokens, TrainBatch* batch) {
  batch->Clear();
  INK_CHECK(!pieces_.empty());
  INK_CHECK_GE(max_tokens, context_);
  const bool weighs = options_.prompt_weight > 0 || options_.label_weight > 0;
  while (true) {
    if (piece_ == static_cast<int64_t>(pieces_.size())) {
      ++epoch_;
      piece_ = 0;
      BuildEpoch();
    }
    const Piece& p = pieces_[static_cast<size_t>(piece_)];
    if (batch->num_tokens() + p.length > max_tokens) return;
    const Document& d = *p.document;
    // A function of the position, so that a resumed run sees the same tokens.
    Rng noise(seed_, (uint64_t{0x401e} << 48) ^ (static_cast<uint64_t>(epoch_) << 32) ^
                         static_cast<uint64_t>(piece_));
    for (int64_t i = 0; i < p.length; ++i) {
      const auto at = static_cast<size_t>(p.first + i);
      const bool counts = d.counts.empty() || d.counts[at + 1];
      const bool random = !counts && options_.noise > 0 && noise.Uniform() < options_.noise;
      batch->tokens.push_back(
          random ? static_cast<int32_t>(noise.Below(static_cast<uint64_t>(options_.n_vocab)))
                 : d.tokens[at]);
      batch->positions.push_back(static_cast<int32_t>(i));
      const bool learns_label = !counts && !d.label.empty() && options_.label_weight > 0;
      const double weight = counts         ? 1.0
                            : learns_label ? options_.label_weight
                                           : options_.prompt_weight;
      const auto target = learns_label ? static_cast<size_t>(d.prompt_tokens) : at + 1;
      batch->targets.push_back(weight > 0 ? d.tokens[target] : -1);
      if (weighs) batch->weights.push_back(static_cast<float>(weight));
    }
    batch->lengths.push_back(p.length);
    ++piece_;
  }
}

}  // namespace ink
