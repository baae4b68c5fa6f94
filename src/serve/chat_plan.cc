// From a conversation to what the engine is asked for: prompt, constraint, how the text is read.
#include <algorithm>
#include <utility>

#include "serve/request_fields.h"

namespace ink {
namespace {

bool IsPlainName(std::string_view name) {
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_-.:/").find(c) != std::string_view::npos;
  });
}

// Where a constraint begins in the text of a model that may reason first.
ReasoningGate GateOf(const ServedModel& model, const ChatInput& input, std::string_view prompt,
                     bool opened) {
  ReasoningGate gate;
  const ChatOutputFormat* format = model.output_format().get();
  if (format == nullptr || format->reasoning_open.empty() ||
      format->style == ToolCallStyle::kChannels) {
    return gate;
  }
  gate.close = model.tokenizer().FindToken(format->reasoning_close);
  gate.opened = opened;
  const size_t end = prompt.find_last_not_of(" \t\r\n");
  const bool closed =
      end != std::string_view::npos && prompt.substr(0, end + 1).ends_with(format->reasoning_close);
  const bool unwanted = input.variables.value("enable_thinking", Json()) == false;
  if (!opened && !closed && !unwanted) {
    gate.open = model.tokenizer().FindToken(format->reasoning_open);
  }
  if (!gate.opened && gate.open < 0) gate.close = -1;
  return gate;
}

// The same for a model whose marks are no tokens: any text up to the closing mark, then the rest.
ConstraintSpec BehindMark(const std::string& mark, ConstraintSpec spec) {
  ConstraintSpec::Tag tag;
  tag.begin = mark;
  tag.content = std::make_shared<const ConstraintSpec>(std::move(spec));
  ConstraintSpec out = ConstraintSpec::Tags({std::move(tag)});
  out.min_tags = out.max_tags = 1;
  return out;
}

// Keeps tool calls to the model's own form and the tools' schemas. `reasons`: reasoning comes first
// and no gate keeps it out.
ApiStatus ConstrainTools(ServedModel& model, const Json& tools, const ToolChoice& choice,
                         bool reasons, GenerationPlan* plan) {
  const bool required = choice.mode == ToolChoice::Mode::kRequired;
  const ToolCallShape& shape = model.tool_call_shape();
  bool strict = false;
  for (const Json& tool : tools) strict |= tool["function"].value("strict", Json(false)) == true;
  // A model that may answer in text is held to the form of a call only where that takes nothing
  // from it: where calls can follow each other, or where the client insists.
  const bool possible =
      shape.arguments != ToolCallShape::Arguments::kNone && (required || !shape.trigger.empty());
  if (!required && !strict && !(possible && shape.repeats)) return std::nullopt;
  if (!possible) {
    ApiError error = BadRequest(
        "tool_choice: the form in which this model's template writes tool calls ('" +
            model.output_format()->name + "') cannot be enforced, expected \"auto\" or \"none\"" +
            (required ? "" : " and tools that are not strict"),
        required ? "tool_choice" : "tools");
    error.code = "unsupported_tool_choice";
    return error;
  }
  std::vector<ConstraintSpec::Tag> tags;
  for (const Json& tool : tools) {
    const Json& function = tool["function"];
    const std::string name = function["name"];
    if (!choice.name.empty() && name != choice.name) continue;
    if (!IsPlainName(name)) {
      return BadRequest(
          "tools: expected a name of letters, digits, '_', '-', '.', ':' and '/', got '" +
              name.substr(0, 64) + "'",
          "tools");
    }
    auto tag = shape.Tag(name, function["parameters"]);
    Status problem = tag.status();
    if (tag.ok() && tag->content != nullptr) {
      problem = model.Constraint(*tag->content).status();
    }
    if (!problem.ok()) {
      const bool insists = function.value("strict", Json(false)) == true;
      auto loose = shape.arguments == ToolCallShape::Arguments::kJson
                       ? shape.Tag(name, Json::object())
                       : Result<ConstraintSpec::Tag>(problem);
      if (insists || (required && !loose.ok())) {
        ApiError error = FromStatus(problem.WithContext("tool '" + name + "'"), "tools");
        error.http_status = 400;
        error.code = "unsupported_schema";
        return error;
      }
      // A mask that forbids one tool's calls would choose among the tools: none is constrained.
      if (!loose.ok()) return std::nullopt;
      loose->content = std::make_shared<const ConstraintSpec>(ConstraintSpec::JsonObject());
      plan->warnings.push_back("tool '" + name +
                               "': its arguments are only kept to a JSON object, " +
                               problem.message());
      tag = std::move(loose);
    }
    tags.push_back(*std::move(tag));
  }
  ConstraintSpec spec = ConstraintSpec::Tags(std::move(tags));
  if (!shape.trigger.empty()) spec.triggers = {shape.trigger};
  spec.free_text = !required || reasons;
  spec.min_tags = required ? 1 : 0;
  spec.max_tags = choice.parallel && shape.repeats ? 0 : 1;
  if (!spec.free_text && spec.max_tags != 1) spec.tag_separator = "\n";
  auto compiled = model.Constraint(spec, true);
  if (!compiled.ok()) return FromStatus(compiled.status(), "tools");
  plan->request.constraint = std::move(compiled).value();
  return std::nullopt;
}

}  // namespace

