// Ollama's API: /api/chat, /api/generate, /api/show; answers stream as JSON lines.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <utility>

#include "serve/handlers.h"
#include "serve/ids.h"

namespace ink {
namespace {

constexpr FieldUse kHonoured = FieldUse::kHonoured;
constexpr FieldUse kNoEffect = FieldUse::kNoEffect;
constexpr FieldUse kUnsupported = FieldUse::kUnsupported;

constexpr Field kBoth[] = {
    {"model", kHonoured, R"({"type":"string"})"},
    {"stream", kHonoured, R"({"type":"boolean","default":true})"},
    {"format", kHonoured, R"({"type":["string","object"]})"},
    {"options", kHonoured, R"({"type":"object"})"},
    {"think", kHonoured, R"({"type":["boolean","string"]})"},
    {"logprobs", kHonoured, R"({"type":"boolean"})"},
    {"top_logprobs", kHonoured, R"({"type":"integer","minimum":0,"maximum":20})"},
    {"timings", kHonoured, R"({"type":"boolean"})"},
    {"keep_alive", kNoEffect, R"({"type":["string","number"]})"},
    {"truncate", kUnsupported, R"({"type":"boolean"})", "false"},
    {"shift", kUnsupported, R"({"type":"boolean"})", "false"},
};
constexpr Field kChat[] = {
    {"messages", kHonoured, R"({"type":"array","items":{"type":"object"}})"},
    {"tools", kHonoured, R"({"type":"array","items":{"type":"object"}})"},
};
constexpr Field kGenerate[] = {
    {"prompt", kHonoured, R"({"type":"string"})"},
    {"system", kHonoured, R"({"type":"string"})"},
    {"raw", kHonoured, R"({"type":"boolean"})"},
    {"suffix", kUnsupported, R"({"type":"string"})", "\"\""},
    {"images", kUnsupported, R"({"type":"array"})", "[]"},
    {"template", kUnsupported, R"({"type":"string"})", "\"\""},
    {"context", kUnsupported, R"({"type":"array"})", "[]"},
};
constexpr Field kShow[] = {
    {"model", kHonoured, R"({"type":"string"})"},
    {"name", kHonoured, R"({"type":"string"})"},
    {"verbose", kNoEffect, R"({"type":"boolean"})"},
};
constexpr Field kOptions[] = {
    {"num_predict", kHonoured, ""},
    {"temperature", kHonoured, ""},
    {"top_k", kHonoured, ""},
    {"top_p", kHonoured, ""},
    {"min_p", kHonoured, ""},
    {"typical_p", kHonoured, ""},
    {"repeat_last_n", kHonoured, ""},
    {"repeat_penalty", kHonoured, ""},
    {"presence_penalty", kHonoured, ""},
    {"frequency_penalty", kHonoured, ""},
    {"seed", kHonoured, ""},
    {"stop", kHonoured, ""},
    {"num_ctx", kHonoured, ""},
    {"mirostat", kHonoured, ""},
    {"mirostat_tau", kHonoured, ""},
    {"mirostat_eta", kHonoured, ""},
    {"num_keep", kNoEffect, ""},
    {"num_batch", kNoEffect, ""},
    {"num_gpu", kNoEffect, ""},
    {"main_gpu", kNoEffect, ""},
    {"num_thread", kNoEffect, ""},
    {"use_mmap", kNoEffect, ""},
    {"use_mlock", kNoEffect, ""},
    {"numa", kNoEffect, ""},
    {"low_vram", kNoEffect, ""},
    {"penalize_newline", kNoEffect, ""},
};

std::string TimeText() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  const std::time_t seconds = us / 1000000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40], full[64];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(full, sizeof(full), "%s.%06dZ", text, static_cast<int>(us % 1000000));
  return full;
}

int64_t Nanoseconds(double seconds) { return std::llround(seconds * 1e9); }

class OllamaFormat : public ResponseFormat {
 public:
  OllamaFormat(std::string model, const GenerationPlan& plan, const Tokenizer& tokenizer, bool chat,
               bool timings)
      : model_(std::move(model)),
        tokenizer_(tokenizer),
        chat_(chat),
        timings_(timings),
        sampling_(plan.request.sampling),
        warnings_(plan.warnings) {}

  ApiKind api() const override { return ApiKind::kOllama; }
  std::string_view stream_type() const override { return "application/x-ndjson"; }

