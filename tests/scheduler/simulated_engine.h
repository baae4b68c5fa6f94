// Drives a Scheduler the way the engine does, against simulated memory and a fake model whose next
// token is a function of everything before it: a sequence's text must not depend on its company.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/rng.h"
#include "cache/simulated_memory.h"
#include "engine/scheduler.h"
#include "engine/scheduler_log.h"

namespace ink {

inline constexpr int64_t kMiB = int64_t{1} << 20;

class SimulatedEngine {
 public:
  struct Sequence {
    CacheScope scope;
    std::vector<int32_t> tokens;  // what the scheduler must hold
    size_t stop_at = 0;           // tokens in all
    int32_t drafts = 0;
    bool paused = false;
    bool beam = false;  // updated without tokens, continued by Append
  };

  explicit SimulatedEngine(const SchedulerConfig& config)
      : log_([this](std::string_view line) { (log_text_ += line) += '\n'; }) {
    auto scheduler = Scheduler::Create(config, &log_);
    EXPECT_TRUE(scheduler.ok()) << scheduler.status().message();
    scheduler_ = std::move(scheduler).value();
    memory_ = std::make_unique<SimulatedMemory>(scheduler_->cache());
  }

  Scheduler& scheduler() { return *scheduler_; }
  SimulatedMemory& memory() { return *memory_; }
  std::map<SequenceId, Sequence>& sequences() { return sequences_; }
  const std::string& log_text() const { return log_text_; }
  const SchedulerOutput& last() const { return last_; }

  static int32_t NextToken(uint64_t state) { return static_cast<int32_t>(state >> 40) % 7; }

  Status Add(SequenceRequest request, size_t stop_at) {
    Sequence sequence{request.scope, request.tokens, stop_at};
    const SequenceId id = request.id;
    const Status status = scheduler_->Add(std::move(request));
    if (status.ok()) sequences_[id] = std::move(sequence);
    return status;
  }

  /// One step. With probability `lost` a sequence gets no Update, as if its forward had failed.
  void Step(Rng& rng, double lost = 0) {
    std::set<SequenceId> decoding;  // must advance now
    for (const auto& [id, sequence] : sequences_) {
      if (scheduler_->IsRunning(id) && !sequence.paused &&
          scheduler_->num_computed_tokens(id) + 1 == static_cast<int64_t>(sequence.tokens.size())) {
        decoding.insert(id);
      }
    }
    last_ = scheduler_->Schedule();
    const SchedulerOutput& out = last_;
    for (const SequenceId id : out.cancelled) {
      ASSERT_EQ(sequences_.erase(id), 1u);
      decoding.erase(id);
    }
    ASSERT_TRUE(out.failed.empty()) << out.failed[0].message;
    ASSERT_LE(out.num_tokens(), scheduler_->config().token_budget);
    for (const auto& preemption : out.preempted) decoding.erase(preemption.id);
    memory_->Apply(out.block_ops);
    for (int phase = 0; phase < 2; ++phase) {
      for (const ScheduledSequence& scheduled : out.sequences) {
        ASSERT_NO_FATAL_FAILURE(Run(scheduled, phase));
      }
    }
    for (const ScheduledSequence& scheduled : out.sequences) {
      decoding.erase(scheduled.id);
      ASSERT_TRUE(sequences_.contains(scheduled.id));
      if (lost > 0 && rng.Uniform() < lost) continue;
      ASSERT_NO_FATAL_FAILURE(Finish(scheduled));
    }
    ASSERT_TRUE(decoding.empty()) << "sequence " << *decoding.begin() << " was stalled";
  }

  void Check() {
    const Status status = scheduler_->CheckIntegrity();
    ASSERT_TRUE(status.ok()) << status.message();
    for (const auto& [id, sequence] : sequences_) {
      ASSERT_TRUE(scheduler_->Contains(id));
      const auto tokens = scheduler_->tokens(id);
      ASSERT_TRUE(
          std::equal(tokens.begin(), tokens.end(), sequence.tokens.begin(), sequence.tokens.end()));
    }
  }