ApiStatus PrepareChat(ServedModel& model, ChatInput input, const ToolChoice& choice,
                      const std::optional<ConstraintSpec>& spec, GenerationPlan* plan) {
  if (choice.mode == ToolChoice::Mode::kNone) input.tools = Json();
  auto prompt = model.RenderChat(input, &plan->warnings);
  if (!prompt.ok()) {
    ApiError error = FromStatus(prompt.status(), "messages");
    error.code = "template_error";
    return error;
  }
  const int64_t length = static_cast<int64_t>(prompt->ids.size());
  if (length >= model.context()) {
    ApiError error =
        BadRequest("This model's maximum context length is " + std::to_string(model.context()) +
                       " tokens, and the messages make " + std::to_string(length),
                   "messages", "context_length_exceeded");
    return error;
  }
  const bool tools = input.tools.is_array() && !input.tools.empty();
  const auto& format = model.output_format();
  const bool opened = format != nullptr && PromptOpensReasoning(*format, prompt->text);
  if (format != nullptr && (tools || !format->reasoning_open.empty() || !format->dropped.empty() ||
                            format->style == ToolCallStyle::kChannels)) {
    plan->output.format = format;
    plan->output.starts_in_reasoning = opened;
    if (tools && !spec) plan->output.tools = std::make_shared<const Json>(input.tools);
    plan->request.text.skip_special = false;  // marks may be control tokens
  }
  const ReasoningGate gate = GateOf(model, input, prompt->text, opened);
  plan->prompts.push_back(std::move(prompt->ids));
  plan->request.text.starts_text = true;
  plan->request.reasoning = gate;
  const bool ungated = opened && gate.close < 0;
  if (spec.has_value()) {
    if (choice.mode == ToolChoice::Mode::kRequired) {
      return BadRequest("tool_choice: expected no response format together with a required tool",
                        "tool_choice");
    }
    if (tools) {
      plan->warnings.push_back("the response format holds for the whole answer: no tool is called");
    }
    auto compiled = model.Constraint(ungated && spec->kind != ConstraintSpec::Kind::kTags
                                         ? BehindMark(format->reasoning_close, *spec)
                                         : *spec);
    if (!compiled.ok()) {
      ApiError error = FromStatus(compiled.status(), "response_format");
      error.code = "unsupported_schema";
      return error;
    }
    plan->request.constraint = std::move(compiled).value();
    if (format != nullptr && format->style == ToolCallStyle::kChannels) plan->output = {};
    return std::nullopt;
  }
  if (!tools) return std::nullopt;
  return ConstrainTools(model, input.tools, choice, ungated, plan);
}

}  // namespace ink
