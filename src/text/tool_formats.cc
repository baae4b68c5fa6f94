// Which markers a template's model uses: found in the template's source and in what it renders.
#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "text/tool_calls.h"

namespace ink {
namespace {

using Json = nlohmann::ordered_json;

// The source, and the template's own rendering of a conversation with a tool call and reasoning:
// some templates put their markers together from parts.
class Evidence {
 public:
  explicit Evidence(const ChatTemplate& chat_template) : text_(chat_template.source()) {
    const Json arguments = {{"city", "Paris"}, {"days", 3}};
    for (const Json& given : {arguments, Json(arguments.dump())}) {
      for (const Json& content : {Json("I ask."), Json(""), Json(nullptr)}) {
        const Result<std::string> text = chat_template.Render(Conversation(given, content));
        if (text.ok()) text_ += "\n" + *text;
      }
    }
  }

  bool Has(std::string_view marker) const { return text_.find(marker) != std::string::npos; }
  bool HasAll(std::initializer_list<std::string_view> markers) const {
    return std::all_of(markers.begin(), markers.end(), [this](auto m) { return Has(m); });
  }
  // What stands between `before` and the next '>': "opensource" of "<arg_key:opensource>".
  std::string Suffix(std::string_view before) const {
    const size_t at = text_.find(before);
    if (at == std::string::npos) return "";
    const size_t start = at + before.size();
    const size_t end = text_.find('>', start);
    return end == std::string::npos || end - start > 40 ? "" : text_.substr(start, end - start);
  }

 private:
  static Json Conversation(const Json& arguments, const Json& content) {
    const Json function = {{"name", "get_weather"},
                           {"description", "The weather in a city."},
                           {"parameters",
                            {{"type", "object"},
                             {"properties",
                              {{"city", {{"type", "string"}, {"description", "A city."}}},
                               {"days", {{"type", "integer"}, {"description", "Days."}}}}},
                             {"required", {"city"}}}}};
    const Json call = {{"id", "call12345"},
                       {"type", "function"},
                       {"function", {{"name", "get_weather"}, {"arguments", arguments}}}};
    Json context;
    context["messages"] = Json::array({{{"role", "user"}, {"content", "How is the weather?"}},
                                       {{"role", "assistant"},
                                        {"content", content},
                                        {"reasoning_content", "I must look."},
                                        {"tool_calls", Json::array({call})}},
                                       {{"role", "tool"},
                                        {"tool_call_id", "call12345"},
                                        {"name", "get_weather"},
                                        {"content", "sunny"}}});
    context["tools"] = Json::array({{{"type", "function"}, {"function", function}}});
    context["add_generation_prompt"] = true;
    context["enable_thinking"] = true;
    context["bos_token"] = "";
    context["eos_token"] = "";
    return context;
  }

