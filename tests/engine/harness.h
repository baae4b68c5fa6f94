// Loaded models and small helpers for the engine's tests.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "engine/engine.h"
#include "model/tiny_models.h"
#include "support/shared.h"

namespace ink::testing_support {

struct Loaded {
  std::unique_ptr<Ledger> ledger = std::make_unique<Ledger>();
  std::unique_ptr<Device> device;
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Model> model;
};

inline Loaded LoadOn(std::unique_ptr<Device> device, std::unique_ptr<Ledger> ledger,
                     const std::string& path) {
  Loaded out;
  out.ledger = std::move(ledger);
  out.device = std::move(device);
  auto source = OpenGgufSource(path);
  EXPECT_TRUE(source.ok()) << source.status().message();
  out.source = std::move(source).value();
  auto model = LoadModel(*out.source, *out.device, {});
  EXPECT_TRUE(model.ok()) << model.status().message();
  out.model = std::move(model).value();
  return out;
}

inline Loaded Load(const std::string& path, int threads = 2, std::string_view isa = "") {
  auto ledger = std::make_unique<Ledger>();
  auto device = CreateCpuDevice({threads, isa}, ledger.get());
  EXPECT_TRUE(device.ok());
  return LoadOn(std::move(device).value(), std::move(ledger), path);
}

inline std::string TinyPath(const TinyModel& model) {
  std::string path = testing::TempDir() + "/ink_engine_" + model.name + ".gguf";
  if (!std::filesystem::exists(path)) WriteTinyModel(model, path);
  return path;
}

inline std::vector<int32_t> RandomIds(uint64_t seed, int64_t count, int64_t n_vocab) {
  Rng rng(seed);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng.Below(n_vocab));
  return ids;
}

inline std::unique_ptr<Engine> MakeEngine(const Loaded& loaded, EngineConfig config) {
  auto engine = Engine::Create(*loaded.model, *loaded.device, nullptr, config);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return std::move(engine).value();
}

inline void RunToEnd(Engine& engine) {
  while (engine.Step()) {
    Status status = engine.CheckIntegrity();
    ASSERT_TRUE(status.ok()) << status.message();
  }
}

/// Teacher-forced logits of `ids` in `engine`: [ids.size(), n_vocab].
inline std::vector<float> ForcedLogits(Engine& engine, const std::vector<int32_t>& ids,
                                       int64_t n_vocab) {
  std::vector<float> all(ids.size() * n_vocab, -1e30f);
  GenerationRequest request;
  request.prompt = ids;
  request.sampling.max_tokens = 0;
  request.prompt_logits = [&](int64_t position, std::span<const float> logits) {
    std::copy(logits.begin(), logits.end(), all.begin() + position * n_vocab);
  };
  request.on_event = [](const GenerationEvent& event) {
    EXPECT_TRUE(event.error.ok()) << event.error.message();
  };
  auto id = engine.Submit(std::move(request));
  EXPECT_TRUE(id.ok()) << id.status().message();
  RunToEnd(engine);
  return all;
}

struct Output {
  std::vector<int32_t> tokens;
  FinishReason finish = FinishReason::kNone;
  Status error;
  bool last = false;
};

/// Submits and collects by choice; `out` outlives the engine's work.
inline Status SubmitCollect(Engine& engine, GenerationRequest request, std::vector<Output>* out) {
  out->assign(request.num_choices, {});
  request.on_event = [out](const GenerationEvent& event) {
    Output& output = (*out)[event.choice];
    if (event.token >= 0) output.tokens.push_back(event.token);
    if (event.finish != FinishReason::kNone) output.finish = event.finish;
    if (!event.error.ok()) output.error = event.error;
    if (event.last) (*out)[0].last = true;
  };
  return engine.Submit(std::move(request)).status();
}

}  // namespace ink::testing_support
