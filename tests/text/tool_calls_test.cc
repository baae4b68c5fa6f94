// Each model family's way to call tools, cut at every position of the stream.
#include "text/tool_calls.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "support/shared.h"

namespace ink {
namespace {

using Json = nlohmann::ordered_json;
using testing_support::Shared;

const Json& Tools() {
  static const Json tools = Json::parse(R"([
    {"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": {
      "type": "object", "properties": {"city": {"type": "string", "description": "d"},
      "days": {"type": "integer", "description": "d"},
      "opts": {"type": "object", "description": "d"}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "stop", "description": "d", "parameters": {
      "type": "object", "properties": {}}}}])");
  return tools;
}

struct Call {
  std::string name;
  std::string arguments;
  std::string id;
  bool ended = false;
};

struct Message {
  std::string content;
  std::string reasoning;
  std::vector<Call> calls;
};

void Collect(const std::vector<ChatEvent>& events, Message* message) {
  for (const ChatEvent& event : events) {
    switch (event.kind) {
      case ChatEvent::Kind::kContent:
        message->content += event.text;
        break;
      case ChatEvent::Kind::kReasoning:
        message->reasoning += event.text;
        break;
      case ChatEvent::Kind::kToolCallStart:
        ASSERT_EQ(static_cast<size_t>(event.index), message->calls.size());
        message->calls.push_back({event.text, "", event.id, false});
        break;
      case ChatEvent::Kind::kToolArguments:
        ASSERT_EQ(static_cast<size_t>(event.index) + 1, message->calls.size());
        message->calls.back().arguments += event.text;
        break;
      case ChatEvent::Kind::kToolCallEnd:
        ASSERT_EQ(static_cast<size_t>(event.index) + 1, message->calls.size());
        message->calls.back().ended = true;
        break;
    }
  }
}

Message ParsePieces(const ChatOutputFormat& format, const std::vector<std::string>& pieces,
                    bool reasoning_open = false, const Json* tools = &Tools()) {
  ChatOutputOptions options;
  options.tools = tools;
  options.reasoning_open = reasoning_open;
  ChatOutputParser parser(format, options);
  Message message;
  for (const std::string& piece : pieces) Collect(parser.Feed(piece), &message);
  Collect(parser.Finish(), &message);
  EXPECT_EQ(static_cast<size_t>(parser.tool_calls()), message.calls.size());
  return message;
}

std::string Print(const Message& message) {
  std::string out = "content=" + message.content + "|reasoning=" + message.reasoning;
  for (const Call& call : message.calls) {
    out += "|" + call.name + "(" + call.arguments + ")#" + call.id + (call.ended ? "" : "...");
  }
  return out;
}

// Parses whole, split in two at every byte, and byte by byte: always the same message.
Message ParseEveryWay(const ChatOutputFormat& format, const std::string& text,
                      bool reasoning_open = false, const Json* tools = &Tools()) {
  const Message whole = ParsePieces(format, {text}, reasoning_open, tools);
  std::vector<std::string> bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    bytes.push_back(text.substr(i, 1));
    EXPECT_EQ(
        Print(ParsePieces(format, {text.substr(0, i), text.substr(i)}, reasoning_open, tools)),
        Print(whole))
        << "split at " << i;
  }
  EXPECT_EQ(Print(ParsePieces(format, bytes, reasoning_open, tools)), Print(whole));
  return whole;
}

// A template that shows just these markers, for detection.
ChatOutputFormat FormatOf(const std::string& markers) {
  const std::string source = "{% if tools %}{{ tool_calls }}{% endif %}{#" + markers + "#}";
  return DetectChatOutputFormat(ChatTemplate::Parse(source).value());
}

struct FamilyCase {
  const char* name;     // expected of the detection
  const char* markers;  // in the template
  const char* text;     // what the model writes
  const char* content;
  const char* reasoning;
  // Two calls: get_weather with these arguments, then stop with none (or get_weather alone).
  const char* arguments;
  int calls;
  const char* first_id;
};

constexpr const char* kJsonArguments =
    R"({"city": "Paris {\"}\"} ü", "days": 3, "opts": {"x": [1, true]}})";