  void StreamDelta(int, const ChoiceDelta& delta, std::string* out) override {
    // Ollama's calls come whole.
    Json calls = Json::array();
    for (const ToolCallDelta& call : delta.tool_calls) {
      if (!call.name.empty()) open_call_ = {call.id, call.name, ""};
      open_call_.arguments += call.arguments;
      if (call.done) calls.push_back(Call(open_call_.name, open_call_.arguments));
    }
    if (delta.text.empty() && delta.reasoning.empty() && calls.empty() && delta.logprobs.empty()) {
      return;
    }
    Json line = Line(delta.text, delta.reasoning);
    if (!calls.empty()) line["message"]["tool_calls"] = std::move(calls);
    line["done"] = false;
    if (!delta.logprobs.empty()) line["logprobs"] = Logprobs(delta.logprobs);
    *out += DumpJson(line) + "\n";
  }

  void StreamFinish(int, const ChoiceOutput&, std::string*) override {}

  void StreamEnd(const Outcome& outcome, std::string* out) override {
    Json line = Line("", "");
    if (!outcome.choices[0].logprobs.empty()) {
      line["logprobs"] = Logprobs(outcome.choices[0].logprobs);
    }
    Close(outcome, &line);
    if (!warnings_.empty()) line["warnings"] = warnings_;
    *out += DumpJson(line) + "\n";
  }

  void StreamError(const ApiError& error, std::string* out) override {
    *out += ErrorBody(ApiKind::kOllama, error, "") + "\n";
  }

  Json Body(const Outcome& outcome) override {
    const ChoiceOutput& output = outcome.choices[0];
    Json body = Line(output.text, output.reasoning);
    if (!output.tool_calls.empty()) {
      Json calls = Json::array();
      for (const ToolCall& call : output.tool_calls) {
        calls.push_back(Call(call.name, call.arguments));
      }
      body["message"]["tool_calls"] = std::move(calls);
    }
    if (sampling_.logprobs >= 0) body["logprobs"] = Logprobs(output.logprobs);
    Close(outcome, &body);
    return body;
  }

 private:
  Json Line(const std::string& text, const std::string& reasoning) const {
    Json line;
    line["model"] = model_;
    line["created_at"] = TimeText();
    if (chat_) {
      line["message"] = {{"role", "assistant"}, {"content", text}};
      if (!reasoning.empty()) line["message"]["thinking"] = reasoning;
    } else {
      line["response"] = text;
      if (!reasoning.empty()) line["thinking"] = reasoning;
    }
    return line;
  }

  static Json Call(const std::string& name, const std::string& arguments) {
    auto parsed = ParseJsonBody(arguments);
    return {{"function", {{"name", name}, {"arguments", parsed.ok() ? *parsed : Json::object()}}}};
  }

  Json Logprobs(const std::vector<TokenLog>& logs) const {
    return ChatLogprobs(tokenizer_, logs)["content"];
  }

  void Close(const Outcome& outcome, Json* line) const {
    const GenerationTimings& t = outcome.timings;
    (*line)["done"] = true;
    (*line)["done_reason"] = outcome.choices[0].finish == FinishReason::kLength ? "length" : "stop";
    (*line)["total_duration"] = Nanoseconds(outcome.total_s);
    (*line)["load_duration"] = 0;
    (*line)["prompt_eval_count"] = t.prompt_tokens;
    (*line)["prompt_eval_duration"] = Nanoseconds(t.prefill_s);
    (*line)["eval_count"] = t.completion_tokens;
    (*line)["eval_duration"] = Nanoseconds(t.decode_s);
    if (timings_) (*line)["timings"] = TimingsJson(outcome, sampling_);
  }

  const std::string model_;
  const Tokenizer& tokenizer_;
  const bool chat_;
  const bool timings_;
  const SamplingParams sampling_;
  const std::vector<std::string> warnings_;
  ToolCall open_call_;
};

