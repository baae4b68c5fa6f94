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
#include "serve/adapter_table.h"
#include "serve/engine_thread.h"
#include "serve/json_text.h"
#include "serve/tool_constraint.h"
#include "text/chat_template.h"
#include "text/tool_calls.h"

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

/// How the hidden states of a text become its embedding.
enum class Pooling { kMean, kFirst, kLast };

struct ServedModelOptions {
  std::string name;           // what clients call it; "default" always works for the first
  std::string chat_template;  // replaces the model's own where not empty
  size_t max_compiled_constraints = 64;
  Pooling pooling = Pooling::kMean;
  int64_t vocabulary_bytes = 0;
  int64_t program_bytes = 0;
  // What the machine can do at most with this model, per second; 0: unknown, no MFU or MBU.
  double peak_ops = 0;
  double peak_read_bytes = 0;
  std::shared_ptr<void> resources;  // what the engine runs on; goes after it
  AdapterBudgetFn adapter_budget;   // empty: no bound
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
  AdapterTable& adapters() { return *adapters_; }
  const Tokenizer& tokenizer() const { return engine_->tokenizer(); }
  int64_t context() const { return engine_->config().context; }

  bool has_template() const { return template_ != nullptr; }
  std::string_view template_source() const;
  /// The prompt of a conversation. Without a template the contents follow each other, one per
  /// line, and `warnings` says so. Errors: kInvalidArgument (the template's own refusals too).
  Result<ChatPrompt> RenderChat(const ChatInput& input, std::vector<std::string>* warnings) const;

  /// How the model writes reasoning and tool calls; null without a template.
  const std::shared_ptr<const ChatOutputFormat>& output_format() const { return format_; }
  const ToolCallShape& tool_call_shape() const { return shape_; }

  /// Compiles, or finds what was compiled before. `with_marks`: the control tokens around tool
  /// calls count as their text. Errors as CompiledConstraint::Compile.
  Result<std::shared_ptr<const CompiledConstraint>> Constraint(const ConstraintSpec& spec,
                                                               bool with_marks = false);
  int64_t constraint_bytes() const;

 private:
  ServedModel(const ModelInfo& info, Ledger* ledger, ServedModelOptions options);
  void ReadFormat();
  std::shared_ptr<const VocabularyTrie> BuildVocabulary(bool with_marks) const;
  std::string Hide(std::string_view text, bool assistant) const;
  void HideIn(Json& value, bool assistant, int depth) const;
  std::vector<int32_t> EncodePrompt(std::string_view rendered, std::string* shown) const;

  ModelInfo info_;
  Ledger* ledger_;
  ServedModelOptions options_;
  int64_t created_;
  std::unique_ptr<EngineThread> engine_;
  std::unique_ptr<AdapterTable> adapters_;  // goes before the engine
  std::unique_ptr<const ChatTemplate> template_;
  std::shared_ptr<const ChatOutputFormat> format_;
  ToolCallShape shape_;
  std::string bos_, eos_;
  // What may not be read as a control token where a client wrote it: texts of control tokens.
  std::vector<std::string> control_texts_;
  std::string control_starts_;  // their first bytes, each once

  using CacheEntry = std::pair<std::string, std::shared_ptr<const CompiledConstraint>>;
  mutable std::mutex mutex_;
  std::shared_ptr<const VocabularyTrie> vocabulary_, vocabulary_with_marks_;
  std::list<CacheEntry> constraints_;  // most recently used first
  std::unordered_map<std::string, std::list<CacheEntry>::iterator> by_key_;
};

}  // namespace ink
