// Decides, step by step, which sequences run and on which blocks. Pure host code: no device type,
// no clock, no randomness, so that a log of its inputs replays to the same outputs.
//
// One step of the engine:
//   SchedulerOutput out = scheduler.Schedule();
//   carry out out.block_ops in order; run out.sequences in one forward pass;
//   for each sequence of out: scheduler.Update(id, new tokens);
//   for each that is done: scheduler.Finish(id).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "cache/cache_manager.h"
#include "cache/types.h"
#include "engine/scheduler_policy.h"

namespace ink {

class SchedulerLog;

enum class PreemptionMode : uint8_t {
  kRecompute,  // drop the blocks, prefill again later (the prefix cache often still has them)
  kSwap,       // move them to host memory; recompute when that is full
};

struct SchedulerConfig {
  CacheConfig cache;
  /// Sequences that hold blocks on the device at once.
  int32_t max_num_seqs = 16;
  /// Tokens per step, decode, drafts and prefill together; >= max_num_seqs, so that every running
  /// stream advances in every step.
  int32_t token_budget = 512;
  /// Tokens of one sequence's prefill per step; 0 means token_budget.
  int32_t max_chunk = 0;
  /// Sequences waiting at most; Add then fails with "unavailable".
  int64_t max_waiting = 4096;
  /// Free blocks per group that admission leaves to the running sequences.
  int64_t watermark_blocks = 1;
  PreemptionMode preemption = PreemptionMode::kRecompute;
  std::string policy = "fcfs";
};

struct SequenceRequest {
  SequenceId id = 0;
  std::vector<int32_t> tokens;   // the prompt, at least one token
  int64_t max_total_tokens = 0;  // prompt and generated; >= tokens.size()
  /// Only this many first tokens may be found in, or enter, the prefix cache: the position of the
  /// first input embedding (its token id does not determine its state); -1 for all.
  int64_t max_cached_tokens = -1;
  int32_t priority = 0;
  std::string key;
  uint32_t weight = 1;
  CacheScope scope;
};

/// One sequence's part of a step: positions [start, start + num_tokens), whose ids are
/// tokens(id)[start ...] followed by num_draft_tokens drafts that the engine supplies.
struct ScheduledSequence {
  SequenceId id = 0;
  int64_t start = 0;       // tokens computed before this step; 0: recurrent state begins zeroed
  int32_t num_tokens = 0;  // drafts included
  int32_t num_draft_tokens = 0;
  /// The chunk ends with the last known token: its logits (and those of each draft) are needed.
  bool needs_logits = false;

  bool operator==(const ScheduledSequence&) const = default;
};

struct SchedulerOutput {
  struct Admission {
    SequenceId id = 0;
    int64_t num_cached_tokens = 0;  // taken from the prefix cache
    bool swapped_in = false;
    bool operator==(const Admission&) const = default;
  };
  struct Preemption {
    SequenceId id = 0;
    bool swapped_out = false;  // false: it will be recomputed
    bool operator==(const Preemption&) const = default;
  };
  struct Failure {
    SequenceId id = 0;
    std::string message;
    bool operator==(const Failure&) const = default;
  };

  int64_t step = 0;
  std::vector<ScheduledSequence> sequences;  // decode first, then prefill
  std::vector<BlockOp> block_ops;            // in order, before the forward pass
  std::vector<Admission> admitted;
  std::vector<Preemption> preempted;
  std::vector<SequenceId> finished;   // since the last step, by Finish
  std::vector<SequenceId> cancelled;  // by Cancel; gone now
  std::vector<Failure> failed;        // could not be given memory even alone; gone now

  int64_t num_tokens() const;
  bool operator==(const SchedulerOutput&) const = default;
};

struct SchedulerStats {
  int64_t num_running = 0;
  int64_t num_waiting = 0;
  int64_t num_swapped = 0;  // of the waiting
  int64_t num_preemptions = 0;
  int64_t prompt_tokens_queried = 0;  // looked up in the prefix cache at admission
  int64_t prompt_tokens_hit = 0;
  int64_t scheduled_tokens = 0;
};

/// Owns sequences' token ids, blocks and queues. Engine thread only.
class Scheduler {
 public:
  /// Fails (invalid argument, out of memory) on a configuration that cannot work. `log`, if given,
  /// outlives the scheduler and receives every input and output.
  static Result<std::unique_ptr<Scheduler>> Create(const SchedulerConfig& config,
                                                   SchedulerLog* log = nullptr);
  ~Scheduler();