// Everything that chat and generate share.
ApiStatus ReadShared(FieldReader& reader, const ServedModel& model, bool strict,
                     GenerationPlan* plan, Json* variables, std::optional<ConstraintSpec>* spec,
                     bool* timings) {
  SamplingParams& s = plan->request.sampling;
  // Ollama's own defaults, in llama.cpp's order (temperature last).
  s.preset = ChainPreset::kLlamaCpp;
  s.temperature = 0.8;
  s.top_k = 40;
  s.top_p = 0.9;
  s.repetition_penalty = 1.1;
  s.penalty_last_n = 64;
  s.seed = RandomSeed();
  plan->stream = true;
  reader.Bool("stream", &plan->stream);
  reader.Bool("timings", timings);
  bool logprobs = false;
  int32_t top = 0;
  reader.Bool("logprobs", &logprobs);
  reader.Int32("top_logprobs", &top, 0, 20);
  if (logprobs) s.logprobs = top;
  if (const Json* think = reader.Find("think")) {
    (*variables)["enable_thinking"] = *think != false;
    if (think->is_string()) (*variables)["reasoning_effort"] = *think;
  }
  if (const Json* format = reader.Find("format")) {
    if (format->is_object()) {
      *spec = ConstraintSpec::JsonSchema(DumpJson(*format));
    } else if (*format == "json") {
      *spec = ConstraintSpec::JsonObject();
    } else if (*format != "") {
      reader.Fail("format", "expected \"json\" or a JSON Schema");
    }
  }
  const Json* options = reader.Object("options");
  if (options == nullptr) return reader.error();
  if (auto error = CheckFields(*options, kOptions, strict, &plan->warnings)) return error;
  FieldReader o(*options, "options.");
  o.Int32("num_predict", &s.max_tokens, -2);
  if (s.max_tokens < 0) s.max_tokens = -1;  // -2, "fill the context", is the same here
  o.Number("temperature", &s.temperature, 0, 100);
  if (o.Int32("top_k", &s.top_k, -1)) s.top_k = std::max(0, s.top_k);
  o.Number("top_p", &s.top_p, 0, 1);
  o.Number("min_p", &s.min_p, 0, 1);
  o.Number("typical_p", &s.typical_p, 0, 1);
  o.Int32("repeat_last_n", &s.penalty_last_n, -1);
  o.Number("repeat_penalty", &s.repetition_penalty, 1e-3, 1e3);
  o.Number("presence_penalty", &s.presence_penalty);
  o.Number("frequency_penalty", &s.frequency_penalty);
  o.Int32("mirostat", &s.mirostat, 0, 2);
  o.Number("mirostat_tau", &s.mirostat_tau, 0);
  o.Number("mirostat_eta", &s.mirostat_eta, 0);
  if (s.mirostat != 0) {  // replaces what removes candidates, as in llama.cpp
    s.top_k = 0;
    s.top_p = 1;
    s.min_p = 0;
    s.typical_p = 1;
  }
  o.Strings("stop", &s.stop);
  int64_t number = 0;
  if (o.Integer("seed", &number)) s.seed = static_cast<uint64_t>(number);
  if (o.Integer("num_ctx", &number, 1) && number > model.context()) {
    o.Fail("num_ctx", "expected at most the context that the server was started with, " +
                          std::to_string(model.context()) + ", got " + std::to_string(number));
  }
  return o.ok() ? reader.error() : o.error();
}

// A request without a prompt only asks that the model be loaded; it is.
void SendLoaded(Call& call, bool chat) {
  Json body;
  body["model"] = call.body.value("model", "");
  body["created_at"] = TimeText();
  if (chat) {
    body["message"] = {{"role", "assistant"}, {"content", ""}};
  } else {
    body["response"] = "";
  }
  body["done"] = true;
  body["done_reason"] = "load";
  SendJson(call, std::move(body));
}

void StartOllama(Call& call, GenerationPlan plan, bool chat, bool timings) {
  auto format =
      std::make_unique<OllamaFormat>(call.body.value("model", call.context.model_name()), plan,
                                     call.context.model->tokenizer(), chat, timings);
  Exchange::Start(std::move(call.context), std::move(plan), std::move(format));
}

}  // namespace

FieldTable OllamaChatFields() {
  static const std::vector<Field> fields = JoinFields(kChat, kBoth);
  return fields;
}
FieldTable OllamaGenerateFields() {
  static const std::vector<Field> fields = JoinFields(kGenerate, kBoth);
  return fields;
}
FieldTable OllamaShowFields() { return kShow; }

