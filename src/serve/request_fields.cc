#include "serve/request_fields.h"

#include <algorithm>
#include <limits>

#include "serve/ids.h"

namespace ink {
namespace {

constexpr std::string_view kNumber = R"({"type":"number"})";
constexpr std::string_view kInteger = R"({"type":"integer"})";
constexpr std::string_view kBoolean = R"({"type":"boolean"})";
constexpr std::string_view kString = R"({"type":"string"})";
constexpr std::string_view kObject = R"({"type":"object"})";
constexpr std::string_view kList = R"({"type":"array"})";
constexpr FieldUse kNoEffect = FieldUse::kNoEffect;
constexpr FieldUse kUnsupported = FieldUse::kUnsupported;
constexpr FieldUse kHonoured = FieldUse::kHonoured;

constexpr Field kCommon[] = {
    {"model", kHonoured, kString},
    {"stream", kHonoured, kBoolean},
    {"stream_options", kHonoured,
     R"({"type":"object","properties":{"include_usage":{"type":"boolean"}}})"},
    {"temperature", kHonoured, R"({"type":"number","minimum":0,"maximum":2,"default":1})"},
    {"top_p", kHonoured, R"({"type":"number","minimum":0,"maximum":1,"default":1})"},
    {"n", kHonoured, R"({"type":"integer","minimum":1,"maximum":128,"default":1})"},
    {"stop", kHonoured,
     R"({"oneOf":[{"type":"string"},{"type":"array","items":{"type":"string"}}]})"},
    {"max_tokens", kHonoured, R"({"type":"integer","minimum":1})"},
    {"presence_penalty", kHonoured, R"({"type":"number","minimum":-2,"maximum":2})"},
    {"frequency_penalty", kHonoured, R"({"type":"number","minimum":-2,"maximum":2})"},
    {"logit_bias", kHonoured,
     R"({"type":"object","additionalProperties":{"type":"number","minimum":-100,"maximum":100}})"},
    {"seed", kHonoured, kInteger},
    {"response_format", kHonoured, kObject},
    // Extensions.
    {"top_k", kHonoured, R"({"type":"integer","minimum":-1})"},
    {"min_p", kHonoured, R"({"type":"number","minimum":0,"maximum":1})"},
    {"typical_p", kHonoured, R"({"type":"number","exclusiveMinimum":0,"maximum":1})"},
    {"top_n_sigma", kHonoured, R"({"type":"number","minimum":0})"},
    {"repetition_penalty", kHonoured, R"({"type":"number","minimum":0.001,"maximum":1000})"},
    {"penalty_last_n", kHonoured, R"({"type":"integer","minimum":-1})"},
    {"dry_multiplier", kHonoured, R"({"type":"number","minimum":0})"},
    {"dry_base", kHonoured, R"({"type":"number","minimum":1})"},
    {"dry_allowed_length", kHonoured, R"({"type":"integer","minimum":0})"},
    {"dry_penalty_last_n", kHonoured, R"({"type":"integer","minimum":-1})"},
    {"dry_sequence_breakers", kHonoured, kList},
    {"xtc_probability", kHonoured, R"({"type":"number","minimum":0,"maximum":1})"},
    {"xtc_threshold", kHonoured, R"({"type":"number","minimum":0,"maximum":1})"},
    {"dynatemp_range", kHonoured, R"({"type":"number","minimum":0})"},
    {"dynatemp_exponent", kHonoured, kNumber},
    {"mirostat", kHonoured, R"({"enum":[0,2]})"},
    {"mirostat_tau", kHonoured, R"({"type":"number","minimum":0})"},
    {"mirostat_eta", kHonoured, R"({"type":"number","minimum":0})"},
    {"sampler_preset", kHonoured, R"({"enum":["default","llamacpp","hf"]})"},
    {"min_tokens", kHonoured, R"({"type":"integer","minimum":0})"},
    {"ignore_eos", kHonoured, kBoolean},
    {"stop_token_ids", kHonoured, R"({"type":"array","items":{"type":"integer"}})"},
    {"include_stop_str_in_output", kHonoured, kBoolean},
    {"skip_special_tokens", kHonoured, kBoolean},
    {"structured_outputs", kHonoured, kObject},
    {"guided_json", kHonoured, R"({"type":["object","string"]})"},
    {"guided_regex", kHonoured, kString},
    {"guided_choice", kHonoured, R"({"type":"array","items":{"type":"string"}})"},
    {"guided_grammar", kHonoured, kString},
    {"grammar", kHonoured, kString},
    {"timings", kHonoured, kBoolean},
    // Without effect on the text.
    {"user", kNoEffect, kString},
    {"metadata", kNoEffect, kObject},
    {"service_tier", kNoEffect, kString},
    {"safety_identifier", kNoEffect, kString},
    {"prompt_cache_key", kNoEffect, kString},
    {"prompt_cache_retention", kNoEffect, kString},
    {"store", kUnsupported, kBoolean, "false"},
};

std::string Param(std::string_view path, size_t index, std::string_view member) {
  return std::string(path) + "[" + std::to_string(index) + "]" +
         (member.empty() ? "" : "." + std::string(member));
}

// A schema that a client gave as an object or as text.
std::string SchemaText(const Json& schema) {
  return schema.is_string() ? schema.get<std::string>() : DumpJson(schema);
}

// Content of a message as one text: a string, or a list of text parts.
ApiStatus ReadContent(const Json& content, const std::string& param, Json* out) {
  if (content.is_string() || content.is_null()) {
    *out = content;
    return std::nullopt;
  }
  if (!content.is_array()) {
    return BadRequest("'" + param + "': expected a string or a list of parts", param,
                      "invalid_value");
  }
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string here = Param(param, i, "");
    if (!part.is_object() || !part.contains("type") || !part["type"].is_string()) {
      return BadRequest("'" + here + "': expected an object with a type", here, "invalid_value");
    }
    const std::string type = part["type"];
    if (type == "text" || type == "input_text" || type == "output_text") {
      if (!part.contains("text") || !part["text"].is_string()) {
        return BadRequest("'" + here + ".text': expected a string", here + ".text",
                          "invalid_value");
      }
      text += part["text"].get_ref<const std::string&>();
    } else if (type == "refusal") {
      text += part.value("refusal", "");
    } else {
      return BadRequest(
          "'" + here + "': this model takes text parts only, got '" + type.substr(0, 40) + "'",
          here, "unsupported_content");
    }
  }
  *out = std::move(text);
  return std::nullopt;
}

}  // namespace