const std::vector<FamilyCase>& Families() {
  static const std::vector<FamilyCase> families = {
      {"hermes", "<tool_call></tool_call><think></think>",
       "<think>\nLet me see.\n</think>\n\nI ask.\n<tool_call>\n{\"name\": \"get_weather\", "
       "\"arguments\": {\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, \"opts\": {\"x\": [1, "
       "true]}}}\n</tool_call>\n<tool_call>\n{\"name\": \"stop\", \"arguments\": {}}\n</tool_call>",
       "I ask.", "Let me see.", kJsonArguments, 2, ""},
      {"hermes", "<tool_call></tool_call>",
       "<tool_call>{\"arguments\": {\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, \"opts\": "
       "{\"x\": [1, true]}}, \"name\": \"get_weather\"}\n{\"name\": \"stop\"}</tool_call>",
       "", "", kJsonArguments, 2, ""},
      {"apriel", "<tool_calls>[",
       "I ask.\n<tool_calls>[{\"id\": \"c1\", \"name\": \"get_weather\", \"arguments\": {\"city\": "
       "\"Paris {\\\"}\\\"} ü\", \"days\": 3, \"opts\": {\"x\": [1, true]}}}, {\"name\": \"stop\", "
       "\"arguments\": {}}]</tool_calls>\n",
       "I ask.", "", kJsonArguments, 2, "c1"},
      {"nemotron", "<TOOLCALL>",
       "<TOOLCALL>[{\"name\": \"get_weather\", \"arguments\": \"{\\\"city\\\": \\\"Paris\\\"}\"}, "
       "{\"name\": \"stop\", \"arguments\": {}}]</TOOLCALL>",
       "", "", R"({"city": "Paris"})", 2, ""},
      {"cohere",
       "<|START_ACTION|><|END_ACTION|><|START_THINKING|><|START_RESPONSE|><|END_RESPONSE|>",
       "<|START_THINKING|>Let me see.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": "
       "\"0\", \"tool_name\": \"get_weather\", \"parameters\": {\"city\": \"Paris {\\\"}\\\"} ü\", "
       "\"days\": 3, \"opts\": {\"x\": [1, true]}}},\n    {\"tool_call_id\": \"1\", "
       "\"tool_name\": \"stop\", \"parameters\": {}}\n]<|END_ACTION|>",
       "", "Let me see.", kJsonArguments, 2, "0"},
      {"mistral-list", "[TOOL_CALLS]",
       "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris {\\\"}\\\"} "
       "ü\", "
       "\"days\": 3, \"opts\": {\"x\": [1, true]}}, \"id\": \"123456789\"}, {\"name\": \"stop\", "
       "\"arguments\": {}}]",
       "", "", kJsonArguments, 2, ""},
      {"mistral", "[TOOL_CALLS][ARGS][THINK][/THINK]",
       "[THINK]Let me see.[/THINK]I ask.[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris "
       "{\\\"}\\\"} ü\", \"days\": 3, \"opts\": {\"x\": [1, true]}}[TOOL_CALLS]stop[ARGS]{}",
       "I ask.", "Let me see.", kJsonArguments, 2, ""},
      {"mistral", "[TOOL_CALLS][CALL_ID][ARGS]",
       "[TOOL_CALLS]get_weather[CALL_ID]c12345678[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]stop{}", "",
       "", R"({"city": "Paris"})", 2, "c12345678"},
      {"kimi-k2", "<|tool_calls_section_begin|><think></think>",
       "Let me see.</think>I ask.<|tool_calls_section_begin|><|tool_call_begin|>functions."
       "get_weather:0<|tool_call_argument_begin|>{\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, "
       "\"opts\": {\"x\": [1, true]}}<|tool_call_end|><|tool_call_begin|>functions.stop:1"
       "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
       "I ask.", "Let me see.", kJsonArguments, 2, "functions.get_weather:0"},
      {"deepseek", "<｜tool▁calls▁begin｜><think></think>",
       "<think>\nLet me see.\n</think>\n\nI ask.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function"
       "<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, "
       "\"opts\": {\"x\": [1, true]}}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function"
       "<｜tool▁sep｜>stop\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
       "I ask.", "Let me see.", kJsonArguments, 2, ""},
      {"deepseek", "<｜tool▁calls▁begin｜>",
       "I ask.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": "
       "\"Paris "
       "{\\\"}\\\"} ü\", \"days\": 3, \"opts\": {\"x\": [1, true]}}<｜tool▁call▁end｜>"
       "<｜tool▁call▁begin｜>stop<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
       "I ask.", "", kJsonArguments, 2, ""},
      {"deepseek-dsml", "<｜DSML｜invoke>",
       "I ask.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter "
       "name=\"city\" string=\"true\">Paris {\"}\"} ü</｜DSML｜parameter>\n<｜DSML｜parameter "
       "name=\"days\" string=\"false\">3</｜DSML｜parameter>\n<｜DSML｜parameter name=\"opts\" "
       "string=\"false\">{\"x\": [1, true]}</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
       "<｜DSML｜invoke name=\"stop\">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
       "I ask.", "", kJsonArguments, 2, ""},
      {"qwen3-coder", "<tool_call><function=<parameter=",
       "I ask.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis {\"}\"} ü\n"
       "</parameter>\n<parameter=days>\n3\n</parameter>\n<parameter=opts>\n{\"x\": [1, true]}\n"
       "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=stop>\n</function>\n"
       "</tool_call>",
       "I ask.", "", kJsonArguments, 2, ""},
      {"qwen3-coder", "<tool_call><function=<parameter=",
       "I ask.\n<function=get_weather>\n<parameter=city>\nParis {\"}\"} ü\n</parameter>\n"
       "<parameter=days>3</parameter><parameter=opts>{'x': [1, True]}</parameter></function>"
       "</tool_call>\n<function=stop></function>",
       "I ask.", "", R"({"city": "Paris {\"}\"} ü", "days": 3, "opts": {"x":[1,true]}})", 2, ""},
      {"seed", "<seed:tool_call><function=<seed:think></seed:think>",
       "<seed:think>Let me see.</seed:think>I ask.\n<seed:tool_call>\n<function=get_weather>\n"
       "<parameter=city>Paris {\"}\"} ü</parameter>\n<parameter=days>3</parameter>\n"
       "<parameter=opts>{\"x\": [1, true]}</parameter>\n</function>\n</seed:tool_call>\n"
       "<seed:tool_call>\n<function=stop>\n</function>\n</seed:tool_call>",
       "I ask.", "Let me see.", kJsonArguments, 2, ""},
      {"minimax-m2", "<minimax:tool_call><think></think>",
       "Let me see.\n</think>\n\nI ask.\n<minimax:tool_call>\n<invoke name=\"get_weather\">\n"
       "<parameter name=\"city\">Paris {\"}\"} ü</parameter>\n<parameter name=\"days\">3"
       "</parameter>\n<parameter name=\"opts\">{\"x\": [1, true]}</parameter>\n</invoke>\n<invoke "
       "name=\"stop\">\n</invoke>\n</minimax:tool_call>",
       "I ask.", "Let me see.", kJsonArguments, 2, ""},
      {"minimax-m3", "]<]minimax[>[<tool_call><invoke name=",
       "I ask.]<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name=\"get_weather\">]<]minimax[>["
       "<city>Paris {\"}\"} ü]<]minimax[>[</city>]<]minimax[>[<days>3]<]minimax[>[</days>"
       "]<]minimax[>[<opts>]<]minimax[>[<x>]<]minimax[>[<item>1]<]minimax[>[</item>]<]minimax[>["
       "<item>true]<]minimax[>[</item>]<]minimax[>[</x>]<]minimax[>[</opts>]<]minimax[>[</invoke>\n"
       "]<]minimax[>[<invoke name=\"stop\">]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>",
       "I ask.", "", R"({"city":"Paris {\"}\"} ü","days":3,"opts":{"x":[1,true]}})", 2, ""},
      {"minicpm", "<function name=\"<param name=\"",
       "I ask.\n<function name=\"get_weather\"><param name=\"city\">Paris {\"}\"} ü</param><param "
       "name=\"days\">3</param><param name=\"opts\">{\"x\": [1, true]}</param></function>\n"
       "<function name=\"stop\"></function>",
       "I ask.", "", kJsonArguments, 2, ""},
      {"glm", "<tool_call><arg_key><think></think>",
       "\n<think>Let me see.</think>\nI ask.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n"
       "<arg_value>Paris {\"}\"} ü</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n"
       "<arg_key>opts</arg_key>\n<arg_value>{\"x\": [1, true]}</arg_value>\n</tool_call>\n"
       "<tool_call>stop\n</tool_call>",
       "I ask.", "Let me see.", kJsonArguments, 2, ""},
      {"glm", "<tool_call:opensource><arg_key:opensource>",
       "I ask.<tool_calls:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n"
       "<arg_key:opensource>city</arg_key:opensource>\n<arg_value:opensource>Paris {\"}\"} ü"
       "</arg_value:opensource>\n<arg_key:opensource>days</arg_key:opensource>\n"
       "<arg_value:opensource>3</arg_value:opensource>\n<arg_key:opensource>opts"
       "</arg_key:opensource>\n<arg_value:opensource>{\"x\": [1, true]}</arg_value:opensource>\n"
       "</tool_call:opensource>\n<tool_call:opensource>stop<tool_sep:opensource>\n"
       "</tool_call:opensource>\n</tool_calls:opensource>",
       "I ask.", "", kJsonArguments, 2, ""},
      {"llama-3", "<|python_tag|>",
       "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": "
       "3, \"opts\": {\"x\": [1, true]}}}; {\"name\": \"stop\", \"parameters\": {}}",
       "", "", kJsonArguments, 2, ""},
      {"llama-3", "<|python_tag|>",
       "<|python_tag|>{\"type\": \"function\", \"name\": \"get_weather\", \"parameters\": "
       "{\"city\": "
       "\"Paris\"}}",
       "", "", R"({"city": "Paris"})", 1, ""},
      {"granite", "<|tool_call|>",
       "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris {\\\"}\\\"} "
       "ü\", \"days\": 3, \"opts\": {\"x\": [1, true]}}}, {\"name\": \"stop\", \"arguments\": {}}]",
       "", "", kJsonArguments, 2, ""},
      {"phi-4", "<|tool|><|/tool|>",
       "<|tool_call|>[{\"type\": \"function\", \"function\": {\"name\": \"get_weather\", "
       "\"arguments\": {\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, \"opts\": {\"x\": [1, "
       "true]}}}}, {\"name\": \"stop\", \"arguments\": {}}]<|/tool_call|>",
       "", "", kJsonArguments, 2, ""},
      {"apertus", "<|tools_prefix|><|tools_suffix|>",
       "I ask.<|tools_prefix|>[{\"get_weather\": {\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, "
       "\"opts\": {\"x\": [1, true]}}}, {\"stop\": {}}]<|tools_suffix|>",
       "I ask.", "", kJsonArguments, 2, ""},
      {"solar", "<|tool_call:begin|>",
       "<|tool_calls|><|tool_call:begin|>c12345<|tool_call:name|>get_weather<|tool_call:args|>"
       "{\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, \"opts\": {\"x\": [1, true]}}"
       "<|tool_call:end|><|tool_call:begin|>c67890<|tool_call:name|>stop<|tool_call:args|>{}"
       "<|tool_call:end|><|calls|>",
       "", "", kJsonArguments, 2, "c12345"},
      {"lfm2", "<|tool_call_start|>",
       "I ask.<|tool_call_start|>[get_weather(city='Paris {\"}\"} ü', days=3, opts={\"x\": [1, "
       "True]}), stop()]<|tool_call_end|>",
       "I ask.", "", R"({"city":"Paris {\"}\"} ü","days":3,"opts":{"x":[1,true]}})", 2, ""},
      {"gemma", "<|tool_call>call:<|channel>thought<channel|>",
       "<|channel>thought\nLet me see.\n<channel|><|tool_call>call:get_weather{city:<|\"|>Paris "
       "{\"}\"} ü<|\"|>,days:3,opts:{x:[1,true]}}<tool_call|><|tool_call>call:stop{}<tool_call|>",
       "", "Let me see.", R"({"city":"Paris {\"}\"} ü","days":3,"opts":{"x":[1,true]}})", 2, ""},
      {"functionary", "<function=",
       "I ask.<function=get_weather>{\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, \"opts\": "
       "{\"x\": [1, true]}}</function><function=stop>{}</function>",
       "I ask.", "", kJsonArguments, 2, ""},
      {"functionary-v3.2", ">>>all",
       "all\nI ask.>>>get_weather\n{\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, \"opts\": "
       "{\"x\": [1, true]}}>>>stop\n{}",
       "I ask.", "", kJsonArguments, 2, ""},
      {"gigachat", "function call<|role_sep|>",
       "I ask.<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"get_weather\", "
       "\"arguments\": {\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, \"opts\": {\"x\": [1, "
       "true]}}}<|message_sep|>\n\n",
       "I ask.", "", kJsonArguments, 1, ""},
      {"firefunction", "functools[",
       " functools[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris {\\\"}\\\"} ü\", "
       "\"days\": 3, \"opts\": {\"x\": [1, true]}}}, {\"name\": \"stop\", \"arguments\": {}}]",
       "", "", kJsonArguments, 2, ""},
      {"command-r", "Action: ```json tool_name",
       "Action:\n```json\n[\n    {\n        \"tool_name\": \"get_weather\",\n        "
       "\"parameters\": {\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, \"opts\": {\"x\": [1, "
       "true]}}\n    }\n]```",
       "", "", kJsonArguments, 1, ""},
      {"channels", "<|channel|><|message|><|channel|>analysis",
       "<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant<|channel|>commentary"
       "<|message|>I ask.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
       "<|constrain|>json<|message|>{\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": 3, \"opts\": "
       "{\"x\": [1, true]}}<|call|><|start|>assistant to=functions.stop<|channel|>commentary json"
       "<|message|>{}<|call|>",
       "I ask.", "Let me see.", kJsonArguments, 2, ""},
      {"generic", "nothing known",
       "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris {\\\"}\\\"} ü\", \"days\": "
       "3, "
       "\"opts\": {\"x\": [1, true]}}}",
       "", "", kJsonArguments, 1, ""},
  };
  return families;
}

