// The page's file, and what its engine room reads.
#include <filesystem>
#include <future>
#include <set>

#include "serve/serve_harness.h"

namespace ink::testing_support {
namespace {

StaticFile Page() {
  StaticFile page;
  page.path = "/";
  page.content_type = "text/html; charset=utf-8";
  page.body = "zipped";
  page.encoding = "gzip";
  page.etag = "\"abc\"";
  page.headers = {{"Content-Security-Policy", "default-src 'none'"}};
  return page;
}

TEST(WebPage, EncodingAndValidator) {
  struct Case {
    const char* accept;
    const char* if_none_match;
    int status;
  };
  for (const Case& c : {Case{"gzip, deflate, br", "", 200},
                        {"gzip;q=0.5", "", 200},
                        {"*", "", 200},
                        {"identity, *;q=0.1", "", 200},
                        {"", "", 406},
                        {"br", "", 406},
                        {"gzip;q=0, *", "", 406},
                        {"gzip", "\"abc\"", 304},
                        {"gzip", "W/\"abc\"", 304},
                        {"gzip", "\"old\", \"abc\"", 304},
                        {"gzip", "*", 304},
                        {"gzip", "\"ab\"", 200},
                        {"gzip", "abc", 200}}) {
    HttpRequest request;
    request.headers = {{"Accept-Encoding", c.accept}, {"If-None-Match", c.if_none_match}};
    const HttpResponse response = FileResponse(Page(), request);
    EXPECT_EQ(response.status, c.status) << c.accept << " / " << c.if_none_match;
    EXPECT_EQ(FindHeader(response.headers, "vary"), "Accept-Encoding");
    EXPECT_EQ(response.body == "zipped", c.status == 200);
    EXPECT_EQ(FindHeader(response.headers, "content-encoding"), c.status == 200 ? "gzip" : "");
    EXPECT_EQ(FindHeader(response.headers, "etag"), c.status == 406 ? "" : "\"abc\"");
  }
}

TEST(WebPage, NeedsNoKeyButItsDataDoes) {
  const std::string path = testing::TempDir() + "/ink_page_" + std::to_string(getpid()) + ".db";
  for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path + end);
  auto store = KeyStore::Open(path);
  ASSERT_TRUE(store.ok()) << store.status().message();
  ServiceOptions options = TestServer::Options(TinyServed());
  options.keys = std::move(store).value();
  options.files = {Page()};
  auto made = options.keys->Create("me", {});
  ASSERT_TRUE(made.ok());
  TestServer server(std::move(options));
  const HttpResponse page = server.Get("/", {{"Accept-Encoding", "gzip"}});
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.content_type, "text/html; charset=utf-8");
  EXPECT_EQ(FindHeader(page.headers, "content-security-policy"), "default-src 'none'");
  EXPECT_EQ(server.Get("/v1/engine").status, 401);
  EXPECT_EQ(server.Get("/v1/engine", {{"x-api-key", made->secret}}).status, 200);
  EXPECT_EQ(server.Start("POST", "/", "{}").Wait().status, 401);
}

Json EngineJson(TestServer& server) {
  const HttpResponse response = server.Get("/v1/engine");
  EXPECT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(FindHeader(response.headers, "cache-control"), "no-store");
  return Json::parse(response.body)["models"][0];
}

TEST(EngineRoom, ShowsRequestsAndBlocks) {
  TestServer server;
  Json engine = EngineJson(server);
  EXPECT_EQ(engine["model"], "tiny");
  EXPECT_EQ(engine["chat_template"], true);
  EXPECT_EQ(engine["context"], kTinyContext);
  EXPECT_TRUE(engine["in_flight"].empty());
  const Json body = {{"prompt", std::string(80, 'a')},
                     {"max_tokens", 100},
                     {"ignore_eos", true},
                     {"stream", true}};
  MemoryExchange running = server.Start("POST", "/v1/completions", DumpJson(body));
  running.WaitForBytes(1);
  std::this_thread::sleep_for(EngineRoom::kFresh);
  engine = EngineJson(server);
  // It may have ended by now: it is in one of the lists.
  ASSERT_EQ(engine["in_flight"].size() + engine["ended"].size(), 1u);
  running.Wait();
  std::this_thread::sleep_for(EngineRoom::kFresh + std::chrono::milliseconds(10));
  engine = EngineJson(server);
  EXPECT_TRUE(engine["in_flight"].empty());
  const Json& ended = engine["ended"].at(0);
  EXPECT_EQ(ended["phase"], "ended");
  EXPECT_EQ(ended["outcome"], "done");
  EXPECT_EQ(ended["prompt_tokens"], 81);
  EXPECT_EQ(ended["completion_tokens"], 100);
  EXPECT_GT(ended["decode_s"].get<double>(), 0);
  EXPECT_EQ(engine["generated_tokens"], 100);
  const Json& decode = engine["phases"]["decode"];
  EXPECT_EQ(decode["steps"], 99);
  EXPECT_EQ(engine["phases"]["prefill"]["steps"], 1);
  EXPECT_GT(decode["mbu"].get<double>(), 0);
  // The gauges are the same numbers.
  const std::string metrics = server.Get("/metrics").body;
  for (const char* phase : {"prefill", "decode"}) {
    for (const char* name : {"mfu", "mbu"}) {
      const std::string head =
          std::string("inkstone_") + name + "{model_name=\"tiny\",phase=\"" + phase + "\"} ";
      const size_t at = metrics.find(head);
      ASSERT_NE(at, std::string::npos) << head;
      EXPECT_NEAR(std::stod(metrics.substr(at + head.size())),
                  engine["phases"][phase][name].get<double>(), 1e-6);
    }
  }
  EXPECT_NE(metrics.find("inkstone_peak_flops{model_name=\"tiny\"} 1000000000000"),
            std::string::npos);
  for (const Json& group : engine["groups"]) {
    EXPECT_EQ(group["blocks"].get<int>(), group["free"].get<int>() + group["cached"].get<int>() +
                                              group["owned"].get<int>() +
                                              group["shared"].get<int>());
    EXPECT_EQ(group["map"].get<std::string>().size() * group["blocks_per_cell"].get<size_t>(),
              group["blocks"].get<size_t>());
  }
}

TEST(EngineRoom, ManyWhoAskDuringOneStepShareADescription) {
  auto model = TinyServed();
  TestServer server(model);
  std::promise<void> go;
  std::shared_future<void> gate = go.get_future().share();
  model->engine().Post([gate](Engine&) { gate.wait(); });
  std::vector<MemoryExchange> asked;
  for (int i = 0; i < 8; ++i) asked.push_back(server.Start("GET", "/v1/engine"));
  // The workers are free though the engine is held up.
  EXPECT_EQ(server.Get("/v1/models").status, 200);
  go.set_value();
  std::set<std::string> bodies;
  for (MemoryExchange& exchange : asked) {
    const HttpResponse response = exchange.Wait();
    EXPECT_EQ(response.status, 200);
    bodies.insert(response.body);
  }
  // One that a busy machine read late may have its own.
  EXPECT_LE(bodies.size(), 2u);
}

}  // namespace
}  // namespace ink::testing_support