FieldTable OpenAiCommonFields() { return kCommon; }

std::vector<Field> JoinFields(FieldTable a, FieldTable b) {
  std::vector<Field> fields(a.begin(), a.end());
  fields.insert(fields.end(), b.begin(), b.end());
  return fields;
}

void ReadExtensions(FieldReader& reader, SamplingParams* s) {
  constexpr double kMax = std::numeric_limits<double>::max();
  if (reader.Int32("top_k", &s->top_k, -1)) s->top_k = std::max(0, s->top_k);
  reader.Number("min_p", &s->min_p, 0, 1);
  reader.Number("typical_p", &s->typical_p, 0, 1);
  reader.Number("top_n_sigma", &s->top_n_sigma, 0, kMax);
  reader.Number("repetition_penalty", &s->repetition_penalty, 1e-3, 1e3);
  reader.Int32("penalty_last_n", &s->penalty_last_n, -1);
  reader.Number("dry_multiplier", &s->dry_multiplier, 0, kMax);
  reader.Number("dry_base", &s->dry_base, 1, kMax);
  reader.Int32("dry_allowed_length", &s->dry_allowed_length, 0);
  reader.Int32("dry_penalty_last_n", &s->dry_penalty_last_n, -1);
  reader.Strings("dry_sequence_breakers", &s->dry_sequence_breakers, false);
  reader.Number("xtc_probability", &s->xtc_probability, 0, 1);
  reader.Number("xtc_threshold", &s->xtc_threshold, 0, 1);
  reader.Number("dynatemp_range", &s->dynatemp_range, 0, kMax);
  reader.Number("dynatemp_exponent", &s->dynatemp_exponent, 0, kMax);
  reader.Int32("mirostat", &s->mirostat, 0, 2);
  reader.Number("mirostat_tau", &s->mirostat_tau, 0, kMax);
  reader.Number("mirostat_eta", &s->mirostat_eta, 0, kMax);
  reader.Int32("min_tokens", &s->min_tokens, 0);
  reader.Bool("ignore_eos", &s->ignore_eos);
  reader.Integers("stop_token_ids", &s->stop_token_ids);
  std::string preset;
  static constexpr std::string_view kPresets[] = {"default", "llamacpp", "hf"};
  if (reader.Choice("sampler_preset", kPresets, &preset)) {
    s->preset = ParseChainPreset(preset).value();
  }
}

