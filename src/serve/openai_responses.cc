// POST /v1/responses: stateless (nothing is stored), with functions as the only tools.
#include <ctime>
#include <utility>

#include "serve/handlers.h"
#include "serve/ids.h"

namespace ink {
namespace {

constexpr FieldUse kHonoured = FieldUse::kHonoured;
constexpr FieldUse kNoEffect = FieldUse::kNoEffect;
constexpr FieldUse kUnsupported = FieldUse::kUnsupported;

// Rows here come before the common ones of the same name.
constexpr Field kOwn[] = {
    {"input", kHonoured, R"({"type":["string","array"]})"},
    {"instructions", kHonoured, R"({"type":"string"})"},
    {"max_output_tokens", kHonoured, R"({"type":"integer","minimum":1})"},
    {"text", kHonoured, R"({"type":"object"})"},
    {"tools", kHonoured, R"({"type":"array","items":{"type":"object"}})"},
    {"tool_choice", kHonoured, R"({"type":["string","object"]})"},
    {"parallel_tool_calls", kHonoured, R"({"type":"boolean"})"},
    {"reasoning", kHonoured, R"({"type":"object"})"},
    {"top_logprobs", kUnsupported, R"({"type":"integer"})", "0"},
    {"include", kUnsupported, R"({"type":"array"})", "[]"},
    {"previous_response_id", kUnsupported, R"({"type":"string"})"},
    {"conversation", kUnsupported, R"({"type":["string","object"]})"},
    {"prompt", kUnsupported, R"({"type":"object"})"},
    {"background", kUnsupported, R"({"type":"boolean"})", "false"},
    {"truncation", kUnsupported, R"({"type":"string"})", "\"disabled\""},
    {"max_tool_calls", kUnsupported, R"({"type":"integer"})"},
    {"n", kUnsupported, R"({"type":"integer"})", "1"},
    {"response_format", kUnsupported, R"({"type":"object"})"},
    {"stream_options", kNoEffect, R"({"type":"object"})"},
};

Json UsageJson(const Usage& usage) {
  Json json;
  json["input_tokens"] = usage.prompt_tokens;
  json["input_tokens_details"] = {{"cached_tokens", usage.cached_tokens}};
  json["output_tokens"] = usage.completion_tokens;
  json["output_tokens_details"] = {{"reasoning_tokens", usage.reasoning_tokens}};
  json["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  return json;
}

Json TextPart(std::string_view text) {
  return {{"type", "output_text"},
          {"text", text},
          {"annotations", Json::array()},
          {"logprobs", Json::array()}};
}

class ResponsesFormat : public ResponseFormat {
 public:
  ResponsesFormat(const Call& call, const GenerationPlan& plan, AnswerOptions answer)
      : answer_(answer), sampling_(plan.request.sampling) {
    const Json& body = call.body;
    auto given = [&](const char* name, Json otherwise) {
      return body.contains(name) ? body[name] : otherwise;
    };
    base_["id"] = "resp_" + RandomHex(16);
    base_["object"] = "response";
    base_["created_at"] = static_cast<int64_t>(std::time(nullptr));
    base_["status"] = "in_progress";
    base_["background"] = false;
    base_["error"] = nullptr;
    base_["incomplete_details"] = nullptr;
    base_["instructions"] = given("instructions", nullptr);
    base_["max_output_tokens"] = given("max_output_tokens", nullptr);
    base_["model"] = call.context.model_name();
    base_["output"] = Json::array();
    base_["parallel_tool_calls"] = given("parallel_tool_calls", true);
    base_["previous_response_id"] = nullptr;
    base_["reasoning"] = given("reasoning", {{"effort", nullptr}, {"summary", nullptr}});
    base_["store"] = false;
    base_["temperature"] = sampling_.temperature;
    base_["text"] = given("text", {{"format", {{"type", "text"}}}});
    base_["tool_choice"] = given("tool_choice", "auto");
    base_["tools"] = given("tools", Json::array());
    base_["top_p"] = sampling_.top_p;
    base_["truncation"] = "disabled";
    base_["usage"] = nullptr;
    base_["user"] = given("user", nullptr);
    base_["metadata"] = given("metadata", Json::object());
    if (!plan.warnings.empty()) base_["warnings"] = plan.warnings;
  }

  ApiKind api() const override { return ApiKind::kOpenAi; }

  void StreamBegin(std::string* out) override {
    Event("response.created", {{"response", base_}}, out);
    Event("response.in_progress", {{"response", base_}}, out);
  }

  void StreamDelta(int, const ChoiceDelta& delta, std::string* out) override {
    if (!delta.reasoning.empty()) {
      Open(Item::kReasoning, out);
      text_ += delta.reasoning;
      Event("response.reasoning_text.delta",
            {{"item_id", item_id_},
             {"output_index", output_index_},
             {"content_index", 0},
             {"delta", delta.reasoning}},
            out);
    }
    if (!delta.text.empty()) {
      Open(Item::kMessage, out);
      text_ += delta.text;
      Event("response.output_text.delta",
            {{"item_id", item_id_},
             {"output_index", output_index_},
             {"content_index", 0},
             {"delta", delta.text},
             {"logprobs", Json::array()}},
            out);
    }
    for (const ToolCallDelta& call : delta.tool_calls) {
      if (!call.name.empty()) {
        Close(out);
        open_ = Item::kCall;
        ++output_index_;
        call_ = CallItem({call.id, call.name, ""});
        call_["status"] = "in_progress";
        Event("response.output_item.added", {{"output_index", output_index_}, {"item", call_}},
              out);
      }
      if (!call.arguments.empty()) {
        call_["arguments"].get_ref<std::string&>() += call.arguments;
        Event(
            "response.function_call_arguments.delta",
            {{"item_id", call_["id"]}, {"output_index", output_index_}, {"delta", call.arguments}},
            out);
      }
      if (call.done) Close(out);
    }
  }

  void StreamFinish(int, const ChoiceOutput&, std::string* out) override { Close(out); }

  void StreamEnd(const Outcome& outcome, std::string* out) override {
    Json response = Final(outcome, output_);
    Event("response." + response["status"].get<std::string>(), {{"response", response}}, out);
  }

  void StreamError(const ApiError& error, std::string* out) override {
    Json failed = base_;
    failed["status"] = "failed";
    failed["error"] = {{"code", error.code.empty() ? "server_error" : error.code},
                       {"message", error.message}};
    Event("response.failed", {{"response", failed}}, out);
  }

  Json Body(const Outcome& outcome) override {
    const ChoiceOutput& choice = outcome.choices[0];
    Json output = Json::array();
    if (!choice.reasoning.empty())
      output.push_back(ReasoningItem("rs_" + RandomHex(12), choice.reasoning));
    if (!choice.text.empty() || choice.tool_calls.empty()) {
      output.push_back(MessageItem("msg_" + RandomHex(12), choice.text));
    }
    for (const ToolCall& call : choice.tool_calls) output.push_back(CallItem(call));
    return Final(outcome, output);
  }

 private:
  enum class Item { kNone, kReasoning, kMessage, kCall };

  static Json ReasoningItem(const std::string& id, const std::string& text) {
    return {{"id", id},
            {"type", "reasoning"},
            {"summary", Json::array()},
            {"content", Json::array({{{"type", "reasoning_text"}, {"text", text}}})}};
  }
  static Json MessageItem(const std::string& id, const std::string& text) {
    return {{"id", id},
            {"type", "message"},
            {"status", "completed"},
            {"role", "assistant"},
            {"content", Json::array({TextPart(text)})}};
  }
  static Json CallItem(const ToolCall& call) {
    return {{"id", "fc_" + RandomHex(12)}, {"type", "function_call"},
            {"status", "completed"},       {"call_id", call.id},
            {"name", call.name},           {"arguments", call.arguments}};
  }

  Json Final(const Outcome& outcome, const Json& output) const {
    Json response = base_;
    const bool cut = outcome.choices[0].finish == FinishReason::kLength;
    response["status"] = cut ? "incomplete" : "completed";
    if (cut) response["incomplete_details"] = {{"reason", "max_output_tokens"}};
    response["output"] = output;
    response["usage"] = UsageJson(outcome.usage);
    if (answer_.timings) response["timings"] = TimingsJson(outcome, sampling_);
    return response;
  }

  void Event(const std::string& type, Json fields, std::string* out) {
    Json event;
    event["type"] = type;
    for (auto& [name, value] : fields.items()) event[name] = std::move(value);
    event["sequence_number"] = sequence_++;
    AppendSseEvent(type, event, out);
  }

  void Open(Item kind, std::string* out) {
    if (open_ == kind) return;
    Close(out);
    open_ = kind;
    ++output_index_;
    text_.clear();
    item_id_ = (kind == Item::kMessage ? "msg_" : "rs_") + RandomHex(12);
    Json item = kind == Item::kMessage ? MessageItem(item_id_, "") : ReasoningItem(item_id_, "");
    item["content"] = Json::array();
    if (kind == Item::kMessage) item["status"] = "in_progress";
    Event("response.output_item.added", {{"output_index", output_index_}, {"item", item}}, out);
    const Json part =
        kind == Item::kMessage ? TextPart("") : Json{{"type", "reasoning_text"}, {"text", ""}};
    Event("response.content_part.added",
          {{"item_id", item_id_},
           {"output_index", output_index_},
           {"content_index", 0},
           {"part", part}},
          out);
  }

  void Close(std::string* out) {
    if (open_ == Item::kNone) return;
    if (open_ == Item::kCall) {
      open_ = Item::kNone;
      Event("response.function_call_arguments.done",
            {{"item_id", call_["id"]},
             {"output_index", output_index_},
             {"name", call_["name"]},
             {"arguments", call_["arguments"]}},
            out);
      call_["status"] = "completed";
      Event("response.output_item.done", {{"output_index", output_index_}, {"item", call_}}, out);
      output_.push_back(std::move(call_));
      return;
    }
    const bool message = open_ == Item::kMessage;
    open_ = Item::kNone;
    const Json part = message ? TextPart(text_) : Json{{"type", "reasoning_text"}, {"text", text_}};
    Json where = {{"item_id", item_id_}, {"output_index", output_index_}, {"content_index", 0}};
    Json text = where;
    text["text"] = text_;
    if (message) text["logprobs"] = Json::array();
    Event(message ? "response.output_text.done" : "response.reasoning_text.done", text, out);
    where["part"] = part;
    Event("response.content_part.done", where, out);
    Json item = message ? MessageItem(item_id_, text_) : ReasoningItem(item_id_, text_);
    Event("response.output_item.done", {{"output_index", output_index_}, {"item", item}}, out);
    output_.push_back(std::move(item));
  }

  const AnswerOptions answer_;
  const SamplingParams sampling_;
  Json base_;
  int64_t sequence_ = 0;
  int output_index_ = -1;
  Item open_ = Item::kNone;
  std::string item_id_;
  std::string text_;
  Json call_;
  Json output_ = Json::array();
};

// Input items as chat messages.
ApiStatus ReadInput(const Json& input, Json* messages) {
  if (input.is_string()) {
    messages->push_back({{"role", "user"}, {"content", input}});
    return std::nullopt;
  }
  if (!input.is_array()) {
    return BadRequest("'input': expected a string or a list of items", "input", "invalid_value");
  }
  for (size_t i = 0; i < input.size(); ++i) {
    const Json& item = input[i];
    const std::string param = "input[" + std::to_string(i) + "]";
    if (!item.is_object()) {
      return BadRequest("'" + param + "': expected an object", param, "invalid_value");
    }
    FieldReader reader(item, param + ".");
    std::string type = "message", text;
    reader.String("type", &type);
    if (type == "message") {
      messages->push_back(
          {{"role", item.value("role", Json())}, {"content", item.value("content", Json())}});
    } else if (type == "function_call") {
      Json call = {{"id", item.value("call_id", Json(""))},
                   {"type", "function"},
                   {"function",
                    {{"name", item.value("name", Json())},
                     {"arguments", item.value("arguments", Json("{}"))}}}};
      // Calls that follow each other are one turn of the assistant.
      if (!messages->empty() && messages->back().contains("tool_calls")) {
        messages->back()["tool_calls"].push_back(std::move(call));
      } else {
        messages->push_back({{"role", "assistant"},
                             {"content", ""},
                             {"tool_calls", Json::array({std::move(call)})}});
      }
    } else if (type == "function_call_output") {
      messages->push_back({{"role", "tool"},
                           {"tool_call_id", item.value("call_id", Json(""))},
                           {"content", item.value("output", Json())}});
    } else if (type != "reasoning") {
      return BadRequest("'" + param +
                            ".type': expected \"message\", \"function_call\", "
                            "\"function_call_output\" or \"reasoning\", got '" +
                            type.substr(0, 40) + "'",
                        param + ".type", "unsupported_content");
    }
    if (!reader.ok()) return reader.error();
  }
  return std::nullopt;
}

}  // namespace

FieldTable ResponsesFields() {
  static const std::vector<Field> fields = JoinFields(kOwn, OpenAiCommonFields());
  return fields;
}

ApiStatus HandleResponses(Call& call) {
  FieldReader reader(call.body);
  GenerationPlan plan;
  plan.request = call.defaults;
  plan.warnings = std::move(call.warnings);
  AnswerOptions answer;
  Json common = call.body;
  common.erase("stream_options");
  FieldReader common_reader(common);
  if (auto error = ReadOpenAiCommon(common_reader, &plan, &answer)) return error;
  reader.Int32("max_output_tokens", &plan.request.sampling.max_tokens, 1);

  ChatInput input;
  Json messages = Json::array();
  std::string instructions;
  if (reader.String("instructions", &instructions)) {
    messages.push_back({{"role", "system"}, {"content", instructions}});
  }
  const Json* items = reader.Find("input");
  if (items == nullptr) reader.Fail("input", "expected a string or a list of items, got none");
  if (!reader.ok()) return reader.error();
  if (auto error = ReadInput(*items, &messages)) return error;
  if (const Json* reasoning = reader.Object("reasoning")) {
    FieldReader inner(*reasoning, "reasoning.");
    std::string effort;
    if (inner.String("effort", &effort)) {
      input.variables["reasoning_effort"] = effort;
      input.variables["enable_thinking"] = effort != "none";
    }
    if (!inner.ok()) return inner.error();
  }
  std::optional<ConstraintSpec> spec;
  if (const Json* text = reader.Object("text"); text != nullptr && text->contains("format")) {
    const Json format = {{"response_format", (*text)["format"]}};
    FieldReader format_reader(format);
    if (auto error = ReadConstraint(format_reader, &spec)) return error;
  } else {
    Json rest = call.body;
    rest.erase("response_format");
    FieldReader rest_reader(rest);
    if (auto error = ReadConstraint(rest_reader, &spec)) return error;
  }
  ToolChoice choice;
  if (auto error = ReadOpenAiTools(reader, &input.tools, &choice)) return error;
  if (!reader.ok()) return reader.error();
  if (auto error = ReadOpenAiMessages(messages, "input", &input.messages)) return error;
  if (auto error = PrepareChat(*call.context.model, std::move(input), choice, spec, &plan)) {
    return error;
  }
  auto format = std::make_unique<ResponsesFormat>(call, plan, answer);
  Exchange::Start(std::move(call.context), std::move(plan), std::move(format));
  return std::nullopt;
}

}  // namespace ink
