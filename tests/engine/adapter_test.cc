// Adapters in the engine: against models with the adapter folded in, alone and in company.
#include <algorithm>
#include <cmath>

#include "engine/harness.h"
#include "support/guarded_device.h"
#include "support/random_adapter.h"

namespace ink {
namespace {

using namespace testing_support;

constexpr int64_t kVocab = 40;

EngineConfig Config(int32_t seqs) {
  EngineConfig config;
  config.context = 128;
  config.max_seqs = seqs;
  config.kv_types = {DType::kF32, DType::kF32};
  return config;
}

// Float32 everywhere: other types round activations, and the folded model would round other ones.
// Small weights: attention of large ones is so sharp that it multiplies rounding errors.
std::vector<TinyModel> FloatModels() {
  std::vector<TinyModel> out;
  for (TinyModel model : TinyModels()) {
    if (model.type == DType::kQ4_0) continue;
    model.name += "-f32";
    model.type = DType::kF32;
    model.size = 0.15f;
    out.push_back(model);
  }
  return out;
}

std::vector<float> Logits(const Model& model, Device& device, const std::vector<int32_t>& ids) {
  auto engine = Engine::Create(model, device, nullptr, Config(1));
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return ForcedLogits(**engine, ids, kVocab);
}

std::vector<float> LogitsWith(Engine& engine, const std::vector<AdapterUse>& uses,
                              const std::vector<int32_t>& ids) {
  Status status = engine.SetDefaultAdapters(uses);
  EXPECT_TRUE(status.ok()) << status.message();
  return ForcedLogits(engine, ids, kVocab);
}

void ExpectNear(const std::vector<float>& got, const std::vector<float>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  double norm = 0, error = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    norm = std::max(norm, std::abs(static_cast<double>(want[i])));
    error = std::max(error, std::abs(static_cast<double>(got[i]) - want[i]));
  }
  EXPECT_LE(error, tolerance * norm);
}

TEST(AdapterInEngine, EqualsTheFoldedModel) {
  const std::vector<int32_t> ids = RandomIds(3, 40, kVocab);
  for (const TinyModel& tiny : FloatModels()) {
    Loaded loaded = Load(TinyPath(tiny));
    const AdapterTarget& target = loaded.model->adapter_target();
    const std::vector<float> plain = Logits(*loaded.model, *loaded.device, ids);
    for (int kind = 0; kind < 4; ++kind) {
      SCOPED_TRACE(tiny.name + (kind & 1 ? " rank-stabilized" : "") + (kind & 2 ? " DoRA" : ""));
      const Adapter adapter = RandomAdapter(target, kind & 1, kind & 2, 9 + kind, 0.1f);
      FoldedSource folded(*loaded.source);
      folded.Fold(adapter, 0.75);
      auto model = LoadModel(folded, *loaded.device, {});
      ASSERT_TRUE(model.ok()) << model.status().message();
      const std::vector<float> want = Logits(**model, *loaded.device, ids);
      EngineConfig config = Config(1);
      config.prefix_cache = false;  // a factor of 0 shares the plain model's prefixes
      auto engine = MakeEngine(loaded, config);
      Status status = engine->AddAdapter("a", adapter);
      ASSERT_TRUE(status.ok()) << status.message();
      ExpectNear(LogitsWith(*engine, {{"a", 0.75f}}, ids), want, 1e-5);
      // The adapter does change the model, and only where it is asked for.
      double change = 0;
      for (size_t i = 0; i < want.size(); ++i) {
        change = std::max<double>(change, std::abs(want[i] - plain[i]));
      }
      EXPECT_GT(change, 0.01);
      EXPECT_EQ(LogitsWith(*engine, {}, ids), plain);
      EXPECT_EQ(LogitsWith(*engine, {{"a", 0.0f}}, ids), plain);
    }
  }
}

TEST(AdapterInEngine, SeveralAtOnceApplyInOrder) {
  const std::vector<int32_t> ids = RandomIds(4, 30, kVocab);
  Loaded loaded = Load(TinyPath(FloatModels()[2]));  // with biases
  const AdapterTarget& target = loaded.model->adapter_target();
  const Adapter lora = RandomAdapter(target, false, false, 1, 0.1f);
  const Adapter dora = RandomAdapter(target, true, true, 2, 0.1f);
  auto engine = MakeEngine(loaded, Config(1));
  ASSERT_TRUE(engine->AddAdapter("lora", lora).ok());
  ASSERT_TRUE(engine->AddAdapter("dora", dora).ok());
  for (bool lora_first : {true, false}) {
    FoldedSource folded(*loaded.source);
    if (lora_first) folded.Fold(lora, -0.5);
    folded.Fold(dora, 1.25);
    if (!lora_first) folded.Fold(lora, -0.5);
    auto model = LoadModel(folded, *loaded.device, {});
    ASSERT_TRUE(model.ok()) << model.status().message();
    std::vector<AdapterUse> uses = {{"lora", -0.5f}, {"dora", 1.25f}};
    if (!lora_first) std::swap(uses[0], uses[1]);
    ExpectNear(LogitsWith(*engine, uses, ids), Logits(**model, *loaded.device, ids), 1e-5);
  }
}

// One request's teacher-forced logits among others.
struct Forced {
  std::vector<AdapterUse> uses;
  std::vector<int32_t> ids;
  std::vector<float> logits;
};

void SubmitForced(Engine& engine, Forced* forced) {
  forced->logits.assign(forced->ids.size() * kVocab, -1e30f);
  GenerationRequest request;
  request.prompt = forced->ids;
  request.sampling.max_tokens = 0;
  request.adapters = forced->uses;
  request.prompt_logits = [forced](int64_t position, std::span<const float> logits) {
    std::copy(logits.begin(), logits.end(), forced->logits.begin() + position * kVocab);
  };
  auto id = engine.Submit(std::move(request));
  ASSERT_TRUE(id.ok()) << id.status().message();
}

TEST(AdapterInEngine, SameBitsWhateverSharesTheBatch) {
  for (const TinyModel& tiny : TinyModels()) {
    SCOPED_TRACE(tiny.name);
    Loaded loaded = Load(TinyPath(tiny));
    Loaded one_thread = Load(TinyPath(tiny), 1);
    const AdapterTarget& target = loaded.model->adapter_target();
    const Adapter a = RandomAdapter(target, false, false, 21, 0.1f);
    const Adapter b = RandomAdapter(target, true, true, 22, 0.1f);
    auto with_adapters = [&](const Loaded& on, EngineConfig config) {
      auto engine = MakeEngine(on, config);
      EXPECT_TRUE(engine->AddAdapter("a", a).ok());
      EXPECT_TRUE(engine->AddAdapter("b", b).ok());
      return engine;
    };
    std::vector<Forced> all = {{{{"a", 1.0f}}, RandomIds(1, 33, kVocab), {}},
                               {{{"b", 0.5f}}, RandomIds(2, 45, kVocab), {}},
                               {{}, RandomIds(3, 20, kVocab), {}},
                               {{{"a", 2.0f}, {"b", 1.0f}}, RandomIds(4, 50, kVocab), {}},
                               {{{"b", 1.0f}, {"a", 2.0f}}, RandomIds(4, 50, kVocab), {}},
                               {{{"a", 1.0f}}, RandomIds(5, 7, kVocab), {}}};
    std::vector<std::vector<float>> alone;
    for (Forced& forced : all) {
      auto engine = with_adapters(loaded, Config(1));
      SubmitForced(*engine, &forced);
      RunToEnd(*engine);
      alone.push_back(forced.logits);
    }
    EXPECT_NE(alone[3], alone[4]);  // the order counts
    for (int32_t budget : {7, 64, 512}) {
      for (const Loaded* on : {&loaded, &one_thread}) {
        EngineConfig config = Config(6);
        config.token_budget = budget;
        auto engine = with_adapters(*on, config);
        for (Forced& forced : all) SubmitForced(*engine, &forced);
        RunToEnd(*engine);
        for (size_t i = 0; i < all.size(); ++i) {
          EXPECT_EQ(all[i].logits, alone[i]) << "sequence " << i << " budget " << budget;
        }
      }
    }
  }
}

TEST(AdapterInEngine, PrefixesArePrivateToAdapterAndScale) {
  Loaded loaded = Load(TinyPath(FloatModels()[0]));
  const AdapterTarget& target = loaded.model->adapter_target();
  auto engine = MakeEngine(loaded, Config(2));
  ASSERT_TRUE(engine->AddAdapter("a", RandomAdapter(target, false, false, 1, 0.1f)).ok());
  const std::vector<int32_t> ids = RandomIds(8, 64, kVocab);
  auto computed = [&](const std::vector<AdapterUse>& uses) {
    return LogitsWith(*engine, uses, ids)[0] != -1e30f;  // else position 0 came from the cache
  };
  EXPECT_TRUE(computed({}));
  EXPECT_FALSE(computed({}));
  EXPECT_TRUE(computed({{"a", 1.0f}}));
  EXPECT_FALSE(computed({{"a", 1.0f}}));
  EXPECT_TRUE(computed({{"a", 0.5f}}));
  EXPECT_FALSE(computed({{"a", 0.0f}}));  // the model alone
  ASSERT_TRUE(engine->RemoveAdapter("a").ok());
  ASSERT_TRUE(engine->AddAdapter("a", RandomAdapter(target, false, false, 2, 0.1f)).ok());
  EXPECT_TRUE(computed({{"a", 1.0f}}));  // another adapter under the old name
}

TEST(AdapterInEngine, ComesAndGoesWhileRequestsRun) {
  Loaded loaded = Load(TinyPath(FloatModels()[0]));
  const AdapterTarget& target = loaded.model->adapter_target();
  const Adapter a = RandomAdapter(target, false, true, 1, 0.1f);
  auto engine = MakeEngine(loaded, Config(2));
  const int64_t weights = loaded.ledger->bytes(LedgerEntry::kWeights);
  ASSERT_TRUE(engine->AddAdapter("a", a).ok());
  EXPECT_FALSE(engine->AddAdapter("a", a).ok());
  EXPECT_FALSE(engine->AddAdapter("", a).ok());
  GenerationRequest request;
  request.prompt = RandomIds(1, 10, kVocab);
  request.sampling.max_tokens = 20;
  request.sampling.ignore_eos = true;
  request.adapters = std::vector<AdapterUse>{{"a", 1.0f}};
  std::vector<Output> out;
  ASSERT_TRUE(SubmitCollect(*engine, request, &out).ok());
  engine->Step();
  Status status = engine->RemoveAdapter("a");
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("1"), std::string::npos) << status.message();
  ASSERT_TRUE(engine->RemoveAdapter("a", /*drain=*/true).ok());
  ASSERT_EQ(engine->adapters().size(), 1u);
  EXPECT_TRUE(engine->adapters()[0].draining);
  std::vector<Output> refused;
  status = SubmitCollect(*engine, request, &refused);
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  RunToEnd(*engine);
  EXPECT_TRUE(out[0].error.ok());
  EXPECT_EQ(out[0].tokens.size(), 20u);
  EXPECT_TRUE(engine->adapters().empty());
  EXPECT_EQ(loaded.ledger->bytes(LedgerEntry::kWeights), weights);
  EXPECT_EQ(engine->RemoveAdapter("a").code(), StatusCode::kNotFound);
  // A cancelled request lets go as well.
  ASSERT_TRUE(engine->AddAdapter("a", a).ok());
  auto id = engine->Submit(request);
  ASSERT_TRUE(id.ok());
  engine->Step();
  engine->Cancel(*id);
  RunToEnd(*engine);
  EXPECT_TRUE(engine->RemoveAdapter("a").ok());
}

