// OpenAI's routes without sockets.
#include <cmath>
#include <set>

#include "serve/routes.h"
#include "serve/serve_harness.h"

namespace ink::testing_support {
namespace {

Json Chat(Json extra = Json::object()) {
  Json body = {{"model", "tiny"},
               {"messages", Json::array({{{"role", "user"}, {"content", "hello"}}})},
               {"max_tokens", 12},
               {"seed", 7}};
  for (const auto& [key, value] : extra.items()) body[key] = value;
  return body;
}

std::string Text(const Json& body) { return body["choices"][0]["message"]["content"]; }

TEST(OpenAi, AnswerHasTheShapeThatClientsExpect) {
  TestServer server;
  const HttpResponse response = server.Post("/v1/chat/completions", Chat());
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(response.content_type, "application/json");
  EXPECT_FALSE(FindHeader(response.headers, "x-request-id").empty());
  const Json body = Json::parse(response.body);
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["model"], "tiny");
  EXPECT_EQ(body["choices"][0]["message"]["role"], "assistant");
  const std::string finish = body["choices"][0]["finish_reason"];
  EXPECT_TRUE(finish == "stop" || finish == "length");
  // "user:hello\na:" is 13 characters, and the begin token.
  EXPECT_EQ(body["usage"]["prompt_tokens"], 14);
  EXPECT_EQ(body["usage"]["total_tokens"].get<int>(),
            14 + body["usage"]["completion_tokens"].get<int>());
  EXPECT_FALSE(body.contains("warnings"));
}

TEST(OpenAi, StreamIsTheSameTextInParts) {
  TestServer server;
  for (int n : {1, 3}) {
    const Json whole = server.PostJson("/v1/chat/completions", Chat({{"n", n}}));
    const HttpResponse streamed = server.Post(
        "/v1/chat/completions",
        Chat({{"n", n}, {"stream", true}, {"stream_options", {{"include_usage", true}}}}));
    ASSERT_EQ(streamed.status, 200);
    EXPECT_EQ(streamed.content_type, "text/event-stream");
    std::vector<std::string> events = SseData(streamed.body);
    ASSERT_GT(events.size(), 3u);
    EXPECT_EQ(events.back(), "[DONE]");
    events.pop_back();
    const Json last = Json::parse(events.back());
    EXPECT_TRUE(last["choices"].empty());
    EXPECT_EQ(last["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"]);
    EXPECT_EQ(last["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    events.pop_back();
    std::vector<std::string> texts(n), finishes(n);
    for (const std::string& data : events) {
      const Json event = Json::parse(data);
      EXPECT_EQ(event["object"], "chat.completion.chunk");
      EXPECT_TRUE(event["usage"].is_null());
      const Json& choice = event["choices"][0];
      const int index = choice["index"];
      texts[index] += choice["delta"].value("content", "");
      if (!choice["finish_reason"].is_null()) finishes[index] = choice["finish_reason"];
    }
    for (int c = 0; c < n; ++c) {
      EXPECT_EQ(texts[c], whole["choices"][c]["message"]["content"]);
      EXPECT_EQ(finishes[c], whole["choices"][c]["finish_reason"]);
    }
  }
}

TEST(OpenAi, SeedDecidesTheText) {
  TestServer server;
  std::set<std::string> texts;
  for (int seed : {1, 1, 2, 3}) {
    texts.insert(Text(server.PostJson("/v1/chat/completions", Chat({{"seed", seed}}))));
  }
  EXPECT_EQ(texts.size(), 3u);
}

TEST(OpenAi, LogprobsAreOfTheTokensChosen) {
  TestServer server;
  const Json body = server.PostJson(
      "/v1/chat/completions",
      Chat({{"logprobs", true}, {"top_logprobs", 3}, {"temperature", 0}, {"ignore_eos", true}}));
  const Json& content = body["choices"][0]["logprobs"]["content"];
  EXPECT_EQ(content.size(), body["usage"]["completion_tokens"].get<size_t>());
  std::string joined;
  for (const Json& token : content) {
    joined += token["token"].get<std::string>();
    ASSERT_EQ(token["top_logprobs"].size(), 3u);
    // Greedy: the token is the most probable one.
    EXPECT_EQ(token["top_logprobs"][0]["token"], token["token"]);
    EXPECT_EQ(token["top_logprobs"][0]["logprob"], token["logprob"]);
    EXPECT_LE(token["logprob"].get<double>(), 0);
  }
  EXPECT_EQ(joined, Text(body));
}

TEST(OpenAi, LogitBiasBansAndForces) {
  TestServer server;
  const int32_t x = TinyTokenizer()->FindToken("x");
  const Json forced =
      server.PostJson("/v1/chat/completions",
                      Chat({{"logit_bias", {{std::to_string(x), 100}}}, {"max_tokens", 4}}));
  EXPECT_EQ(Text(forced), "xxxx");
}

TEST(OpenAi, StopStringsAreLeftOut) {
  TestServer server;
  const int32_t x = TinyTokenizer()->FindToken("x");
  const Json bias = {{std::to_string(x), 100}};
  const Json body =
      server.PostJson("/v1/chat/completions", Chat({{"logit_bias", bias}, {"stop", "xxx"}}));
  EXPECT_EQ(Text(body), "");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["usage"]["completion_tokens"], 3);
}

TEST(OpenAi, SharedPrefixIsCountedAsCached) {
  TestServer server;
  Json chat = Chat();
  chat["messages"][0]["content"] = std::string(100, 'q');
  const Json first = server.PostJson("/v1/chat/completions", chat);
  EXPECT_EQ(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
  const Json second = server.PostJson("/v1/chat/completions", chat);
  // 109 tokens: three full blocks of 32.
  EXPECT_EQ(second["usage"]["prompt_tokens_details"]["cached_tokens"], 96);
  EXPECT_EQ(Text(first), Text(second));
}

TEST(OpenAi, BadValuesAreNamed) {
  TestServer server;
  const std::vector<std::pair<Json, std::string>> cases = {
      {{{"temperature", 2.5}}, "temperature"},
      {{{"temperature", "hot"}}, "temperature"},
      {{{"top_p", -0.1}}, "top_p"},
      {{{"n", 0}}, "n"},
      {{{"max_tokens", 0}}, "max_tokens"},
      {{{"max_tokens", 1.5}}, "max_tokens"},
      {{{"stop", 3}}, "stop"},
      {{{"stop", ""}}, "stop"},
      {{{"logit_bias", {{"a", 1}}}}, "logit_bias"},
      {{{"logit_bias", {{"1", 101}}}}, "logit_bias"},
      {{{"presence_penalty", 3}}, "presence_penalty"},
      {{{"top_logprobs", 2}}, "top_logprobs"},
      {{{"top_k", -2}}, "top_k"},
      {{{"stream_options", {{"include_usage", true}}}}, "stream_options"},
      {{{"store", true}}, "store"},
      {{{"modalities", {"text", "audio"}}}, "modalities"},
      {{{"messages", Json::array()}}, "messages"},
      {{{"messages", "hi"}}, "messages"},
      {{{"messages", {{{"role", "robot"}, {"content", "x"}}}}}, "messages[0].role"},
      {{{"messages", {{{"role", "user"}}}}}, "messages[0].content"},
      {{{"messages",
         {{{"role", "user"},
           {"content", {{{"type", "image_url"}, {"image_url", {{"url", "x"}}}}}}}}}},
       "messages[0].content[0]"},
      {{{"response_format", {{"type", "xml"}}}}, "response_format.type"},
      {{{"tool_choice", "required"}}, "tool_choice"},
      {{{"tools", {{{"type", "web_search"}}}}}, "tools[0].type"},
  };
  for (const auto& [extra, param] : cases) {
    const HttpResponse response = server.Post("/v1/chat/completions", Chat(extra));
    EXPECT_EQ(response.status, 400) << extra.dump() << response.body;
    const Json error = Json::parse(response.body)["error"];
    EXPECT_EQ(error["param"], param) << response.body;
    EXPECT_EQ(error["type"], "invalid_request_error");
  }
}

TEST(OpenAi, BadBodiesAreErrorsAndTheServerGoesOn) {
  TestServer server;
  const std::vector<std::string> bodies = {"",      "{",        "[]",           "null",
                                           "\"x\"", "{\"a\":1", "{\"a\":\xff}", "{\"a\":1e999}"};
  for (const std::string& body : bodies) {
    const HttpResponse response = server.Start("POST", "/v1/chat/completions", body).Wait();
    EXPECT_EQ(response.status, 400) << body;
    EXPECT_TRUE(Json::parse(response.body).contains("error"));
  }
  std::string deep = "{\"a\":" + std::string(100000, '[');
  EXPECT_EQ(server.Start("POST", "/v1/chat/completions", deep).Wait().status, 400);
  std::string wide = "{";
  for (int i = 0; i < 100000; ++i) wide += "\"k" + std::to_string(i) + "\":1,";
  EXPECT_EQ(server.Start("POST", "/v1/chat/completions", wide + "\"z\":1}").Wait().status, 400);
  // Values of a wrong type deep inside.
  EXPECT_EQ(
      server
          .Post(
              "/v1/chat/completions",
              Chat({{"messages",
                     {{{"role", "user"}, {"content", {{{"type", "refusal"}, {"refusal", 3}}}}}}}}))
          .status,
      400);
  EXPECT_EQ(server.Post("/v1/chat/completions", Chat()).status, 200);
}

TEST(OpenAi, UnknownModelsAndRoutes) {
  TestServer server;
  const Json error = server.PostJson("/v1/chat/completions", Chat({{"model", "gpt-9"}}), 404);
  EXPECT_EQ(error["error"]["code"], "model_not_found");
  EXPECT_EQ(server.Post("/v1/chat/completions", Chat({{"model", "default"}})).status, 200);
  EXPECT_EQ(server.Get("/v1/nothing").status, 404);
  const HttpResponse wrong = server.Get("/v1/chat/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(FindHeader(wrong.headers, "allow"), "POST");
  EXPECT_EQ(server.Get("/health").status, 200);
  const Json models = Json::parse(server.Get("/v1/models").body);
  EXPECT_EQ(models["data"][0]["id"], "tiny");
  EXPECT_EQ(Json::parse(server.Get("/v1/models/tiny").body)["id"], "tiny");
  EXPECT_EQ(server.Get("/v1/models/other").status, 404);
}

TEST(OpenAi, TooLongContextStatesBothNumbers) {
  TestServer server;
  Json chat = Chat();
  chat["messages"][0]["content"] = std::string(300, 'q');
  const Json error = server.PostJson("/v1/chat/completions", chat, 400)["error"];
  EXPECT_EQ(error["code"], "context_length_exceeded");
  const std::string message = error["message"];
  EXPECT_NE(message.find("200"), std::string::npos) << message;
  EXPECT_NE(message.find("309"), std::string::npos) << message;
}

TEST(OpenAi, UnknownFieldsAreNamedOrRefused) {
  auto model = TinyServed();
  {
    TestServer server(model);
    const HttpResponse response =
        server.Post("/v1/chat/completions", Chat({{"bogus", 1}, {"user", "me"}}));
    ASSERT_EQ(response.status, 200);
    const Json body = Json::parse(response.body);
    ASSERT_EQ(body["warnings"].size(), 1u);
    EXPECT_NE(body["warnings"][0].get<std::string>().find("bogus"), std::string::npos);
    EXPECT_NE(FindHeader(response.headers, "x-inkstone-warning").find("bogus"),
              std::string_view::npos);
  }
  ServiceOptions strict = TestServer::Options(model);
  strict.strict = true;
  TestServer server(std::move(strict));
  EXPECT_EQ(server.PostJson("/v1/chat/completions", Chat({{"bogus", 1}}), 400)["error"]["param"],
            "bogus");
  EXPECT_EQ(server.Post("/v1/chat/completions", Chat({{"user", "me"}})).status, 200);
}

TEST(OpenAi, ResponseFormatIsKept) {
  TestServer server;
  const Json schema = {{"type", "object"},
                       {"properties", {{"ab", {{"enum", {"x", "yz"}}}}}},
                       {"required", {"ab"}},
                       {"additionalProperties", false}};
  for (int seed = 0; seed < 8; ++seed) {
    const Json body = server.PostJson(
        "/v1/chat/completions",
        Chat({{"max_tokens", 150},
              {"seed", seed},
              {"response_format",
               {{"type", "json_schema"}, {"json_schema", {{"name", "s"}, {"schema", schema}}}}}}));
    if (body["choices"][0]["finish_reason"] == "length") {
      EXPECT_TRUE(body.contains("warnings"));  // cut, and said
      continue;
    }
    const Json value = Json::parse(Text(body));
    EXPECT_TRUE(value["ab"] == "x" || value["ab"] == "yz") << value.dump();
  }
  const Json choice = server.PostJson("/v1/chat/completions",
                                      Chat({{"structured_outputs", {{"choice", {"abc", "abd"}}}}}));
  EXPECT_TRUE(Text(choice) == "abc" || Text(choice) == "abd") << Text(choice);
  const Json refused = server.PostJson(
      "/v1/chat/completions",
      Chat({{"response_format",
             {{"type", "json_schema"},
              {"json_schema", {{"name", "s"}, {"schema", {{"$ref", "http://x/y"}}}}}}}}),
      400);
  EXPECT_EQ(refused["error"]["param"], "response_format");
}

TEST(OpenAi, RequiredToolsAreCalled) {
  TestServer server;
  const Json tools = Json::array({{{"type", "function"},
                                   {"function",
                                    {{"name", "get"},
                                     {"parameters",
                                      {{"type", "object"},
                                       {"properties", {{"q", {{"enum", {"a", "b"}}}}}},
                                       {"required", {"q"}},
                                       {"additionalProperties", false}}}}}}});
  // The template names no marks in this vocabulary, so the bare form is used.
  for (const bool stream : {false, true}) {
    Json request = Chat({{"tools", tools}, {"tool_choice", "required"}, {"max_tokens", 150}});
    request["stream"] = stream;
    const HttpResponse response = server.Post("/v1/chat/completions", request);
    ASSERT_EQ(response.status, 200) << response.body;
    Json call;
    std::string finish;
    if (!stream) {
      const Json choice = Json::parse(response.body)["choices"][0];
      finish = choice["finish_reason"];
      if (finish == "length") continue;
      call = choice["message"]["tool_calls"][0];
      EXPECT_TRUE(choice["message"]["content"].is_null());
    } else {
      for (const std::string& data : SseData(response.body)) {
        if (data == "[DONE]") break;
        const Json choice = Json::parse(data)["choices"][0];
        if (choice["delta"].contains("tool_calls")) {
          const Json& part = choice["delta"]["tool_calls"][0];
          if (call.is_null()) {
            call = part;
          } else {
            call["function"]["arguments"] = call["function"]["arguments"].get<std::string>() +
                                            part["function"]["arguments"].get<std::string>();
          }
        }
        if (choice["finish_reason"].is_string()) finish = choice["finish_reason"];
      }
      if (finish == "length") continue;
    }
    EXPECT_EQ(finish, "tool_calls");
    EXPECT_EQ(call["function"]["name"], "get");
    const Json arguments = Json::parse(call["function"]["arguments"].get<std::string>());
    EXPECT_TRUE(arguments["q"] == "a" || arguments["q"] == "b");
  }
}

TEST(OpenAi, CompletionsTakeTextIdsAndLists) {
  TestServer server;
  auto complete = [&](Json prompt) {
    return server.PostJson("/v1/completions", {{"model", "tiny"},
                                               {"prompt", std::move(prompt)},
                                               {"max_tokens", 5},
                                               {"temperature", 0},
                                               {"ignore_eos", true}});
  };
  const Json text = complete("abc");
  EXPECT_EQ(text["object"], "text_completion");
  EXPECT_EQ(text["usage"]["prompt_tokens"], 4);
  EXPECT_EQ(text["usage"]["completion_tokens"], 5);
  const auto ids = TinyTokenizer()->Encode("abc", {.add_special = true});
  EXPECT_EQ(complete(ids)["choices"][0]["text"], text["choices"][0]["text"]);
  const Json both = complete({"abc", "xyz"});
  ASSERT_EQ(both["choices"].size(), 2u);
  EXPECT_EQ(both["choices"][0]["text"], text["choices"][0]["text"]);
  EXPECT_EQ(both["choices"][1]["text"], complete("xyz")["choices"][0]["text"]);
  EXPECT_EQ(both["usage"]["completion_tokens"], 10);
  const Json echoed = server.PostJson("/v1/completions", {{"prompt", "abc"},
                                                          {"max_tokens", 5},
                                                          {"temperature", 0},
                                                          {"ignore_eos", true},
                                                          {"echo", true}});
  EXPECT_EQ(echoed["choices"][0]["text"].get<std::string>(),
            "abc" + text["choices"][0]["text"].get<std::string>());
  EXPECT_EQ(server.PostJson("/v1/completions", {{"prompt", {99}}}, 400)["error"]["param"],
            "prompt");
}

TEST(OpenAi, TimingsOnDemand) {
  TestServer server;
  const Json body =
      server.PostJson("/v1/chat/completions", Chat({{"timings", true}, {"top_k", 5}}));
  const Json& t = body["timings"];
  for (const char* name : {"queue_s", "prefill_s", "decode_s", "total_s"}) {
    EXPECT_GE(t[name].get<double>(), 0) << name;
  }
  EXPECT_EQ(t["seed"], 7);
  bool has_top_k = false;
  for (const Json& stage : t["sampler_chain"]) {
    if (stage["stage"] == "top_k") has_top_k = stage["k"] == 5;
  }
  EXPECT_TRUE(has_top_k) << t.dump();
}

TEST(OpenAi, ResponsesStreamAddsUp) {
  TestServer server;
  const Json request = {
      {"model", "tiny"}, {"input", "hello"}, {"max_output_tokens", 8}, {"seed", 3}};
  const Json whole = server.PostJson("/v1/responses", request);
  EXPECT_EQ(whole["object"], "response");
  const std::string text = whole["output"][0]["content"][0]["text"];
  Json streaming = request;
  streaming["stream"] = true;
  const HttpResponse response = server.Post("/v1/responses", streaming);
  std::string joined;
  int64_t sequence = 0;
  Json last;
  for (const std::string& data : SseData(response.body)) {
    last = Json::parse(data);
    EXPECT_EQ(last["sequence_number"], sequence++);
    if (last["type"] == "response.output_text.delta") joined += last["delta"];
  }
  EXPECT_EQ(joined, text);
  EXPECT_EQ(last["response"]["output"][0]["content"][0]["text"], text);
  EXPECT_EQ(last["response"]["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
  EXPECT_EQ(server.PostJson("/v1/responses", {{"input", "x"}, {"previous_response_id", "r"}},
                            400)["error"]["param"],
            "previous_response_id");
}

TEST(OpenAi, TokenizeAndBack) {
  TestServer server;
  const Json tokens = server.PostJson("/tokenize", {{"prompt", "hi you"}});
  EXPECT_EQ(tokens["count"], 6);
  const Json text = server.PostJson("/detokenize", {{"tokens", tokens["tokens"]}});
  EXPECT_EQ(text["prompt"], "hi you");
  EXPECT_EQ(server.Post("/detokenize", {{"tokens", {40}}}).status, 400);
}

// Both ways: each route is described with just the fields of its table, and nothing else is.
TEST(OpenAi, DescriptionIsTheTables) {
  TestServer server;
  const Json api = Json::parse(server.Get("/openapi.json").body);
  size_t described = 0, routes = 0;
  for (const auto& [path, operations] : api["paths"].items()) described += operations.size();
  for (const Route& route : Routes()) {
    ++routes;
    const std::string method = route.method == "GET" ? "get" : "post";
    const std::string path(route.path);
    ASSERT_TRUE(api["paths"].contains(path)) << path;
    ASSERT_TRUE(api["paths"][path].contains(method)) << path;
    if (route.fields == nullptr) continue;
    const Json& properties = api["paths"][path][method]["requestBody"]["content"]
                                ["application/json"]["schema"]["properties"];
    std::set<std::string> known;
    for (const Field& field : route.fields()) {
      known.insert(std::string(field.name));
      EXPECT_TRUE(properties.contains(std::string(field.name))) << path << " " << field.name;
      if (!field.schema.empty()) {
        EXPECT_FALSE(Json::parse(field.schema, nullptr, false).is_discarded()) << field.schema;
      }
    }
    EXPECT_EQ(properties.size(), known.size()) << path;
    // A field that is described is none that the server calls unknown.
    for (const auto& [name, schema] : properties.items()) {
      std::vector<std::string> warnings;
      (void)CheckFields(Json{{name, nullptr}}, route.fields(), true, &warnings);
      EXPECT_FALSE(CheckFields(Json{{name, nullptr}}, route.fields(), true, &warnings)) << name;
      EXPECT_TRUE(warnings.empty()) << path << " " << name;
    }
  }
  EXPECT_EQ(described, routes + 1);  // and /health
}

TEST(OpenAi, DescriptionNamesEveryRoute) {
  TestServer server;
  const Json api = Json::parse(server.Get("/openapi.json").body);
  EXPECT_EQ(api["openapi"], "3.1.0");
  EXPECT_TRUE(api["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]
                 ["application/json"]["schema"]["properties"]
                     .contains("temperature"));
  for (const auto& [path, operations] : api["paths"].items()) {
    for (const auto& [method, operation] : operations.items()) {
      // A described route answers something other than "no such route".
      const HttpResponse response = method == "get" ? server.Get(path) : server.Post(path, {});
      EXPECT_NE(response.status, 405) << path;
      if (path != "/v1/admin/keys") {
        EXPECT_NE(response.status, 404) << path;
      }
    }
  }
}

}  // namespace
}  // namespace ink::testing_support
