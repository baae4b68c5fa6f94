// MFU's and MBU's numerators against sums over the steps that were made.
#include "engine/step_cost.h"

#include "engine/harness.h"

namespace ink::testing_support {
namespace {

TEST(StepCost, PhasesAddUpToTheTokensAndBytesOfTheirSteps) {
  const Loaded loaded = Load(TinyPath(TinyModels()[2]), 1);
  const ModelInfo& info = loaded.model->info();
  EngineConfig config;
  config.context = 128;
  config.max_seqs = 1;
  config.token_budget = 16;
  auto engine = MakeEngine(loaded, config);
  GenerationRequest request;
  request.prompt = RandomIds(7, 40, info.n_vocab);
  request.sampling.max_tokens = 9;
  request.sampling.ignore_eos = true;
  std::vector<Output> outputs;
  ASSERT_TRUE(SubmitCollect(*engine, std::move(request), &outputs).ok());
  while (engine->Step()) {
  }
  const EngineStats stats = engine->stats();
  // 40 tokens in steps of 16, then 8 steps of one: the ninth token is sampled, not computed.
  EXPECT_EQ(stats.prefill.steps, 3);
  EXPECT_EQ(stats.prefill.tokens, 40);
  EXPECT_EQ(stats.decode.steps, 8);
  EXPECT_EQ(stats.decode.tokens, 8);
  EXPECT_DOUBLE_EQ(stats.prefill.flops, 40.0 * info.flops_per_token);
  EXPECT_DOUBLE_EQ(stats.decode.flops, 8.0 * info.flops_per_token);
  EXPECT_DOUBLE_EQ(stats.prefill.seconds + stats.decode.seconds, stats.step_seconds);
  const auto weights = static_cast<double>(StepWeightBytes(*loaded.model));
  EXPECT_DOUBLE_EQ(stats.prefill.bytes_read, 3 * weights);
  double kv = 0;
  for (int64_t position = 40; position < 48; ++position) {
    for (const LayerGroup& group : info.groups) {
      const int64_t keys = group.window > 0 ? std::min(group.window, position + 1) : position + 1;
      // K and V in f16.
      kv += static_cast<double>(2 * 2 * keys * group.num_kv_heads * group.head_dim *
                                static_cast<int64_t>(group.layers.size()));
    }
  }
  EXPECT_DOUBLE_EQ(stats.decode.bytes_read, 8 * weights + kv);
  EXPECT_DOUBLE_EQ(stats.recent_decode.bytes_read, stats.decode.bytes_read);
}

TEST(StepCost, RecentForgetsWhatIsOld) {
  PhaseMeter meter;
  for (int i = 1; i <= 100; ++i) {
    PhaseWork step;
    step.steps = 1;
    step.flops = i;
    meter.Add(step);
  }
  EXPECT_EQ(meter.total().steps, 100);
  EXPECT_EQ(meter.total().flops, 5050);
  EXPECT_EQ(meter.recent().steps, PhaseMeter::kRecent);
  EXPECT_EQ(meter.recent().flops, 5050 - 36 * 37 / 2);
}

}  // namespace
}  // namespace ink::testing_support
