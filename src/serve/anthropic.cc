// POST /v1/messages and /v1/messages/count_tokens.
#include <algorithm>
#include <utility>

#include "serve/handlers.h"
#include "serve/ids.h"

namespace ink {
namespace {

constexpr FieldUse kHonoured = FieldUse::kHonoured;
constexpr FieldUse kNoEffect = FieldUse::kNoEffect;
constexpr FieldUse kUnsupported = FieldUse::kUnsupported;

constexpr Field kCount[] = {
    {"model", kHonoured, R"({"type":"string"})"},
    {"messages", kHonoured, R"({"type":"array","minItems":1,"items":{"type":"object"}})"},
    {"system", kHonoured, R"({"type":["string","array"]})"},
    {"tools", kHonoured, R"({"type":"array","items":{"type":"object"}})"},
    {"tool_choice", kHonoured, R"({"type":"object"})"},
    {"thinking", kHonoured, R"({"type":"object"})"},
    {"cache_control", kNoEffect, R"({"type":"object"})"},
    {"output_config", kHonoured, R"({"type":"object"})"},
    {"mcp_servers", kUnsupported, R"({"type":"array"})", "[]"},
    {"context_management", kUnsupported, R"({"type":"object"})"},
};

constexpr Field kMessages[] = {
    {"max_tokens", kHonoured, R"({"type":"integer","minimum":1})"},
    {"stop_sequences", kHonoured, R"({"type":"array","items":{"type":"string"}})"},
    {"stream", kHonoured, R"({"type":"boolean"})"},
    {"temperature", kHonoured, R"({"type":"number","minimum":0,"maximum":1})"},
    {"top_p", kHonoured, R"({"type":"number","minimum":0,"maximum":1})"},
    {"top_k", kHonoured, R"({"type":"integer","minimum":0})"},
    {"seed", kHonoured, R"({"type":"integer"})"},
    {"min_p", kHonoured, R"({"type":"number"})"},
    {"repetition_penalty", kHonoured, R"({"type":"number"})"},
    {"timings", kHonoured, R"({"type":"boolean"})"},
    {"metadata", kNoEffect, R"({"type":"object"})"},
    {"service_tier", kNoEffect, R"({"type":"string"})"},
    {"inference_geo", kNoEffect, R"({"type":"string"})"},
    {"container", kUnsupported, R"({"type":"string"})"},
};

class AnthropicFormat : public ResponseFormat {
 public:
  AnthropicFormat(const RequestContext& context, const GenerationPlan& plan, bool timings)
      : model_(context.model_name()),
        prompt_tokens_(static_cast<int64_t>(plan.prompts[0].size())),
        timings_(timings),
        sampling_(plan.request.sampling),
        warnings_(plan.warnings) {}

  ApiKind api() const override { return ApiKind::kAnthropic; }

  void StreamBegin(std::string* out) override {
    Json message = Message(Json::array());
    message["usage"] = {{"input_tokens", prompt_tokens_}, {"output_tokens", 0}};
    if (!warnings_.empty()) message["warnings"] = warnings_;
    AppendSseEvent("message_start", {{"type", "message_start"}, {"message", std::move(message)}},
                   out);
    AppendSseEvent("ping", {{"type", "ping"}}, out);
  }

