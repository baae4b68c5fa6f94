// POST /v1/completions.
#include <algorithm>
#include <ctime>
#include <utility>

#include "serve/handlers.h"
#include "serve/ids.h"

namespace ink {
namespace {

constexpr FieldUse kHonoured = FieldUse::kHonoured;
constexpr FieldUse kUnsupported = FieldUse::kUnsupported;
constexpr size_t kMaxPrompts = 256;

constexpr Field kOwn[] = {
    {"prompt", kHonoured, R"({"type":["string","array"]})"},
    {"logprobs", kHonoured, R"({"type":"integer","minimum":0,"maximum":20})"},
    {"echo", kHonoured, R"({"type":"boolean"})"},
    {"best_of", kHonoured, R"({"type":"integer","minimum":1})"},
    {"add_special_tokens", kHonoured, R"({"type":"boolean"})"},
    {"suffix", kUnsupported, R"({"type":"string"})", "\"\""},
};

class CompletionFormat : public ResponseFormat {
 public:
  CompletionFormat(const RequestContext& context, const GenerationPlan& plan, AnswerOptions answer,
                   std::vector<std::string> echoes)
      : tokenizer_(context.model->tokenizer()),
        model_(context.model_name()),
        answer_(answer),
        sampling_(plan.request.sampling),
        num_choices_(plan.request.num_choices),
        echoes_(std::move(echoes)),
        warnings_(plan.warnings) {
    prefix_ = "data: {\"id\":\"" + id_ +
              "\",\"object\":\"text_completion\",\"created\":" + std::to_string(created_) +
              ",\"model\":";
    AppendJsonString(model_, &prefix_);
    offsets_.resize(plan.prompts.size() * static_cast<size_t>(num_choices_));
  }

  ApiKind api() const override { return ApiKind::kOpenAi; }

  void StreamBegin(std::string* out) override {
    if (echoes_.empty() && warnings_.empty()) return;
    for (size_t c = 0; c < (echoes_.empty() ? 1 : offsets_.size()); ++c) {
      const std::string echo = echoes_.empty() ? "" : EchoOf(c);
      Chunk(static_cast<int>(c), echo, {}, "", out);
    }
  }

  void StreamDelta(int choice, const ChoiceDelta& delta, std::string* out) override {
    Chunk(choice, delta.text, delta.logprobs, "", out);
  }

  void StreamFinish(int choice, const ChoiceOutput& output, std::string* out) override {
    Chunk(choice, "", output.logprobs, OpenAiFinish(output), out);
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
    body["object"] = "text_completion";
    body["created"] = created_;
    body["model"] = model_;
    body["choices"] = Json::array();
    for (size_t c = 0; c < outcome.choices.size(); ++c) {
      const ChoiceOutput& output = outcome.choices[c];
      const std::string echo = echoes_.empty() ? "" : EchoOf(c);
      Json choice;
      choice["index"] = c;
      choice["text"] = echo + output.text;
      offsets_[c] = echo.size();
      choice["logprobs"] =
          sampling_.logprobs >= 0 ? Logprobs(static_cast<int>(c), output.logprobs) : Json();
      choice["finish_reason"] = OpenAiFinish(output);
      choice["stop_reason"] = output.matched_stop.empty() ? Json() : Json(output.matched_stop);
      body["choices"].push_back(std::move(choice));
    }
    body["usage"] = OpenAiUsage(outcome.usage);
    if (answer_.timings) body["timings"] = TimingsJson(outcome, sampling_);
    return body;
  }

 private:
  std::string EchoOf(size_t choice) const { return echoes_[choice / num_choices_]; }

  void Chunk(int choice, const std::string& text, const std::vector<TokenLog>& logs,
             std::string_view finish, std::string* out) {
    *out += prefix_ + ",\"choices\":[{\"index\":" + std::to_string(choice) + ",\"text\":";
    AppendJsonString(text, out);
    *out += ",\"logprobs\":";
    *out += logs.empty() ? "null" : DumpJson(Logprobs(choice, logs));
    *out += ",\"finish_reason\":";
    *out += finish.empty() ? "null" : "\"" + std::string(finish) + "\"";
    *out += "}]";
    if (answer_.include_usage) *out += ",\"usage\":null";
    if (!warned_ && !warnings_.empty()) *out += ",\"warnings\":" + DumpJson(Json(warnings_));
    warned_ = true;
    *out += "}\n\n";
  }

  // The older form: parallel lists.
  Json Logprobs(int choice, const std::vector<TokenLog>& logs) {
    auto text = [&](int32_t id) {
      return id < tokenizer_.vocab_size() ? std::string(tokenizer_.TokenBytes(id)) : std::string();
    };
    Json tokens = Json::array(), logprobs = Json::array(), tops = Json::array(),
         offsets = Json::array();
    for (const TokenLog& log : logs) {
      const std::string token = text(log.id);
      tokens.push_back(token);
      logprobs.push_back(std::max(log.logprob, -9999.0));
      Json top = Json::object();
      for (const TokenLogprob& t : log.top) top[text(t.id)] = std::max(t.logprob, -9999.0);
      tops.push_back(std::move(top));
      offsets.push_back(offsets_[choice]);
      offsets_[choice] += token.size();
    }
    return {{"tokens", std::move(tokens)},
            {"token_logprobs", std::move(logprobs)},
            {"top_logprobs", std::move(tops)},
            {"text_offset", std::move(offsets)}};
  }