  /// Runs until nothing is left; fails if that takes more than `max_steps`.
  void Drain(Rng& rng, int max_steps) {
    for (int step = 0; !sequences_.empty(); ++step) {
      ASSERT_LT(step, max_steps) << sequences_.size() << " sequences never end";
      ASSERT_TRUE(scheduler_->HasWork());
      ASSERT_NO_FATAL_FAILURE(Step(rng));
      ASSERT_NO_FATAL_FAILURE(Check());
    }
  }

 private:
  // The ids of a scheduled chunk: known tokens, then drafts. Every third draft is wrong.
  std::vector<int32_t> ChunkTokens(const ScheduledSequence& scheduled) const {
    const Sequence& sequence = sequences_.at(scheduled.id);
    const int64_t known = scheduled.start + scheduled.num_tokens - scheduled.num_draft_tokens;
    std::vector<int32_t> tokens(sequence.tokens.begin(), sequence.tokens.begin() + known);
    for (int i = 0; i < scheduled.num_draft_tokens; ++i) {
      const int32_t right = NextToken(PrefixStates(sequence.scope, tokens).back());
      tokens.push_back((known + i) % 3 == 0 ? right + 100 : right);
    }
    return tokens;
  }

  void Run(const ScheduledSequence& scheduled, int phase) {
    ASSERT_TRUE(sequences_.contains(scheduled.id));
    ASSERT_EQ(scheduled.start, scheduler_->num_computed_tokens(scheduled.id));
    ASSERT_GT(scheduled.num_tokens, scheduled.num_draft_tokens);
    const std::vector<int32_t> tokens = ChunkTokens(scheduled);
    const auto states = PrefixStates(sequences_[scheduled.id].scope, tokens);
    std::vector<std::vector<BlockId>> tables;
    for (int32_t g = 0; g < scheduler_->cache().num_groups(); ++g) {
      const auto table = scheduler_->block_table(scheduled.id, g);
      tables.emplace_back(table.begin(), table.end());
    }
    const int64_t end = scheduled.start + scheduled.num_tokens;
    if (phase == 0) {
      memory_->Write(tables, states, scheduled.start, end);
    } else {
      memory_->Verify(tables, states, scheduled.start, end);
    }
  }

  void Finish(const ScheduledSequence& scheduled) {
    Sequence& sequence = sequences_[scheduled.id];
    std::vector<int32_t> fresh;
    if (scheduled.needs_logits) {
      const std::vector<int32_t> chunk = ChunkTokens(scheduled);
      std::vector<int32_t> tokens = sequence.tokens;
      ASSERT_EQ(scheduled.start + scheduled.num_tokens - scheduled.num_draft_tokens,
                static_cast<int64_t>(tokens.size()));
      for (;;) {
        const int32_t next = NextToken(PrefixStates(sequence.scope, tokens).back());
        const size_t position = tokens.size();
        tokens.push_back(next);
        fresh.push_back(next);
        if (position >= chunk.size() || chunk[position] != next) break;
      }
      if (sequence.beam) fresh.clear();
    }
    const Status status = scheduler_->Update(scheduled.id, fresh);
    ASSERT_TRUE(status.ok()) << status.message();
    sequence.tokens.insert(sequence.tokens.end(), fresh.begin(), fresh.end());
    sequence.paused = scheduled.needs_logits && fresh.empty();
    if (!scheduled.needs_logits) return;
    if (!sequence.paused && sequence.tokens.size() >= sequence.stop_at) {
      ASSERT_TRUE(scheduler_->Finish(scheduled.id).ok());
      sequences_.erase(scheduled.id);
      return;
    }
    if (sequence.drafts > 0) {
      ASSERT_TRUE(scheduler_->RequestDrafts(scheduled.id, sequence.drafts).ok());
    }
  }

  std::string log_text_;
  SchedulerLog log_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<SimulatedMemory> memory_;
  std::map<SequenceId, Sequence> sequences_;
  SchedulerOutput last_;
};

}  // namespace ink
