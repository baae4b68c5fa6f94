#include "serve/served_model.h"

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
  model->engine_ = std::make_unique<EngineThread>(std::move(engine));
  return model;
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
    context["messages"] = input.messages;
    if (!input.tools.is_null()) context["tools"] = input.tools;
    context["add_generation_prompt"] = input.add_generation_prompt;
    context["bos_token"] = bos_;
    context["eos_token"] = eos_;
    INK_ASSIGN_OR_RETURN(prompt.text, template_->Render(context));
    // A template writes the begin token itself where the model wants one.
    const bool has_bos = !bos_.empty() && prompt.text.starts_with(bos_);
    const bool wants_bos = tokenizer().add_bos() && !has_bos;
    prompt.ids = tokenizer().Encode(prompt.text, {.parse_special = true});
    if (wants_bos && tokenizer().bos_id() != kNoToken) {
      prompt.ids.insert(prompt.ids.begin(), tokenizer().bos_id());
    }
  }
  if (prompt.ids.empty()) return InvalidArgument("messages: the prompt they make has no token");
  return prompt;
}

Result<std::shared_ptr<const CompiledConstraint>> ServedModel::Constraint(
    const ConstraintSpec& spec) {
  std::string key;
  AppendKey(spec, &key);
  std::shared_ptr<const VocabularyTrie> vocabulary;
  {
    std::lock_guard lock(mutex_);
    auto found = by_key_.find(key);
    if (found != by_key_.end()) {
      constraints_.splice(constraints_.begin(), constraints_, found->second);
      return found->second->second;
    }
    if (vocabulary_ == nullptr) {
      std::vector<std::string> bytes(tokenizer().vocab_size());
      for (int32_t id = 0; id < tokenizer().vocab_size(); ++id) {
        if (!tokenizer().IsControl(id)) bytes[id] = tokenizer().TokenBytes(id);
      }
      std::span<const int32_t> ends = tokenizer().end_of_generation();
      vocabulary_ = VocabularyTrie::Build(std::move(bytes), {ends.begin(), ends.end()});
    }
    vocabulary = vocabulary_;
  }
  // Compiled outside the lock: a hard schema must not hold up the others.
  INK_ASSIGN_OR_RETURN(auto compiled, CompiledConstraint::Compile(spec, {}, vocabulary));
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
