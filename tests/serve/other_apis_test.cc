// Anthropic's and Ollama's routes, keys, limits, life cycle.
#include <filesystem>
#include <thread>

#include "serve/serve_harness.h"

namespace ink::testing_support {
namespace {

TEST(Anthropic, MessagesAndStream) {
  TestServer server;
  const Json request = {
      {"model", "tiny"},
      {"max_tokens", 10},
      {"seed", 5},
      {"system", "be"},
      {"messages",
       Json::array({{{"role", "user"},
                     {"content", Json::array({{{"type", "text"}, {"text", "hello"}}})}}})}};
  const Json whole = server.PostJson("/v1/messages", request);
  EXPECT_EQ(whole["type"], "message");
  EXPECT_EQ(whole["role"], "assistant");
  const std::string text = whole["content"].empty() ? "" : whole["content"][0]["text"];
  const std::string reason = whole["stop_reason"];
  EXPECT_TRUE(reason == "max_tokens" || reason == "end_turn");
  Json streaming = request;
  streaming["stream"] = true;
  std::vector<std::string> types;
  std::string joined;
  for (const std::string& data : SseData(server.Post("/v1/messages", streaming).body)) {
    const Json event = Json::parse(data);
    types.push_back(event["type"]);
    if (event["type"] == "content_block_delta") joined += event["delta"]["text"];
    if (event["type"] == "message_delta") {
      EXPECT_EQ(event["delta"]["stop_reason"], reason);
    }
  }
  EXPECT_EQ(joined, text);
  EXPECT_EQ(types.front(), "message_start");
  EXPECT_EQ(types.back(), "message_stop");
  // "system:be\nuser:hello\na:" and the begin token.
  EXPECT_EQ(
      server.PostJson(
          "/v1/messages/count_tokens",
          {{"model", "tiny"}, {"system", "be"}, {"messages", request["messages"]}})["input_tokens"],
      24);
}

TEST(Anthropic, ErrorsHaveItsShape) {
  TestServer server;
  const Json missing =
      server.PostJson("/v1/messages", {{"messages", {{{"role", "user"}, {"content", "x"}}}}}, 400);
  EXPECT_EQ(missing["type"], "error");
  EXPECT_EQ(missing["error"]["type"], "invalid_request_error");
  EXPECT_EQ(missing["error"]["message"], "max_tokens: Field required");
  const Json model = server.PostJson("/v1/messages", {{"model", "claude"}, {"max_tokens", 1}}, 404);
  EXPECT_EQ(model["error"]["type"], "not_found_error");
}

TEST(Ollama, GenerateChatAndLines) {
  TestServer server;
  const Json options = {{"seed", 4}, {"num_predict", 8}};
  const Json request = {{"model", "tiny:latest"}, {"prompt", "hello"}, {"options", options}};
  const HttpResponse streamed = server.Post("/api/generate", request);
  EXPECT_EQ(streamed.content_type, "application/x-ndjson");
  std::string joined;
  Json last;
  std::istringstream lines(streamed.body);
  for (std::string line; std::getline(lines, line);) {
    last = Json::parse(line);
    joined += last["response"];
  }
  EXPECT_EQ(last["done"], true);
  EXPECT_GT(last["eval_count"].get<int>(), 0);
  Json single = request;
  single["stream"] = false;
  EXPECT_EQ(server.PostJson("/api/generate", single)["response"], joined);
  const Json chat = server.PostJson(
      "/api/chat", {{"model", "tiny"},
                    {"stream", false},
                    {"options", options},
                    {"messages", Json::array({{{"role", "user"}, {"content", "hello"}}})}});
  EXPECT_EQ(chat["message"]["content"], joined);  // the same prompt
  EXPECT_EQ(server.PostJson("/api/show", {{"model", "tiny"}})["model_info"]["llama.block_count"],
            2);
  EXPECT_EQ(Json::parse(server.Get("/api/tags").body)["models"][0]["name"], "tiny:latest");
  EXPECT_EQ(Json::parse(server.Get("/api/version").body)["version"], "1.2.3");
  EXPECT_EQ(server.PostJson("/api/generate", {{"model", "no"}, {"prompt", "x"}}, 404)["error"],
            "model 'no' not found");
  EXPECT_EQ(server
                .Post("/api/generate",
                      {{"model", "tiny"}, {"prompt", "x"}, {"options", {{"num_ctx", 1 << 20}}}})
                .status,
            400);
}

TEST(LifeCycle, DisconnectCancelsAndBlocksComeBack) {
  auto model = TinyServed();
  TestServer server(model);
  std::vector<MemoryExchange> exchanges;
  for (int i = 0; i < 8; ++i) {  // more than run at once
    exchanges.push_back(server.Start(
        "POST", "/v1/completions",
        DumpJson(
            {{"prompt", "abc"}, {"max_tokens", 190}, {"ignore_eos", true}, {"stream", true}})));
  }
  exchanges[0].WaitForBytes(100);
  for (MemoryExchange& exchange : exchanges) exchange.Close();
  ASSERT_TRUE(
      model->engine().WaitIdle(std::chrono::steady_clock::now() + std::chrono::seconds(30)));
  const EngineSnapshot s = model->engine().snapshot();
  EXPECT_EQ(s.stats.scheduler.num_running, 0);
  EXPECT_EQ(s.kv_blocks_used, 0);
  EXPECT_LT(s.stats.generated_tokens, 8 * 190);
  model->engine().Run([](Engine& engine) { EXPECT_TRUE(engine.CheckIntegrity().ok()); });
  EXPECT_EQ(server.Post("/v1/completions", {{"prompt", "abc"}}).status, 200);
}

TEST(LifeCycle, QueueIsBounded) {
  TestServer server(TinyServed(1, 2));
  std::vector<MemoryExchange> exchanges;
  const Json body = {{"prompt", "abc"}, {"max_tokens", 150}, {"ignore_eos", true}};
  for (int i = 0; i < 12; ++i) {
    exchanges.push_back(server.Start("POST", "/v1/completions", DumpJson(body)));
  }
  int served = 0, refused = 0;
  for (MemoryExchange& exchange : exchanges) {
    const HttpResponse response = exchange.Wait();
    if (response.status == 200) ++served;
    if (response.status == 429) {
      ++refused;
      EXPECT_GE(std::stoi(std::string(FindHeader(response.headers, "retry-after"))), 1);
    }
  }
  EXPECT_EQ(served + refused, 12);
  EXPECT_GT(refused, 0);
  // All may arrive before the first step: then the queue holds two of them and none runs yet.
  EXPECT_GE(served, 2);
}

TEST(LifeCycle, DrainLetsRunningRequestsEnd) {
  TestServer server;
  MemoryExchange running = server.Start(
      "POST", "/v1/completions",
      DumpJson({{"prompt", "abc"}, {"max_tokens", 100}, {"ignore_eos", true}, {"stream", true}}));
  running.WaitForBytes(10);
  EXPECT_TRUE(server.service.Drain(std::chrono::steady_clock::now() + std::chrono::seconds(30)));
  EXPECT_NE(running.Wait().body.find("[DONE]"), std::string::npos);
  EXPECT_EQ(server.Get("/health").status, 503);
  EXPECT_EQ(server.Post("/v1/completions", {{"prompt", "abc"}}).status, 429);
}

TEST(LifeCycle, AModelWithoutATemplateSaysSo) {
  TestServer server(TinyServed(2, 8, false));
  const Json body = server.PostJson(
      "/v1/chat/completions",
      {{"messages", Json::array({{{"role", "user"}, {"content", "abc"}}})}, {"max_tokens", 2}});
  EXPECT_EQ(body["usage"]["prompt_tokens"], 4);
  ASSERT_EQ(body["warnings"].size(), 1u);
}

TEST(Metrics, CountWhatHappened) {
  TestServer server;
  const Json body = server.PostJson("/v1/completions",
                                    {{"prompt", "abc"}, {"max_tokens", 5}, {"ignore_eos", true}});
  ASSERT_EQ(body["usage"]["completion_tokens"], 5);
  const std::string text = server.Get("/metrics").body;
  EXPECT_NE(text.find("inkstone_generation_tokens_total{model_name=\"tiny\"} 5"), std::string::npos)
      << text;
  EXPECT_NE(text.find("inkstone_prompt_tokens_total{model_name=\"tiny\"} 4"), std::string::npos);
  EXPECT_NE(text.find("inkstone_time_to_first_token_seconds_count 1"), std::string::npos);
  EXPECT_NE(text.find("inkstone_inter_token_latency_seconds_count 4"), std::string::npos);
  EXPECT_NE(text.find("inkstone_request_success_total{finished_reason=\"length\"} 1"),
            std::string::npos);
  const Json memory = Json::parse(server.Get("/v1/memory").body);
  EXPECT_GT(memory["entries"]["kv_cache"].get<int64_t>(), 0);
  EXPECT_GT(memory["process"]["resident"].get<int64_t>(), 0);
}

TEST(Trace, ContextAndRequestIdComeBack) {
  TestServer server;
  const std::string trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const HttpResponse response =
      server.Get("/v1/models", {{"Traceparent", trace}, {"X-Request-Id", "abc"}});
  EXPECT_EQ(FindHeader(response.headers, "traceparent"), trace);
  EXPECT_EQ(FindHeader(response.headers, "x-request-id"), "abc");
  EXPECT_EQ(
      FindHeader(server.Get("/v1/models", {{"traceparent", "nonsense"}}).headers, "traceparent"),
      "");
}

class Keys : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/ink_keys_" + std::to_string(getpid()) + ".db";
    for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + end);
    auto store = KeyStore::Open(path_);
    ASSERT_TRUE(store.ok()) << store.status().message();
    store_ = std::move(store).value();
  }
  ServiceOptions Options() {
    ServiceOptions options = TestServer::Options(TinyServed());
    options.keys = store_;
    return options;
  }
  static HttpHeaders Bearer(const std::string& key) { return {{"Authorization", "Bearer " + key}}; }

  std::string path_;
  std::shared_ptr<KeyStore> store_;
};