TEST(ToolCalls, EveryFamilyIsReadWhereverItsTextIsCut) {
  for (const FamilyCase& family : Families()) {
    SCOPED_TRACE(std::string(family.name) + ": " + family.text);
    const ChatOutputFormat format = FormatOf(family.markers);
    EXPECT_EQ(format.name, family.name);
    const std::string text = family.text;
    const bool open = *family.reasoning != '\0' && text.starts_with("Let me see.");
    const Message message = ParseEveryWay(format, text, open);
    EXPECT_EQ(message.content, family.content);
    EXPECT_EQ(message.reasoning, family.reasoning);
    ASSERT_GE(message.calls.size(), static_cast<size_t>(family.calls));
    EXPECT_EQ(message.calls[0].name, "get_weather");
    EXPECT_EQ(message.calls[0].arguments, family.arguments);
    EXPECT_EQ(message.calls[0].id, family.first_id);
    EXPECT_TRUE(message.calls[0].ended);
    if (family.calls < 2) continue;
    ASSERT_EQ(message.calls.size(), 2u);
    EXPECT_EQ(message.calls[1].name, "stop");
    EXPECT_EQ(message.calls[1].arguments, "{}");
    EXPECT_TRUE(message.calls[1].ended);
  }
}

TEST(ToolCalls, OrdinaryTextIsNoCall) {
  const std::vector<std::string> texts = {
      "",
      "Hello.",
      "  Hello \n\n",
      "{\"a\": {\"b\": [1, 2]}} is JSON",
      "{\"name\": \"Bob\", \"age\": 3}",
      "[1, 2, {\"x\": 3}]",
      "[]",
      "{}",
      "{",
      "{\"name\": \"get_weather\"",
      "function f() { return {a: [1]}; }",
      "a < b and <b>c</b> <tool and <|tool",
      "Use <tool_call> tags, then </tool_call>.",
      "<tool_call>\nplain\n</tool_call>",
      "<tool_call>",
      "<tool_call>{\"x\": 1}</tool_call> end",
      "[TOOL_CALLS] is a token",
      "[TOOL_CALLS][1, 2]",
      "<function=",
      "<function= no name>",
      "<|tool_call_start|>not a call<|tool_call_end|>",
      "<|tool_call>nothing<tool_call|>",
      "Action: none",
      "```json\n{\"a\": 1}\n```",
      "ends with a partial <tool_ca",
      "\xE4\xBD\xA0\xE5\xA5\xBD <｜tool▁calls",
  };
  for (const FamilyCase& family : Families()) {
    const ChatOutputFormat format = FormatOf(family.markers);
    if (format.style == ToolCallStyle::kChannels || !format.implied_start.empty()) continue;
    for (const std::string& text : texts) {
      SCOPED_TRACE(format.name + ": " + text);
      const Message message = ParseEveryWay(format, text);
      EXPECT_EQ(message.content, text);
      EXPECT_TRUE(message.calls.empty());
    }
  }
}