  /// Queues a sequence. Fails and changes nothing: invalid argument (empty prompt, id in use,
  /// limits), out of memory (could never fit; the message shows the arithmetic), unavailable
  /// (queue full). O(prompt).
  Status Add(SequenceRequest request);
  /// Marks a sequence; the next Schedule removes it, whatever its state. Not found if unknown.
  /// O(1).
  Status Cancel(SequenceId id);
  /// Removes a sequence now; it is reported in the next output. O(its blocks).
  Status Finish(SequenceId id);

  /// Plans a step: decodes first (one token each, and drafts as far as budget and free blocks go),
  /// then prefill chunks in the policy's order. A sequence of the previous output without an Update
  /// counts as not run and is planned again. O(running + new blocks).
  SchedulerOutput Schedule();
  /// Reports the result of a scheduled sequence: without needs_logits `new_tokens` is empty; with
  /// it, the accepted drafts followed by one new token. None means that the sequence pauses until
  /// Append. Rejected drafts are rolled back. Invalid argument (no change) if the sequence was not
  /// scheduled, or the tokens are too many. Amortized O(new tokens).
  Status Update(SequenceId id, std::span<const int32_t> new_tokens);
  /// Asks for `count` (>= 0) draft tokens in the next step of the sequence that needs logits; the
  /// output says how many were granted. O(1).
  Status RequestDrafts(SequenceId id, int32_t count);

  // The following fail with invalid argument between Schedule and Update of the sequence.

  /// Adds tokens to be computed (a beam's choice, the next user turn). O(tokens).
  Status Append(SequenceId id, std::span<const int32_t> tokens);
  /// Cuts the sequence to its first `n` tokens (1 <= n <= size) and rolls back its state; what the
  /// state cannot return to is computed again. With nothing left to compute it pauses until Append.
  Status Truncate(SequenceId id, int64_t n);
  /// A new sequence with the parent's tokens, policy fields and, while the parent runs, its blocks
  /// (copied only when written). Without a free place among max_num_seqs it waits instead.
  Status Fork(SequenceId parent, SequenceId child);

  /// Release policy: gives unused slabs back to the byte budget and says which blocks they were.
  std::vector<BlockRange> ReleaseUnusedSlabs(bool evict_cached);
  /// Where cached content goes and comes from (CacheManager); not part of a log, so a scheduler
  /// that writes one has neither.
  void set_spill(SpillListener* spill);
  void SpillAll() { cache_->SpillAll(); }
  int64_t Restore(const CacheScope& scope, std::span<const int32_t> tokens, int64_t max_tokens,
                  RestoreSource& source) {
    return cache_->Restore(scope, tokens, max_tokens, source);
  }
  /// Forgets all cached prefixes that no sequence uses.
  void ClearPrefixCache();

  // Views. An unknown id is a bug (INK_CHECK), as is a group out of range.
  bool Contains(SequenceId id) const { return records_.contains(id); }
  /// Prompt and generated tokens; valid until the next change of the sequence.
  std::span<const int32_t> tokens(SequenceId id) const;
  int64_t num_prompt_tokens(SequenceId id) const;
  int64_t num_computed_tokens(SequenceId id) const;
  /// Physical blocks by logical index, enough for the scheduled tokens; kNullBlock behind a window.
  /// A recurrent group has one entry: the state slot. Empty when not on the device.
  std::span<const BlockId> block_table(SequenceId id, int32_t group) const;
  bool IsRunning(SequenceId id) const;

  /// Something to schedule or to report: the engine may sleep when false. O(running).
  bool HasWork() const;
  SchedulerStats stats() const;
  const CacheManager& cache() const { return *cache_; }
  const SchedulerConfig& config() const { return config_; }

  /// Checks the queues, every sequence and the cache against each other. O(everything).
  Status CheckIntegrity() const;

 private:
  enum class State : uint8_t {
    kWaiting,  // in the policy's queue; its cache is empty or on the host
    kRunning,  // in running_
    kParked,   // neither: no blocks and nothing to compute until Append
  };