ApiStatus ReadOpenAiCommon(FieldReader& reader, GenerationPlan* plan, AnswerOptions* answer) {
  SamplingParams& s = plan->request.sampling;
  reader.Bool("stream", &plan->stream);
  answer->include_usage = false;
  if (const Json* options = reader.Object("stream_options")) {
    if (!plan->stream)
      reader.Fail("stream_options", "expected only together with \"stream\": true");
    FieldReader inner(*options, "stream_options.");
    inner.Bool("include_usage", &answer->include_usage);
    if (!inner.ok()) return inner.error();
  }
  reader.Bool("timings", &answer->timings);
  reader.Number("temperature", &s.temperature, 0, 2);
  reader.Number("top_p", &s.top_p, 0, 1);
  reader.Int32("n", &plan->request.num_choices, 1, 128);
  reader.Number("presence_penalty", &s.presence_penalty, -2, 2);
  reader.Number("frequency_penalty", &s.frequency_penalty, -2, 2);
  reader.Int32("max_tokens", &s.max_tokens, 1);
  if (reader.Strings("stop", &s.stop)) {
    for (const std::string& stop : s.stop) {
      if (stop.empty()) reader.Fail("stop", "expected texts that are not empty");
    }
  }
  reader.Bool("include_stop_str_in_output", &s.include_stop);
  reader.Bool("skip_special_tokens", &plan->request.text.skip_special);
  if (const Json* bias = reader.Object("logit_bias")) {
    for (const auto& [key, value] : bias->items()) {
      const bool digits =
          !key.empty() && key.size() <= 9 &&
          std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (!digits || !value.is_number()) {
        reader.Fail("logit_bias", "expected token ids with numbers, e.g. {\"50256\": -100}");
        break;
      }
      const double amount = value.get<double>();
      if (!(amount >= -100 && amount <= 100)) {
        reader.Fail("logit_bias", "expected numbers from -100 to 100");
        break;
      }
      // OpenAI: -100 is a ban.
      s.logit_bias[std::stoi(key)] =
          amount <= -100 ? -std::numeric_limits<float>::infinity() : static_cast<float>(amount);
    }
  }
  ReadExtensions(reader, &s);
  int64_t seed = 0;
  s.seed = reader.Integer("seed", &seed) ? static_cast<uint64_t>(seed) : RandomSeed();
  return reader.error();
}

ApiStatus ReadConstraint(FieldReader& reader, std::optional<ConstraintSpec>* spec) {
  std::string source;
  auto set = [&](std::string_view name, ConstraintSpec value) {
    if (!source.empty()) {
      reader.Fail(name, "expected one constraint, got '" + source + "' too");
      return;
    }
    source = name;
    *spec = std::move(value);
  };
  auto read_options = [&](FieldReader& from, std::string_view json, std::string_view regex,
                          std::string_view choice, std::string_view grammar) {
    if (const Json* schema = from.Find(json)) {
      if (schema->is_object() || schema->is_string() || schema->is_boolean()) {
        set(json, ConstraintSpec::JsonSchema(SchemaText(*schema)));
      } else {
        from.Fail(json, "expected a JSON Schema");
      }
    }
    std::string text;
    std::vector<std::string> choices;
    if (from.String(regex, &text)) set(regex, ConstraintSpec::Regex(text));
    if (from.Strings(choice, &choices, false)) {
      if (choices.empty()) from.Fail(choice, "expected at least one choice, got none");
      set(choice, ConstraintSpec::Choice(std::move(choices)));
    }
    if (from.String(grammar, &text)) set(grammar, ConstraintSpec::Grammar(text));
  };
  if (const Json* format = reader.Object("response_format")) {
    FieldReader inner(*format, "response_format.");
    static constexpr std::string_view kTypes[] = {"text",  "json_object", "json_schema",
                                                  "regex", "choice",      "grammar"};
    std::string type;
    if (!inner.Choice("type", kTypes, &type) && inner.ok()) {
      inner.Fail("type", "expected a type, got none");
    }
    if (type == "json_object") {
      // llama.cpp's form: a schema beside json_object.
      if (const Json* schema = inner.Object("schema")) {
        set("response_format", ConstraintSpec::JsonSchema(SchemaText(*schema)));
      } else {
        set("response_format", ConstraintSpec::JsonObject());
      }
    } else if (type == "json_schema") {
      const Json* named = inner.Object("json_schema");
      // The responses route has the schema beside the type.
      const Json* schema = nullptr;
      if (named != nullptr) {
        auto found = named->find("schema");
        if (found != named->end() && found->is_object()) schema = &*found;
      } else if (inner.ok()) {
        schema = inner.Object("schema");
      }
      if (schema == nullptr && inner.ok()) {
        inner.Fail("json_schema.schema", "expected a JSON Schema, got none");
      }
      if (schema != nullptr) {
        set("response_format", ConstraintSpec::JsonSchema(SchemaText(*schema)));
      }
    } else if (type == "regex" || type == "grammar") {
      std::string text;
      const std::string_view key = type == "regex" ? "pattern" : "grammar";
      if (!inner.String(key, &text) && inner.ok()) inner.Fail(key, "expected a string, got none");
      set("response_format",
          type == "regex" ? ConstraintSpec::Regex(text) : ConstraintSpec::Grammar(text));
    } else if (type == "choice") {
      std::vector<std::string> choices;
      if (!inner.Strings("choices", &choices, false) || choices.empty()) {
        if (inner.ok()) inner.Fail("choices", "expected a list of strings");
      }
      set("response_format", ConstraintSpec::Choice(std::move(choices)));
    }
    if (!inner.ok()) return inner.error();
  }
  read_options(reader, "guided_json", "guided_regex", "guided_choice", "guided_grammar");
  if (const Json* options = reader.Object("structured_outputs")) {
    FieldReader inner(*options, "structured_outputs.");
    read_options(inner, "json", "regex", "choice", "grammar");
    bool object = false;
    if (inner.Bool("json_object", &object) && object) {
      set("json_object", ConstraintSpec::JsonObject());
    }
    if (!inner.ok()) return inner.error();
  }
  std::string grammar;
  if (reader.String("grammar", &grammar)) set("grammar", ConstraintSpec::Grammar(grammar));
  return reader.error();
}

