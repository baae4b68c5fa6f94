// Randomized sequences of add, step, cancel, preempt, fork, truncate, append, drafts and failed
// steps, over every combination of layer groups, with integrity checked after each.
#include <gtest/gtest.h>

#include "scheduler/simulated_engine.h"

namespace ink {
namespace {

uint64_t SameHash(uint64_t, std::span<const int32_t>, uint64_t) { return 1; }

SchedulerConfig RandomConfig(uint64_t seed, Rng& rng) {
  const int64_t block_bytes[] = {kMiB, kMiB / 2, 2 * kMiB, 700000};
  const GroupSpec full{.kind = GroupKind::kFullAttention, .block_bytes = block_bytes[rng.Below(4)]};
  const GroupSpec sliding{.kind = GroupKind::kSlidingWindow,
                          .window = 1 + static_cast<int64_t>(rng.Below(100)),
                          .block_bytes = block_bytes[rng.Below(4)]};
  const GroupSpec recurrent{.kind = GroupKind::kRecurrent,
                            .block_bytes = block_bytes[rng.Below(4)]};
  const std::vector<std::vector<GroupSpec>> models = {
      {full},          {sliding},         {recurrent},
      {full, sliding}, {full, recurrent}, {full, sliding, recurrent}};
  const char* policies[] = {"fcfs", "priority", "fair"};
  SchedulerConfig config;
  config.cache.groups = models[seed % models.size()];
  config.cache.prefix_cache = rng.Below(4) != 0;
  config.cache.checkpoint_interval = 32 * rng.Below(4);
  if (rng.Below(3) == 0) config.cache.hash = &SameHash;
  config.max_num_seqs = 1 + static_cast<int32_t>(rng.Below(6));
  config.token_budget = config.max_num_seqs + static_cast<int32_t>(rng.Below(80));
  config.max_chunk = rng.Below(2) ? 0 : 1 + static_cast<int32_t>(rng.Below(60));
  config.watermark_blocks = rng.Below(3);
  config.policy = policies[rng.Below(3)];
  config.preemption = rng.Below(2) ? PreemptionMode::kSwap : PreemptionMode::kRecompute;
  if (rng.Below(2)) config.cache.host_bytes = (2 + rng.Below(20)) * kMiB;
  // Enough for one sequence of 220 tokens, and often for little more.
  config.cache.device_bytes =
      PlanCacheBytes(config.cache.groups, 1, 220, config.token_budget) + rng.Below(24) * kMiB;
  return config;
}

class RandomRun {
 public:
  explicit RandomRun(uint64_t seed)
      : rng_(seed, 7), config_(RandomConfig(seed, rng_)), engine_(config_) {}

  void Go(int steps) {
    for (int step = 0; step < steps; ++step) {
      for (int i = rng_.Below(3); i > 0; --i) ASSERT_NO_FATAL_FAILURE(RandomOperation());
      ASSERT_NO_FATAL_FAILURE(engine_.Check());
      ASSERT_NO_FATAL_FAILURE(engine_.Step(rng_, step % 50 == 17 ? 0.3 : 0));
      ASSERT_NO_FATAL_FAILURE(engine_.Check());
    }
    for (auto& [id, sequence] : engine_.sequences()) {
      sequence.beam = false;
      if (sequence.paused) {
        ASSERT_NO_FATAL_FAILURE(Append(id));
      }
    }
    ASSERT_NO_FATAL_FAILURE(engine_.Drain(rng_, 20000));
    Scheduler& scheduler = engine_.scheduler();
    scheduler.ClearPrefixCache();
    scheduler.ReleaseUnusedSlabs(true);
    EXPECT_EQ(scheduler.cache().device_bytes(), 0);
    for (int32_t g = 0; g < scheduler.cache().num_groups(); ++g) {
      EXPECT_EQ(scheduler.cache().pool(g).num_owned(), 0);
      if (scheduler.cache().has_host_blocks()) {
        EXPECT_EQ(scheduler.cache().host_pool(g).num_owned(), 0);
      }
    }
    stats_ = scheduler.stats();
    const auto replayed = ReplaySchedulerLog(engine_.log_text());
    ASSERT_TRUE(replayed.ok()) << replayed.status().message();
    EXPECT_TRUE(*replayed == engine_.log_text()) << "replay differs";
  }

  const SchedulerStats& stats() const { return stats_; }

 private:
  SequenceId Pick() {
    auto& sequences = engine_.sequences();
    return std::next(sequences.begin(), rng_.Below(sequences.size()))->first;
  }

