// Embeddings against the engine's own hidden states, computed text by text in float64.
#include <cmath>
#include <cstring>

#include "serve/serve_harness.h"

namespace ink::testing_support {
namespace {

// The mean of a text's hidden states, of length 1, from an engine that runs nothing else.
std::vector<double> Expected(const std::vector<int32_t>& ids) {
  const Loaded& loaded = TinyLoaded();
  EngineConfig config;
  config.context = kTinyContext;
  auto engine = Engine::Create(*loaded.model, *loaded.device, TinyTokenizer(), config);
  EXPECT_TRUE(engine.ok());
  GenerationRequest request;
  request.prompt = ids;
  request.sampling.max_tokens = 0;
  std::vector<double> mean(static_cast<size_t>(loaded.model->info().d_model));
  int64_t count = 0;
  request.prompt_hidden = [&](int64_t position, std::span<const float> hidden) {
    EXPECT_EQ(position, count++);
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += hidden[i];
  };
  EXPECT_TRUE((*engine)->Submit(std::move(request)).ok());
  while ((*engine)->Step()) {
  }
  EXPECT_EQ(count, static_cast<int64_t>(ids.size()));
  double norm = 0;
  for (const double x : mean) norm += x * x;
  for (double& x : mean) x /= std::sqrt(norm);
  return mean;
}

TEST(Embeddings, AreTheMeanHiddenStateWhateverTheBatch) {
  TestServer server;
  const std::string text = "hello you";
  const auto ids = TinyTokenizer()->Encode(text, {.add_special = true});
  const std::vector<double> expected = Expected(ids);
  // Twice: the second time nothing may come from the prefix cache.
  for (int round = 0; round < 2; ++round) {
    const Json body =
        server.PostJson("/v1/embeddings",
                        {{"model", "tiny"}, {"input", {"abc", text, std::string(150, 'x'), "b"}}});
    ASSERT_EQ(body["data"].size(), 4u);
    EXPECT_EQ(body["data"][1]["index"], 1);
    const std::vector<float> got = body["data"][1]["embedding"];
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-6);
    EXPECT_EQ(body["usage"]["prompt_tokens"], 4 + 10 + 151 + 2);
  }
  const Json floats = server.PostJson("/v1/embeddings", {{"input", ids}})["data"][0]["embedding"];
  const std::string base64 = server.PostJson(
      "/v1/embeddings", {{"input", text}, {"encoding_format", "base64"}})["data"][0]["embedding"];
  EXPECT_EQ(base64.size(), (expected.size() * 4 + 2) / 3 * 4);
  const Json ollama = server.PostJson("/api/embed", {{"model", "tiny"}, {"input", text}});
  EXPECT_EQ(ollama["embeddings"][0], floats);
  EXPECT_EQ(ollama["prompt_eval_count"], 10);
  EXPECT_EQ(server.PostJson("/api/embeddings", {{"model", "tiny"}, {"prompt", text}})["embedding"],
            floats);
  EXPECT_EQ(server.PostJson("/v1/embeddings", {{"input", Json::array({ids, ids})}})["data"].size(),
            2u);
}

TEST(Embeddings, WhatCannotBeHonouredIsAnError) {
  TestServer server;
  EXPECT_EQ(
      server.PostJson("/v1/embeddings", {{"input", "a"}, {"dimensions", 3}}, 400)["error"]["param"],
      "dimensions");
  EXPECT_EQ(server.PostJson("/v1/embeddings", {{"input", Json::array()}}, 400)["error"]["param"],
            "input");
  EXPECT_EQ(server.PostJson("/v1/embeddings", {{"input", {40}}}, 400)["error"]["param"], "input");
  const std::string message = server.PostJson("/v1/embeddings", {{"input", std::string(500, 'a')}},
                                              400)["error"]["message"];
  EXPECT_NE(message.find("200"), std::string::npos) << message;
  EXPECT_NE(message.find("501"), std::string::npos) << message;
  // Ollama cuts, and says so.
  EXPECT_EQ(server.PostJson("/api/embed", {{"input", std::string(500, 'a')}})["warnings"].size(),
            1u);
  EXPECT_EQ(
      server.PostJson("/api/embed", {{"input", std::string(500, 'a')}, {"truncate", false}}, 400)
          .contains("error"),
      true);
}

TEST(Embeddings, ManyTextsAtOnceAndADisconnect) {
  auto model = TinyServed(2, 16);
  TestServer server(model);
  Json many = Json::array();
  for (int i = 0; i < 100; ++i) many.push_back(std::string(1 + i % 7, 'a'));
  const Json body = server.PostJson("/v1/embeddings", {{"input", many}});
  ASSERT_EQ(body["data"].size(), 100u);
  EXPECT_EQ(body["data"][3]["embedding"], body["data"][10]["embedding"]);
  MemoryExchange gone = server.Start("POST", "/v1/embeddings", DumpJson({{"input", many}}));
  gone.Close();
  EXPECT_TRUE(
      model->engine().WaitIdle(std::chrono::steady_clock::now() + std::chrono::seconds(30)));
}

}  // namespace
}  // namespace ink::testing_support