TEST(ToolCalls, WithoutToolsMarkersAreText) {
  const ChatOutputFormat format = FormatOf("<tool_call></tool_call><think></think>");
  const std::string call = "<tool_call>{\"name\": \"get_weather\", \"arguments\": {}}</tool_call>";
  const Message message = ParseEveryWay(format, "<think>why</think>" + call, false, nullptr);
  EXPECT_EQ(message.content, call);
  EXPECT_EQ(message.reasoning, "why");
}

TEST(ToolCalls, CutOffCallsEnd) {
  for (const FamilyCase& family : Families()) {
    const ChatOutputFormat format = FormatOf(family.markers);
    const std::string text = family.text;
    for (size_t length = 0; length < text.size(); ++length) {
      const Message message = ParsePieces(format, {text.substr(0, length)});
      for (const Call& call : message.calls) {
        EXPECT_TRUE(call.ended) << family.name << " cut at " << length;
        EXPECT_TRUE(call.name == "get_weather" || call.name == "stop") << call.name;
      }
    }
  }
}

TEST(ToolCalls, ReasoningAndAnswerAreToldApart) {
  const ChatOutputFormat format = FormatOf("<think></think>");
  EXPECT_EQ(Print(ParseEveryWay(format, "<think>\na\n\nb\n</think>\n\nc d\n", false)),
            "content=c d\n|reasoning=a\n\nb");
  EXPECT_EQ(Print(ParseEveryWay(format, "a </thin b\n</think>\nc", true)),
            "content=c|reasoning=a </thin b");
  EXPECT_EQ(Print(ParseEveryWay(format, "never closed", true)), "content=|reasoning=never closed");
  EXPECT_TRUE(PromptOpensReasoning(format, "<|im_start|>assistant\n<think>\n"));
  EXPECT_FALSE(PromptOpensReasoning(format, "<|im_start|>assistant\n<think>\n\n</think>\n\n"));
}

