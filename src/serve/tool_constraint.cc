#include "serve/tool_constraint.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace ink {
namespace {

constexpr std::string_view kName = "zqname";
constexpr std::string_view kNumber = "zq_arg";
constexpr std::string_view kSecond = "zq_two";
constexpr std::string_view kText = "zq_str";
constexpr std::string_view kTextValue = "zqvalue";

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

Json Function(std::string_view name) {
  Json properties;
  properties[std::string(kNumber)] = {{"type", "integer"}, {"description", "d"}};
  properties[std::string(kSecond)] = {{"type", "integer"}, {"description", "d"}};
  properties[std::string(kText)] = {{"type", "string"}, {"description", "d"}};
  return {{"type", "function"},
          {"function",
           {{"name", name},
            {"description", "d"},
            {"parameters", {{"type", "object"}, {"properties", std::move(properties)}}}}}};
}

// What the template makes of a call, or nothing. The ways to say it that templates differ in are
// tried in turn.
std::optional<std::string> RenderCall(const ChatTemplate& chat_template, std::string_view bos,
                                      std::string_view eos) {
  Json arguments;
  arguments[std::string(kNumber)] = 7;
  arguments[std::string(kSecond)] = 8;
  arguments[std::string(kText)] = kTextValue;
  const std::string kimi_id = "functions." + std::string(kName) + ":0";
  for (const Json& given : {arguments, Json(arguments.dump())}) {
    for (const Json& id : {Json(kProbeCallId), Json(kimi_id)}) {
      for (const Json& content : {Json(""), Json(nullptr)}) {
        const Json call = {{"id", id},
                           {"type", "function"},
                           {"function", {{"name", kName}, {"arguments", given}}}};
        Json context;
        context["messages"] = Json::array(
            {{{"role", "user"}, {"content", "hi"}},
             {{"role", "assistant"}, {"content", content}, {"tool_calls", Json::array({call})}}});
        context["tools"] = Json::array({Function("zq_other")});
        context["add_generation_prompt"] = false;
        context["bos_token"] = bos;
        context["eos_token"] = eos;
        auto text = chat_template.Render(context);
        if (!text.ok() || text->find(kName) == std::string::npos) continue;
        if (text->find(kTextValue) != std::string::npos) return *std::move(text);
      }
    }
  }
  return std::nullopt;
}

// Cuts `"id": "..."` of the probe out of a JSON call.
std::string WithoutId(std::string text) {
  const std::string value = "\"" + std::string(kProbeCallId) + "\"";
  const size_t at = text.find(value);
  if (at == std::string::npos) return text;
  const size_t key = text.rfind(':', at);
  const size_t quote = key == std::string::npos ? key : text.rfind('"', key);
  const size_t begin =
      quote == std::string::npos || quote == 0 ? quote : text.rfind('"', quote - 1);
  if (begin == std::string::npos || begin == 0) return text;
  const size_t end = at + value.size();
  const size_t comma = text.find_last_not_of(" \n", begin - 1);
  if (comma != std::string::npos && text[comma] == ',') return text.erase(comma, end - comma);
  const size_t after = text.find_first_not_of(" \n", end);
  if (after == std::string::npos || text[after] != ',') return text;
  const size_t next = std::min(text.size(), text.find_first_not_of(" \n", after + 1));
  return text.erase(begin, next - begin);
}

// A text as a literal of a grammar.
std::string Literal(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      out += c;
    }
  }
  return out + "\"";
}

constexpr std::string_view kValueRules = R"(
string-text ::= ([^<] | "<" [^/])*
integer ::= "-"? ("0" | [1-9] [0-9]{0,15})
number ::= integer ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?
boolean ::= "true" | "false"
)";

// The rule for a value that stands between tags, by the parameter's schema.
Result<std::string> ValueRule(const std::string& key, const Json& schema) {
  static constexpr std::string_view kKnown[] = {"type",  "description", "title",    "enum",
                                                "const", "default",     "examples", "format"};
  auto refuse = [&](const std::string& what) {
    return Unsupported("parameter '" + key + "': " + what +
                       " cannot be enforced in this model's form of tool calls");
  };
  if (!schema.is_object()) return refuse("its schema");
  for (const auto& [keyword, value] : schema.items()) {
    if (std::find(std::begin(kKnown), std::end(kKnown), keyword) == std::end(kKnown)) {
      return refuse("'" + keyword + "'");
    }
  }
  Json values = schema.value("enum", Json());
  if (schema.contains("const")) values = Json::array({schema["const"]});
  if (values.is_array() && !values.empty()) {
    std::string rule;
    for (const Json& value : values) {
      if (value.is_structured()) return refuse("'enum' of objects");
      rule += (rule.empty() ? "" : " | ") +
              Literal(value.is_string() ? value.get<std::string>() : DumpJson(value));
    }
    return "(" + rule + ")";
  }
  const Json type = schema.value("type", Json());
  if (type == "string") return std::string("string-text");
  if (type == "integer") return std::string("integer");
  if (type == "number") return std::string("number");
  if (type == "boolean") return std::string("boolean");
  return refuse("type " + DumpJson(type));
}