  struct Record {
    PolicyEntry entry;
    std::vector<int32_t> tokens;
    int64_t num_prompt_tokens = 0;
    int64_t num_computed = 0;
    int64_t max_total_tokens = 0;
    int64_t max_cached_tokens = 0;
    CacheScope scope;
    SequenceCache cache;
    State state = State::kWaiting;
    bool cancel = false;
    bool paused = false;  // nothing to do until Append
    /// Logits of tokens before this one were available at some time, whatever was dropped since.
    int64_t num_computed_once = 0;
    int32_t drafts_wanted = 0;
    int64_t recompute_tokens = 0;  // rolled back with a recurrent checkpoint; decode-sized work
    // The step being run; pending_tokens == 0 when there is none.
    int32_t pending_tokens = 0;
    int32_t pending_drafts = 0;
    bool pending_logits = false;
    int64_t scheduled_step = -1;
    // Admission failed when the cache's release epoch was this one.
    uint64_t blocked_epoch = UINT64_MAX;
    int32_t failures_alone = 0;
    Rank rank;

    int64_t uncomputed() const { return static_cast<int64_t>(tokens.size()) - num_computed; }
    bool is_decode() const { return !paused && uncomputed() <= 1 + recompute_tokens; }
  };

  Scheduler(const SchedulerConfig& config, std::unique_ptr<SchedulerPolicy> policy,
            std::unique_ptr<CacheManager> cache, SchedulerLog* log);

  Record* Find(SequenceId id) const;
  const Record& Get(SequenceId id) const;
  Result<Record*> FindSettled(SequenceId id, const char* action) const;

  Status AddImpl(SequenceRequest& request);
  Status FinishImpl(SequenceId id);
  Status UpdateImpl(SequenceId id, std::span<const int32_t> new_tokens);
  Status AppendImpl(SequenceId id, std::span<const int32_t> tokens);
  Status TruncateImpl(SequenceId id, int64_t n);
  Status ForkImpl(SequenceId parent, SequenceId child);

  Record& NewRecord(PolicyEntry entry);
  void Remove(Record& record);
  void DropState(Record& record);
  void LeaveRunning(Record& record);
  void MakeWaiting(Record& record);

  // scheduler_step.cc
  void SettleLastStep(SchedulerOutput& out);
  void SortRunning();
  void PreemptForWaiting(SchedulerOutput& out);
  void ScheduleDecodes(int64_t& budget, SchedulerOutput& out);
  void SchedulePrefills(int64_t& budget, SchedulerOutput& out);
  int64_t max_chunk() const;
  int64_t ChunkSize(const Record& record, int64_t budget) const;
  void AdmissionNeed(const Record& record);
  bool TryAdmit(Record& record, SchedulerOutput& out);
  bool AdmitOnce(Record& record, SchedulerOutput& out);
  bool TryDrafts(Record& record, int64_t base, int64_t drafts, SchedulerOutput& out);
  bool ReserveOrPreempt(Record& record, int64_t to, bool decode, SchedulerOutput& out);
  Record* WorstPaused() const;
  Record* PickVictim() const;
  void GiveUpAlone(Record& record, SchedulerOutput& out);
  void Preempt(Record& record, SchedulerOutput& out);
  void Emit(Record& record, int64_t base, int64_t drafts, SchedulerOutput& out);

  SchedulerConfig config_;
  std::unique_ptr<SchedulerPolicy> policy_;
  std::unique_ptr<CacheManager> cache_;
  SchedulerLog* log_;

  std::unordered_map<SequenceId, std::unique_ptr<Record>> records_;
  /// By rank when a step begins; an entry that leaves during a step is null until its end.
  std::vector<Record*> running_;
  int64_t num_running_ = 0;
  int64_t num_swapped_ = 0;
  std::vector<SequenceId> to_cancel_;
  std::vector<SequenceId> finished_;
  uint64_t next_arrival_ = 0;
  int64_t step_ = 0;
  bool no_admission_ = false;  // blocks ran out in this step: what was freed is spoken for
  std::vector<int64_t> need_;  // result of AdmissionNeed
  SchedulerStats totals_;
};

}  // namespace ink