ApiStatus ReadOpenAiTools(FieldReader& reader, Json* tools, ToolChoice* choice) {
  *tools = Json();
  std::vector<std::string> names;
  if (const Json* list = reader.List("tools")) {
    if (!list->empty()) *tools = Json::array();
    for (size_t i = 0; i < list->size(); ++i) {
      const Json& tool = (*list)[i];
      const std::string param = Param("tools", i, "");
      if (!tool.is_object()) return BadRequest("'" + param + "': expected an object", param);
      // The responses route has name and parameters beside the type.
      Json function = tool.contains("function") ? tool["function"] : tool;
      if (tool.value("type", Json("function")) != "function") {
        return BadRequest("'" + param +
                              ".type': this server runs no tools of its own, expected "
                              "\"function\", got " +
                              DumpJson(tool["type"]).substr(0, 60),
                          param + ".type", "unsupported_tool");
      }
      if (!function.is_object() || !function.contains("name") || !function["name"].is_string() ||
          function["name"].get_ref<const std::string&>().empty()) {
        return BadRequest("'" + param + ".function.name': expected a string",
                          param + ".function.name", "invalid_value");
      }
      if (function.contains("parameters") && !function["parameters"].is_object() &&
          !function["parameters"].is_null()) {
        return BadRequest("'" + param + ".function.parameters': expected a JSON Schema",
                          param + ".function.parameters", "invalid_value");
      }
      Json clean;
      clean["name"] = function["name"];
      if (function.contains("description")) clean["description"] = function["description"];
      clean["parameters"] = function.contains("parameters") && function["parameters"].is_object()
                                ? function["parameters"]
                                : Json{{"type", "object"}, {"properties", Json::object()}};
      if (function.contains("strict")) clean["strict"] = function["strict"];
      names.push_back(function["name"]);
      tools->push_back({{"type", "function"}, {"function", std::move(clean)}});
    }
  }
  if (tools->is_null()) choice->mode = ToolChoice::Mode::kNone;
  if (const Json* wanted = reader.Find("tool_choice")) {
    if (wanted->is_string()) {
      const std::string& mode = wanted->get_ref<const std::string&>();
      if (mode == "none") {
        choice->mode = ToolChoice::Mode::kNone;
      } else if (mode == "required") {
        choice->mode = ToolChoice::Mode::kRequired;
      } else if (mode != "auto") {
        reader.Fail("tool_choice", "expected \"none\", \"auto\", \"required\" or a function");
      }
    } else if (wanted->is_object()) {
      const Json& function = wanted->contains("function") ? (*wanted)["function"] : *wanted;
      if (function.is_object() && function.contains("name") && function["name"].is_string()) {
        choice->mode = ToolChoice::Mode::kRequired;
        choice->name = function["name"];
        if (std::find(names.begin(), names.end(), choice->name) == names.end()) {
          reader.Fail("tool_choice", "expected the name of one of the tools, got '" +
                                         choice->name.substr(0, 64) + "'");
        }
      } else {
        reader.Fail("tool_choice", "expected a function with a name");
      }
    } else {
      reader.Fail("tool_choice", "expected a string or an object");
    }
    if (choice->mode == ToolChoice::Mode::kRequired && tools->is_null()) {
      reader.Fail("tool_choice", "expected \"tools\" with it, got none");
    }
  }
  reader.Bool("parallel_tool_calls", &choice->parallel);
  return reader.error();
}