// A call in this shape must come out of the parser as that call.
bool ReadsBack(const ToolCallShape& shape, const ChatOutputFormat& format) {
  Json tools = Json::array({Function(kName)});
  ChatOutputOptions options;
  options.tools = &tools;
  ChatOutputParser parser(format, options);
  std::string text = shape.begin;
  if (shape.arguments == ToolCallShape::Arguments::kJson) {
    text += R"({"zq_arg": 7})";
  } else {
    text += shape.param_open + std::string(kNumber) + shape.value_open + "7" + shape.param_close;
  }
  text += shape.end;
  std::string name, arguments, content;
  std::vector<ChatEvent> events = parser.Feed(text);
  for (ChatEvent& event : parser.Finish()) events.push_back(std::move(event));
  for (const ChatEvent& event : events) {
    if (event.kind == ChatEvent::Kind::kToolCallStart) name += event.text;
    if (event.kind == ChatEvent::Kind::kToolArguments) arguments += event.text;
    if (event.kind == ChatEvent::Kind::kContent) content += event.text;
  }
  return name == kName && content.empty() && parser.tool_calls() == 1 &&
         Json::parse(arguments, nullptr, false) == Json{{"zq_arg", 7}};
}

}  // namespace

ToolCallShape FindToolCallShape(const ChatTemplate& chat_template, const ChatOutputFormat& format,
                                std::string_view bos, std::string_view eos,
                                const std::vector<std::string>& end_texts) {
  using Style = ToolCallStyle;
  ToolCallShape shape;
  const bool json = format.style == Style::kJson || format.style == Style::kBareJson ||
                    format.style == Style::kNamedJson || format.style == Style::kChannels;
  const bool tagged = format.style == Style::kXml || format.style == Style::kKeyValue;
  if (!json && !tagged) return shape;
  const std::optional<std::string> rendered = RenderCall(chat_template, bos, eos);
  if (!rendered) return shape;
  const std::string& text = *rendered;
  const size_t name_at = text.find(kName);
  const size_t number_at = text.find(kNumber, tagged ? name_at : 0);
  const size_t second_at = text.find(kSecond, number_at);
  const size_t text_at = text.find(kText, second_at);
  // The definition of the other tool comes before the call.
  size_t args_begin = std::string::npos, args_end = std::string::npos;
  std::string tail;
  if (json) {
    const size_t value_at = text.find(kTextValue);
    const size_t key_at = text.rfind(kNumber, value_at);
    if (key_at == std::string::npos) return shape;
    args_begin = text.rfind('{', key_at);
    args_end = text.find('}', value_at);
    if (args_begin == std::string::npos || args_end == std::string::npos) return shape;
    ++args_end;
    const Json arguments =
        Json::parse(text.substr(args_begin, args_end - args_begin), nullptr, false);
    if (!arguments.is_object() || arguments.size() != 3) return shape;
    shape.arguments = ToolCallShape::Arguments::kJson;
  } else {
    if (text_at == std::string::npos) return shape;
    const std::string open = format.param_open;
    args_begin = text.rfind(open, number_at);
    const size_t second_open = text.rfind(open, second_at);
    const size_t value_at = text.find('7', number_at + kNumber.size());
    const size_t string_at = text.find(kTextValue, text_at);
    if (args_begin == std::string::npos || second_open == std::string::npos ||
        value_at == std::string::npos || value_at > second_open || string_at == std::string::npos ||
        args_begin < name_at) {
      return shape;
    }
    shape.param_open = text.substr(args_begin, number_at - args_begin);
    shape.value_open =
        text.substr(number_at + kNumber.size(), value_at - number_at - kNumber.size());
    shape.string_open = text.substr(text_at + kText.size(), string_at - text_at - kText.size());
    const std::string between = text.substr(value_at + 1, second_open - value_at - 1);
    args_end = string_at + kTextValue.size();
    if (text.compare(args_end, between.size(), between) != 0) return shape;
    shape.param_close = between;
    args_end += between.size();
    shape.arguments = ToolCallShape::Arguments::kTagged;
  }
  tail = text.substr(args_end);
  size_t cut = std::string::npos;
  for (const std::string& end : end_texts) {
    if (!end.empty()) cut = std::min(cut, tail.find(end));
  }
  if (cut == std::string::npos) {
    for (const std::string& closer : format.closers) {
      const size_t at = tail.find(closer);
      if (at != std::string::npos) cut = std::min(cut, at + closer.size());
    }
  }
  tail.resize(std::min(cut, tail.size()));
  tail.resize(tail.find_last_not_of(" \n\r\t") + 1);

  const size_t call_at = std::min(name_at, args_begin);
  size_t begin = std::string::npos;
  if (format.style == Style::kChannels) {
    static constexpr std::string_view kStart = "<|start|>assistant";
    begin = text.rfind(kStart, call_at);
    if (begin != std::string::npos) begin += kStart.size();
  } else {
    for (const std::string& opener : format.openers) {
      const size_t at = text.rfind(opener, call_at);
      if (at == std::string::npos) continue;
      // The outermost of the marks right before the call.
      if (begin == std::string::npos || at < begin) {
        begin = at;
        shape.trigger = opener;
      }
    }
    if (begin == std::string::npos && format.bare_json) begin = text.rfind('{', call_at);
  }
  if (begin == std::string::npos) return ToolCallShape();
  shape.begin = text.substr(begin, args_begin - begin);
  if (cut == std::string::npos) {
    // Nothing says where the call ends but its own brackets.
    auto count = [&](char c) { return std::count(shape.begin.begin(), shape.begin.end(), c); };
    const auto open = static_cast<size_t>(std::max<int64_t>(0, count('{') + count('[')));
    size_t end = 0;
    for (size_t closed = 0; end < tail.size() && closed < open; ++end) {
      if (tail[end] == '}' || tail[end] == ']') ++closed;
    }
    tail.resize(end);
  }
  shape.end = std::move(tail);
  if (json) {
    shape.begin = WithoutId(shape.begin);
    shape.end = WithoutId(shape.end);
  }
  const std::string_view inner =
      std::string_view(shape.begin).substr(std::min(shape.begin.size(), shape.trigger.size()));
  const size_t first = inner.find_first_not_of(" \n");
  const bool list = first != std::string_view::npos && inner[first] == '[';
  const bool closed = std::any_of(format.closers.begin(), format.closers.end(),
                                  [&](const std::string& c) { return shape.end.ends_with(c); });
  shape.repeats = !shape.trigger.empty() && closed && !list && format.call_open.empty();
  return ReadsBack(shape, format) ? shape : ToolCallShape();
}