  void StreamDelta(int, const ChoiceDelta& delta, std::string* out) override {
    if (!delta.reasoning.empty()) {
      Open(Block::kThinking, {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}}, out);
      Delta({{"type", "thinking_delta"}, {"thinking", delta.reasoning}}, out);
    }
    if (!delta.text.empty()) {
      Open(Block::kText, {{"type", "text"}, {"text", ""}}, out);
      Delta({{"type", "text_delta"}, {"text", delta.text}}, out);
    }
    for (const ToolCallDelta& call : delta.tool_calls) {
      if (!call.name.empty()) {
        Close(out);
        Open(
            Block::kTool,
            {{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", Json::object()}},
            out);
      }
      if (!call.arguments.empty()) {
        Delta({{"type", "input_json_delta"}, {"partial_json", call.arguments}}, out);
      }
      if (call.done) Close(out);
    }
  }

  void StreamFinish(int, const ChoiceOutput& output, std::string* out) override {
    Close(out);
    stop_ = StopFields(output);
  }

  void StreamEnd(const Outcome& outcome, std::string* out) override {
    Json event = {{"type", "message_delta"}, {"delta", stop_}, {"usage", UsageJson(outcome.usage)}};
    if (timings_) event["timings"] = TimingsJson(outcome, sampling_);
    AppendSseEvent("message_delta", event, out);
    AppendSseEvent("message_stop", {{"type", "message_stop"}}, out);
  }

  void StreamError(const ApiError& error, std::string* out) override {
    *out += "event: error\ndata: " + ErrorBody(ApiKind::kAnthropic, error, "") + "\n\n";
  }

  Json Body(const Outcome& outcome) override {
    const ChoiceOutput& output = outcome.choices[0];
    Json content = Json::array();
    if (!output.reasoning.empty()) {
      content.push_back({{"type", "thinking"}, {"thinking", output.reasoning}, {"signature", ""}});
    }
    if (!output.text.empty()) content.push_back({{"type", "text"}, {"text", output.text}});
    for (const ToolCall& call : output.tool_calls) {
      auto arguments = ParseJsonBody(call.arguments);
      content.push_back({{"type", "tool_use"},
                         {"id", call.id},
                         {"name", call.name},
                         {"input", arguments.ok() ? *arguments : Json::object()}});
    }
    Json body = Message(std::move(content));
    body.update(StopFields(output));
    body["usage"] = UsageJson(outcome.usage);
    if (timings_) body["timings"] = TimingsJson(outcome, sampling_);
    return body;
  }

 private:
  enum class Block { kNone, kThinking, kText, kTool };

  Json Message(Json content) const {
    Json message;
    message["id"] = id_;
    message["type"] = "message";
    message["role"] = "assistant";
    message["model"] = model_;
    message["content"] = std::move(content);
    message["stop_reason"] = nullptr;
    message["stop_sequence"] = nullptr;
    return message;
  }

  static Json StopFields(const ChoiceOutput& output) {
    Json json;
    json["stop_reason"] = output.finish == FinishReason::kLength       ? "max_tokens"
                          : !output.tool_calls.empty()                 ? "tool_use"
                          : output.finish == FinishReason::kStopString ? "stop_sequence"
                                                                       : "end_turn";
    json["stop_sequence"] =
        output.finish == FinishReason::kStopString ? Json(output.matched_stop) : Json();
    return json;
  }

  // input_tokens counts what the cache did not have, as Anthropic counts.
  static Json UsageJson(const Usage& usage) {
    return {{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
            {"cache_creation_input_tokens", 0},
            {"cache_read_input_tokens", usage.cached_tokens},
            {"output_tokens", usage.completion_tokens}};
  }

  void Open(Block block, Json start, std::string* out) {
    if (open_ == block) return;
    Close(out);
    open_ = block;
    AppendSseEvent(
        "content_block_start",
        {{"type", "content_block_start"}, {"index", index_}, {"content_block", std::move(start)}},
        out);
  }

  void Delta(Json delta, std::string* out) {
    AppendSseEvent(
        "content_block_delta",
        {{"type", "content_block_delta"}, {"index", index_}, {"delta", std::move(delta)}}, out);
  }

  void Close(std::string* out) {
    if (open_ == Block::kNone) return;
    open_ = Block::kNone;
    AppendSseEvent("content_block_stop", {{"type", "content_block_stop"}, {"index", index_}}, out);
    ++index_;
  }

  const std::string id_ = "msg_" + RandomHex(12);
  const std::string model_;
  const int64_t prompt_tokens_;
  const bool timings_;
  const SamplingParams sampling_;
  const std::vector<std::string> warnings_;
  Block open_ = Block::kNone;
  int index_ = 0;
  Json stop_;
};

// Text of a string or of a list of text blocks.
ApiStatus ReadText(const Json& content, const std::string& param, std::string* out) {
  if (content.is_string()) {
    *out = content.get<std::string>();
    return std::nullopt;
  }
  if (!content.is_array()) {
    return BadRequest("expected a string or a list of content blocks", param);
  }
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& block = content[i];
    const std::string here = param + "." + std::to_string(i);
    if (!block.is_object() || block.value("type", Json()) != "text" || !block.contains("text") ||
        !block["text"].is_string()) {
      return BadRequest("this model takes text blocks only", here);
    }
    *out += block["text"].get_ref<const std::string&>();
  }
  return std::nullopt;
}

// One Anthropic message as one or more chat messages.
ApiStatus ReadMessage(const Json& message, size_t index, Json* out) {
  const std::string param = "messages." + std::to_string(index);
  if (!message.is_object()) return BadRequest("expected an object", param);
  const Json role = message.value("role", Json());
  if (role != "user" && role != "assistant") {
    return BadRequest("expected \"user\" or \"assistant\"", param + ".role");
  }
  const Json content = message.value("content", Json());
  if (content.is_string()) {
    out->push_back({{"role", role}, {"content", content}});
    return std::nullopt;
  }
  if (!content.is_array()) {
    return BadRequest("expected a string or a list of content blocks", param + ".content");
  }
  std::string text, reasoning;
  Json calls = Json::array();
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& block = content[i];
    const std::string here = param + ".content." + std::to_string(i);
    if (!block.is_object() || !block.contains("type") || !block["type"].is_string()) {
      return BadRequest("expected an object with a type", here);
    }
    const std::string type = block["type"];
    if (type == "text") {
      if (!block.contains("text") || !block["text"].is_string()) {
        return BadRequest("expected a string", here + ".text");
      }
      text += block["text"].get_ref<const std::string&>();
    } else if (type == "thinking") {
      if (block.value("thinking", Json()).is_string()) reasoning += block["thinking"];
    } else if (type == "redacted_thinking") {
      continue;
    } else if (type == "tool_use" && role == "assistant") {
      calls.push_back({{"id", block.value("id", Json(""))},
                       {"type", "function"},
                       {"function",
                        {{"name", block.value("name", Json(""))},
                         {"arguments", block.value("input", Json::object())}}}});
    } else if (type == "tool_result" && role == "user") {
      std::string result;
      if (block.contains("content") && !block["content"].is_null()) {
        if (auto error = ReadText(block["content"], here + ".content", &result)) return error;
      }
      out->push_back({{"role", "tool"},
                      {"tool_call_id", block.value("tool_use_id", Json(""))},
                      {"content", result}});
    } else {
      return BadRequest("this model takes text, thinking, tool_use and tool_result blocks, got '" +
                            type.substr(0, 40) + "'",
                        here);
    }
  }
  if (role == "user" && text.empty() && !out->empty() && out->back()["role"] == "tool") {
    return std::nullopt;  // results only
  }
  Json chat = {{"role", role}, {"content", text}};
  if (!reasoning.empty()) chat["reasoning_content"] = reasoning;
  if (!calls.empty()) chat["tool_calls"] = std::move(calls);
  out->push_back(std::move(chat));
  return std::nullopt;
}

ApiStatus ReadConversation(FieldReader& reader, ChatInput* input, ToolChoice* choice,
                           std::optional<ConstraintSpec>* spec) {
  if (const Json* system = reader.Find("system")) {
    std::string text;
    if (auto error = ReadText(*system, "system", &text)) return error;
    if (!text.empty()) input->messages.push_back({{"role", "system"}, {"content", text}});
  }
  const Json* messages = reader.List("messages");
  if (messages == nullptr || messages->empty()) {
    return reader.ok() ? BadRequest("expected at least one message", "messages") : reader.error();
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    if (auto error = ReadMessage((*messages)[i], i, &input->messages)) return error;
  }
  if (const Json* thinking = reader.Object("thinking")) {
    input->variables["enable_thinking"] = thinking->value("type", Json()) != "disabled";
  }
  if (const Json* config = reader.Object("output_config"); config != nullptr) {
    if (config->contains("format")) {
      const Json wrapped = {{"response_format", (*config)["format"]}};
      FieldReader inner(wrapped);
      if (auto error = ReadConstraint(inner, spec)) return error;
    }
  }
  Json converted = Json::object();
  if (const Json* tools = reader.List("tools")) {
    Json list = Json::array();
    for (size_t i = 0; i < tools->size(); ++i) {
      const Json& tool = (*tools)[i];
      const std::string param = "tools." + std::to_string(i);
      if (!tool.is_object()) return BadRequest("expected an object", param);
      if (tool.value("type", Json("custom")) != "custom") {
        return BadRequest("this server runs no tools of its own, expected a custom tool",
                          param + ".type");
      }
      Json function = {{"name", tool.value("name", Json())},
                       {"description", tool.value("description", Json(""))},
                       {"parameters", tool.value("input_schema", Json::object())}};
      list.push_back({{"type", "function"}, {"function", std::move(function)}});
    }
    converted["tools"] = std::move(list);
  }
  if (const Json* wanted = reader.Object("tool_choice")) {
    const Json type = wanted->value("type", Json());
    if (type == "tool") {
      converted["tool_choice"] = {{"type", "function"},
                                  {"function", {{"name", wanted->value("name", Json())}}}};
    } else if (type == "any") {
      converted["tool_choice"] = "required";
    } else if (type == "auto" || type == "none") {
      converted["tool_choice"] = type;
    } else {
      return BadRequest("expected \"auto\", \"any\", \"tool\" or \"none\"", "tool_choice.type");
    }
    if (wanted->value("disable_parallel_tool_use", Json()) == true) {
      converted["parallel_tool_calls"] = false;
    }
  }
  FieldReader tool_reader(converted);
  if (auto error = ReadOpenAiTools(tool_reader, &input->tools, choice)) return error;
  return reader.error();
}

}  // namespace

FieldTable AnthropicFields() {
  static const std::vector<Field> fields = JoinFields(kMessages, kCount);
  return fields;
}
FieldTable AnthropicCountFields() { return kCount; }

ApiStatus HandleAnthropicMessages(Call& call) {
  FieldReader reader(call.body);
  GenerationPlan plan;
  plan.request = call.defaults;
  plan.warnings = std::move(call.warnings);
  SamplingParams& sampling = plan.request.sampling;
  bool timings = false;
  if (!reader.Int32("max_tokens", &sampling.max_tokens, 1) && reader.ok()) {
    return BadRequest("Field required", "max_tokens");
  }
  reader.Strings("stop_sequences", &sampling.stop, false);
  for (const std::string& stop : sampling.stop) {
    if (stop.empty()) reader.Fail("stop_sequences", "expected texts that are not empty");
  }
  reader.Bool("stream", &plan.stream);
  reader.Bool("timings", &timings);
  reader.Number("temperature", &sampling.temperature, 0, 1);
  reader.Number("top_p", &sampling.top_p, 0, 1);
  ReadExtensions(reader, &sampling);
  int64_t seed = 0;
  sampling.seed = reader.Integer("seed", &seed) ? static_cast<uint64_t>(seed) : RandomSeed();
  ChatInput input;
  ToolChoice choice;
  std::optional<ConstraintSpec> spec;
  if (auto error = ReadConversation(reader, &input, &choice, &spec)) return error;
  if (auto error = PrepareChat(*call.context.model, std::move(input), choice, spec, &plan)) {
    return error;
  }
  auto format = std::make_unique<AnthropicFormat>(call.context, plan, timings);
  Exchange::Start(std::move(call.context), std::move(plan), std::move(format));
  return std::nullopt;
}

ApiStatus HandleAnthropicCount(Call& call) {
  FieldReader reader(call.body);
  ChatInput input;
  ToolChoice choice;
  std::optional<ConstraintSpec> spec;
  if (auto error = ReadConversation(reader, &input, &choice, &spec)) return error;
  auto prompt = call.context.model->RenderChat(input, &call.warnings);
  if (!prompt.ok()) return FromStatus(prompt.status(), "messages");
  SendJson(call, {{"input_tokens", prompt->ids.size()}});
  return std::nullopt;
}

}  // namespace ink
