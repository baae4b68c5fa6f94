#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/harness.h"
#include "support/guarded_device.h"

namespace ink {
namespace {

using namespace testing_support;

constexpr int64_t kVocab = 40;

EngineConfig Config(int64_t context, int32_t seqs, KvTypes types = {}) {
  EngineConfig config;
  config.context = context;
  config.max_seqs = seqs;
  config.kv_types = types;
  return config;
}

// Sequences that share steps with the one under test.
void AddNeighbours(Engine& engine, int count, uint64_t seed) {
  Rng rng(seed);
  for (int i = 0; i < count; ++i) {
    GenerationRequest request;
    request.prompt = RandomIds(rng.Next(), 1 + static_cast<int64_t>(rng.Below(60)), kVocab);
    request.sampling.max_tokens = 1 + static_cast<int32_t>(rng.Below(20));
    request.sampling.seed = rng.Next();
    ASSERT_TRUE(engine.Submit(std::move(request)).ok());
  }
}

// Promise 3: the bits of a sequence's logits do not depend on chunks, neighbours, threads or the
// prefix cache.
TEST(Engine, SameBitsWhateverTheBatch) {
  for (const TinyModel& tiny : TinyModels()) {
    for (KvTypes types :
         {KvTypes{DType::kF32, DType::kF32}, KvTypes{}, KvTypes{DType::kQ8_0, DType::kQ8_0}}) {
      if (types.k != DType::kF16 && tiny.name != "llama" && tiny.name != "gemma3") continue;
      Loaded loaded = Load(TinyPath(tiny));
      const std::vector<int32_t> ids = RandomIds(7, 75, kVocab);
      auto alone = MakeEngine(loaded, Config(128, 1, types));
      const std::vector<float> want = ForcedLogits(*alone, ids, kVocab);
      for (float logit : want) ASSERT_TRUE(std::isfinite(logit)) << tiny.name;

      for (int32_t chunk : {1, 7, 33}) {
        EngineConfig config = Config(128, 1, types);
        config.max_chunk = chunk;
        auto engine = MakeEngine(loaded, config);
        ASSERT_EQ(ForcedLogits(*engine, ids, kVocab), want) << tiny.name << " chunk " << chunk;
      }
      {
        EngineConfig config = Config(128, 6, types);
        config.token_budget = 40;
        auto engine = MakeEngine(loaded, config);
        AddNeighbours(*engine, 9, 3);
        ASSERT_EQ(ForcedLogits(*engine, ids, kVocab), want) << tiny.name << " beside others";
      }
      for (int threads : {1, 3}) {
        Loaded other = Load(TinyPath(tiny), threads);
        auto engine = MakeEngine(other, Config(128, 1, types));
        ASSERT_EQ(ForcedLogits(*engine, ids, kVocab), want) << tiny.name << " threads " << threads;
      }
      {
        auto engine = MakeEngine(loaded, Config(128, 1, types));
        ForcedLogits(*engine, {ids.begin(), ids.begin() + 64}, kVocab);
        std::vector<float> got = ForcedLogits(*engine, ids, kVocab);
        // Positions from the cache were not computed: compare the rest.
        ASSERT_EQ(got[0], -1e30f) << tiny.name << ": nothing came from the cache";
        ASSERT_TRUE(std::equal(got.begin() + 64 * kVocab, got.end(), want.begin() + 64 * kVocab))
            << tiny.name << " prefix cache";
      }
    }
  }
}

TEST(Engine, PreemptionChangesNothing) {
  Loaded loaded = Load(TinyPath(TinyModels()[0]));
  std::vector<std::vector<int32_t>> alone;
  auto request = [&](int i) {
    GenerationRequest r;
    r.prompt = RandomIds(100 + i, 20 + 11 * i, kVocab);
    r.sampling.seed = 5 + i;
    r.sampling.max_tokens = 60;
    r.sampling.ignore_eos = true;
    return r;
  };
  for (int i = 0; i < 4; ++i) {
    auto engine = MakeEngine(loaded, Config(160, 1));
    std::vector<Output> out;
    ASSERT_TRUE(SubmitCollect(*engine, request(i), &out).ok());
    RunToEnd(*engine);
    ASSERT_EQ(out[0].tokens.size(), 60u);
    alone.push_back(out[0].tokens);
  }
  for (PreemptionMode mode : {PreemptionMode::kRecompute, PreemptionMode::kSwap}) {
    EngineConfig config = Config(160, 4);
    // Blocks for about half of what four sequences need.
    config.kv_bytes = 9 * GroupBlockBytes(loaded.model->info().groups[0], config.kv_types);
    config.preemption = mode;
    config.host_bytes = mode == PreemptionMode::kSwap ? (4 << 20) : 0;
    auto engine = MakeEngine(loaded, config);
    std::vector<std::vector<Output>> out(4);
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(SubmitCollect(*engine, request(i), &out[i]).ok());
    RunToEnd(*engine);
    EXPECT_GT(engine->stats().scheduler.num_preemptions, 0);
    for (int i = 0; i < 4; ++i) {
      ASSERT_TRUE(out[i][0].error.ok()) << out[i][0].error.message();
      EXPECT_EQ(out[i][0].tokens, alone[i]) << "sequence " << i;
    }
  }
}

TEST(Engine, SpeculationChangesNoToken) {
  Loaded loaded = Load(TinyPath(TinyModels()[0]));
  Loaded draft = Load(TinyPath(TinyModels()[1]));
  for (double temperature : {0.0, 0.7}) {
    GenerationRequest request;
    request.prompt = RandomIds(1, 12, kVocab);
    for (int i = 0; i < 3; ++i) {  // repeats for prompt lookup to find
      request.prompt.insert(request.prompt.end(), request.prompt.begin(),
                            request.prompt.begin() + 12);
    }
    request.sampling.temperature = temperature;
    request.sampling.max_tokens = 80;
    request.sampling.seed = 3;
    request.sampling.ignore_eos = true;
    auto plain = MakeEngine(loaded, Config(160, 1));
    std::vector<Output> want;
    ASSERT_TRUE(SubmitCollect(*plain, request, &want).ok());
    RunToEnd(*plain);
    for (int kind = 0; kind < 3; ++kind) {
      auto engine = MakeEngine(loaded, Config(160, 2));
      if (kind == 0) engine->set_drafts(std::make_unique<PromptLookupDrafts>());
      if (kind > 0) {
        // A draft model of its own, and the model itself, whose greedy drafts all pass.
        const Loaded& source = kind == 1 ? draft : loaded;
        auto drafts = ModelDrafts::Create(*source.model, *source.device, 2, 160, {});
        ASSERT_TRUE(drafts.ok());
        engine->set_drafts(std::move(drafts).value());
      }
      GenerationRequest speculative = request;
      speculative.max_draft_tokens = 6;
      std::vector<Output> got;
      ASSERT_TRUE(SubmitCollect(*engine, speculative, &got).ok());
      RunToEnd(*engine);
      EXPECT_EQ(got[0].tokens, want[0].tokens) << "kind " << kind << " T " << temperature;
      if (kind == 2 && temperature == 0) {
        EXPECT_LT(engine->stats().steps, 40) << "drafts of the model itself were not accepted";
      }
    }
  }
}

TEST(Engine, ChoicesAreWhatTheyWouldBeAlone) {
  Loaded loaded = Load(TinyPath(TinyModels()[0]));
  GenerationRequest request;
  request.prompt = RandomIds(4, 40, kVocab);
  request.sampling.max_tokens = 20;
  request.sampling.seed = 11;
  request.num_choices = 3;
  auto engine = MakeEngine(loaded, Config(128, 4));
  std::vector<Output> got;
  ASSERT_TRUE(SubmitCollect(*engine, request, &got).ok());
  RunToEnd(*engine);
  EXPECT_TRUE(got[0].last);
  std::set<std::vector<int32_t>> distinct;
  for (int c = 0; c < 3; ++c) {
    distinct.insert(got[c].tokens);
    EXPECT_NE(got[c].finish, FinishReason::kNone);
  }
  EXPECT_EQ(distinct.size(), 3u);
  // The first choice is what a request with one choice gives.
  request.num_choices = 1;
  std::vector<Output> one;
  ASSERT_TRUE(SubmitCollect(*engine, request, &one).ok());
  RunToEnd(*engine);
  EXPECT_EQ(one[0].tokens, got[0].tokens);
}

// Beams against brute force over full sequences: with a width that keeps everything, beam search is
// exhaustive search.
TEST(Engine, WideBeamIsExhaustive) {
  Loaded loaded = Load(TinyPath(TinyModels()[0]));
  const std::vector<int32_t> prompt = RandomIds(9, 10, kVocab);
  auto engine = MakeEngine(loaded, Config(64, 128));
  auto log_probs = [&](const std::vector<int32_t>& ids) {
    std::vector<float> logits = ForcedLogits(*engine, ids, kVocab);
    std::vector<double> last(logits.end() - kVocab, logits.end());
    double max = *std::max_element(last.begin(), last.end()), sum = 0;
    for (double l : last) sum += std::exp(l - max);
    for (double& l : last) l -= max + std::log(sum);
    return last;
  };
  double best = -1e30;
  std::vector<int32_t> want;
  std::vector<double> first = log_probs(prompt);
  engine->scheduler().ClearPrefixCache();
  for (int32_t a = 0; a < kVocab; ++a) {
    std::vector<int32_t> ids = prompt;
    ids.push_back(a);
    std::vector<double> second = log_probs(ids);
    for (int32_t b = 0; b < kVocab; ++b) {
      if (first[a] + second[b] > best) {
        best = first[a] + second[b];
        want = {a, b};
      }
    }
  }
  GenerationRequest request;
  request.prompt = prompt;
  request.sampling.max_tokens = 2;
  request.beam = BeamParams{};
  request.beam->width = static_cast<int32_t>(kVocab);
  std::vector<Output> got;
  ASSERT_TRUE(SubmitCollect(*engine, std::move(request), &got).ok());
  RunToEnd(*engine);
  ASSERT_TRUE(got[0].error.ok()) << got[0].error.message();
  EXPECT_EQ(got[0].tokens, want);
}

TEST(Engine, CancelEndsWithinOneStep) {
  Loaded loaded = Load(TinyPath(TinyModels()[0]));
  EngineConfig config = Config(256, 2);
  config.max_chunk = 4;
  auto engine = MakeEngine(loaded, config);
  GenerationRequest request;
  request.prompt = RandomIds(2, 200, kVocab);
  Status error;
  bool last = false;
  request.on_event = [&](const GenerationEvent& event) {
    error = event.error;
    last = event.last;
  };
  auto id = engine->Submit(std::move(request));
  ASSERT_TRUE(id.ok());
  engine->Step();
  engine->Step();  // in prefill
  engine->Cancel(*id);
  engine->Step();
  EXPECT_TRUE(last);
  EXPECT_EQ(error.code(), StatusCode::kCancelled);
  EXPECT_FALSE(engine->HasWork());
  EXPECT_TRUE(engine->CheckIntegrity().ok());
}

TEST(Engine, RefusesWhatCannotWork) {
  Loaded loaded = Load(TinyPath(TinyModels()[0]));
  auto engine = MakeEngine(loaded, Config(64, 1));
  auto submit = [&](std::vector<int32_t> prompt, SamplingParams sampling = {}) {
    GenerationRequest request;
    request.prompt = std::move(prompt);
    request.sampling = sampling;
    return engine->Submit(std::move(request)).status();
  };
  EXPECT_EQ(submit({}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(submit({kVocab}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(submit({-1}).code(), StatusCode::kInvalidArgument);
  Status too_long = submit(RandomIds(1, 65, kVocab));
  EXPECT_EQ(too_long.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(too_long.message().find("63"), std::string::npos) << too_long.message();
  SamplingParams bad;
  bad.top_p = 2;
  EXPECT_EQ(submit({1}, bad).code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(Engine::Create(*loaded.model, *loaded.device, nullptr, Config(64, 0)).ok());
}

TEST(Engine, NanWeightsAreAnError) {
  TinyModel tiny = TinyModels()[2];  // float32
  std::string path = testing::TempDir() + "/ink_engine_nan.gguf";
  WriteTinyModel(tiny, path);
  {
    // The last values of the file belong to some weight of the last layer or the head.
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-4096, std::ios::end);
    std::vector<float> nans(1024, std::nanf(""));
    file.write(reinterpret_cast<const char*>(nans.data()), 4096);
  }
  Loaded loaded = Load(path);
  auto engine = MakeEngine(loaded, Config(64, 1));
  GenerationRequest request;
  request.prompt = {1, 2, 3};
  std::vector<Output> out;
  ASSERT_TRUE(SubmitCollect(*engine, std::move(request), &out).ok());
  RunToEnd(*engine);
  EXPECT_FALSE(out[0].error.ok());
  EXPECT_TRUE(out[0].last);
  EXPECT_FALSE(engine->HasWork());
}

// The CUDA backend to come: no host code reads device memory between launch and result.
TEST(Engine, RunsOnAGuardedDevice) {
  for (const TinyModel& tiny : TinyModels()) {
    const std::vector<int32_t> ids = RandomIds(7, 50, kVocab);
    Loaded plain = Load(TinyPath(tiny));
    auto alone = MakeEngine(plain, Config(128, 1));
    const std::vector<float> want = ForcedLogits(*alone, ids, kVocab);
    auto ledger = std::make_unique<Ledger>();
    auto device = std::make_unique<GuardedDevice>(2, ledger.get());
    Loaded guarded = LoadOn(std::move(device), std::move(ledger), TinyPath(tiny));
    auto engine = MakeEngine(guarded, Config(128, 1));
    EXPECT_EQ(ForcedLogits(*engine, ids, kVocab), want) << tiny.name;
  }
}

// Random traffic: integrity after each step, and every result as if alone.
TEST(Engine, RandomTraffic) {
  Loaded loaded = Load(TinyPath(TinyModels()[0]));
  Rng rng(77);
  struct Item {
    GenerationRequest request;
    std::vector<Output> out;
    RequestId id = 0;
    bool cancelled = false;
  };
  std::vector<std::unique_ptr<Item>> items;
  EngineConfig config = Config(128, 4);
  config.token_budget = 24;
  config.kv_bytes = 14 * GroupBlockBytes(loaded.model->info().groups[0], config.kv_types);
  auto engine = MakeEngine(loaded, config);
  engine->set_drafts(std::make_unique<PromptLookupDrafts>());
  for (int step = 0; step < 600; ++step) {
    if (rng.Below(6) == 0 && items.size() < 40) {
      auto item = std::make_unique<Item>();
      // Few distinct prompts, so that prefixes repeat.
      item->request.prompt =
          RandomIds(rng.Below(4), 5 + static_cast<int64_t>(rng.Below(70)), kVocab);
      item->request.sampling.seed = rng.Next();
      item->request.sampling.temperature = rng.Below(2) ? 0.8 : 0.0;
      item->request.sampling.max_tokens = 1 + static_cast<int32_t>(rng.Below(30));
      item->request.num_choices = 1 + static_cast<int>(rng.Below(3) == 0);
      item->request.max_draft_tokens = rng.Below(2) ? 4 : 0;
      GenerationRequest copy = item->request;
      ASSERT_TRUE(SubmitCollect(*engine, std::move(copy), &item->out).ok());
      item->id = static_cast<RequestId>(items.size() + 1);
      items.push_back(std::move(item));
    }
    if (!items.empty() && rng.Below(25) == 0) {
      Item& item = *items[rng.Below(items.size())];
      if (!item.out[0].last) item.cancelled = true;
      engine->Cancel(item.id);
    }
    engine->Step();
    Status status = engine->CheckIntegrity();
    ASSERT_TRUE(status.ok()) << status.message();
  }
  RunToEnd(*engine);
  auto alone = MakeEngine(loaded, Config(128, 3));
  for (auto& item : items) {
    if (item->cancelled) continue;
    item->request.max_draft_tokens = 0;
    std::vector<Output> want;
    ASSERT_TRUE(SubmitCollect(*alone, item->request, &want).ok());
    RunToEnd(*alone);
    for (size_t c = 0; c < want.size(); ++c) {
      ASSERT_EQ(item->out[c].tokens, want[c].tokens) << "request " << item->id << " choice " << c;
    }
  }
}

}  // namespace
}  // namespace ink
