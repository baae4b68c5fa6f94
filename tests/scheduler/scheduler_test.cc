#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include "scheduler/simulated_engine.h"

namespace ink {
namespace {

const GroupSpec kFull{.kind = GroupKind::kFullAttention, .block_bytes = 2 * kMiB};
const GroupSpec kRecurrent{.kind = GroupKind::kRecurrent, .block_bytes = 2 * kMiB};

/// One full-attention group with `blocks` blocks of 32 tokens.
SchedulerConfig Config(int64_t blocks) {
  SchedulerConfig config;
  config.cache.groups = {kFull};
  config.cache.device_bytes = blocks * 2 * kMiB;
  config.max_num_seqs = 4;
  config.token_budget = 64;
  config.watermark_blocks = 0;
  return config;
}

SequenceRequest Request(SequenceId id, int64_t size, int64_t max_total = 0) {
  SequenceRequest request;
  request.id = id;
  for (int64_t i = 0; i < size; ++i) {
    request.tokens.push_back(static_cast<int32_t>(1000 * id + i));
  }
  request.max_total_tokens = max_total == 0 ? size + 30 : max_total;
  return request;
}

std::unique_ptr<Scheduler> Make(const SchedulerConfig& config) {
  auto scheduler = Scheduler::Create(config);
  EXPECT_TRUE(scheduler.ok()) << scheduler.status().message();
  return std::move(scheduler).value();
}

/// Reports one plain step: token 1 for each sequence that needs logits.
void UpdateAll(Scheduler& scheduler, const SchedulerOutput& out) {
  const int32_t token[] = {1};
  for (const ScheduledSequence& sequence : out.sequences) {
    const Status status =
        scheduler.Update(sequence.id, sequence.needs_logits ? std::span<const int32_t>(token)
                                                            : std::span<const int32_t>());
    ASSERT_TRUE(status.ok()) << status.message();
  }
  const Status status = scheduler.CheckIntegrity();
  ASSERT_TRUE(status.ok()) << status.message();
}

SchedulerOutput Step(Scheduler& scheduler) {
  SchedulerOutput out = scheduler.Schedule();
  UpdateAll(scheduler, out);
  return out;
}

std::vector<SequenceId> Ids(const SchedulerOutput& out) {
  std::vector<SequenceId> ids;
  for (const ScheduledSequence& sequence : out.sequences) ids.push_back(sequence.id);
  return ids;
}

using IdList = std::vector<SequenceId>;

TEST(Scheduler, RefusesImpossibleConfigurations) {
  SchedulerConfig config = Config(8);
  config.max_num_seqs = 0;
  EXPECT_FALSE(Scheduler::Create(config).ok());
  config = Config(8);
  config.token_budget = 3;
  EXPECT_FALSE(Scheduler::Create(config).ok());
  config = Config(8);
  config.policy = "random";
  EXPECT_FALSE(Scheduler::Create(config).ok());
  config = Config(8);
  config.cache.groups.clear();
  EXPECT_FALSE(Scheduler::Create(config).ok());
}

TEST(Scheduler, AddRefusesWhatCannotRun) {
  SchedulerConfig config = Config(4);
  config.max_waiting = 2;
  const auto scheduler = Make(config);
  EXPECT_EQ(scheduler->Add(Request(1, 0)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(scheduler->Add(Request(1, 10, 9)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(scheduler->Add(Request(1, 10, int64_t{1} << 33)).code(), StatusCode::kInvalidArgument);
  SequenceRequest weightless = Request(1, 10);
  weightless.weight = 0;
  EXPECT_EQ(scheduler->Add(weightless).code(), StatusCode::kInvalidArgument);
  const Status never = scheduler->Add(Request(1, 100, 129));
  EXPECT_EQ(never.code(), StatusCode::kOutOfMemory);
  for (const char* part :
       {"sequence 1", "129 tokens", "5 blocks", "2097152", "10485760", "8388608"}) {
    EXPECT_NE(never.message().find(part), std::string::npos) << never.message();
  }
  EXPECT_FALSE(scheduler->HasWork());
  EXPECT_TRUE(scheduler->Add(Request(1, 100, 128)).ok());
  EXPECT_EQ(scheduler->Add(Request(1, 10)).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(scheduler->Add(Request(2, 10)).ok());
  EXPECT_EQ(scheduler->Add(Request(3, 10)).code(), StatusCode::kUnavailable);
  EXPECT_FALSE(scheduler->Contains(3));
}

TEST(Scheduler, ALongPromptNeverStallsAStream) {
  const auto scheduler = Make(Config(64));
  ASSERT_TRUE(scheduler->Add(Request(1, 10, 200)).ok());
  SchedulerOutput out = Step(*scheduler);
  EXPECT_EQ(out.sequences, (std::vector<ScheduledSequence>{{1, 0, 10, 0, true}}));
  ASSERT_TRUE(scheduler->Add(Request(2, 150)).ok());
  const int64_t chunks[] = {63, 63, 24};
  int64_t start = 0;
  for (const int64_t chunk : chunks) {
    const int64_t stream = scheduler->num_computed_tokens(1);
    out = Step(*scheduler);
    ASSERT_EQ(out.sequences.size(), 2u);
    EXPECT_EQ(out.sequences[0], (ScheduledSequence{1, stream, 1, 0, true}));
    EXPECT_EQ(out.sequences[1],
              (ScheduledSequence{2, start, static_cast<int32_t>(chunk), 0, start + chunk == 150}));
    start += chunk;
  }
  out = Step(*scheduler);
  EXPECT_EQ(out.num_tokens(), 2);
}

TEST(Scheduler, MaxChunkSharesThePrefillBudget) {
  SchedulerConfig config = Config(64);
  config.max_chunk = 20;
  const auto scheduler = Make(config);
  for (SequenceId id = 1; id <= 4; ++id) ASSERT_TRUE(scheduler->Add(Request(id, 100)).ok());
  const SchedulerOutput out = Step(*scheduler);
  EXPECT_EQ(Ids(out), (IdList{1, 2, 3, 4}));
  EXPECT_EQ(out.sequences[0].num_tokens, 20);
  EXPECT_EQ(out.sequences[3].num_tokens, 4);
}

TEST(Scheduler, AtMostMaxNumSeqsRun) {
  const auto scheduler = Make(Config(64));
  for (SequenceId id = 1; id <= 6; ++id) ASSERT_TRUE(scheduler->Add(Request(id, 5)).ok());
  EXPECT_EQ(Ids(Step(*scheduler)), (IdList{1, 2, 3, 4}));
  ASSERT_TRUE(scheduler->Finish(2).ok());
  const SchedulerOutput out = Step(*scheduler);
  EXPECT_EQ(out.finished, IdList{2});
  EXPECT_EQ(Ids(out), (IdList{1, 3, 4, 5}));
  EXPECT_EQ(scheduler->stats().num_waiting, 1);
}

TEST(Scheduler, CancelTakesEffectInTheNextStep) {
  const auto scheduler = Make(Config(64));
  for (SequenceId id = 1; id <= 6; ++id) ASSERT_TRUE(scheduler->Add(Request(id, 50)).ok());
  Step(*scheduler);  // 1 is done with its prompt, 2 is in the middle, 6 waits
  for (const SequenceId id : {2, 6, 1}) EXPECT_TRUE(scheduler->Cancel(id).ok());
  EXPECT_TRUE(scheduler->Cancel(2).ok());
  EXPECT_TRUE(scheduler->Contains(2));
  const SchedulerOutput out = Step(*scheduler);
  EXPECT_EQ(out.cancelled, (IdList{2, 6, 1}));
  EXPECT_EQ(Ids(out), (IdList{3, 4}));
  EXPECT_FALSE(scheduler->Contains(2));
  EXPECT_EQ(scheduler->Cancel(2).code(), StatusCode::kNotFound);
}

TEST(Scheduler, CancelAndFinishReportOnce) {
  const auto scheduler = Make(Config(64));
  ASSERT_TRUE(scheduler->Add(Request(1, 5)).ok());
  Step(*scheduler);
  ASSERT_TRUE(scheduler->Cancel(1).ok());
  ASSERT_TRUE(scheduler->Finish(1).ok());
  EXPECT_TRUE(scheduler->HasWork());
  const SchedulerOutput out = Step(*scheduler);
  EXPECT_EQ(out.finished, IdList{1});
  EXPECT_TRUE(out.cancelled.empty());
  EXPECT_FALSE(scheduler->HasWork());
}

// Two sequences of 31 tokens in three blocks: when both need a second block, the newer one goes.
TEST(Scheduler, OutOfBlocksPreemptsTheNewest) {
  for (const bool swap : {false, true}) {
    SchedulerConfig config = Config(3);
    config.cache.prefix_cache = false;
    if (swap) {
      config.preemption = PreemptionMode::kSwap;
      config.cache.host_bytes = 8 * kMiB;
    }
    const auto scheduler = Make(config);
    ASSERT_TRUE(scheduler->Add(Request(1, 31)).ok());
    ASSERT_TRUE(scheduler->Add(Request(2, 31)).ok());
    Step(*scheduler);
    Step(*scheduler);
    SchedulerOutput out = Step(*scheduler);
    EXPECT_EQ(out.preempted, (std::vector<SchedulerOutput::Preemption>{{2, swap}}));
    EXPECT_EQ(Ids(out), IdList{1});
    if (swap) {
      EXPECT_EQ(out.block_ops.size(), 1u);
      EXPECT_EQ(out.block_ops[0].kind, BlockOpKind::kSwapOut);
    }
    EXPECT_EQ(scheduler->stats().num_swapped, swap ? 1 : 0);
    out = Step(*scheduler);
    EXPECT_EQ(Ids(out), IdList{1});  // 2 would need two blocks
    ASSERT_TRUE(scheduler->Finish(1).ok());
    out = Step(*scheduler);
    EXPECT_EQ(out.admitted, (std::vector<SchedulerOutput::Admission>{{2, 0, swap}}));
    // 31 prompt tokens and 2 generated: all again, or only the one that was not computed.
    EXPECT_EQ(out.sequences,
              (std::vector<ScheduledSequence>{swap ? ScheduledSequence{2, 32, 1, 0, true}
                                                   : ScheduledSequence{2, 0, 33, 0, true}}));
    EXPECT_EQ(scheduler->tokens(2).size(), 34u);
  }
}

TEST(Scheduler, ABlockedSequenceEntersAsSoonAsBlocksAreFree) {
  for (const bool prefix_cache : {false, true}) {
    SchedulerConfig config = Config(4);
    config.cache.prefix_cache = prefix_cache;
    config.token_budget = 96;
    const auto scheduler = Make(config);
    ASSERT_TRUE(scheduler->Add(Request(1, 20, 30)).ok());
    ASSERT_TRUE(scheduler->Add(Request(2, 64, 70)).ok());
    ASSERT_TRUE(scheduler->Add(Request(3, 50, 60)).ok());
    EXPECT_EQ(Ids(Step(*scheduler)), (IdList{1, 2}));
    EXPECT_FALSE(scheduler->IsRunning(3));
    ASSERT_TRUE(scheduler->Finish(2).ok());
    EXPECT_EQ(Ids(Step(*scheduler)), (IdList{1, 3}));
  }
}

TEST(Scheduler, AdmissionLeavesTheWatermarkAndWhatPrefillsStillNeed) {
  SchedulerConfig config = Config(8);
  config.cache.prefix_cache = false;
  config.watermark_blocks = 2;
  config.max_chunk = 32;
  const auto scheduler = Make(config);
  ASSERT_TRUE(scheduler->Add(Request(1, 120, 130)).ok());  // four blocks, one per step
  ASSERT_TRUE(scheduler->Add(Request(2, 70, 90)).ok());    // three: 4 + 3 + 2 > 8
  for (int i = 0; i < 6; ++i) EXPECT_EQ(Ids(Step(*scheduler)), IdList{1});
  ASSERT_TRUE(scheduler->Add(Request(3, 10, 20)).ok());  // fits, but does not overtake 2
  EXPECT_EQ(Ids(Step(*scheduler)), IdList{1});
  ASSERT_TRUE(scheduler->Cancel(2).ok());
  EXPECT_EQ(Ids(Step(*scheduler)), (IdList{1, 3}));
}

TEST(Scheduler, APrefixIsFoundAtAdmission) {
  const auto scheduler = Make(Config(64));
  ASSERT_TRUE(scheduler->Add(Request(1, 64)).ok());
  Step(*scheduler);
  ASSERT_TRUE(scheduler->Finish(1).ok());
  SequenceRequest same = Request(1, 64);
  SequenceRequest longer = Request(1, 70);
  longer.id = 2;
  SequenceRequest foreign = Request(1, 70);
  foreign.id = 3;
  foreign.scope.tenant = "other";
  SequenceRequest uncached = Request(1, 70);
  uncached.id = 4;
  uncached.max_cached_tokens = 40;
  for (auto* request : {&same, &longer, &foreign, &uncached}) {
    ASSERT_TRUE(scheduler->Add(*request).ok());
  }
  SchedulerOutput out = Step(*scheduler);
  // The last token is always computed: 64 tokens reuse one block, 70 tokens two.
  using Admission = SchedulerOutput::Admission;
  EXPECT_EQ(out.admitted, (std::vector<Admission>{{1, 32, false}, {2, 64, false}, {3, 0, false}}));
  EXPECT_EQ(Ids(out), (IdList{1, 2, 3}));
  out = Step(*scheduler);
  EXPECT_EQ(out.admitted, (std::vector<Admission>{{4, 32, false}}));
}

TEST(Scheduler, HighPriorityTakesTheLowestPlace) {
  SchedulerConfig config = Config(64);
  config.policy = "priority";
  config.max_num_seqs = 2;
  const auto scheduler = Make(config);
  for (SequenceId id = 1; id <= 2; ++id) {
    SequenceRequest request = Request(id, 10);
    request.priority = static_cast<int32_t>(id);
    ASSERT_TRUE(scheduler->Add(request).ok());
  }
  Step(*scheduler);
  SequenceRequest equal = Request(3, 10);
  equal.priority = 1;
  ASSERT_TRUE(scheduler->Add(equal).ok());
  EXPECT_TRUE(Step(*scheduler).preempted.empty());
  SequenceRequest urgent = Request(4, 10);
  urgent.priority = 9;
  ASSERT_TRUE(scheduler->Add(urgent).ok());
  const SchedulerOutput out = Step(*scheduler);
  EXPECT_EQ(out.preempted, (std::vector<SchedulerOutput::Preemption>{{1, false}}));
  EXPECT_EQ(Ids(out), (IdList{2, 4}));
}

TEST(Scheduler, HighPriorityPrefillsFirst) {
  SchedulerConfig config = Config(64);
  config.policy = "priority";
  const auto scheduler = Make(config);
  ASSERT_TRUE(scheduler->Add(Request(1, 300)).ok());
  Step(*scheduler);
  SequenceRequest urgent = Request(2, 40);
  urgent.priority = 1;
  ASSERT_TRUE(scheduler->Add(urgent).ok());
  EXPECT_EQ(Step(*scheduler).sequences,
            (std::vector<ScheduledSequence>{{2, 0, 40, 0, true}, {1, 64, 24, 0, false}}));
}

// Both keys always have work waiting; the second has three times the weight.
TEST(Scheduler, FairKeysGetTheirShareOfTokens) {
  SchedulerConfig config = Config(64);
  config.policy = "fair";
  config.max_num_seqs = 2;
  config.token_budget = 32;
  const auto scheduler = Make(config);
  SequenceId next = 1;
  std::map<SequenceId, int> key_of;
  int live[2] = {0, 0};
  auto refill = [&] {
    for (int key = 0; key < 2; ++key) {
      for (; live[key] < 5; ++live[key]) {
        SequenceRequest request = Request(next, 20 + next % 30, 100);
        request.key = key ? "heavy" : "light";
        request.weight = key ? 3 : 1;
        key_of[next++] = key;
        ASSERT_TRUE(scheduler->Add(request).ok());
      }
    }
  };
  double served[2] = {0, 0};
  for (int i = 0; i < 3000; ++i) {
    ASSERT_NO_FATAL_FAILURE(refill());
    const SchedulerOutput out = Step(*scheduler);
    for (const ScheduledSequence& sequence : out.sequences) {
      served[key_of[sequence.id]] += sequence.num_tokens;
      if (scheduler->tokens(sequence.id).size() >=
          static_cast<size_t>(scheduler->num_prompt_tokens(sequence.id)) + 5) {
        ASSERT_TRUE(scheduler->Finish(sequence.id).ok());
        --live[key_of[sequence.id]];
      }
    }
  }
  EXPECT_NEAR(served[1] / served[0], 3, 0.2);
}

TEST(Scheduler, DraftsFillTheBudgetAndAreRolledBack) {
  SchedulerConfig config = Config(64);
  config.token_budget = 8;
  config.max_num_seqs = 2;
  const auto scheduler = Make(config);
  ASSERT_TRUE(scheduler->Add(Request(1, 4, 100)).ok());
  ASSERT_TRUE(scheduler->Add(Request(2, 4, 8)).ok());
  Step(*scheduler);
  ASSERT_TRUE(scheduler->RequestDrafts(1, 100).ok());
  ASSERT_TRUE(scheduler->RequestDrafts(2, 100).ok());
  EXPECT_EQ(scheduler->RequestDrafts(1, -1).code(), StatusCode::kInvalidArgument);
  SchedulerOutput out = scheduler->Schedule();
  // 2 is sure of its token, so 1 gets 7 of 8; nothing is left for the drafts of 2.
  EXPECT_EQ(out.sequences,
            (std::vector<ScheduledSequence>{{1, 4, 7, 6, true}, {2, 4, 1, 0, true}}));
  const std::vector<int32_t> too_many(8, 1), accepted = {1, 1, 1}, one = {1};
  EXPECT_EQ(scheduler->Update(1, too_many).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(scheduler->Update(1, accepted).ok());  // two accepted drafts and one new token
  EXPECT_EQ(scheduler->Update(1, one).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(scheduler->Update(2, one).ok());
  EXPECT_EQ(scheduler->num_computed_tokens(1), 7);
  EXPECT_EQ(scheduler->tokens(1).size(), 8u);
  EXPECT_TRUE(scheduler->CheckIntegrity().ok());
  // A request counts once; and never past the limit of 8 tokens of sequence 2, which has 6.
  ASSERT_TRUE(scheduler->RequestDrafts(2, 100).ok());
  out = scheduler->Schedule();
  EXPECT_EQ(out.sequences,
            (std::vector<ScheduledSequence>{{1, 7, 1, 0, true}, {2, 5, 2, 1, true}}));
  UpdateAll(*scheduler, out);
}

TEST(Scheduler, DraftsNeverTakeBlocksFromOthers) {
  SchedulerConfig config = Config(2);
  config.cache.prefix_cache = false;
  const auto scheduler = Make(config);
  ASSERT_TRUE(scheduler->Add(Request(1, 30, 64)).ok());
  ASSERT_TRUE(scheduler->Add(Request(2, 10, 30)).ok());
  Step(*scheduler);
  ASSERT_TRUE(scheduler->RequestDrafts(1, 10).ok());
  const SchedulerOutput out = Step(*scheduler);
  EXPECT_TRUE(out.preempted.empty());
  EXPECT_EQ(out.num_tokens(), 2);
}

TEST(Scheduler, RejectedDraftsReturnTheRecurrentState) {
  SchedulerConfig config = Config(64);
  config.cache.groups = {kFull, kRecurrent};
  const auto scheduler = Make(config);
  ASSERT_TRUE(scheduler->Add(Request(1, 10, 100)).ok());
  Step(*scheduler);
  ASSERT_TRUE(scheduler->RequestDrafts(1, 4).ok());
  SchedulerOutput out = scheduler->Schedule();
  ASSERT_EQ(out.sequences[0], (ScheduledSequence{1, 10, 5, 4, true}));
  ASSERT_EQ(out.block_ops.size(), 1u);  // the state before the drafts is kept
  const std::vector<int32_t> two = {1, 1}, five(5, 1);
  ASSERT_TRUE(scheduler->Update(1, two).ok());
  EXPECT_EQ(scheduler->num_computed_tokens(1), 10);
  EXPECT_EQ(scheduler->cache().pool(1).num_owned(), 1);
  // The accepted tokens are computed again, as decode work and without a bet on top: otherwise
  // rejections would add up to ever longer steps.
  ASSERT_TRUE(scheduler->RequestDrafts(1, 4).ok());
  out = Step(*scheduler);
  ASSERT_EQ(out.sequences[0], (ScheduledSequence{1, 10, 3, 0, true}));
  ASSERT_TRUE(scheduler->RequestDrafts(1, 4).ok());
  out = scheduler->Schedule();
  ASSERT_EQ(out.sequences[0], (ScheduledSequence{1, 13, 5, 4, true}));
  ASSERT_TRUE(scheduler->Update(1, five).ok());  // all accepted
  EXPECT_EQ(scheduler->num_computed_tokens(1), 18);
  EXPECT_EQ(scheduler->cache().pool(1).num_owned(), 1);
  EXPECT_TRUE(scheduler->CheckIntegrity().ok());
}

TEST(Scheduler, AStepWithoutUpdateIsPlannedAgain) {
  const auto scheduler = Make(Config(64));
  ASSERT_TRUE(scheduler->Add(Request(1, 100)).ok());
  Step(*scheduler);
  const SchedulerOutput lost = scheduler->Schedule();
  EXPECT_EQ(scheduler->Truncate(1, 5).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(scheduler->Fork(1, 2).code(), StatusCode::kInvalidArgument);
  const SchedulerOutput again = scheduler->Schedule();
  EXPECT_EQ(again.sequences, lost.sequences);
  UpdateAll(*scheduler, again);
}

TEST(Scheduler, BeamsForkShareAndDiverge) {
  const auto scheduler = Make(Config(64));
  ASSERT_TRUE(scheduler->Add(Request(1, 40)).ok());
  const SchedulerOutput out = scheduler->Schedule();
  ASSERT_TRUE(scheduler->Update(1, {}).ok());
  EXPECT_TRUE(scheduler->Schedule().sequences.empty());  // paused
  EXPECT_FALSE(scheduler->HasWork());
  ASSERT_TRUE(scheduler->Fork(1, 2).ok());
  ASSERT_TRUE(scheduler->Fork(1, 3).ok());
  EXPECT_EQ(scheduler->Fork(1, 3).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(scheduler->Fork(9, 4).code(), StatusCode::kNotFound);
  EXPECT_EQ(scheduler->cache().pool(0).num_owned(), 2);
  const std::vector<int32_t> a = {5}, b = {6}, c = {7};
  ASSERT_TRUE(scheduler->Append(1, a).ok());
  ASSERT_TRUE(scheduler->Append(2, b).ok());
  ASSERT_TRUE(scheduler->Append(3, c).ok());
  const SchedulerOutput step = Step(*scheduler);
  EXPECT_EQ(step.num_tokens(), 3);
  EXPECT_EQ(step.block_ops.size(), 2u);  // the last writer keeps the block
  EXPECT_EQ(scheduler->cache().pool(0).num_owned(), 4);
  EXPECT_EQ(scheduler->block_table(1, 0)[0], scheduler->block_table(3, 0)[0]);
}

TEST(Scheduler, AForkWithoutAPlaceWaits) {
  SchedulerConfig config = Config(64);
  config.max_num_seqs = 1;
  const auto scheduler = Make(config);
  ASSERT_TRUE(scheduler->Add(Request(1, 40)).ok());
  Step(*scheduler);
  ASSERT_TRUE(scheduler->Fork(1, 2).ok());
  EXPECT_EQ(Ids(Step(*scheduler)), IdList{1});
  ASSERT_TRUE(scheduler->Finish(1).ok());
  const SchedulerOutput out = Step(*scheduler);
  EXPECT_EQ(out.admitted, (std::vector<SchedulerOutput::Admission>{{2, 32, false}}));
  EXPECT_EQ(out.sequences, (std::vector<ScheduledSequence>{{2, 32, 9, 0, true}}));
}

TEST(Scheduler, TruncatePausesWhereLogitsWereKnown) {
  const auto scheduler = Make(Config(64));
  ASSERT_TRUE(scheduler->Add(Request(1, 100)).ok());
  Step(*scheduler);  // 64 tokens
  ASSERT_TRUE(scheduler->Truncate(1, 80).ok());
  SchedulerOutput out = Step(*scheduler);
  EXPECT_EQ(out.sequences, (std::vector<ScheduledSequence>{{1, 64, 16, 0, true}}));
  ASSERT_TRUE(scheduler->Truncate(1, 70).ok());
  EXPECT_EQ(scheduler->num_computed_tokens(1), 70);
  EXPECT_TRUE(Step(*scheduler).sequences.empty());
  EXPECT_EQ(scheduler->Truncate(1, 0).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(scheduler->Truncate(1, 71).code(), StatusCode::kInvalidArgument);
  const std::vector<int32_t> more = {4, 5};
  ASSERT_TRUE(scheduler->Append(1, more).ok());
  EXPECT_EQ(Step(*scheduler).sequences, (std::vector<ScheduledSequence>{{1, 70, 2, 0, true}}));
}

// Whether a truncated sequence pauses must not depend on a preemption in between.
TEST(Scheduler, TruncateOfAPreemptedSequencePausesToo) {
  SchedulerConfig config = Config(64);
  config.policy = "priority";
  config.max_num_seqs = 1;
  const auto scheduler = Make(config);
  ASSERT_TRUE(scheduler->Add(Request(1, 40)).ok());
  Step(*scheduler);
  SequenceRequest urgent = Request(2, 10);
  urgent.priority = 1;
  ASSERT_TRUE(scheduler->Add(urgent).ok());
  EXPECT_EQ(Step(*scheduler).preempted.size(), 1u);
  ASSERT_TRUE(scheduler->Truncate(1, 35).ok());
  ASSERT_TRUE(scheduler->Finish(2).ok());
  EXPECT_TRUE(Step(*scheduler).sequences.empty());
  EXPECT_FALSE(scheduler->HasWork());
  const std::vector<int32_t> more = {4};
  ASSERT_TRUE(scheduler->Append(1, more).ok());
  EXPECT_EQ(Step(*scheduler).sequences, (std::vector<ScheduledSequence>{{1, 32, 4, 0, true}}));
}

// A paused sequence gives its place and its blocks to one that can run: its swap-out comes before
// the swap-in that reuses its blocks.
TEST(Scheduler, PausedSequencesYield) {
  SchedulerConfig config = Config(4);
  config.policy = "priority";
  config.preemption = PreemptionMode::kSwap;
  config.cache.host_bytes = 16 * kMiB;
  config.cache.prefix_cache = false;
  config.max_num_seqs = 1;
  SimulatedEngine engine(config);
  Rng rng(1);
  ASSERT_TRUE(engine.Add(Request(1, 90, 120), 110).ok());
  for (int i = 0; i < 4; ++i) ASSERT_NO_FATAL_FAILURE(engine.Step(rng));
  SequenceRequest urgent = Request(2, 90, 120);
  urgent.priority = 1;
  ASSERT_TRUE(engine.Add(urgent, 110).ok());
  engine.sequences()[2].beam = true;
  ASSERT_NO_FATAL_FAILURE(engine.Step(rng));
  EXPECT_EQ(engine.last().preempted, (std::vector<SchedulerOutput::Preemption>{{1, true}}));
  ASSERT_NO_FATAL_FAILURE(engine.Step(rng));
  ASSERT_TRUE(engine.sequences()[2].paused);
  ASSERT_NO_FATAL_FAILURE(engine.Step(rng));
  EXPECT_EQ(engine.last().preempted, (std::vector<SchedulerOutput::Preemption>{{2, true}}));
  EXPECT_EQ(engine.last().admitted, (std::vector<SchedulerOutput::Admission>{{1, 0, true}}));
  ASSERT_NO_FATAL_FAILURE(engine.Check());
  engine.sequences()[2].beam = false;
  engine.sequences()[2].paused = false;
  engine.sequences()[2].tokens.push_back(3);
  const std::vector<int32_t> more = {3};
  ASSERT_TRUE(engine.scheduler().Append(2, more).ok());
  ASSERT_NO_FATAL_FAILURE(engine.Drain(rng, 200));
}

TEST(Scheduler, APausedSequenceIsPreemptedBeforeANewerStream) {
  SchedulerConfig config = Config(3);
  config.cache.prefix_cache = false;
  const auto scheduler = Make(config);
  ASSERT_TRUE(scheduler->Add(Request(1, 20, 60)).ok());
  ASSERT_TRUE(scheduler->Add(Request(2, 31, 60)).ok());
  ASSERT_TRUE(scheduler->Add(Request(3, 10, 60)).ok());
  const std::vector<int32_t> one = {1};
  SchedulerOutput out = scheduler->Schedule();
  ASSERT_EQ(out.sequences.size(), 3u);
  ASSERT_TRUE(scheduler->Update(1, {}).ok());
  ASSERT_TRUE(scheduler->Update(2, one).ok());
  ASSERT_TRUE(scheduler->Update(3, one).ok());
  Step(*scheduler);
  out = Step(*scheduler);  // 2 needs a second block
  EXPECT_EQ(out.preempted, (std::vector<SchedulerOutput::Preemption>{{1, false}}));
  EXPECT_EQ(Ids(out), (IdList{2, 3}));
}

TEST(Scheduler, UpdateNeverPassesTheTokenLimit) {
  const auto scheduler = Make(Config(64));
  ASSERT_TRUE(scheduler->Add(Request(1, 10, 10)).ok());
  const SchedulerOutput out = scheduler->Schedule();
  const std::vector<int32_t> one = {1};
  EXPECT_EQ(scheduler->Update(1, one).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(scheduler->Update(1, {}).ok());
  EXPECT_EQ(scheduler->Append(1, one).code(), StatusCode::kInvalidArgument);
}

TEST(SchedulerLog, AnyBytesSurviveReplay) {
  SchedulerConfig config = Config(8);
  config.policy = "fair";
  SimulatedEngine engine(config);
  SequenceRequest request = Request(~uint64_t{0}, 5);
  request.tokens = {-5, 2147483647, 0};
  request.key = std::string("\x00\x1f\"\\\x7f\x80\xff", 7) + "ключ";
  request.scope.tenant = request.key;
  ASSERT_TRUE(engine.Add(request, 9).ok());
  EXPECT_FALSE(engine.scheduler().Add(request).ok());
  Rng rng(1);
  ASSERT_NO_FATAL_FAILURE(engine.Drain(rng, 100));
  const auto replayed = ReplaySchedulerLog(engine.log_text());
  ASSERT_TRUE(replayed.ok()) << replayed.status().message();
  EXPECT_EQ(*replayed, engine.log_text());
  EXPECT_NE(engine.log_text().find("{\"error\":"), std::string::npos);
}

TEST(SchedulerLog, BrokenLogsAreErrorsThatNameTheLine) {
  SimulatedEngine engine(Config(8));
  const std::string config = engine.log_text();
  for (const char* line :
       {"", "[]", "{", "{\"op\":5}", "{\"op\":\"dance\"}", "{\"op\":\"add\",\"id\":1}",
        "{\"op\":\"update\",\"id\":1,\"tokens\":[1e400]}", "{\"op\":\"cancel\",\"id\":-1}",
        "{\"op\":\"update\",\"id\":1,\"tokens\":[4294967296]}",
        "{\"op\":\"config\",\"groups\":[]}"}) {
    const auto replayed = ReplaySchedulerLog(config + line + "\n");
    ASSERT_FALSE(replayed.ok()) << line;
    EXPECT_NE(replayed.status().message().find("line 2"), std::string::npos)
        << replayed.status().message();
  }
  EXPECT_FALSE(ReplaySchedulerLog("{\"op\":\"schedule\",\"id\":0}\n").ok());
  EXPECT_FALSE(ReplaySchedulerLog(std::string(100000, '[')).ok());
}

}  // namespace
}  // namespace ink
