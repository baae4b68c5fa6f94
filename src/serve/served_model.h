// A model as the server offers it: its engine, its chat template, its constraint cache.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/memory_plan.h"
#include "serve/engine_thread.h"
#include "serve/json_text.h"
#include "text/chat_template.h"

namespace ink {

/// A conversation in the shape that templates read (OpenAI's chat messages).
struct ChatInput {
  Json messages = Json::array();
  Json tools;  // null or a list
  bool add_generation_prompt = true;
  Json variables = Json::object();  // further template variables, e.g. enable_thinking
};

struct ChatPrompt {
  std::string text;
  std::vector<int32_t> ids;
};

struct ServedModelOptions {
  std::string name;           // what clients call it; "default" always works for the first
  std::string chat_template;  // replaces the model's own where not empty
  size_t max_compiled_constraints = 64;
  int64_t vocabulary_bytes = 0;
  int64_t program_bytes = 0;
};

/// Thread-safe.
class ServedModel {
 public:
  /// `info` is copied; what the engine runs on outlives this object. Errors: kInvalidArgument for a
  /// chat template that cannot be parsed.
  static Result<std::shared_ptr<ServedModel>> Create(std::unique_ptr<Engine> engine,
                                                     const ModelInfo& info, Ledger* ledger,
                                                     ServedModelOptions options);

  const std::string& name() const { return options_.name; }
  const ModelInfo& info() const { return info_; }
  const ServedModelOptions& options() const { return options_; }
  Ledger* ledger() const { return ledger_; }
  int64_t created() const { return created_; }  // Unix seconds
  EngineThread& engine() { return *engine_; }
  const Tokenizer& tokenizer() const { return engine_->tokenizer(); }
  int64_t context() const { return engine_->config().context; }

  bool has_template() const { return template_ != nullptr; }
  std::string_view template_source() const;
  /// The prompt of a conversation. Without a template the contents follow each other, one per
  /// line, and `warnings` says so. Errors: kInvalidArgument (the template's own refusals too).
  Result<ChatPrompt> RenderChat(const ChatInput& input, std::vector<std::string>* warnings) const;

  /// Compiles, or finds what was compiled before. Errors as CompiledConstraint::Compile.
  Result<std::shared_ptr<const CompiledConstraint>> Constraint(const ConstraintSpec& spec);
  int64_t constraint_bytes() const;

 private:
  ServedModel(const ModelInfo& info, Ledger* ledger, ServedModelOptions options);

  ModelInfo info_;
  Ledger* ledger_;
  ServedModelOptions options_;
  int64_t created_;
  std::unique_ptr<EngineThread> engine_;
  std::unique_ptr<const ChatTemplate> template_;
  std::string bos_, eos_;

  using CacheEntry = std::pair<std::string, std::shared_ptr<const CompiledConstraint>>;
  mutable std::mutex mutex_;
  std::shared_ptr<const VocabularyTrie> vocabulary_;
  std::list<CacheEntry> constraints_;  // most recently used first
  std::unordered_map<std::string, std::list<CacheEntry>::iterator> by_key_;
};

}  // namespace ink