ApiStatus HandleOllamaChat(Call& call) {
  FieldReader reader(call.body);
  GenerationPlan plan;
  plan.request = call.defaults;
  plan.warnings = std::move(call.warnings);
  ChatInput input;
  std::optional<ConstraintSpec> spec;
  bool timings = false;
  if (auto error = ReadShared(reader, *call.context.model, call.strict, &plan, &input.variables,
                              &spec, &timings)) {
    return error;
  }
  ToolChoice choice;
  if (auto error = ReadOpenAiTools(reader, &input.tools, &choice)) return error;
  const Json* list = reader.List("messages");
  if (!reader.ok()) return reader.error();
  if (list == nullptr || list->empty()) {
    SendLoaded(call, true);
    return std::nullopt;
  }
  Json messages = *list;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object()) continue;  // refused below, with its name
    Json& message = messages[i];
    if (message.contains("images") && message["images"].is_array() && !message["images"].empty()) {
      return BadRequest("'messages[" + std::to_string(i) + "].images': this model takes text only",
                        "messages", "unsupported_content");
    }
    if (message.contains("thinking")) message["reasoning_content"] = message["thinking"];
    if (message.contains("tool_name")) message["name"] = message["tool_name"];
  }
  if (auto error = ReadOpenAiMessages(messages, "messages", &input.messages)) return error;
  if (auto error = PrepareChat(*call.context.model, std::move(input), choice, spec, &plan)) {
    return error;
  }
  StartOllama(call, std::move(plan), true, timings);
  return std::nullopt;
}

ApiStatus HandleOllamaGenerate(Call& call) {
  FieldReader reader(call.body);
  GenerationPlan plan;
  plan.request = call.defaults;
  plan.warnings = std::move(call.warnings);
  ChatInput input;
  std::optional<ConstraintSpec> spec;
  bool timings = false;
  if (auto error = ReadShared(reader, *call.context.model, call.strict, &plan, &input.variables,
                              &spec, &timings)) {
    return error;
  }
  std::string prompt, system;
  bool raw = false;
  reader.String("prompt", &prompt);
  reader.String("system", &system);
  reader.Bool("raw", &raw);
  if (!reader.ok()) return reader.error();
  if (prompt.empty()) {
    SendLoaded(call, false);
    return std::nullopt;
  }
  ServedModel& model = *call.context.model;
  if (!raw && model.has_template()) {
    if (!system.empty()) {
      input.messages.push_back({{"role", "system"}, {"content", system}});
    }
    input.messages.push_back({{"role", "user"}, {"content", prompt}});
    if (auto error = PrepareChat(model, std::move(input), ToolChoice{ToolChoice::Mode::kNone}, spec,
                                 &plan)) {
      return error;
    }
  } else {
    const std::string text = raw || system.empty() ? prompt : system + "\n" + prompt;
    std::vector<int32_t> ids =
        model.tokenizer().Encode(text, {.add_special = true, .parse_special = true});
    if (static_cast<int64_t>(ids.size()) >= model.context()) {
      return BadRequest("the context holds " + std::to_string(model.context()) +
                        " tokens, and the prompt has " + std::to_string(ids.size()));
    }
    plan.prompts.push_back(std::move(ids));
    plan.request.text.starts_text = spec.has_value();
    if (spec) {
      auto compiled = model.Constraint(*spec);
      if (!compiled.ok()) return FromStatus(compiled.status(), "format");
      plan.request.constraint = std::move(compiled).value();
    }
  }
  StartOllama(call, std::move(plan), false, timings);
  return std::nullopt;
}

ApiStatus HandleOllamaShow(Call& call) {
  const ServedModel& model = *call.context.model;
  const ModelInfo& info = model.info();
  Json body;
  const bool adapted = call.context.adapter != nullptr;
  body["modelfile"] = "FROM " + model.name() + "\n" +
                      (adapted ? "ADAPTER " + call.context.model_name() + "\n" : "");
  body["parameters"] = "";
  body["template"] = model.template_source();
  body["details"] = {{"parent_model", adapted ? model.name() : ""},
                     {"format", "gguf"},
                     {"family", info.architecture},
                     {"families", Json::array({info.architecture})},
                     {"parameter_size", std::to_string(info.num_parameters)},
                     {"quantization_level", ""}};
  Json facts;
  facts["general.architecture"] = info.architecture;
  facts["general.parameter_count"] = info.num_parameters;
  facts[info.architecture + ".context_length"] = info.context_length;
  facts[info.architecture + ".embedding_length"] = info.d_model;
  facts[info.architecture + ".block_count"] = info.num_layers;
  facts["tokenizer.ggml.vocab_size"] = info.n_vocab;
  body["model_info"] = std::move(facts);
  Json capabilities = Json::array({"completion"});
  if (model.output_format() != nullptr && model.output_format()->style != ToolCallStyle::kNone) {
    capabilities.push_back("tools");
  }
  if (model.output_format() != nullptr && !model.output_format()->reasoning_open.empty()) {
    capabilities.push_back("thinking");
  }
  body["capabilities"] = std::move(capabilities);
  SendJson(call, std::move(body));
  return std::nullopt;
}

}  // namespace ink
