// Adapters by name: beside each other in a batch, exchanged and unloaded under load, per key.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "serve/serve_harness.h"
#include "support/random_adapter.h"

namespace ink::testing_support {
namespace {

using namespace std::chrono_literals;

const HttpHeaders kJson = {{"Content-Type", "application/json"}};

const AdapterTarget& Target() { return TinyLoaded().model->adapter_target(); }

std::string Path(const std::string& name) {
  return testing::TempDir() + "/ink_served_" + std::to_string(getpid()) + "_" + name;
}

// A PEFT folder and a GGUF file, each with an adapter of its own.
std::string TalesPath() {
  static const std::string path = [] {
    const Adapter adapter = RandomAdapter(Target(), false, false, 11, 0.3f);
    EXPECT_TRUE(WritePeftAdapter(adapter, Target(), Path("tales")).ok());
    return Path("tales");
  }();
  return path;
}
std::string StylePath() {
  static const std::string path = [] {
    const Adapter adapter = RandomAdapter(Target(), false, true, 12, 0.3f);
    EXPECT_TRUE(WriteGgufAdapter(adapter, Target(), Path("style.gguf")).ok());
    return Path("style.gguf");
  }();
  return path;
}

Json LoadBody(const std::string& name, const std::string& path, double scale = 1) {
  return {{"name", name}, {"path", path}, {"scale", scale}};
}

int LoadAdapter(TestServer& server, const Json& body) {
  return server.Post("/v1/admin/adapters/load", body, kJson).status;
}

// Longer than two blocks, so that its prefix is cached.
const std::string kPrompt =
    "the quick brown fox jumps over the lazy dog and the quick brown fox sleeps all day";

Json Ask(const std::string& model, int tokens = 24) {
  return {{"model", model},
          {"prompt", kPrompt},
          {"max_tokens", tokens},
          {"temperature", 0},
          {"ignore_eos", true}};
}

std::string TextOf(const HttpResponse& response) {
  EXPECT_EQ(response.status, 200) << response.body;
  if (response.status != 200) return "";
  return Json::parse(response.body)["choices"][0]["text"].get<std::string>();
}

// What a name gives on a server that never had another adapter, by tokens asked for.
std::string Alone(const std::string& name, int tokens = 24) {
  static std::map<std::pair<std::string, int>, std::string> known;
  std::string& text = known[{name, tokens}];
  if (!text.empty()) return text;
  TestServer server;
  if (name == "tales") {
    EXPECT_EQ(LoadAdapter(server, LoadBody(name, TalesPath())), 200);
  } else if (name == "style") {
    EXPECT_EQ(LoadAdapter(server, LoadBody(name, StylePath(), 0.5)), 200);
  }
  return text = TextOf(server.Post("/v1/completions", Ask(name, tokens)));
}

size_t EngineAdapters(TestServer& server) {
  size_t count = 0;
  server.service.models().Everything().at(0)->engine().Run(
      [&](Engine& engine) { count = engine.adapters().size(); });
  return count;
}

TEST(ServedAdapters, EachRequestOfABatchGetsTheOneItNames) {
  // The engine itself as the oracle of what a served adapter gives.
  {
    EngineConfig config;
    config.context = kTinyContext;
    auto engine =
        Engine::Create(*TinyLoaded().model, *TinyLoaded().device, TinyTokenizer(), config);
    ASSERT_TRUE(engine.ok());
    ASSERT_TRUE((*engine)->AddAdapter("x", RandomAdapter(Target(), false, true, 12, 0.3f)).ok());
    GenerationRequest request;
    request.prompt = TinyTokenizer()->Encode(kPrompt, {.add_special = true});
    request.sampling.max_tokens = 24;
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.adapters = {{"x", 0.5f}};
    std::string text;
    request.on_event = [&](const GenerationEvent& event) { text += event.text; };
    ASSERT_TRUE((*engine)->Submit(std::move(request)).ok());
    while ((*engine)->Step()) {
    }
    EXPECT_EQ(text, Alone("style"));
  }
  const std::vector<std::string> names = {"tiny", "tales", "style"};
  EXPECT_EQ(std::set<std::string>({Alone("tiny"), Alone("tales"), Alone("style")}).size(), 3u);
  TestServer server;
  ASSERT_EQ(LoadAdapter(server, LoadBody("tales", TalesPath())), 200);
  ASSERT_EQ(LoadAdapter(server, LoadBody("style", StylePath(), 0.5)), 200);
  for (int round = 0; round < 3; ++round) {
    std::vector<MemoryExchange> running;
    for (int i = 0; i < 9; ++i) {
      running.push_back(
          server.Start("POST", "/v1/completions", DumpJson(Ask(names[(i + round) % 3]))));
    }
    for (int i = 0; i < 9; ++i) {
      const HttpResponse response = running[i].Wait();
      const std::string& name = names[(i + round) % 3];
      EXPECT_EQ(TextOf(response), Alone(name)) << name;
      EXPECT_EQ(Json::parse(response.body)["model"], name);
    }
  }
}

TEST(ServedAdapters, PrefixesAreNotShared) {
  TestServer server;
  ASSERT_EQ(LoadAdapter(server, LoadBody("tales", TalesPath())), 200);
  auto cached = [&](const std::string& name) {
    const Json body = server.PostJson("/v1/completions", Ask(name));
    EXPECT_EQ(body["choices"][0]["text"], Alone(name));
    return body["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>();
  };
  EXPECT_EQ(cached("tiny"), 0);
  EXPECT_EQ(cached("tales"), 0);
  EXPECT_GT(cached("tiny"), 32);
  EXPECT_GT(cached("tales"), 32);
}

TEST(ServedAdapters, AreListedAsModels) {
  TestServer server;
  ASSERT_EQ(LoadAdapter(server, LoadBody("tales", TalesPath())), 200);
  const Json list = Json::parse(server.Get("/v1/models").body)["data"];
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[1]["id"], "tales");
  EXPECT_EQ(list[1]["parent"], "tiny");
  EXPECT_EQ(list[1]["state"], "loaded");
  EXPECT_FALSE(list[0].contains("parent"));
  EXPECT_EQ(Json::parse(server.Get("/v1/models/tales").body)["id"], "tales");
  EXPECT_EQ(Json::parse(server.Get("/v1/models/tiny").body)["id"], "tiny");
  EXPECT_EQ(server.Get("/v1/models/other").status, 404);
  const Json tags = Json::parse(server.Get("/api/tags").body)["models"];
  ASSERT_EQ(tags.size(), 2u);
  EXPECT_EQ(tags[1]["name"], "tales:latest");
  EXPECT_EQ(tags[1]["details"]["parent_model"], "tiny");
  EXPECT_GT(tags[1]["size"], tags[0]["size"]);
  const Json show = server.PostJson("/api/show", {{"model", "tales:latest"}});
  EXPECT_EQ(show["modelfile"], "FROM tiny\nADAPTER tales\n");
  const Json generated =
      server.PostJson("/api/generate", {{"model", "tales:latest"},
                                        {"prompt", kPrompt},
                                        {"raw", true},
                                        {"stream", false},
                                        {"options", {{"temperature", 0}, {"num_predict", 5}}}});
  EXPECT_EQ(generated["model"], "tales:latest");
  const Json admin = Json::parse(server.Get("/v1/admin/adapters").body)["data"];
  ASSERT_EQ(admin.size(), 1u);
  EXPECT_EQ(admin[0]["path"], TalesPath());
  EXPECT_EQ(admin[0]["model"], "tiny");
  EXPECT_GT(admin[0]["bytes"], 0);
}

TEST(ServedAdapters, AnUnloadedOneStaysUntilItsLastRequestIsOver) {
  TestServer server;
  ASSERT_EQ(LoadAdapter(server, LoadBody("tales", TalesPath())), 200);
  const std::string alone = Alone("tales", 100);
  auto running = server.Start("POST", "/v1/completions", DumpJson(Ask("tales", 100)));
  // What a request holds, for as long as the test wants.
  auto held = server.service.models().Find("tales");
  ASSERT_TRUE(held.ok() && held->adapter != nullptr);
  while (Json::parse(server.Get("/v1/admin/adapters").body)["data"][0]["requests"] < 1) {
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(server.Post("/v1/admin/adapters/unload", {{"name", "tales"}}, kJson).status, 200);
  EXPECT_EQ(server.Post("/v1/completions", Ask("tales")).status, 404);
  EXPECT_EQ(Json::parse(server.Get("/v1/models").body)["data"].size(), 1u);
  EXPECT_EQ(TextOf(running.Wait()), alone);
  const Json draining = Json::parse(server.Get("/v1/admin/adapters").body)["data"];
  ASSERT_EQ(draining.size(), 1u);
  EXPECT_EQ(draining[0]["state"], "draining");
  EXPECT_EQ(EngineAdapters(server), 1u);
  // The name is free at once.
  EXPECT_EQ(LoadAdapter(server, LoadBody("tales", StylePath(), 0.5)), 200);
  EXPECT_EQ(EngineAdapters(server), 2u);
  EXPECT_EQ(TextOf(server.Post("/v1/completions", Ask("tales"))), Alone("style"));
  *held = {};
  for (int i = 0; i < 200 && EngineAdapters(server) > 1; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(EngineAdapters(server), 1u);
  EXPECT_EQ(Json::parse(server.Get("/v1/admin/adapters").body)["data"].size(), 1u);
}

TEST(ServedAdapters, ExchangedUnderLoadWithoutADroppedRequest) {
  const std::string first = Alone("tales"), second = Alone("style");
  TestServer server;
  ASSERT_EQ(LoadAdapter(server, LoadBody("a", TalesPath())), 200);
  std::atomic<bool> stop{false};
  std::atomic<int> firsts{0}, seconds{0}, bad{0};
  std::vector<std::thread> clients;
  for (int c = 0; c < 3; ++c) {
    clients.emplace_back([&] {
      while (!stop) {
        const HttpResponse r = server.Post("/v1/completions", Ask("a"));
        const std::string text =
            r.status == 200 ? Json::parse(r.body)["choices"][0]["text"].get<std::string>() : "";
        ++(text == first ? firsts : text == second ? seconds : bad);
      }
    });
  }
  for (int round = 0; round < 6; ++round) {
    const int before = firsts + seconds;
    while (firsts + seconds < before + 4 && bad == 0) std::this_thread::sleep_for(1ms);
    const bool tales = round % 2 == 1;
    EXPECT_EQ(
        LoadAdapter(server, tales ? LoadBody("a", TalesPath()) : LoadBody("a", StylePath(), 0.5)),
        200);
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(bad, 0);
  EXPECT_GT(firsts, 0);
  EXPECT_GT(seconds, 0);
  for (int i = 0; i < 200 && EngineAdapters(server) > 1; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(EngineAdapters(server), 1u);
}

TEST(ServedAdapters, BadOnesAreRefusedAndNothingChanges) {
  TestServer server;
  ASSERT_EQ(LoadAdapter(server, LoadBody("tales", TalesPath())), 200);
  const std::string garbage = Path("garbage.gguf");
  std::ofstream(garbage) << "GGUF and then nothing of the kind";
  EXPECT_EQ(LoadAdapter(server, LoadBody("x", Path("missing"))), 404);
  EXPECT_EQ(LoadAdapter(server, LoadBody("x", garbage)), 400);
  EXPECT_EQ(LoadAdapter(server, LoadBody("tiny", TalesPath())), 400);
  EXPECT_EQ(LoadAdapter(server, LoadBody("default", TalesPath())), 400);
  EXPECT_EQ(LoadAdapter(server, LoadBody("x:latest", TalesPath())), 400);
  EXPECT_EQ(LoadAdapter(server, LoadBody("", TalesPath())), 400);
  EXPECT_EQ(LoadAdapter(server, {{"name", "x"}}), 400);
  EXPECT_EQ(LoadAdapter(server, {{"name", "x"}, {"path", TalesPath()}, {"scale", "2"}}), 400);
  EXPECT_EQ(LoadAdapter(server, {{"name", "x"}, {"path", TalesPath()}, {"rank", 2}}), 400);
  EXPECT_EQ(LoadAdapter(server, {{"name", "x"}, {"path", TalesPath()}, {"model", "no"}}), 404);
  EXPECT_EQ(server.Post("/v1/admin/adapters/load", LoadBody("x", TalesPath())).status, 415);
  EXPECT_EQ(server.Post("/v1/admin/adapters/unload", {{"name", "x"}}, kJson).status, 404);
  EXPECT_EQ(server.Post("/v1/admin/adapters/unload", Json::object(), kJson).status, 400);
  EXPECT_EQ(EngineAdapters(server), 1u);
  EXPECT_EQ(TextOf(server.Post("/v1/completions", Ask("tales"))), Alone("tales"));
}

TEST(ServedAdapters, TheBudgetIsAskedFirst) {
  const Loaded& loaded = TinyLoaded();
  EngineConfig config;
  config.context = kTinyContext;
  auto engine = Engine::Create(*loaded.model, *loaded.device, TinyTokenizer(), config);
  ASSERT_TRUE(engine.ok());
  int64_t asked = 0, allowed = 0;
  ServedModelOptions options;
  options.name = "tiny";
  options.adapter_budget = [&](int64_t bytes, const std::function<Status()>& add) {
    asked = bytes;
    return bytes <= allowed ? add() : OutOfMemory("too much");
  };
  auto model = ServedModel::Create(std::move(engine).value(), loaded.model->info(),
                                   loaded.ledger.get(), options);
  ASSERT_TRUE(model.ok());
  TestServer server(*std::move(model));
  const int64_t before = loaded.ledger->total();
  EXPECT_EQ(LoadAdapter(server, LoadBody("tales", TalesPath())), 400);
  EXPECT_EQ(loaded.ledger->total(), before);
  EXPECT_EQ(EngineAdapters(server), 0u);
  allowed = asked;
  EXPECT_EQ(LoadAdapter(server, LoadBody("tales", TalesPath())), 200);
  EXPECT_EQ(loaded.ledger->total(), before + asked);
}

TEST(ServedAdapters, AKeyHasThoseItWasGiven) {
  const std::string path = Path("keys.db");
  for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path + end);
  auto opened = KeyStore::Open(path);
  ASSERT_TRUE(opened.ok());
  std::shared_ptr<KeyStore> keys = std::move(opened).value();
  ServiceOptions options = TestServer::Options(TinyServed());
  options.keys = keys;
  TestServer server(options);
  auto make = [&](std::vector<std::string> models, std::vector<std::string> adapters,
                  bool admin = false) {
    KeyPolicy policy;
    policy.models = std::move(models);
    policy.adapters = std::move(adapters);
    policy.admin = admin;
    auto made = keys->Create("k", policy);
    EXPECT_TRUE(made.ok());
    return HttpHeaders{{"Authorization", "Bearer " + made->secret}};
  };
  const HttpHeaders admin = make({}, {}, true);
  for (const auto& [name, file] : {std::pair{"tales", TalesPath()}, {"style", StylePath()}}) {
    ASSERT_EQ(server.Post("/v1/admin/adapters/load", LoadBody(name, file), admin).status, 200);
  }
  const HttpHeaders any = make({}, {});
  EXPECT_EQ(server.Post("/v1/admin/adapters/load", LoadBody("x", TalesPath()), any).status, 403);
  EXPECT_EQ(server.Post("/v1/admin/adapters/unload", {{"name", "tales"}}, any).status, 403);
  EXPECT_EQ(server.Get("/v1/admin/adapters", any).status, 403);
  auto statuses = [&](const HttpHeaders& key) {
    std::vector<int> out;
    for (const char* name : {"tiny", "tales", "style"}) {
      out.push_back(server.Post("/v1/completions", Ask(name, 2), key).status);
    }
    return out;
  };
  EXPECT_EQ(statuses(any), (std::vector<int>{200, 200, 200}));
  EXPECT_EQ(statuses(make({}, {"tales"})), (std::vector<int>{200, 200, 403}));
  EXPECT_EQ(statuses(make({"tiny"}, {"style"})), (std::vector<int>{200, 403, 200}));
  EXPECT_EQ(statuses(make({"tales"}, {})), (std::vector<int>{403, 200, 403}));
  EXPECT_EQ(statuses(make({"other"}, {"tales"})), (std::vector<int>{403, 403, 403}));
}

// Whatever the source says, a tiny model under the source's name.
Result<std::shared_ptr<ServedModel>> LoadTiny(const ModelSource& source) {
  static std::deque<Loaded> all;  // these outlive every server
  const Loaded& loaded = all.emplace_back(Load(TinyPath(TinyModels()[2]), 1));
  EngineConfig config;
  config.context = kTinyContext;
  INK_ASSIGN_OR_RETURN(auto engine,
                       Engine::Create(*loaded.model, *loaded.device, TinyTokenizer(), config));
  ServedModelOptions served;
  served.name = source.name;
  return ServedModel::Create(std::move(engine), loaded.model->info(), loaded.ledger.get(), served);
}

// A model that was released comes back without its adapters; a request for one brings it.
TEST(ServedAdapters, ComeBackWithAWokenModel) {
  ServiceOptions options = TestServer::Options(TinyServed());
  options.model_set.idle_release = 30ms;
  options.model_set.load = LoadTiny;
  ModelSource source;
  source.name = "tiny";
  source.adapters = {{"tales", TalesPath(), 1.0f}, {"broken", Path("missing"), 1.0f}};
  options.sources = {source};
  TestServer server(std::move(options));  // a copy would hold the model
  EXPECT_EQ(TextOf(server.Post("/v1/completions", Ask("tales"))), Alone("tales"));
  for (int i = 0; i < 200 && !server.service.models().Everything().empty(); ++i) {
    std::this_thread::sleep_for(10ms);
  }
  ASSERT_TRUE(server.service.models().Everything().empty());
  EXPECT_EQ(Json::parse(server.Get("/v1/models").body)["data"][1]["state"], "released");
  EXPECT_EQ(TextOf(server.Post("/v1/completions", Ask("tales"))), Alone("tales"));
  EXPECT_EQ(server.Post("/v1/completions", Ask("broken")).status, 404);
  EXPECT_EQ(TextOf(server.Post("/v1/completions", Ask("tiny"))), Alone("tiny"));
}

TEST(ServedAdapters, ComeWithALoadedModel) {
  ServiceOptions options = TestServer::Options(TinyServed());
  options.model_set.load = LoadTiny;
  TestServer server(options);
  auto load = [&](const std::string& model, const Json& adapters) {
    return server
        .Post("/v1/admin/models/load", {{"name", model}, {"path", "x"}, {"adapters", adapters}},
              kJson)
        .status;
  };
  EXPECT_EQ(load("second", Json::array({LoadBody("tales", TalesPath())})), 200);
  EXPECT_EQ(TextOf(server.Post("/v1/completions", Ask("tales"))), Alone("tales"));
  // The name is taken, as a model's and as another model's adapter's.
  EXPECT_EQ(load("tales", Json::array()), 400);
  EXPECT_EQ(load("third", Json::array({LoadBody("tales", TalesPath())})), 400);
  EXPECT_EQ(LoadAdapter(server, LoadBody("tales", TalesPath())), 400);
  EXPECT_EQ(load("third", Json::array({"tales"})), 400);
  EXPECT_EQ(load("third", Json::array({{{"name", "x"}, {"path", "missing"}}})), 404);
  EXPECT_EQ(server.Post("/v1/completions", Ask("third")).status, 404);
  EXPECT_EQ(server.Post("/v1/admin/models/unload", {{"name", "second"}}, kJson).status, 200);
  EXPECT_EQ(server.Post("/v1/completions", Ask("tales")).status, 404);
}

}  // namespace
}  // namespace ink::testing_support