TEST(AdapterInEngine, PlanIsWhatItTakes) {
  Loaded loaded = Load(TinyPath(FloatModels()[0]));
  const AdapterTarget& target = loaded.model->adapter_target();
  const std::vector<Adapter> adapters = {RandomAdapter(target, false, false, 1),
                                         RandomAdapter(target, false, true, 2)};
  auto plan = Engine::MakeAdapterPlan(*loaded.model, *loaded.device, Config(2), adapters);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  auto engine = MakeEngine(loaded, Config(2));
  const int64_t weights = loaded.ledger->bytes(LedgerEntry::kWeights);
  const int64_t activations = loaded.ledger->bytes(LedgerEntry::kActivations);
  ASSERT_TRUE(engine->AddAdapter("a", adapters[0]).ok());
  ASSERT_TRUE(engine->AddAdapter("b", adapters[1]).ok());
  LogitsWith(*engine, {{"a", 1.0f}, {"b", 1.0f}}, RandomIds(1, 5, kVocab));
  // The gains of "b" live as long as requests use them.
  int64_t gains = 0;
  for (const Adapter::Matrix& m : adapters[1].matrices) gains += (m.out * 4 + 63) / 64 * 64;
  EXPECT_EQ(loaded.ledger->bytes(LedgerEntry::kWeights) - weights, plan->weights - gains);
  EXPECT_EQ(loaded.ledger->peak(LedgerEntry::kWeights) - weights, plan->weights);
  EXPECT_EQ(loaded.ledger->bytes(LedgerEntry::kActivations) - activations, plan->activations);
}