TEST(ToolCalls, ArgumentsComeWhileTheyAreWritten) {
  const ChatOutputFormat format = FormatOf("<tool_call><function=<parameter=");
  ChatOutputOptions options;
  options.tools = &Tools();
  ChatOutputParser parser(format, options);
  Message message;
  Collect(parser.Feed("<tool_call>\n<function=get_weather>\n<parameter=city>\nA long te"),
          &message);
  ASSERT_EQ(message.calls.size(), 1u);
  EXPECT_EQ(message.calls[0].arguments, "{\"city\": \"A long te");
  Collect(parser.Feed("xt\nwith lines\n</para"), &message);
  EXPECT_EQ(message.calls[0].arguments, "{\"city\": \"A long text\\nwith lines");
  Collect(parser.Feed("meter>\n</function>"), &message);
  EXPECT_EQ(message.calls[0].arguments, "{\"city\": \"A long text\\nwith lines\"}");
}

// What each published template itself writes for an assistant's tool call is read back.
TEST(ToolCalls, PublishedTemplatesReadBackTheirOwnCalls) {
  INK_NEEDS_SHARED();
  const Json arguments = {{"city", "Paris"}, {"days", 3}, {"opts", {{"x", {1, true}}}}};
  // These render no tool calls at all, or only a sentence about them.
  const std::set<std::string> without = {
      "LFM2-8B-A1B.jinja",           "LFM2.5-Instruct.jinja",
      "google-gemma-2-2b-it.jinja",  "microsoft-Phi-3.5-mini-instruct.jinja",
      "llama-cpp-deepseek-r1.jinja", "ibm-granite-granite-3.3-2B-Instruct.jinja"};
  std::ifstream list(Shared("goldens/templates/expected.jsonl"));
  std::set<std::string> names;
  for (std::string line; std::getline(list, line);) {
    names.insert(Json::parse(line)["template"].get<std::string>());
  }
  int read = 0;
  for (const std::string& name : names) {
    if (without.contains(name)) continue;
    std::ifstream file(Shared("goldens/templates/" + name));
    std::stringstream source;
    source << file.rdbuf();
    const ChatTemplate chat_template = ChatTemplate::Parse(source.str()).value();
    const ChatOutputFormat format = DetectChatOutputFormat(chat_template);
    Json context;
    context["messages"] = Json::array({{{"role", "user"}, {"content", "Weather?"}}});
    context["tools"] = Tools();
    context["add_generation_prompt"] = true;
    context["enable_thinking"] = true;
    context["bos_token"] = "<s>";
    context["eos_token"] = "";
    const Result<std::string> prompt = chat_template.Render(context);
    ASSERT_TRUE(prompt.ok()) << name << prompt.status().message();
    context["add_generation_prompt"] = false;
    Result<std::string> full = InvalidArgument("not rendered");
    for (const Json& given : {arguments, Json(arguments.dump())}) {
      for (const Json& content : {Json(""), Json(nullptr)}) {
        const Json call = {{"id", "call12345"},
                           {"type", "function"},
                           {"function", {{"name", "get_weather"}, {"arguments", given}}}};
        context["messages"] = Json::array(
            {{{"role", "user"}, {"content", "Weather?"}},
             {{"role", "assistant"}, {"content", content}, {"tool_calls", Json::array({call})}}});
        const Result<std::string> text = chat_template.Render(context);
        // Where both are accepted, an object is what the template meant to have.
        if (text.ok() && !full.ok()) full = text;
      }
    }
    ASSERT_TRUE(full.ok()) << name << ": " << full.status().message();
    size_t common = 0;
    while (common < prompt->size() && common < full->size() &&
           (*prompt)[common] == (*full)[common]) {
      ++common;
    }
    // Where the two part within a marker, the marker is the model's.
    if (common < prompt->size()) common = full->find_last_of("<[", common);
    const bool open = common == prompt->size() && PromptOpensReasoning(format, *prompt);
    const Message message = ParsePieces(format, {full->substr(common)}, open);
    ASSERT_EQ(message.calls.size(), 1u)
        << name << " (" << format.name << "): " << full->substr(common);
    EXPECT_EQ(message.calls[0].name, "get_weather") << name;
    EXPECT_EQ(Json::parse(message.calls[0].arguments, nullptr, false), arguments)
        << name << ": " << message.calls[0].arguments;
    ++read;
  }
  EXPECT_GT(read, 30);
}

}  // namespace
}  // namespace ink