TEST_F(Keys, EveryRouteButHealthNeedsOneOnceOneExists) {
  TestServer server(Options());
  EXPECT_EQ(server.Get("/v1/models").status, 200);
  auto made = store_->Create("me", {});
  ASSERT_TRUE(made.ok());
  for (const char* path : {"/v1/models", "/metrics", "/openapi.json", "/api/tags", "/v1/memory",
                           "/nowhere", "/v1/admin/keys"}) {
    EXPECT_EQ(server.Get(path).status, 401) << path;
  }
  EXPECT_EQ(server.Get("/health").status, 200);
  EXPECT_EQ(server.Get("/v1/models", Bearer(made->secret)).status, 200);
  EXPECT_EQ(server.Get("/v1/models", {{"x-api-key", made->secret}}).status, 200);
  std::string wrong = made->secret;
  wrong.back() = wrong.back() == '0' ? '1' : '0';
  EXPECT_EQ(server.Get("/v1/models", Bearer(wrong)).status, 401);
  EXPECT_EQ(server.Get("/v1/models", Bearer("")).status, 401);
  EXPECT_EQ(server.Get("/v1/models", Bearer(std::string(100000, 'a'))).status, 401);

  auto rotated = store_->Rotate(made->info.id);
  ASSERT_TRUE(rotated.ok());
  EXPECT_EQ(server.Get("/v1/models", Bearer(made->secret)).status, 401);
  EXPECT_EQ(server.Get("/v1/models", Bearer(rotated->secret)).status, 200);
  ASSERT_TRUE(store_->Revoke(made->info.id).ok());
  EXPECT_EQ(server.Get("/v1/models", Bearer(rotated->secret)).status, 401);
  EXPECT_EQ(store_->Revoke(made->info.id).code(), StatusCode::kNotFound);
}