TEST(AdapterInEngine, RunsOnAGuardedDevice) {
  const std::string path = TinyPath(FloatModels()[0]);
  Loaded loaded = Load(path);
  const Adapter adapter = RandomAdapter(loaded.model->adapter_target(), false, false, 1, 0.1f);
  const std::vector<int32_t> ids = RandomIds(2, 30, kVocab);
  auto engine = MakeEngine(loaded, Config(1));
  ASSERT_TRUE(engine->AddAdapter("a", adapter).ok());
  const std::vector<float> want = LogitsWith(*engine, {{"a", 1.0f}}, ids);
  auto ledger = std::make_unique<Ledger>();
  auto device = std::make_unique<GuardedDevice>(2, ledger.get());
  Loaded guarded = LoadOn(std::move(device), std::move(ledger), path);
  auto other = MakeEngine(guarded, Config(1));
  ASSERT_TRUE(other->AddAdapter("a", adapter).ok());
  EXPECT_EQ(LogitsWith(*other, {{"a", 1.0f}}, ids), want);
}

TEST(AdapterInEngine, BadUsesAreErrors) {
  Loaded loaded = Load(TinyPath(FloatModels()[0]));
  const Adapter adapter = RandomAdapter(loaded.model->adapter_target(), false, false, 1);
  auto engine = MakeEngine(loaded, Config(1));
  ASSERT_TRUE(engine->AddAdapter("tales", adapter).ok());
  auto message = [&](const std::vector<AdapterUse>& uses) {
    return engine->SetDefaultAdapters(uses).message();
  };
  EXPECT_NE(message({{"songs", 1}}).find("tales"), std::string::npos);
  EXPECT_NE(message({{"tales", std::nanf("")}}).find("finite"), std::string::npos);
  EXPECT_NE(message({{"tales", 1}, {"tales", 2}}).find("twice"), std::string::npos);
  Adapter wide = adapter;
  wide.matrices[0].in += 1;
  EXPECT_FALSE(engine->AddAdapter("wide", wide).ok());
  Adapter empty = adapter;
  empty.matrices.clear();
  EXPECT_FALSE(engine->AddAdapter("empty", empty).ok());
}

}  // namespace
}  // namespace ink