  std::string text_;
};

ChatOutputFormat JsonFormat(std::string name, std::vector<std::string> openers,
                            std::vector<std::string> closers) {
  ChatOutputFormat format;
  format.name = std::move(name);
  format.style = ToolCallStyle::kJson;
  format.openers = std::move(openers);
  format.closers = std::move(closers);
  return format;
}

ChatOutputFormat NamedFormat(std::string name, std::vector<std::string> openers,
                             std::vector<std::string> name_ends) {
  ChatOutputFormat format;
  format.name = std::move(name);
  format.style = ToolCallStyle::kNamedJson;
  format.openers = std::move(openers);
  format.name_ends = std::move(name_ends);
  return format;
}

struct XmlTags {
  const char* function_open;
  const char* function_name_end;
  const char* function_close;
  const char* param_open;
  const char* param_name_end;
  const char* param_close;
};

ChatOutputFormat XmlFormat(std::string name, std::vector<std::string> openers,
                           std::vector<std::string> closers, const XmlTags& tags) {
  ChatOutputFormat format;
  format.name = std::move(name);
  format.style = ToolCallStyle::kXml;
  format.openers = std::move(openers);
  format.closers = std::move(closers);
  format.function_open = tags.function_open;
  format.function_name_end = tags.function_name_end;
  format.function_close = tags.function_close;
  format.param_open = tags.param_open;
  format.param_name_end = tags.param_name_end;
  format.param_close = tags.param_close;
  return format;
}

// GLM and its kin; `suffix` is part of every tag's name.
ChatOutputFormat KeyValueFormat(const std::string& suffix) {
  const auto tag = [&suffix](const char* name) { return "<" + (name + suffix) + ">"; };
  ChatOutputFormat format;
  format.name = "glm";
  format.style = ToolCallStyle::kKeyValue;
  format.openers = {tag("tool_call")};
  format.closers = {tag("/tool_call")};
  format.param_open = tag("arg_key");
  format.param_name_end = tag("/arg_key");
  format.value_open = tag("arg_value");
  format.param_close = tag("/arg_value");
  if (!suffix.empty()) {
    format.function_name_end = tag("tool_sep");
    format.dropped = {tag("tool_calls"), tag("/tool_calls")};
  }
  return format;
}

ChatOutputFormat WholeFormat(std::string name, ToolCallStyle style,
                             std::vector<std::string> openers, std::vector<std::string> closers) {
  ChatOutputFormat format;
  format.name = std::move(name);
  format.style = style;
  format.openers = std::move(openers);
  format.closers = std::move(closers);
  return format;
}

constexpr XmlTags kFunctionTags{"<function=",  ">", "</function>",
                                "<parameter=", ">", "</parameter>"};
constexpr XmlTags kInvokeTags{"<invoke name=\"",    "\">", "</invoke>",
                              "<parameter name=\"", "\">", "</parameter>"};
constexpr XmlTags kParamTags{"<function name=\"", "\">", "</function>",
                             "<param name=\"",    "\">", "</param>"};
constexpr XmlTags kDsmlTags{"<｜DSML｜invoke name=\"",    "\">", "</｜DSML｜invoke>",
                            "<｜DSML｜parameter name=\"", ">",   "</｜DSML｜parameter>"};

// Formats with control tokens of their own.
bool FindTokenFormat(const Evidence& has, ChatOutputFormat* format) {
  if (has.HasAll({"<|channel|>", "<|message|>"})) {
    format->name = "channels";
    format->style = ToolCallStyle::kChannels;
  } else if (has.Has("<｜DSML｜") || has.HasAll({"dsml_token", "DSML"})) {
    *format = XmlFormat("deepseek-dsml", {"<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"},
                        {"</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"}, kDsmlTags);
  } else if (has.HasAll({"]<]minimax[>[", "<invoke name="})) {
    *format = WholeFormat("minimax-m3", ToolCallStyle::kElements, {"]<]minimax[>[<tool_call>"},
                          {"]<]minimax[>[</tool_call>"});
  } else if (has.Has("<minimax:tool_call>")) {
    *format =
        XmlFormat("minimax-m2", {"<minimax:tool_call>"}, {"</minimax:tool_call>"}, kInvokeTags);
  } else if (has.Has("<|tool_calls_section_begin|>")) {
    *format =
        NamedFormat("kimi-k2", {"<|tool_calls_section_begin|>"}, {"<|tool_call_argument_begin|>"});
    format->closers = {"<|tool_calls_section_end|>"};
    format->call_open = "<|tool_call_begin|>";
    format->call_close = "<|tool_call_end|>";
  } else if (has.Has("<｜tool▁calls▁begin｜>")) {
    *format = NamedFormat("deepseek", {"<｜tool▁calls▁begin｜>"}, {"<｜tool▁sep｜>"});
    format->closers = {"<｜tool▁calls▁end｜>"};
    format->call_open = "<｜tool▁call▁begin｜>";
    format->call_close = "<｜tool▁call▁end｜>";
  } else if (has.Has("<|tool_call:begin|>")) {
    *format = NamedFormat("solar", {"<|tool_calls|>"}, {"<|tool_call:args|>"});
    format->closers = {"<|calls|>"};
    format->call_open = "<|tool_call:begin|>";
    format->call_close = "<|tool_call:end|>";
    format->id_end = "<|tool_call:name|>";
    format->dropped = {"<|begin|>assistant", "<|content|>", "<|end|>"};
  } else if (has.HasAll({"[TOOL_CALLS]", "[ARGS]"})) {
    *format = NamedFormat("mistral", {"[TOOL_CALLS]"}, {"[ARGS]", "[CALL_ID]", ""});
  } else if (has.Has("[TOOL_CALLS]")) {
    *format = JsonFormat("mistral-list", {"[TOOL_CALLS]"}, {});
  } else if (has.Has("<|START_ACTION|>")) {
    *format = JsonFormat("cohere", {"<|START_ACTION|>"}, {"<|END_ACTION|>"});
  } else if (has.Has("<|tool_call>call:")) {
    *format = WholeFormat("gemma", ToolCallStyle::kLiteral, {"<|tool_call>"}, {"<tool_call|>"});
  } else if (has.Has("<|tool_call_start|>") || has.Has("<|tool_list_start|>") ||
             has.Has("List of tools: [")) {
    *format = WholeFormat("lfm2", ToolCallStyle::kPythonCalls, {"<|tool_call_start|>"},
                          {"<|tool_call_end|>"});
  } else if (has.Has("<|tools_prefix|>")) {
    *format = JsonFormat("apertus", {"<|tools_prefix|>"}, {"<|tools_suffix|>"});
    format->keyed = true;
  } else if (has.Has("<|function_call|>")) {
    *format = JsonFormat("gigachat", {"<|function_call|>"}, {});
  } else if (has.Has("function call<|role_sep|>")) {
    *format = JsonFormat(
        "gigachat",
        {"<|message_sep|>\n\nfunction call<|role_sep|>\n", "function call<|role_sep|>\n"},
        {"<|message_sep|>"});
  } else {
    return false;
  }
  return true;
}

// Formats in tags of ordinary text.
bool FindTagFormat(const Evidence& has, ChatOutputFormat* format) {
  if (has.Has("<arg_key")) {
    const std::string suffix = has.Suffix("<arg_key:");
    *format = KeyValueFormat(suffix.empty() ? "" : ":" + suffix);
  } else if (has.HasAll({"<seed:tool_call>", "<function="})) {
    *format = XmlFormat("seed", {"<seed:tool_call>"}, {"</seed:tool_call>"}, kFunctionTags);
  } else if (has.HasAll({"<function=", "<parameter="})) {
    // Models of this kind sometimes leave out the outer tag.
    *format =
        XmlFormat("qwen3-coder", {"<tool_call>", "<function="}, {"</tool_call>"}, kFunctionTags);
  } else if (has.HasAll({"<function name=\"", "<param name=\""})) {
    *format = XmlFormat("minicpm", {"<function name=\""}, {}, kParamTags);
  } else if (has.Has("<function=")) {
    *format = NamedFormat("functionary", {"<function="}, {">"});
    format->call_close = "</function>";
  } else if (has.Has(">>>all")) {
    *format = NamedFormat("functionary-v3.2", {">>>"}, {"\n"});
    format->dropped = {">>>all\n"};
    format->implied_start = ">>>";
  } else if (has.Has("<tool_calls>[")) {
    *format = JsonFormat("apriel", {"<tool_calls>"}, {"</tool_calls>"});
  } else if (has.Has("<TOOLCALL>")) {
    *format = JsonFormat("nemotron", {"<TOOLCALL>"}, {"</TOOLCALL>"});
  } else if (has.Has("<tool_call>")) {
    *format = JsonFormat("hermes", {"<tool_call>"}, {"</tool_call>"});
  } else if (has.Has("<|tool_call|>")) {
    *format = JsonFormat("granite", {"<|tool_call|>", "<tool_call>"}, {"</tool_call>"});
  } else if (has.Has("<|/tool|>")) {
    *format = JsonFormat("phi-4", {"<|tool_call|>"}, {"<|/tool_call|>"});
  } else if (has.Has("functools[")) {
    *format = JsonFormat("firefunction", {" functools", "functools"}, {});
  } else if (has.Has("<|python_tag|>") || has.Has("\"parameters\": dictionary of argument name")) {
    *format = JsonFormat("llama-3", {"<|python_tag|>"}, {});
    format->style = ToolCallStyle::kBareJson;
    format->bare_json = true;
  } else if (has.HasAll({"Action:", "```json", "tool_name"})) {
    *format = JsonFormat("command-r", {"Action:"}, {"```"});
  } else if (has.Has("tool")) {
    // Tools, but in no form that is known: what most models have seen.
    *format = JsonFormat("generic", {"<tool_call>"}, {"</tool_call>"});
    format->bare_json = true;
  } else {
    return false;
  }
  return true;
}

void FindReasoning(const Evidence& has, ChatOutputFormat* format) {
  struct Pair {
    std::string_view open;
    std::string_view close;
    std::string_view sign;  // what shows that the model has it
  };
  static constexpr Pair kPairs[] = {
      {"<|channel|>analysis", "<|end|>", "<|channel|>analysis"},
      {"<|START_THINKING|>", "<|END_THINKING|>", "<|START_THINKING|>"},
      {"<seed:think>", "</seed:think>", "<seed:think>"},
      {"<mm:think>", "</mm:think>", "<mm:think>"},
      {"[THINK]", "[/THINK]", "[THINK]"},
      {"<|channel>thought", "<channel|>", "<|channel>thought"},
      {"<|inner_prefix|>", "<|inner_suffix|>", "<|inner_prefix|>"},
      {"<|think|>", "<|end|>", "<|begin|>assistant<|think|>"},
      {"Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", "[BEGIN FINAL RESPONSE]"},
      {"<think>", "</think>", "</think>"},
      {"<thinking>", "</thinking>", "</thinking>"},
  };
  if (const std::string suffix = has.Suffix("<think:"); !suffix.empty()) {
    format->reasoning_open = "<think:" + suffix + ">";
    format->reasoning_close = "</think:" + suffix + ">";
    return;
  }
  for (const Pair& pair : kPairs) {
    if (!has.Has(pair.sign)) continue;
    format->reasoning_open = pair.open;
    format->reasoning_close = pair.close;
    return;
  }
}

}  // namespace

ChatOutputFormat DetectChatOutputFormat(const ChatTemplate& chat_template) {
  const Evidence evidence(chat_template);
  ChatOutputFormat format;
  format.name = "plain";
  if (!FindTokenFormat(evidence, &format)) FindTagFormat(evidence, &format);
  FindReasoning(evidence, &format);
  for (const char* marker :
       {"<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>", "<response>",
        "</response>", "[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"}) {
    if (evidence.Has(marker)) format.dropped.emplace_back(marker);
  }
  return format;
}

bool PromptOpensReasoning(const ChatOutputFormat& format, std::string_view prompt) {
  if (format.reasoning_open.empty() || format.style == ToolCallStyle::kChannels) return false;
  prompt = prompt.substr(0, prompt.find_last_not_of(" \t\r\n") + 1);
  return prompt.ends_with(format.reasoning_open);
}

}  // namespace ink