Result<ConstraintSpec::Tag> ToolCallShape::Tag(std::string_view name,
                                               const Json& parameters) const {
  ConstraintSpec::Tag tag;
  tag.begin = Replaced(begin, kName, name);
  tag.end = Replaced(end, kName, name);
  if (arguments == Arguments::kNone) {
    return Unsupported("the form of this model's tool calls cannot be enforced");
  }
  if (arguments == Arguments::kJson) {
    tag.content =
        std::make_shared<const ConstraintSpec>(ConstraintSpec::JsonSchema(DumpJson(parameters)));
    return tag;
  }
  for (const auto& [keyword, value] : parameters.items()) {
    if (keyword != "type" && keyword != "properties" && keyword != "required" &&
        keyword != "additionalProperties" && keyword != "description" && keyword != "title" &&
        keyword != "$schema") {
      return Unsupported("'" + keyword + "' cannot be enforced in this model's form of tool calls");
    }
  }
  const Json properties = parameters.value("properties", Json::object());
  const Json required = parameters.value("required", Json::array());
  std::string root, rules;
  int count = 0;
  for (const auto& [key, schema] : properties.items()) {
    INK_ASSIGN_OR_RETURN(const std::string value, ValueRule(key, schema));
    const bool is_string = value == "string-text" || (value[0] == '(' && value[1] == '"' &&
                                                      schema.value("type", "string") == "string");
    const std::string rule = "p" + std::to_string(count++);
    rules += rule + " ::= " + Literal(param_open + key + (is_string ? string_open : value_open)) +
             " " + value + " " + Literal(param_close) + "\n";
    const bool needed = std::find(required.begin(), required.end(), Json(key)) != required.end();
    root += (root.empty() ? "" : " ") + rule + (needed ? "" : "?");
  }
  for (const Json& key : required) {
    if (!key.is_string() || !properties.contains(key.get<std::string>())) {
      return Unsupported("'required' names a parameter without a schema");
    }
  }
  if (count == 0) return tag;
  tag.content = std::make_shared<const ConstraintSpec>(
      ConstraintSpec::Grammar("root ::= " + root + "\n" + rules + std::string(kValueRules)));
  return tag;
}

}  // namespace ink