  const Tokenizer& tokenizer_;
  const std::string id_ = "cmpl-" + RandomHex(12);
  const int64_t created_ = std::time(nullptr);
  const std::string model_;
  const AnswerOptions answer_;
  const SamplingParams sampling_;
  const int num_choices_;
  const std::vector<std::string> echoes_;  // per prompt; empty without echo
  const std::vector<std::string> warnings_;
  std::string prefix_;
  std::vector<size_t> offsets_;
  bool warned_ = false;
};

// A prompt: text, token ids, or a list of either.
ApiStatus ReadPrompts(const Json& prompt, const ServedModel& model, bool add_special,
                      std::vector<std::vector<int32_t>>* out) {
  const Tokenizer& tokenizer = model.tokenizer();
  auto fail = [](std::string message) {
    return BadRequest("'prompt': " + std::move(message), "prompt", "invalid_value");
  };
  auto is_ids = [](const Json& value) {
    return value.is_array() && !value.empty() &&
           std::all_of(value.begin(), value.end(),
                       [](const Json& id) { return id.is_number_integer(); });
  };
  auto add = [&](const Json& value) -> ApiStatus {
    std::vector<int32_t> ids;
    if (value.is_string()) {
      ids = tokenizer.Encode(value.get_ref<const std::string&>(),
                             {.add_special = add_special, .parse_special = true});
    } else if (is_ids(value)) {
      for (const Json& id : value) {
        const int64_t number = id.get<int64_t>();
        if (number < 0 || number >= model.info().n_vocab) {
          return fail("expected token ids from 0 to " + std::to_string(model.info().n_vocab - 1) +
                      ", got " + std::to_string(number));
        }
        ids.push_back(static_cast<int32_t>(number));
      }
    } else {
      return fail("expected a string, a list of token ids, or a list of these");
    }
    if (ids.empty()) return fail("expected at least one token, got an empty text");
    if (static_cast<int64_t>(ids.size()) >= model.context()) {
      return BadRequest("This model's maximum context length is " +
                            std::to_string(model.context()) + " tokens, and the prompt has " +
                            std::to_string(ids.size()),
                        "prompt", "context_length_exceeded");
    }
    out->push_back(std::move(ids));
    return std::nullopt;
  };
  if (!prompt.is_array() || is_ids(prompt)) return add(prompt);
  if (prompt.empty() || prompt.size() > kMaxPrompts) {
    return fail("expected 1 to " + std::to_string(kMaxPrompts) + " prompts, got " +
                std::to_string(prompt.size()));
  }
  for (const Json& item : prompt) {
    if (auto error = add(item)) return error;
  }
  return std::nullopt;
}

}  // namespace

FieldTable CompletionFields() {
  static const std::vector<Field> fields = JoinFields(kOwn, OpenAiCommonFields());
  return fields;
}

ApiStatus HandleCompletion(Call& call) {
  FieldReader reader(call.body);
  GenerationPlan plan;
  plan.request = call.defaults;
  plan.warnings = std::move(call.warnings);
  AnswerOptions answer;
  SamplingParams& sampling = plan.request.sampling;
  sampling.max_tokens = 16;  // OpenAI's default for this route
  if (auto error = ReadOpenAiCommon(reader, &plan, &answer)) return error;
  int32_t logprobs = 0;
  if (const Json* value = reader.Find("logprobs"); value != nullptr && value->is_boolean()) {
    if (value->get<bool>()) sampling.logprobs = 0;  // the chat route's form
  } else if (reader.Int32("logprobs", &logprobs, 0, 20)) {
    sampling.logprobs = logprobs;
  }
  bool echo = false, add_special = true;
  reader.Bool("echo", &echo);
  reader.Bool("add_special_tokens", &add_special);
  if (echo && sampling.logprobs >= 0) {
    reader.Fail("echo", "log-probabilities of the prompt are not supported");
  }
  int32_t best_of = 0;
  if (reader.Int32("best_of", &best_of, 1) && best_of != plan.request.num_choices) {
    reader.Fail("best_of", "expected the value of n, " + std::to_string(plan.request.num_choices) +
                               ", got " + std::to_string(best_of));
  }
  std::optional<ConstraintSpec> spec;
  if (auto error = ReadConstraint(reader, &spec)) return error;
  const Json* prompt = reader.Find("prompt");
  if (prompt == nullptr) reader.Fail("prompt", "expected a prompt, got none");
  if (!reader.ok()) return reader.error();
  if (auto error = ReadPrompts(*prompt, *call.context.model, add_special, &plan.prompts)) {
    return error;
  }
  if (spec) {
    auto compiled = call.context.model->Constraint(*spec);
    if (!compiled.ok()) {
      ApiError error = FromStatus(compiled.status(), "response_format");
      error.code = "unsupported_schema";
      return error;
    }
    plan.request.constraint = std::move(compiled).value();
  }
  plan.request.text.starts_text = spec.has_value();
  std::vector<std::string> echoes;
  if (echo) {
    std::shared_ptr<const Tokenizer> tokenizer(call.context.model,
                                               &call.context.model->tokenizer());
    for (const auto& ids : plan.prompts) echoes.push_back(Decode(tokenizer, ids));
  }
  auto format = std::make_unique<CompletionFormat>(call.context, plan, answer, std::move(echoes));
  Exchange::Start(std::move(call.context), std::move(plan), std::move(format));
  return std::nullopt;
}

}  // namespace ink