TEST_F(Keys, SecretsAreNotInTheFile) {
  auto made = store_->Create("me", {});
  ASSERT_TRUE(made.ok());
  store_.reset();
  std::ifstream file(path_, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(bytes.find(made->secret.substr(21)), std::string::npos);
  const auto mode = std::filesystem::status(path_).permissions();
  EXPECT_EQ(mode & (std::filesystem::perms::group_all | std::filesystem::perms::others_all),
            std::filesystem::perms::none);
}

TEST_F(Keys, LimitsOfAKey) {
  KeyPolicy policy;
  policy.models = {"other"};
  auto confined = store_->Create("confined", policy);
  KeyPolicy few;
  few.requests_per_minute = 2;
  auto rare = store_->Create("rare", few);
  KeyPolicy daily;
  daily.tokens_per_day = 5;
  auto small = store_->Create("small", daily);
  ASSERT_TRUE(confined.ok() && rare.ok() && small.ok());
  TestServer server(Options());
  const Json body = {{"prompt", "abc"}, {"max_tokens", 2}};
  EXPECT_EQ(server.Post("/v1/completions", body, Bearer(confined->secret)).status, 403);
  EXPECT_EQ(server.Post("/v1/completions", body, Bearer(rare->secret)).status, 200);
  EXPECT_EQ(server.Post("/v1/completions", body, Bearer(rare->secret)).status, 200);
  const HttpResponse refused = server.Post("/v1/completions", body, Bearer(rare->secret));
  EXPECT_EQ(refused.status, 429);
  const int wait = std::stoi(std::string(FindHeader(refused.headers, "retry-after")));
  EXPECT_GE(wait, 1);
  EXPECT_LE(wait, 30);
  EXPECT_EQ(Json::parse(refused.body)["error"]["type"], "rate_limit_error");
  // Four prompt tokens and up to two more: the budget of five is used up by the second request.
  EXPECT_EQ(server.Post("/v1/completions", body, Bearer(small->secret)).status, 200);
  (void)server.Post("/v1/completions", body, Bearer(small->secret));
  EXPECT_EQ(server.Post("/v1/completions", body, Bearer(small->secret)).status, 429);
}

TEST_F(Keys, AdminManagesThem) {
  KeyPolicy admin;
  admin.admin = true;
  auto boss = store_->Create("boss", admin);
  ASSERT_TRUE(boss.ok());
  TestServer server(Options());
  const HttpResponse made = server.Post("/v1/admin/keys", {{"name", "new"}, {"max_concurrency", 1}},
                                        Bearer(boss->secret));
  ASSERT_EQ(made.status, 201) << made.body;
  const std::string key = Json::parse(made.body)["key"];
  const std::string id = Json::parse(made.body)["id"];
  EXPECT_EQ(server.Get("/v1/models", Bearer(key)).status, 200);
  EXPECT_EQ(server.Get("/v1/admin/keys", Bearer(key)).status, 403);
  const HttpResponse list = server.Get("/v1/admin/keys", Bearer(boss->secret));
  EXPECT_EQ(Json::parse(list.body)["data"].size(), 2u);
  EXPECT_EQ(list.body.find(key), std::string::npos);
  EXPECT_EQ(
      server.Post("/v1/admin/keys/" + id + "/revoke", Json::object(), Bearer(boss->secret)).status,
      200);
  EXPECT_EQ(server.Get("/v1/models", Bearer(key)).status, 401);
}

TEST(Limiter, BucketsRefill) {
  Limiter::Clock::time_point now{};
  Limiter limiter(nullptr, [&] { return now; });
  KeyInfo key;
  key.id = "k";
  key.policy.tokens_per_minute = 60;
  key.policy.max_concurrency = 1;
  ApiError error;
  auto lease = limiter.Admit(key, &error);
  ASSERT_NE(lease, nullptr);
  EXPECT_EQ(limiter.Admit(key, &error), nullptr);  // concurrency
  lease->Charge(90);                               // 30 more than the minute has
  lease.reset();
  EXPECT_EQ(limiter.Admit(key, &error), nullptr);
  EXPECT_NEAR(error.retry_after_s, 31, 0.01);
  now += std::chrono::seconds(29);
  EXPECT_EQ(limiter.Admit(key, &error), nullptr);
  now += std::chrono::seconds(2);
  EXPECT_NE(limiter.Admit(key, &error), nullptr);
}

}  // namespace
}  // namespace ink::testing_support
