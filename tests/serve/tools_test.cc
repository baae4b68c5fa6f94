// Tool calls, reasoning, and what a client's text may not do to a prompt.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "serve/serve_harness.h"
#include "serve/tool_constraint.h"
#include "support/shared.h"

namespace ink::testing_support {
namespace {

Json OneTool(bool strict = false) {
  Json function = {{"name", "get"},
                   {"parameters",
                    {{"type", "object"},
                     {"properties", {{"q", {{"enum", {"a", "b"}}}}}},
                     {"required", {"q"}},
                     {"additionalProperties", false}}}};
  if (strict) function["strict"] = true;
  return Json::array({{{"type", "function"}, {"function", std::move(function)}}});
}

// Every published template with JSON or tagged arguments gives a form that its own parser reads,
// and that holds a call to its schema.
TEST(ToolShape, OfPublishedTemplates) {
  INK_NEEDS_SHARED();
  const std::vector<std::string> ends = {"<|im_end|>",      "</s>",       "<|eot_id|>",
                                         "<|end|>",         "<|call|>",   "<|return|>",
                                         "<eos>",           "<|eom_id|>", "<｜end▁of▁sentence｜>",
                                         "<|end_of_text|>", "<|user|>",   "<|endoftext|>",
                                         "<turn|>",         "[e~[",       "<|END_OF_TURN_TOKEN|>"};
  const Json parameters = {{"type", "object"},
                           {"properties",
                            {{"city", {{"type", "string"}}},
                             {"days", {{"type", "integer"}}},
                             {"unit", {{"enum", {"c", "f"}}}}}},
                           {"required", {"city", "days"}},
                           {"additionalProperties", false}};
  const Json tools = Json::array(
      {{{"type", "function"}, {"function", {{"name", "look"}, {"parameters", parameters}}}}});
  int shapes = 0;
  std::string without;
  for (const auto& entry : std::filesystem::directory_iterator(Shared("goldens/templates"))) {
    if (entry.path().extension() != ".jinja") continue;
    std::ifstream file(entry.path());
    std::stringstream source;
    source << file.rdbuf();
    auto parsed = ChatTemplate::Parse(source.str());
    ASSERT_TRUE(parsed.ok()) << entry.path();
    const ChatOutputFormat format = DetectChatOutputFormat(*parsed);
    const ToolCallShape shape = FindToolCallShape(*parsed, format, "<s>", "</s>", ends);
    if (shape.arguments == ToolCallShape::Arguments::kNone) {
      without += entry.path().filename().string() + " (" + format.name + ")\n";
      continue;
    }
    ++shapes;
    SCOPED_TRACE(entry.path().filename().string() + "\nbegin: " + shape.begin +
                 "\nend: " + shape.end);
    auto tag = shape.Tag("look", parameters);
    ASSERT_TRUE(tag.ok()) << tag.status().message();
    ConstraintSpec spec = ConstraintSpec::Tags({*tag});
    if (!shape.trigger.empty()) spec.triggers = {shape.trigger};
    spec.free_text = false;
    spec.min_tags = spec.max_tags = 1;
    auto compiled = CompiledConstraint::Compile(spec);
    ASSERT_TRUE(compiled.ok()) << compiled.status().message();
    auto call = [&](const std::string& days, const std::string& unit) {
      if (shape.arguments == ToolCallShape::Arguments::kJson) {
        return tag->begin + R"({"city": "Bern", "days": )" + days + R"(, "unit": ")" + unit +
               "\"}" + tag->end;
      }
      return tag->begin + shape.param_open + "city" + shape.string_open + "Bern" +
             shape.param_close + shape.param_open + "days" + shape.value_open + days +
             shape.param_close + shape.param_open + "unit" + shape.string_open + unit +
             shape.param_close + tag->end;
    };
    ConstraintState good(*compiled);
    size_t accepted = 0;
    EXPECT_TRUE(good.Advance(call("3", "c"), &accepted)) << accepted << " of " << call("3", "c");
    EXPECT_TRUE(good.IsAccepting());
    EXPECT_FALSE(ConstraintState(*compiled).Advance(call("\"x\"", "c")));
    EXPECT_FALSE(ConstraintState(*compiled).Advance(call("3", "kelvin")));
    // A shortest call that the constraint allows is one to the parser.
    ChatOutputOptions options;
    options.tools = &tools;
    ChatOutputParser parser(format, options);
    (void)parser.Feed(ConstraintState(*compiled).Completion());
    (void)parser.Finish();
    EXPECT_EQ(parser.tool_calls(), 1);
  }
  RecordProperty("without", without);
  EXPECT_GE(shapes, 28) << "no form for:\n" << without;
}

TEST(Tools, RequiredInTagsWithReasoningFirst) {
  auto model = TinyServed(4, 64, true, true);
  ASSERT_EQ(model->tool_call_shape().trigger, "<tool_call>");
  EXPECT_TRUE(model->tool_call_shape().repeats);
  TestServer server(model);
  int called = 0;
  for (int seed = 0; seed < 6; ++seed) {
    for (const bool thinking : {false, true}) {
      const Json body =
          server.PostJson("/v1/chat/completions",
                          {{"messages", Json::array({{{"role", "user"}, {"content", "hi"}}})},
                           {"tools", OneTool()},
                           {"tool_choice", {{"type", "function"}, {"function", {{"name", "get"}}}}},
                           {"parallel_tool_calls", false},
                           {"chat_template_kwargs", {{"enable_thinking", thinking}}},
                           {"seed", seed},
                           {"max_tokens", 150}});
      const Json& choice = body["choices"][0];
      if (!thinking) {
        EXPECT_FALSE(choice["message"].contains("reasoning_content"));
      }
      if (choice["finish_reason"] == "length") continue;
      ++called;
      EXPECT_EQ(choice["finish_reason"], "tool_calls");
      EXPECT_TRUE(choice["message"]["content"].is_null()) << body;
      const Json& call = choice["message"]["tool_calls"][0];
      EXPECT_EQ(call["function"]["name"], "get");
      const Json arguments = Json::parse(call["function"]["arguments"].get<std::string>());
      EXPECT_TRUE(arguments["q"] == "a" || arguments["q"] == "b");
    }
  }
  EXPECT_GT(called, 0);
}

TEST(Tools, ReasoningIsApartAndTheFormatHoldsBehindIt) {
  TestServer server(TinyServed(4, 64, true, true));
  int reasoned = 0, whole = 0;
  for (int seed = 0; seed < 12; ++seed) {
    const Json body = server.PostJson(
        "/v1/chat/completions", {{"messages", Json::array({{{"role", "user"}, {"content", "hi"}}})},
                                 {"structured_outputs", {{"choice", {"abc", "abd"}}}},
                                 {"chat_template_kwargs", {{"enable_thinking", true}}},
                                 {"seed", seed},
                                 {"max_tokens", 150}});
    const Json& message = body["choices"][0]["message"];
    if (message.contains("reasoning_content")) {
      ++reasoned;
      EXPECT_GT(body["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
    }
    if (body["choices"][0]["finish_reason"] == "length") continue;
    ++whole;
    EXPECT_TRUE(message["content"] == "abc" || message["content"] == "abd") << body;
  }
  EXPECT_GT(reasoned, 0);
  EXPECT_GT(whole, 0);
}

TEST(Tools, AnthropicAndOllamaShowThem) {
  TestServer server(TinyServed(4, 64, true, true));
  const Json messages = Json::array({{{"role", "user"}, {"content", "hi"}}});
  const Json tool = {{"name", "get"}, {"input_schema", OneTool()[0]["function"]["parameters"]}};
  int called = 0;
  for (int seed = 0; seed < 6; ++seed) {
    const HttpResponse response = server.Post("/v1/messages", {{"max_tokens", 150},
                                                               {"messages", messages},
                                                               {"seed", seed},
                                                               {"stream", true},
                                                               {"thinking", {{"type", "disabled"}}},
                                                               {"tools", Json::array({tool})},
                                                               {"tool_choice", {{"type", "any"}}}});
    ASSERT_EQ(response.status, 200) << response.body;
    std::string arguments, stop;
    int starts = 0, stops = 0;
    for (const std::string& data : SseData(response.body)) {
      const Json event = Json::parse(data);
      if (event["type"] == "content_block_start") {
        ++starts;
        if (starts == 1) {
          EXPECT_EQ(event["content_block"]["name"], "get");
        }
      }
      if (event["type"] == "content_block_delta" && starts == 1 && stops == 0) {
        arguments += event["delta"]["partial_json"];
      }
      if (event["type"] == "content_block_stop") ++stops;
      if (event["type"] == "message_delta") stop = event["delta"]["stop_reason"];
    }
    EXPECT_EQ(starts, stops);
    if (stop != "tool_use") continue;
    ++called;
    EXPECT_EQ(Json::parse(arguments).size(), 1u) << arguments;
  }
  EXPECT_GT(called, 0);
  const Json chat = server.PostJson("/api/chat", {{"messages", messages},
                                                  {"stream", false},
                                                  {"think", true},
                                                  {"options", {{"num_predict", 30}, {"seed", 3}}}});
  EXPECT_FALSE(chat["message"]["thinking"].get<std::string>().empty()) << chat;
}

TEST(Tools, WhatCannotBeEnforcedIsRefused) {
  TestServer server(TinyServed(2, 8, true, true));
  Json tools = OneTool(true);
  tools[0]["function"]["parameters"] = {{"$ref", "http://x/y"}};
  const Json refused = server.PostJson(
      "/v1/chat/completions",
      {{"messages", Json::array({{{"role", "user"}, {"content", "hi"}}})}, {"tools", tools}}, 400);
  EXPECT_EQ(refused["error"]["param"], "tools");
  EXPECT_EQ(refused["error"]["code"], "unsupported_schema");
}

TEST(Prompt, ControlTokensInAClientsTextAreText) {
  auto model = TinyServed(2, 8, true, true);
  std::vector<std::string> warnings;
  auto ids = [&](const std::string& content) {
    ChatInput input;
    input.messages = Json::array({{{"role", "user"}, {"content", content}}});
    auto prompt = model->RenderChat(input, &warnings);
    EXPECT_TRUE(prompt.ok());
    EXPECT_NE(prompt->text.find(content), std::string::npos) << prompt->text;
    return prompt->ids;
  };
  EXPECT_EQ(ids("ab").size(), 11u);  // the begin token, "user:ab\n" and "a:"
  for (const char* text : {"</s>", "a</s>b", "<tool_call>",
                           "\xEF\xA3\xB0"
                           "0\xEF\xA3\xB1"}) {
    const std::vector<int32_t> got = ids(text);
    EXPECT_EQ(std::count(got.begin(), got.end(), 2), 0) << text;
    EXPECT_EQ(std::count(got.begin(), got.end(), 27), 0) << text;
  }
}

}  // namespace
}  // namespace ink::testing_support
