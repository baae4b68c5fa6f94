// POST /v1/chat/completions.
#include <algorithm>
#include <ctime>
#include <utility>

#include "serve/handlers.h"
#include "serve/ids.h"

namespace ink {
namespace {

constexpr FieldUse kHonoured = FieldUse::kHonoured;
constexpr FieldUse kUnsupported = FieldUse::kUnsupported;

constexpr Field kOwn[] = {
    {"messages", kHonoured, R"({"type":"array","minItems":1,"items":{"type":"object"}})"},
    {"max_completion_tokens", kHonoured, R"({"type":"integer","minimum":1})"},
    {"logprobs", kHonoured, R"({"type":"boolean"})"},
    {"top_logprobs", kHonoured, R"({"type":"integer","minimum":0,"maximum":20})"},
    {"tools", kHonoured, R"({"type":"array","items":{"type":"object"}})"},
    {"tool_choice", kHonoured, R"({"type":["string","object"]})"},
    {"parallel_tool_calls", kHonoured, R"({"type":"boolean"})"},
    {"chat_template_kwargs", kHonoured, R"({"type":"object"})"},
    {"add_generation_prompt", kHonoured, R"({"type":"boolean"})"},
    {"reasoning_effort", kHonoured, R"({"type":"string"})"},
    {"functions", kUnsupported, R"({"type":"array"})", "[]"},
    {"function_call", kUnsupported, R"({"type":"string"})", "\"none\""},
    {"modalities", kUnsupported, R"({"type":"array"})", "[\"text\"]"},
    {"audio", kUnsupported, R"({"type":"object"})"},
    {"prediction", kUnsupported, R"({"type":"object"})"},
    {"web_search_options", kUnsupported, R"({"type":"object"})"},
    {"verbosity", kUnsupported, R"({"type":"string"})", "\"medium\""},
};

Json ToolCallsJson(const std::vector<ToolCall>& calls) {
  Json list = Json::array();
  for (const ToolCall& call : calls) {
    list.push_back({{"id", call.id},
                    {"type", "function"},
                    {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
  }
  return list;
}

class ChatFormat : public ResponseFormat {
 public:
  ChatFormat(const RequestContext& context, const GenerationPlan& plan, AnswerOptions answer)
      : tokenizer_(context.model->tokenizer()),
        model_(context.model_name()),
        answer_(answer),
        sampling_(plan.request.sampling),
        warnings_(plan.warnings) {
    prefix_ = "data: {\"id\":\"" + id_ +
              "\",\"object\":\"chat.completion.chunk\",\"created\":" + std::to_string(created_) +
              ",\"model\":";
    AppendJsonString(model_, &prefix_);
    started_.resize(static_cast<size_t>(plan.request.num_choices));
  }

  ApiKind api() const override { return ApiKind::kOpenAi; }

  void StreamBegin(std::string* out) override {
    // Each choice starts with its role, as OpenAI's own stream does.
    for (size_t c = 0; c < started_.size(); ++c) {
      *out += prefix_ + ",\"choices\":[{\"index\":" + std::to_string(c) +
              ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
              "\"finish_reason\":null}]";
      if (c == 0 && !warnings_.empty()) *out += ",\"warnings\":" + DumpJson(Json(warnings_));
      *out += NullUsage() + "}\n\n";
    }
  }

  void StreamDelta(int choice, const ChoiceDelta& delta, std::string* out) override {
    *out += prefix_ + ",\"choices\":[{\"index\":" + std::to_string(choice) + ",\"delta\":{";
    const char* comma = "";
    if (!delta.reasoning.empty()) {
      *out += "\"reasoning_content\":";
      AppendJsonString(delta.reasoning, out);
      comma = ",";
    }
    if (!delta.text.empty()) {
      *out += std::string(comma) + "\"content\":";
      AppendJsonString(delta.text, out);
      comma = ",";
    }
    if (!delta.tool_calls.empty()) {
      Json calls = Json::array();
      for (const ToolCallDelta& call : delta.tool_calls) {
        Json item = {{"index", call.index}};
        if (!call.id.empty()) {
          item["id"] = call.id;
          item["type"] = "function";
        }
        item["function"] = Json::object();
        if (!call.name.empty()) item["function"]["name"] = call.name;
        item["function"]["arguments"] = call.arguments;
        calls.push_back(std::move(item));
      }
      *out += std::string(comma) + "\"tool_calls\":" + DumpJson(calls);
    }
    *out += "},\"logprobs\":";
    *out += delta.logprobs.empty() ? "null" : DumpJson(ChatLogprobs(tokenizer_, delta.logprobs));
    *out += ",\"finish_reason\":null}]" + NullUsage() + "}\n\n";
  }

  void StreamFinish(int choice, const ChoiceOutput& output, std::string* out) override {
    *out += prefix_ + ",\"choices\":[{\"index\":" + std::to_string(choice) +
            ",\"delta\":{},\"logprobs\":";
    *out += output.logprobs.empty() ? "null" : DumpJson(ChatLogprobs(tokenizer_, output.logprobs));
    *out += ",\"finish_reason\":\"";
    *out += OpenAiFinish(output);
    *out += "\"}]" + NullUsage() + "}\n\n";
  }

  void StreamEnd(const Outcome& outcome, std::string* out) override {
    if (answer_.include_usage || answer_.timings) {
      *out += prefix_ + ",\"choices\":[]";
      if (answer_.include_usage) *out += ",\"usage\":" + DumpJson(OpenAiUsage(outcome.usage));
      if (answer_.timings) *out += ",\"timings\":" + DumpJson(TimingsJson(outcome, sampling_));
      *out += "}\n\n";
    }
    *out += "data: [DONE]\n\n";
  }

  void StreamError(const ApiError& error, std::string* out) override {
    *out += "data: " + ErrorBody(ApiKind::kOpenAi, error, "") + "\n\n";
  }

  Json Body(const Outcome& outcome) override {
    Json body;
    body["id"] = id_;
    body["object"] = "chat.completion";
    body["created"] = created_;
    body["model"] = model_;
    body["choices"] = Json::array();
    for (size_t c = 0; c < outcome.choices.size(); ++c) {
      const ChoiceOutput& output = outcome.choices[c];
      Json message;
      message["role"] = "assistant";
      message["content"] =
          output.text.empty() && !output.tool_calls.empty() ? Json() : Json(output.text);
      if (!output.reasoning.empty()) message["reasoning_content"] = output.reasoning;
      message["refusal"] = nullptr;
      if (!output.tool_calls.empty()) message["tool_calls"] = ToolCallsJson(output.tool_calls);
      Json choice;
      choice["index"] = c;
      choice["message"] = std::move(message);
      choice["logprobs"] =
          sampling_.logprobs >= 0 ? ChatLogprobs(tokenizer_, output.logprobs) : Json();
      choice["finish_reason"] = OpenAiFinish(output);
      body["choices"].push_back(std::move(choice));
    }
    body["usage"] = OpenAiUsage(outcome.usage);
    if (answer_.timings) body["timings"] = TimingsJson(outcome, sampling_);
    return body;
  }

 private:
  std::string NullUsage() const { return answer_.include_usage ? ",\"usage\":null" : ""; }

  const Tokenizer& tokenizer_;  // lives as long as the model, which the exchange holds
  const std::string id_ = "chatcmpl-" + RandomHex(12);
  const int64_t created_ = std::time(nullptr);
  const std::string model_;
  const AnswerOptions answer_;
  const SamplingParams sampling_;
  const std::vector<std::string> warnings_;
  std::string prefix_;
  std::vector<bool> started_;
};

std::string Utf8OrReplacement(std::string_view bytes) {
  // The serializer replaces what is not UTF-8; going through it keeps one definition.
  Json text = Json::parse(DumpJson(Json(bytes)));
  return text.get<std::string>();
}

}  // namespace

Json OpenAiUsage(const Usage& usage) {
  Json json;
  json["prompt_tokens"] = usage.prompt_tokens;
  json["completion_tokens"] = usage.completion_tokens;
  json["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  json["prompt_tokens_details"] = {{"cached_tokens", usage.cached_tokens}};
  if (usage.reasoning_tokens > 0) {
    json["completion_tokens_details"] = {{"reasoning_tokens", usage.reasoning_tokens}};
  }
  return json;
}

Json ChatLogprobs(const Tokenizer& tokenizer, const std::vector<TokenLog>& logs) {
  auto entry = [&](int32_t id, double logprob) {
    const std::string_view bytes =
        id < tokenizer.vocab_size() ? tokenizer.TokenBytes(id) : std::string_view();
    Json item;
    item["token"] = Utf8OrReplacement(bytes);
    item["logprob"] = std::max(logprob, -9999.0);  // OpenAI's stand-in for minus infinity
    Json list = Json::array();
    for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
    item["bytes"] = std::move(list);
    return item;
  };
  Json content = Json::array();
  for (const TokenLog& log : logs) {
    Json item = entry(log.id, log.logprob);
    item["top_logprobs"] = Json::array();
    for (const TokenLogprob& top : log.top) {
      item["top_logprobs"].push_back(entry(top.id, top.logprob));
    }
    content.push_back(std::move(item));
  }
  Json json;
  json["content"] = std::move(content);
  json["refusal"] = nullptr;
  return json;
}

void AppendSse(const Json& json, std::string* out) { *out += "data: " + DumpJson(json) + "\n\n"; }

void AppendSseEvent(std::string_view name, const Json& json, std::string* out) {
  *out += "event: ";
  *out += name;
  *out += "\ndata: " + DumpJson(json) + "\n\n";
}

void SendJson(Call& call, Json body, int status) {
  HttpResponse response;
  response.status = status;
  if (!call.warnings.empty()) body["warnings"] = call.warnings;
  response.body = DumpJson(body);
  AddCommonHeaders(call.context, call.warnings, &response);
  call.context.lease.reset();
  if (call.context.on_end) call.context.on_end(status, "", {});
  call.context.writer->Send(std::move(response));
}

FieldTable ChatFields() {
  static const std::vector<Field> fields = JoinFields(kOwn, OpenAiCommonFields());
  return fields;
}

ApiStatus HandleChat(Call& call) {
  FieldReader reader(call.body);
  GenerationPlan plan;
  plan.request = call.defaults;
  plan.warnings = std::move(call.warnings);
  AnswerOptions answer;
  if (auto error = ReadOpenAiCommon(reader, &plan, &answer)) return error;
  SamplingParams& sampling = plan.request.sampling;
  reader.Int32("max_completion_tokens", &sampling.max_tokens, 1);
  bool logprobs = false;
  int32_t top = 0;
  reader.Bool("logprobs", &logprobs);
  if (reader.Int32("top_logprobs", &top, 0, 20) && !logprobs && top > 0) {
    reader.Fail("top_logprobs", "expected only together with \"logprobs\": true");
  }
  if (logprobs) sampling.logprobs = top;

  ChatInput input;
  if (const Json* variables = reader.Object("chat_template_kwargs")) input.variables = *variables;
  reader.Bool("add_generation_prompt", &input.add_generation_prompt);
  std::string effort;
  if (reader.String("reasoning_effort", &effort)) {
    input.variables["reasoning_effort"] = effort;
    input.variables["enable_thinking"] = effort != "none";
  }
  ToolChoice choice;
  std::optional<ConstraintSpec> spec;
  if (auto error = ReadConstraint(reader, &spec)) return error;
  if (auto error = ReadOpenAiTools(reader, &input.tools, &choice)) return error;
  const Json* messages = reader.List("messages");
  if (messages == nullptr && reader.ok()) {
    reader.Fail("messages", "expected a list of messages, got none");
  }
  if (!reader.ok()) return reader.error();
  if (auto error = ReadOpenAiMessages(*messages, "messages", &input.messages)) return error;
  if (auto error = PrepareChat(*call.context.model, std::move(input), choice, spec, &plan)) {
    return error;
  }
  auto format = std::make_unique<ChatFormat>(call.context, plan, answer);
  Exchange::Start(std::move(call.context), std::move(plan), std::move(format));
  return std::nullopt;
}

}  // namespace ink
