// Fields that several routes share, and what they turn into.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "serve/exchange.h"
#include "serve/fields.h"
#include "serve/served_model.h"

namespace ink {

/// Rows for the tables of the OpenAI routes: sampling, stopping, constraints, extensions, and what
/// is accepted without effect.
FieldTable OpenAiCommonFields();
/// One table of two.
std::vector<Field> JoinFields(FieldTable a, FieldTable b);

/// Options of an answer beside its text.
struct AnswerOptions {
  bool include_usage = true;  // in the last part of a stream
  bool timings = false;       // the phases and the effective sampler chain
};

/// Reads the OpenAI common fields into `plan`; a random seed where none was given.
ApiStatus ReadOpenAiCommon(FieldReader& reader, GenerationPlan* plan, AnswerOptions* answer);
/// Dynamic sampling extensions that every API takes by the same names.
void ReadExtensions(FieldReader& reader, SamplingParams* sampling);

/// response_format, structured_outputs, guided_*, grammar. At most one may be there. `spec` is left
/// empty where none is.
ApiStatus ReadConstraint(FieldReader& reader, std::optional<ConstraintSpec>* spec);

/// How tools are chosen.
struct ToolChoice {
  enum class Mode { kNone, kAuto, kRequired };
  Mode mode = Mode::kAuto;
  std::string name;  // the only one allowed; empty: any
  bool parallel = true;
};

/// OpenAI's `tools` (checked and returned as templates read them) and `tool_choice`.
ApiStatus ReadOpenAiTools(FieldReader& reader, Json* tools, ToolChoice* choice);
/// OpenAI's chat messages as templates read them: text parts joined, arguments of tool calls
/// parsed. `path` names the list in errors.
ApiStatus ReadOpenAiMessages(const Json& messages, std::string_view path, Json* out);

/// Renders the conversation, sets prompts, output options and constraint of `plan`: of the response
/// format where there is one, else of the tools.
ApiStatus PrepareChat(ServedModel& model, ChatInput input, const ToolChoice& choice,
                      const std::optional<ConstraintSpec>& spec, GenerationPlan* plan);

/// {"queue_s":...,"prefill_s":...,...,"sampler_chain":[...]} on demand.
Json TimingsJson(const Outcome& outcome, const SamplingParams& sampling);
/// "stop", "length", "tool_calls" as OpenAI says it.
std::string_view OpenAiFinish(const ChoiceOutput& output);

}  // namespace ink
