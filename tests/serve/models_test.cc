// Several models: loaded, exchanged under load, released and woken.
#include <atomic>
#include <deque>
#include <mutex>
#include <thread>

#include "serve/serve_harness.h"

namespace ink::testing_support {
namespace {

using namespace std::chrono_literals;

Result<std::shared_ptr<ServedModel>> LoadTiny(const ModelSource& source) {
  if (source.path == "missing") return NotFound("'missing': no such file");
  // A device serves one engine: two threads would share its scratch. These outlive every server.
  static std::mutex mutex;
  static std::deque<Loaded> all;
  Loaded made = Load(TinyPath(TinyModels()[2]), 1);
  std::unique_lock lock(mutex);
  const Loaded& loaded = all.emplace_back(std::move(made));
  lock.unlock();
  EngineConfig config;
  config.context = kTinyContext;
  config.max_seqs = 4;
  INK_ASSIGN_OR_RETURN(auto engine,
                       Engine::Create(*loaded.model, *loaded.device, TinyTokenizer(), config));
  ServedModelOptions options;
  options.name = source.name;
  return ServedModel::Create(std::move(engine), loaded.model->info(), loaded.ledger.get(), options);
}

ServiceOptions WithLoader(std::chrono::milliseconds idle_release = -1ms) {
  ServiceOptions options = TestServer::Options(TinyServed());
  options.model_set.load = LoadTiny;
  options.model_set.idle_release = idle_release;
  options.sources = {{"tiny", "tiny.gguf", 0, 0}, {"second", "second.gguf", 0, 0}};
  return options;
}

const HttpHeaders kJson = {{"Content-Type", "application/json"}};

TEST(Models, AreLoadedWhenAskedForAndUnloaded) {
  TestServer server(WithLoader());
  auto list = [&] { return Json::parse(server.Get("/v1/models").body)["data"]; };
  ASSERT_EQ(list().size(), 2u);
  EXPECT_EQ(list()[1]["state"], "released");
  const Json request = {{"model", "second"}, {"prompt", "abc"}, {"max_tokens", 3}};
  EXPECT_EQ(server.PostJson("/v1/completions", request)["model"], "second");
  EXPECT_EQ(list()[1]["state"], "loaded");
  EXPECT_EQ(server.Post("/v1/admin/models/load", {{"name", "third"}, {"path", "x"}}).status, 415);
  EXPECT_EQ(
      server.Post("/v1/admin/models/load", {{"name", "third"}, {"path", "missing"}}, kJson).status,
      404);
  EXPECT_EQ(
      server.Post("/v1/admin/models/load", {{"name", "default"}, {"path", "x"}}, kJson).status,
      400);
  EXPECT_EQ(server.Post("/v1/admin/models/load", {{"name", "third"}, {"path", "x"}}, kJson).status,
            200);
  EXPECT_EQ(list().size(), 3u);
  EXPECT_EQ(server.Post("/v1/admin/models/unload", {{"name", "tiny"}}, kJson).status, 200);
  EXPECT_EQ(server.Post("/v1/completions", {{"model", "tiny"}, {"prompt", "a"}}).status, 404);
  // "default" is the first of those that are left.
  EXPECT_EQ(server.PostJson("/v1/completions", {{"prompt", "abc"}, {"max_tokens", 2}})["model"],
            "second");
  EXPECT_EQ(server.Post("/v1/admin/models/unload", {{"name", "tiny"}}, kJson).status, 404);
}

TEST(Models, ExchangedUnderLoadWithoutADroppedRequest) {
  TestServer server(WithLoader());
  std::atomic<bool> stop{false};
  std::atomic<int> good{0}, bad{0};
  std::mutex mutex;
  std::string first_bad;
  std::vector<std::thread> clients;
  for (int c = 0; c < 3; ++c) {
    clients.emplace_back([&] {
      while (!stop) {
        const HttpResponse r = server.Post(
            "/v1/completions",
            {{"model", "tiny"}, {"prompt", "abc"}, {"max_tokens", 20}, {"ignore_eos", true}});
        const bool whole =
            r.status == 200 && Json::parse(r.body)["usage"]["completion_tokens"] == 20;
        ++(whole ? good : bad);
        if (whole) continue;
        std::lock_guard lock(mutex);
        if (first_bad.empty()) first_bad = std::to_string(r.status) + " " + r.body;
      }
    });
  }
  for (int round = 0; round < 5; ++round) {
    while (good < (round + 1) * 3) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(server.Post("/v1/admin/models/load", {{"name", "tiny"}, {"path", "x"}}, kJson).status,
              200);
  }
  while (good < 20) std::this_thread::sleep_for(1ms);
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(bad, 0) << first_bad;
  // What was replaced leaves.
  for (int i = 0; i < 100 && server.service.models().Everything().size() > 1; ++i) {
    std::this_thread::sleep_for(50ms);
  }
  EXPECT_EQ(server.service.models().Everything().size(), 1u);
}

TEST(Models, IdleOnesAreReleasedAndWokenByARequest) {
  TestServer server(WithLoader(50ms));
  const Json request = {{"prompt", "abc"}, {"max_tokens", 5}, {"temperature", 0}};
  const Json first = server.PostJson("/v1/completions", request)["choices"][0]["text"];
  for (int i = 0; i < 100 && !server.service.models().Everything().empty(); ++i) {
    std::this_thread::sleep_for(50ms);
  }
  EXPECT_TRUE(server.service.models().Everything().empty());
  EXPECT_EQ(Json::parse(server.Get("/v1/models").body)["data"][0]["state"], "released");
  EXPECT_EQ(server.Get("/metrics").status, 200);
  EXPECT_EQ(server.PostJson("/v1/completions", request)["choices"][0]["text"], first);
}

TEST(Hosts, OtherNamesAreRefusedWithoutKeys) {
  ServiceOptions options = TestServer::Options(TinyServed());
  options.loopback_hosts_only = true;
  TestServer server(options);
  auto status = [&](const char* host) { return server.Get("/v1/models", {{"Host", host}}).status; };
  for (const char* host :
       {"localhost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "LOCALHOST", "a.localhost:3"}) {
    EXPECT_EQ(status(host), 200) << host;
  }
  for (const char* host : {"evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example",
                           "192.168.0.1", "[::2]:1"}) {
    EXPECT_EQ(status(host), 403) << host;
  }
}

}  // namespace
}  // namespace ink::testing_support
