// The prefix cache on disk: a restarted engine gives the same bits with less work.
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "engine/harness.h"
#include "support/random_adapter.h"

namespace ink {
namespace {

using namespace testing_support;

constexpr int64_t kVocab = 40;

class KvDisk : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "/ink_kvdisk_" + std::to_string(getpid()) + "_" +
                 testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(directory_);
    Reopen();
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }
  void Reopen() {
    store_.reset();
    auto store = DiskStore::Open(directory_, 64 << 20, {});
    ASSERT_TRUE(store.ok()) << store.status().message();
    store_ = std::move(store).value();
  }
  EngineConfig Config(const std::string& model = "m") {
    EngineConfig config;
    config.context = 256;
    config.max_seqs = 2;
    config.model_name = model;
    config.kv_disk = store_.get();
    return config;
  }
  struct Ran {
    std::vector<int32_t> tokens;
    std::vector<float> logits;  // of the prompt's last positions
    int64_t cached = 0;
  };
  static Ran Run(Engine& engine, const std::vector<int32_t>& prompt,
                 std::vector<AdapterUse> uses = {}, const std::string& tenant = "") {
    Ran ran;
    GenerationRequest request;
    request.prompt = prompt;
    request.tenant = tenant;
    request.adapters = std::move(uses);
    request.sampling.max_tokens = 20;
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.prompt_logits_from = static_cast<int64_t>(prompt.size()) - 4;
    request.prompt_logits = [&](int64_t, std::span<const float> logits) {
      ran.logits.insert(ran.logits.end(), logits.begin(), logits.end());
    };
    request.on_event = [&](const GenerationEvent& event) {
      EXPECT_TRUE(event.error.ok()) << event.error.message();
      if (event.token >= 0) ran.tokens.push_back(event.token);
      if (event.timings != nullptr) ran.cached = event.timings->cached_tokens;
    };
    EXPECT_TRUE(engine.Submit(std::move(request)).ok());
    RunToEnd(engine);
    return ran;
  }

  std::string directory_;
  std::unique_ptr<DiskStore> store_;
};

TEST_F(KvDisk, ARestartedEngineGivesTheSameBits) {
  const std::vector<int32_t> prompt = RandomIds(1, 150, kVocab);
  for (const TinyModel& tiny : TinyModels()) {
    SCOPED_TRACE(tiny.name);
    Loaded loaded = Load(TinyPath(tiny), 1);
    const Ran first = Run(*MakeEngine(loaded, Config(tiny.name)), prompt);
    EXPECT_EQ(first.cached, 0);
    Reopen();
    const int64_t hits = store_->stats().hits;
    auto engine = MakeEngine(loaded, Config(tiny.name));
    const Ran again = Run(*engine, prompt);
    EXPECT_EQ(again.cached, 128);
    EXPECT_GT(store_->stats().hits, hits);
    EXPECT_EQ(again.tokens, first.tokens);
    EXPECT_EQ(again.logits, first.logits);
    // A prompt that goes another way after two blocks has these.
    std::vector<int32_t> other = prompt;
    other[70] = (other[70] + 1) % kVocab;
    EngineConfig plain = Config(tiny.name);
    plain.kv_disk = nullptr;
    const Ran alone = Run(*MakeEngine(loaded, plain), other);
    engine.reset();
    engine = MakeEngine(loaded, Config(tiny.name));
    const Ran branch = Run(*engine, other);
    EXPECT_EQ(branch.cached, 64);
    EXPECT_EQ(branch.tokens, alone.tokens);
    EXPECT_EQ(branch.logits, alone.logits);
  }
}

TEST_F(KvDisk, WhatIsEvictedComesBack) {
  Loaded loaded = Load(TinyPath(TinyModels()[0]), 1);
  EngineConfig config = Config();
  config.max_seqs = 1;
  auto engine = MakeEngine(loaded, config);
  std::vector<std::vector<int32_t>> prompts;
  std::vector<Ran> first;
  for (int p = 0; p < 6; ++p) {  // blocks for one or two of them
    prompts.push_back(RandomIds(100 + p, 200, kVocab));
    first.push_back(Run(*engine, prompts.back()));
  }
  store_->Flush();
  EXPECT_GT(store_->stats().written, 0);
  for (int round = 0; round < 2; ++round) {
    for (int p = 0; p < 6; ++p) {
      const Ran again = Run(*engine, prompts[p]);
      store_->Flush();
      EXPECT_GE(again.cached, 160) << p;
      EXPECT_EQ(again.tokens, first[p].tokens);
      EXPECT_EQ(again.logits, first[p].logits);
    }
  }
}

TEST_F(KvDisk, OthersNeverGetIt) {
  const std::vector<int32_t> prompt = RandomIds(2, 100, kVocab);
  Loaded loaded = Load(TinyPath(TinyModels()[0]), 1);
  Run(*MakeEngine(loaded, Config()), prompt);
  auto cached = [&](EngineConfig config, const std::string& tenant = "") {
    config.kv_disk = store_.get();
    return Run(*MakeEngine(loaded, config), prompt, {}, tenant).cached;
  };
  EXPECT_EQ(cached(Config("other model")), 0);
  EXPECT_EQ(cached(Config(), "other tenant"), 0);
  EngineConfig f32 = Config();
  f32.kv_types = {DType::kF32, DType::kF32};
  EXPECT_EQ(cached(f32), 0);
  EXPECT_EQ(cached(Config()), 96);
}

// Engines number adapters alike: after a restart only the content tells them apart.
TEST_F(KvDisk, AdaptersAreToldApartByContent) {
  const std::vector<int32_t> prompt = RandomIds(3, 100, kVocab);
  Loaded loaded = Load(TinyPath(TinyModels()[0]), 1);
  const AdapterTarget& target = loaded.model->adapter_target();
  const Adapter one = RandomAdapter(target, false, false, 1, 0.3f);
  const Adapter two = RandomAdapter(target, false, false, 2, 0.3f);
  auto run = [&](const Adapter& adapter, float scale) {
    auto engine = MakeEngine(loaded, Config());
    EXPECT_TRUE(engine->AddAdapter("a", adapter).ok());
    return Run(*engine, prompt, {{"a", scale}});
  };
  const Ran first = run(one, 1);
  EXPECT_EQ(run(two, 1).cached, 0);
  EXPECT_EQ(run(one, 0.5f).cached, 0);
  const Ran again = run(one, 1);
  EXPECT_EQ(again.cached, 96);
  EXPECT_EQ(again.tokens, first.tokens);
  EXPECT_EQ(again.logits, first.logits);
}

TEST_F(KvDisk, DamageCostsWorkAndNothingElse) {
  const std::vector<int32_t> prompt = RandomIds(4, 150, kVocab);
  Loaded loaded = Load(TinyPath(TinyModels()[0]), 1);
  const Ran first = Run(*MakeEngine(loaded, Config()), prompt);
  store_->Flush();
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    if (entry.path().extension() != ".inkkv") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-5, std::ios::end);
    file.put('!');
  }
  Reopen();
  const Ran again = Run(*MakeEngine(loaded, Config()), prompt);
  EXPECT_EQ(again.cached, 0);
  EXPECT_EQ(again.tokens, first.tokens);
  EXPECT_EQ(again.logits, first.logits);
  EXPECT_GT(store_->stats().rejected, 0);
}

}  // namespace
}  // namespace ink