  void Append(SequenceId id) {
    auto& sequence = engine_.sequences()[id];
    const std::vector<int32_t> tokens = {static_cast<int32_t>(rng_.Below(5))};
    ASSERT_TRUE(engine_.scheduler().Append(id, tokens).ok());
    sequence.tokens.push_back(tokens[0]);
    sequence.stop_at = std::max(sequence.stop_at, sequence.tokens.size() + 1);
    sequence.paused = false;
  }

  void RandomOperation() {
    Scheduler& scheduler = engine_.scheduler();
    auto& sequences = engine_.sequences();
    const uint64_t op = rng_.Below(20);
    if (op < 6 || sequences.empty()) {
      // Prompts come from two families, so that prefixes are shared to various depths.
      SequenceRequest request;
      request.id = next_id_++;
      const int64_t size = 1 + rng_.Below(150);
      const int64_t family = rng_.Below(2);
      for (int64_t i = 0; i < size; ++i) {
        request.tokens.push_back(static_cast<int32_t>(10 * family + i % 5));
      }
      if (rng_.Below(2)) request.tokens[rng_.Below(size)] = 77;
      request.max_total_tokens = 200;
      request.max_cached_tokens = rng_.Below(8) == 0 ? rng_.Below(100) : -1;
      request.priority = static_cast<int32_t>(rng_.Below(3));
      request.key = "key" + std::to_string(rng_.Below(3));
      request.weight = 1 + static_cast<uint32_t>(rng_.Below(4));
      request.scope = {"m", rng_.Below(4) ? "" : "lora", rng_.Below(3) ? "a" : "b", "f16"};
      const SequenceId id = request.id;
      const Status status = engine_.Add(std::move(request), size + 1 + rng_.Below(45));
      ASSERT_TRUE(status.ok()) << status.message();
      sequences[id].drafts = rng_.Below(3) == 0 ? static_cast<int32_t>(rng_.Below(6)) : 0;
      sequences[id].beam = rng_.Below(12) == 0;
      return;
    }
    const SequenceId id = Pick();
    auto& sequence = sequences[id];
    if (op < 8) {
      ASSERT_TRUE(scheduler.Cancel(id).ok());
    } else if (op < 9) {
      ASSERT_TRUE(scheduler.Finish(id).ok());
      sequences.erase(id);
    } else if (op < 12) {
      const SequenceId child = next_id_++;
      const Status status = scheduler.Fork(id, child);
      if (!status.ok()) {  // in the step that failed
        ASSERT_EQ(status.code(), StatusCode::kInvalidArgument);
        return;
      }
      sequences[child] = sequence;
      // A paused child goes its own way at once; one that runs diverges when it is edited.
      if (sequence.paused) {
        ASSERT_NO_FATAL_FAILURE(Append(child));
      }
    } else if (op < 14) {
      const int64_t n = 1 + rng_.Below(sequence.tokens.size());
      if (!scheduler.Truncate(id, n).ok()) return;
      sequence.tokens.resize(n);
      ASSERT_NO_FATAL_FAILURE(Append(id));
      if (rng_.Below(4) == 0) scheduler.ReleaseUnusedSlabs(false);
    } else if (op < 17) {
      if (sequence.paused) {
        ASSERT_NO_FATAL_FAILURE(Append(id));
      }
    } else if (op < 18) {
      ASSERT_TRUE(scheduler.RequestDrafts(id, static_cast<int32_t>(rng_.Below(9))).ok());
    } else if (op < 19) {
      engine_.memory().Drop(scheduler.ReleaseUnusedSlabs(rng_.Below(2)));
    } else if (rng_.Below(4) == 0) {
      scheduler.ClearPrefixCache();
    }
  }

  Rng rng_;
  SchedulerConfig config_;
  SimulatedEngine engine_;
  SequenceId next_id_ = 1;
  SchedulerStats stats_;
};

class SchedulerRandom : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Groups, SchedulerRandom, testing::Range(0, 6));

TEST_P(SchedulerRandom, EverySequenceRunsAsIfAlone) {
  SchedulerStats sum;
  for (int i = 0; i < 12; ++i) {
    const uint64_t seed = GetParam() + 6 * i;
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomRun run(seed);
    ASSERT_NO_FATAL_FAILURE(run.Go(150));
    sum.num_preemptions += run.stats().num_preemptions;
    sum.prompt_tokens_hit += run.stats().prompt_tokens_hit;
  }
  // The runs must have visited what they are for.
  EXPECT_GT(sum.num_preemptions, 20);
  EXPECT_GT(sum.prompt_tokens_hit, 100);
}

}  // namespace
}  // namespace ink
