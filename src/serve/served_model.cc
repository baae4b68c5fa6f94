#include "serve/served_model.h"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <utility>

namespace ink {
namespace {

// A text that tells specs apart; lengths before the parts keep it unambiguous.
void AppendKey(const ConstraintSpec& spec, std::string* key) {
  auto add = [&](std::string_view part) {
    *key += std::to_string(part.size()) + ":";
    *key += part;
  };
  *key += std::to_string(static_cast<int>(spec.kind)) + "/";
  add(spec.text);
  for (const std::string& choice : spec.choices) add(choice);
  if (spec.kind != ConstraintSpec::Kind::kTags) return;
  *key += "(" + std::to_string(spec.free_text) + "," + std::to_string(spec.min_tags) + "," +
          std::to_string(spec.max_tags) + ",";
  add(spec.tag_separator);
  for (const std::string& trigger : spec.triggers) add(trigger);
  *key += ";";
  for (const ConstraintSpec::Tag& tag : spec.tags) {
    add(tag.begin);
    if (tag.content != nullptr) AppendKey(*tag.content, key);
    add(tag.end);
  }
  *key += ")";
}

constexpr std::string_view kHiddenBegin = "\xEF\xA3\xB0";  // U+F8F0
constexpr std::string_view kHiddenEnd = "\xEF\xA3\xB1";

std::string TokenTextOrEmpty(const Tokenizer& tokenizer, int32_t id) {
  return id == kNoToken ? std::string() : std::string(tokenizer.TokenText(id));
}

}  // namespace

ServedModel::ServedModel(const ModelInfo& info, Ledger* ledger, ServedModelOptions options)
    : info_(info), ledger_(ledger), options_(std::move(options)), created_(std::time(nullptr)) {}

Result<std::shared_ptr<ServedModel>> ServedModel::Create(std::unique_ptr<Engine> engine,
                                                         const ModelInfo& info, Ledger* ledger,
                                                         ServedModelOptions options) {
  auto model = std::shared_ptr<ServedModel>(new ServedModel(info, ledger, std::move(options)));
  const Tokenizer& tokenizer = engine->tokenizer();
  const std::string& source = model->options_.chat_template.empty() ? tokenizer.chat_template()
                                                                    : model->options_.chat_template;
  if (!source.empty()) {
    auto parsed = ChatTemplate::Parse(source);
    if (!parsed.ok()) return parsed.status().WithContext("chat template");
    model->template_ = std::make_unique<const ChatTemplate>(std::move(parsed).value());
  }
  model->bos_ = TokenTextOrEmpty(tokenizer, tokenizer.bos_id());
  model->eos_ = TokenTextOrEmpty(tokenizer, tokenizer.eos_id());
  const AdapterTarget& target = engine->runner().model().adapter_target();
  model->engine_ = std::make_unique<EngineThread>(std::move(engine));
  model->adapters_ =
      std::make_unique<AdapterTable>(*model->engine_, target, model->options_.adapter_budget);
  model->ReadFormat();
  return model;
}

void ServedModel::ReadFormat() {
  if (template_ == nullptr) return;
  const Tokenizer& t = tokenizer();
  format_ = std::make_shared<const ChatOutputFormat>(DetectChatOutputFormat(*template_));
  std::vector<std::string> ends;
  for (const int32_t id : t.end_of_generation()) ends.emplace_back(t.TokenText(id));
  shape_ = FindToolCallShape(*template_, *format_, bos_, eos_, ends);
  for (int32_t id = 0; id < t.vocab_size(); ++id) {
    if (t.IsControl(id) && !t.TokenText(id).empty()) control_texts_.emplace_back(t.TokenText(id));
  }
  control_texts_.emplace_back(kHiddenBegin);
  std::stable_sort(control_texts_.begin(), control_texts_.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  for (const std::string& text : control_texts_) {
    if (control_starts_.find(text[0]) == std::string::npos) control_starts_ += text[0];
  }
}

// Control tokens in a client's text are set apart before the template runs, which would make them
// the same as its own, as "begin mark, number, end mark" of private use characters.
std::string ServedModel::Hide(std::string_view text, bool assistant) const {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    // Most bytes begin no control token, and vocabularies may have thousands of them.
    const size_t next = std::min(text.find_first_of(control_starts_, i), text.size());
    out += text.substr(i, next - i);
    i = next;
    if (i == text.size()) break;
    size_t found = control_texts_.size();
    for (size_t k = 0; k < control_texts_.size(); ++k) {
      const std::string& control = control_texts_[k];
      if (text[i] != control[0] || !text.substr(i).starts_with(control)) continue;
      // A template cuts the reasoning out of earlier answers by these.
      if (assistant &&
          (control == format_->reasoning_open || control == format_->reasoning_close)) {
        continue;
      }
      found = k;
      break;
    }
    if (found == control_texts_.size()) {
      out += text[i++];
      continue;
    }
    out += std::string(kHiddenBegin) + std::to_string(found) + std::string(kHiddenEnd);
    i += control_texts_[found].size();
  }
  return out;
}

void ServedModel::HideIn(Json& value, bool assistant, int depth) const {
  if (value.is_string()) {
    value = Hide(value.get_ref<const std::string&>(), assistant);
  } else if (value.is_structured() && depth < 256) {
    for (Json& item : value) HideIn(item, assistant, depth + 1);
  }
}

std::vector<int32_t> ServedModel::EncodePrompt(std::string_view rendered,
                                               std::string* shown) const {
  std::vector<int32_t> ids;
  auto encode = [&](std::string_view text, bool special) {
    const std::vector<int32_t> part =
        tokenizer().Encode(text, {.parse_special = special, .continues = !shown->empty()});
    ids.insert(ids.end(), part.begin(), part.end());
    *shown += text;
  };
  size_t done = 0;
  for (size_t at = rendered.find(kHiddenBegin); at != std::string_view::npos;
       at = rendered.find(kHiddenBegin, at + 1)) {
    const size_t digits = at + kHiddenBegin.size();
    const size_t end = rendered.find(kHiddenEnd, digits);
    size_t index = control_texts_.size();
    if (end == std::string_view::npos ||
        std::from_chars(rendered.data() + digits, rendered.data() + end, index).ec != std::errc() ||
        index >= control_texts_.size()) {
      continue;
    }
    if (at > done) encode(rendered.substr(done, at - done), true);
    encode(control_texts_[index], false);
    done = end + kHiddenEnd.size();
  }
  if (done < rendered.size()) encode(rendered.substr(done), true);
  return ids;
}

std::string_view ServedModel::template_source() const {
  return template_ == nullptr ? std::string_view() : std::string_view(template_->source());
}

Result<ChatPrompt> ServedModel::RenderChat(const ChatInput& input,
                                           std::vector<std::string>* warnings) const {
  ChatPrompt prompt;
  if (template_ == nullptr) {
    if (input.tools.is_array() && !input.tools.empty()) {
      return InvalidArgument("tools: this model has no chat template that could show them to it");
    }
    for (const Json& message : input.messages) {
      auto content = message.find("content");
      if (content == message.end() || !content->is_string()) continue;
      if (!prompt.text.empty()) prompt.text += "\n";
      prompt.text += content->get_ref<const std::string&>();
    }
    warnings->push_back("the model has no chat template: the prompt is the messages' contents");
    prompt.ids = tokenizer().Encode(prompt.text, {.add_special = true, .parse_special = false});
  } else {
    Json context = input.variables;
    Json messages = input.messages;
    for (Json& message : messages) {
      HideIn(message, message.value("role", Json()) == "assistant", 0);
    }
    context["messages"] = std::move(messages);
    if (!input.tools.is_null()) {
      Json tools = input.tools;
      HideIn(tools, false, 0);
      context["tools"] = std::move(tools);
    }
    context["add_generation_prompt"] = input.add_generation_prompt;
    context["bos_token"] = bos_;
    context["eos_token"] = eos_;
    INK_ASSIGN_OR_RETURN(const std::string rendered, template_->Render(context));
    prompt.ids = EncodePrompt(rendered, &prompt.text);
    // A template writes the begin token itself where the model wants one.
    const bool has_bos = !bos_.empty() && prompt.text.starts_with(bos_);
    const bool wants_bos = tokenizer().add_bos() && !has_bos;
    if (wants_bos && tokenizer().bos_id() != kNoToken) {
      prompt.ids.insert(prompt.ids.begin(), tokenizer().bos_id());
    }
  }
  if (prompt.ids.empty()) return InvalidArgument("messages: the prompt they make has no token");
  return prompt;
}

std::shared_ptr<const VocabularyTrie> ServedModel::BuildVocabulary(bool with_marks) const {
  auto is_mark = [this](int32_t id) {
    const std::string_view text = tokenizer().TokenText(id);
    if (tokenizer().IsEndOfGeneration(id) || text.empty()) return false;
    return shape_.begin.find(text) != std::string::npos ||
           shape_.end.find(text) != std::string::npos;
  };
  std::vector<std::string> bytes(tokenizer().vocab_size());
  for (int32_t id = 0; id < tokenizer().vocab_size(); ++id) {
    if (!tokenizer().IsControl(id) || (with_marks && is_mark(id))) {
      bytes[id] = tokenizer().TokenBytes(id);
    }
  }
  std::span<const int32_t> ends = tokenizer().end_of_generation();
  return VocabularyTrie::Build(std::move(bytes), {ends.begin(), ends.end()});
}

Result<std::shared_ptr<const CompiledConstraint>> ServedModel::Constraint(
    const ConstraintSpec& spec, bool with_marks) {
  std::string key = with_marks ? "marks" : "";
  AppendKey(spec, &key);
  std::shared_ptr<const VocabularyTrie> vocabulary;
  {
    std::lock_guard lock(mutex_);
    auto found = by_key_.find(key);
    if (found != by_key_.end()) {
      constraints_.splice(constraints_.begin(), constraints_, found->second);
      return found->second->second;
    }
    auto& kept = with_marks ? vocabulary_with_marks_ : vocabulary_;
    if (kept == nullptr) kept = BuildVocabulary(with_marks);
    vocabulary = kept;
  }
  // Compiled outside the lock: a hard schema must not hold up the others.
  ConstraintOptions options;
  // A call is read by a program: room for indentation, not for a model that dwells on blanks.
  if (with_marks) options.max_whitespace = 16;
  INK_ASSIGN_OR_RETURN(auto compiled, CompiledConstraint::Compile(spec, options, vocabulary));
  std::lock_guard lock(mutex_);
  if (auto found = by_key_.find(key); found != by_key_.end()) return found->second->second;
  constraints_.emplace_front(key, compiled);
  by_key_[key] = constraints_.begin();
  while (constraints_.size() > options_.max_compiled_constraints) {
    by_key_.erase(constraints_.back().first);
    constraints_.pop_back();
  }
  return compiled;
}

int64_t ServedModel::constraint_bytes() const {
  std::lock_guard lock(mutex_);
  int64_t bytes = 0;
  for (const auto& [key, constraint] : constraints_) {
    bytes += static_cast<int64_t>(key.size() * 2 + constraint->memory_bytes());
  }
  return bytes;
}

}  // namespace ink