ApiStatus ReadOpenAiMessages(const Json& messages, std::string_view path, Json* out) {
  *out = Json::array();
  if (messages.empty()) {
    return BadRequest("'" + std::string(path) + "': expected at least one message, got none",
                      std::string(path), "invalid_value");
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    if (!message.is_object()) {
      return BadRequest("'" + Param(path, i, "") + "': expected an object", Param(path, i, ""),
                        "invalid_value");
    }
    FieldReader reader(message, Param(path, i, "") + ".");
    static constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant",
                                                  "tool"};
    Json clean;
    std::string role;
    if (!reader.Choice("role", kRoles, &role) && reader.ok()) {
      reader.Fail("role", "expected a role, got none");
    }
    if (!reader.ok()) return reader.error();
    clean["role"] = role == "developer" ? "system" : role;
    const Json* content = reader.Find("content");
    Json text;
    if (content != nullptr) {
      if (auto error = ReadContent(*content, Param(path, i, "content"), &text)) return error;
    } else if (role != "assistant") {
      reader.Fail("content", "expected a string or a list of parts, got none");
      return reader.error();
    }
    clean["content"] = text.is_null() ? Json("") : std::move(text);
    std::string part;
    if (reader.String("name", &part)) clean["name"] = part;
    if (reader.String("tool_call_id", &part)) clean["tool_call_id"] = part;
    if (reader.String("reasoning_content", &part) || reader.String("reasoning", &part)) {
      clean["reasoning_content"] = part;
    }
    if (const Json* calls = reader.List("tool_calls")) {
      Json list = Json::array();
      for (size_t c = 0; c < calls->size(); ++c) {
        const std::string here = Param(Param(path, i, "tool_calls"), c, "function");
        const Json& call = (*calls)[c];
        if (!call.is_object() || !call.contains("function") || !call["function"].is_object() ||
            !call["function"].contains("name") || !call["function"]["name"].is_string()) {
          return BadRequest("'" + here + "': expected an object with a name", here,
                            "invalid_value");
        }
        Json function = call["function"];
        // Templates write arguments with tojson, clients send them as text.
        if (function.contains("arguments") && function["arguments"].is_string()) {
          auto parsed = ParseJsonBody(function["arguments"].get_ref<const std::string&>());
          if (parsed.ok()) function["arguments"] = std::move(parsed).value();
        }
        list.push_back({{"id", call.value("id", Json(""))},
                        {"type", "function"},
                        {"function", std::move(function)}});
      }
      if (!list.empty()) clean["tool_calls"] = std::move(list);
    }
    if (!reader.ok()) return reader.error();
    out->push_back(std::move(clean));
  }
  return std::nullopt;
}

Json TimingsJson(const Outcome& outcome, const SamplingParams& sampling) {
  const GenerationTimings& t = outcome.timings;
  Json json;
  json["queue_s"] = t.queue_s;
  json["prefill_s"] = t.prefill_s;
  json["decode_s"] = t.decode_s;
  json["total_s"] = outcome.total_s;
  json["prompt_tokens"] = t.prompt_tokens;
  json["cached_tokens"] = t.cached_tokens;
  json["completion_tokens"] = t.completion_tokens;
  if (t.draft_tokens > 0) {
    json["draft_tokens"] = t.draft_tokens;
    json["accepted_tokens"] = t.accepted_tokens;
  }
  json["seed"] = sampling.seed;
  json["sampler_chain"] = ChainToJson(sampling);
  return json;
}

std::string_view OpenAiFinish(const ChoiceOutput& output) {
  if (output.finish == FinishReason::kLength) return "length";
  return output.tool_calls.empty() ? "stop" : "tool_calls";
}

}  // namespace ink
