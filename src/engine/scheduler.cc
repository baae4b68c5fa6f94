#include "engine/scheduler.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "engine/scheduler_log.h"

namespace ink {
namespace {

constexpr int64_t kMaxTotalTokens = std::numeric_limits<int32_t>::max();
constexpr int32_t kMaxSequences = 1 << 16;

std::string Name(SequenceId id) { return "sequence " + std::to_string(id); }

}  // namespace

int64_t SchedulerOutput::num_tokens() const {
  int64_t total = 0;
  for (const ScheduledSequence& sequence : sequences) total += sequence.num_tokens;
  return total;
}

Result<std::unique_ptr<Scheduler>> Scheduler::Create(const SchedulerConfig& config,
                                                     SchedulerLog* log) {
  if (config.max_num_seqs < 1 || config.max_num_seqs > kMaxSequences) {
    return InvalidArgument("max_num_seqs is " + std::to_string(config.max_num_seqs) +
                           ", expected 1 to " + std::to_string(kMaxSequences));
  }
  if (config.token_budget < config.max_num_seqs) {
    return InvalidArgument(
        "the token budget of a step is " + std::to_string(config.token_budget) +
        ", expected at least max_num_seqs = " + std::to_string(config.max_num_seqs));
  }
  if (config.max_chunk < 0 || config.max_waiting < 1 || config.watermark_blocks < 0) {
    return InvalidArgument("max_chunk " + std::to_string(config.max_chunk) + ", max_waiting " +
                           std::to_string(config.max_waiting) + ", watermark_blocks " +
                           std::to_string(config.watermark_blocks) +
                           ", expected at least 0, 1 and 0");
  }
  INK_ASSIGN_OR_RETURN(auto policy, MakeSchedulerPolicy(config.policy));
  INK_ASSIGN_OR_RETURN(auto cache, CacheManager::Create(config.cache));
  std::unique_ptr<Scheduler> scheduler(
      new Scheduler(config, std::move(policy), std::move(cache), log));
  if (log != nullptr) log->Config(config);
  return scheduler;
}

Scheduler::Scheduler(const SchedulerConfig& config, std::unique_ptr<SchedulerPolicy> policy,
                     std::unique_ptr<CacheManager> cache, SchedulerLog* log)
    : config_(config), policy_(std::move(policy)), cache_(std::move(cache)), log_(log) {}

Scheduler::~Scheduler() = default;

// ---- Records -----------------------------------------------------------------------------------

Scheduler::Record* Scheduler::Find(SequenceId id) const {
  const auto it = records_.find(id);
  return it == records_.end() ? nullptr : it->second.get();
}

const Scheduler::Record& Scheduler::Get(SequenceId id) const {
  const Record* record = Find(id);
  INK_CHECK(record != nullptr);
  return *record;
}

Result<Scheduler::Record*> Scheduler::FindSettled(SequenceId id, const char* action) const {
  Record* record = Find(id);
  if (record == nullptr) return NotFound(Name(id) + " is not known to the scheduler");
  if (record->pending_tokens > 0) {
    return InvalidArgument(Name(id) + " is in the step being run: " + action +
                           " is possible after its Update");
  }
  return record;
}

Scheduler::Record& Scheduler::NewRecord(PolicyEntry entry) {
  auto owned = std::make_unique<Record>();
  Record& record = *owned;
  record.entry = std::move(entry);
  record.entry.arrival = next_arrival_++;
  records_.emplace(record.entry.id, std::move(owned));
  policy_->Register(record.entry);
  return record;
}

// Everything the sequence holds goes; it is computed again from its tokens.
void Scheduler::DropState(Record& record) {
  if (record.cache.on_host) --num_swapped_;
  cache_->Release(record.cache);
  record.num_computed = 0;
  record.recompute_tokens = 0;
}

void Scheduler::LeaveRunning(Record& record) {
  INK_CHECK(record.state == State::kRunning);
  *std::find(running_.begin(), running_.end(), &record) = nullptr;
  --num_running_;
}

void Scheduler::MakeWaiting(Record& record) {
  if (record.paused) {
    record.state = State::kParked;
    return;
  }
  record.state = State::kWaiting;
  record.blocked_epoch = std::numeric_limits<uint64_t>::max();
  policy_->Enqueue(record.entry);
}

void Scheduler::Remove(Record& record) {
  if (record.state == State::kRunning) LeaveRunning(record);
  if (record.state == State::kWaiting) policy_->Dequeue(record.entry);
  DropState(record);
  policy_->Forget(record.entry);
  records_.erase(record.entry.id);
}

// ---- Inputs: each is logged, then carried out, then its failure is logged
// ------------------------

Status Scheduler::Add(SequenceRequest request) {
  if (log_ != nullptr) log_->Add(request);
  Status status = AddImpl(request);
  if (log_ != nullptr && !status.ok()) log_->Failure(status);
  return status;
}

Status Scheduler::AddImpl(SequenceRequest& request) {
  const int64_t num_tokens = static_cast<int64_t>(request.tokens.size());
  if (records_.contains(request.id)) {
    return InvalidArgument(Name(request.id) + " exists already, expected a new id");
  }
  if (num_tokens == 0) {
    return InvalidArgument(Name(request.id) + " has an empty prompt, expected at least one token");
  }
  if (request.max_total_tokens < num_tokens || request.max_total_tokens > kMaxTotalTokens) {
    return InvalidArgument(
        Name(request.id) + ": limit of " + std::to_string(request.max_total_tokens) +
        " tokens in all, expected at least the prompt's " + std::to_string(num_tokens) +
        " and at most " + std::to_string(kMaxTotalTokens));
  }
  if (request.weight < 1 || request.weight > kMaxWeight) {
    return InvalidArgument(Name(request.id) + ": weight " + std::to_string(request.weight) +
                           ", expected 1 to " + std::to_string(kMaxWeight));
  }
  if (policy_->num_waiting() >= config_.max_waiting) {
    return Unavailable(std::to_string(policy_->num_waiting()) +
                       " sequences are waiting, the queue holds " +
                       std::to_string(config_.max_waiting));
  }
  const Status fits = cache_->CheckFits(request.max_total_tokens, max_chunk());
  if (!fits.ok()) return fits.WithContext(Name(request.id) + " can never run");
  Record& record = NewRecord({.id = request.id,
                              .priority = request.priority,
                              .key = std::move(request.key),
                              .weight = request.weight});
  record.tokens = std::move(request.tokens);
  record.num_prompt_tokens = num_tokens;
  record.max_total_tokens = request.max_total_tokens;
  record.max_cached_tokens =
      request.max_cached_tokens < 0 ? request.max_total_tokens : request.max_cached_tokens;
  record.scope = std::move(request.scope);
  MakeWaiting(record);
  return OkStatus();
}

Status Scheduler::Cancel(SequenceId id) {
  if (log_ != nullptr) log_->Id("cancel", id);
  Record* record = Find(id);
  if (record == nullptr) {
    Status status = NotFound(Name(id) + " is not known to the scheduler");
    if (log_ != nullptr) log_->Failure(status);
    return status;
  }
  if (!record->cancel) to_cancel_.push_back(id);
  record->cancel = true;
  return OkStatus();
}

Status Scheduler::Finish(SequenceId id) {
  if (log_ != nullptr) log_->Id("finish", id);
  Status status = FinishImpl(id);
  if (log_ != nullptr && !status.ok()) log_->Failure(status);
  return status;
}

Status Scheduler::FinishImpl(SequenceId id) {
  Record* record = Find(id);
  if (record == nullptr) return NotFound(Name(id) + " is not known to the scheduler");
  if (record->cancel) std::erase(to_cancel_, id);
  Remove(*record);
  finished_.push_back(id);
  return OkStatus();
}

Status Scheduler::Update(SequenceId id, std::span<const int32_t> new_tokens) {
  if (log_ != nullptr) log_->Tokens("update", id, new_tokens);
  Status status = UpdateImpl(id, new_tokens);
  if (log_ != nullptr && !status.ok()) log_->Failure(status);
  return status;
}

Status Scheduler::UpdateImpl(SequenceId id, std::span<const int32_t> new_tokens) {
  Record* found = Find(id);
  if (found == nullptr) return NotFound(Name(id) + " is not known to the scheduler");
  Record& record = *found;
  const int64_t num_new = static_cast<int64_t>(new_tokens.size());
  if (record.pending_tokens == 0) {
    return InvalidArgument(Name(id) + " was not scheduled, expected an Update only after Schedule");
  }
  const int64_t most = record.pending_logits ? record.pending_drafts + 1 : 0;
  if (num_new > most) {
    return InvalidArgument(Name(id) + " was updated with " + std::to_string(num_new) +
                           " tokens, expected at most " + std::to_string(most));
  }
  const int64_t size = static_cast<int64_t>(record.tokens.size());
  if (size + num_new > record.max_total_tokens) {
    return InvalidArgument(Name(id) + " would have " + std::to_string(size + num_new) +
                           " tokens, its limit is " + std::to_string(record.max_total_tokens));
  }
  const int64_t accepted = std::max<int64_t>(num_new - 1, 0);
  const int64_t ran = record.num_computed + record.pending_tokens;
  const int64_t computed = ran - record.pending_drafts + accepted;
  record.tokens.insert(record.tokens.end(), new_tokens.begin(), new_tokens.end());
  record.paused = record.pending_logits && num_new == 0;
  record.num_computed_once = std::max(record.num_computed_once, computed);
  record.pending_tokens = record.pending_drafts = 0;
  record.pending_logits = false;
  record.failures_alone = 0;

  record.num_computed = cache_->Truncate(record.cache, ran, computed);
  if (record.num_computed == 0) {
    LeaveRunning(record);
    DropState(record);
    MakeWaiting(record);
    return OkStatus();
  }
  cache_->DropCheckpoint(record.cache);
  if (record.num_computed < computed) {
    record.recompute_tokens = record.uncomputed() - 1;
  } else if (record.uncomputed() <= 1) {
    record.recompute_tokens = 0;
  }
  cache_->Commit(record.cache, record.tokens, record.num_prompt_tokens, record.num_computed,
                 record.max_cached_tokens);
  cache_->ReleaseBehindWindow(record.cache, record.num_computed);
  return OkStatus();
}

Status Scheduler::RequestDrafts(SequenceId id, int32_t count) {
  if (log_ != nullptr) log_->Number("drafts", id, count);
  Status status = OkStatus();
  Record* record = Find(id);
  if (record == nullptr) {
    status = NotFound(Name(id) + " is not known to the scheduler");
  } else if (count < 0) {
    status = InvalidArgument(Name(id) + " asks for " + std::to_string(count) +
                             " draft tokens, expected 0 or more");
  } else {
    record->drafts_wanted = count;
  }
  if (log_ != nullptr && !status.ok()) log_->Failure(status);
  return status;
}

Status Scheduler::Append(SequenceId id, std::span<const int32_t> tokens) {
  if (log_ != nullptr) log_->Tokens("append", id, tokens);
  Status status = AppendImpl(id, tokens);
  if (log_ != nullptr && !status.ok()) log_->Failure(status);
  return status;
}

Status Scheduler::AppendImpl(SequenceId id, std::span<const int32_t> tokens) {
  INK_ASSIGN_OR_RETURN(Record * record, FindSettled(id, "Append"));
  if (tokens.empty()) return OkStatus();
  const int64_t size = static_cast<int64_t>(record->tokens.size() + tokens.size());
  if (size > record->max_total_tokens) {
    return InvalidArgument(Name(id) + " would have " + std::to_string(size) +
                           " tokens, its limit is " + std::to_string(record->max_total_tokens));
  }
  record->tokens.insert(record->tokens.end(), tokens.begin(), tokens.end());
  record->paused = false;
  if (record->state == State::kParked) MakeWaiting(*record);
  return OkStatus();
}

Status Scheduler::Truncate(SequenceId id, int64_t n) {
  if (log_ != nullptr) log_->Number("truncate", id, n);
  Status status = TruncateImpl(id, n);
  if (log_ != nullptr && !status.ok()) log_->Failure(status);
  return status;
}

Status Scheduler::TruncateImpl(SequenceId id, int64_t n) {
  INK_ASSIGN_OR_RETURN(Record * found, FindSettled(id, "Truncate"));
  Record& record = *found;
  const int64_t size = static_cast<int64_t>(record.tokens.size());
  if (n < 1 || n > size) {
    return InvalidArgument(Name(id) + " cannot be cut to " + std::to_string(n) +
                           " tokens, expected 1 to " + std::to_string(size));
  }
  record.tokens.resize(n);
  record.num_prompt_tokens = std::min(record.num_prompt_tokens, n);
  // Whether it pauses depends on what was ever computed, not on whether it was preempted since.
  const bool pause = n <= record.num_computed_once;
  record.num_computed_once = std::min(record.num_computed_once, n);
  if (record.state == State::kWaiting && pause) policy_->Dequeue(record.entry);
  record.paused = pause;
  if (record.state != State::kRunning) {
    if (n < record.num_computed) DropState(record);
    if (pause) record.state = State::kParked;
    return OkStatus();
  }
  if (n < record.num_computed) {
    record.num_computed = cache_->Truncate(record.cache, record.num_computed, n);
    record.recompute_tokens = 0;
    if (record.num_computed == 0) {
      LeaveRunning(record);
      DropState(record);
      MakeWaiting(record);
    }
  }
  return OkStatus();
}

Status Scheduler::Fork(SequenceId parent, SequenceId child) {
  if (log_ != nullptr) log_->Fork(parent, child);
  Status status = ForkImpl(parent, child);
  if (log_ != nullptr && !status.ok()) log_->Failure(status);
  return status;
}

Status Scheduler::ForkImpl(SequenceId parent_id, SequenceId child_id) {
  INK_ASSIGN_OR_RETURN(Record * found, FindSettled(parent_id, "Fork"));
  if (records_.contains(child_id)) {
    return InvalidArgument(Name(child_id) + " exists already, expected a new id");
  }
  const Record& parent = *found;
  PolicyEntry entry = parent.entry;
  entry.id = child_id;
  entry.key_slot = -1;
  Record& child = NewRecord(std::move(entry));
  child.tokens = parent.tokens;
  child.num_prompt_tokens = parent.num_prompt_tokens;
  child.max_total_tokens = parent.max_total_tokens;
  child.max_cached_tokens = parent.max_cached_tokens;
  child.scope = parent.scope;
  child.paused = parent.paused;
  child.num_computed_once = parent.num_computed_once;
  if (parent.state != State::kRunning || num_running_ >= config_.max_num_seqs) {
    MakeWaiting(child);
    return OkStatus();
  }
  child.cache = cache_->Fork(parent.cache);
  child.num_computed = parent.num_computed;
  child.recompute_tokens = parent.recompute_tokens;
  child.state = State::kRunning;
  running_.push_back(&child);
  ++num_running_;
  return OkStatus();
}

std::vector<BlockRange> Scheduler::ReleaseUnusedSlabs(bool evict_cached) {
  if (log_ != nullptr) log_->Id(evict_cached ? "release_cached" : "release_unused", 0);
  return cache_->ReleaseUnusedSlabs(evict_cached);
}

void Scheduler::set_spill(SpillListener* spill) {
  INK_CHECK(log_ == nullptr);
  cache_->set_spill(spill);
}

void Scheduler::ClearPrefixCache() {
  if (log_ != nullptr) log_->Id("clear_prefix_cache", 0);
  cache_->EvictAll();
}

// ---- Views
// ---------------------------------------------------------------------------------------

std::span<const int32_t> Scheduler::tokens(SequenceId id) const { return Get(id).tokens; }
int64_t Scheduler::num_prompt_tokens(SequenceId id) const { return Get(id).num_prompt_tokens; }
int64_t Scheduler::num_computed_tokens(SequenceId id) const { return Get(id).num_computed; }
bool Scheduler::IsRunning(SequenceId id) const { return Get(id).state == State::kRunning; }

std::span<const BlockId> Scheduler::block_table(SequenceId id, int32_t group) const {
  const Record& record = Get(id);
  INK_CHECK(group >= 0 && group < cache_->num_groups());
  if (record.cache.empty() || record.cache.on_host) return {};
  return record.cache.tables[group].blocks();
}

bool Scheduler::HasWork() const {
  if (!to_cancel_.empty() || !finished_.empty() || policy_->num_waiting() > 0) return true;
  return std::any_of(running_.begin(), running_.end(),
                     [](const Record* record) { return record != nullptr && !record->paused; });
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = totals_;
  stats.num_running = num_running_;
  stats.num_waiting = policy_->num_waiting();
  stats.num_swapped = num_swapped_;
  return stats;
}

Status Scheduler::CheckIntegrity() const {
  int64_t num_waiting = 0, num_running = 0, num_swapped = 0;
  std::vector<const SequenceCache*> caches;
  for (const auto& [id, record] : records_) {
    caches.push_back(&record->cache);
    num_waiting += record->state == State::kWaiting;
    num_running += record->state == State::kRunning;
    num_swapped += record->cache.on_host;
    const bool listed = std::find(running_.begin(), running_.end(), record.get()) != running_.end();
    if (listed != (record->state == State::kRunning)) {
      return Corrupt(Name(id) + " is running in one place only");
    }
    const bool on_device = !record->cache.empty() && !record->cache.on_host;
    if (on_device && !listed) return Corrupt(Name(id) + " holds device blocks while not running");
    if ((record->cache.empty() && record->num_computed != 0) || record->num_computed < 0 ||
        record->num_computed > static_cast<int64_t>(record->tokens.size())) {
      return Corrupt(Name(id) + " has " + std::to_string(record->num_computed) +
                     " computed tokens of " + std::to_string(record->tokens.size()));
    }
    if (on_device) {
      const int64_t held = BlocksFor(record->num_computed + record->pending_tokens);
      for (int32_t g = 0; g < cache_->num_groups(); ++g) {
        const int64_t expected =
            cache_->group(g).kind == GroupKind::kRecurrent ? (held > 0 ? 1 : 0) : held;
        if (record->cache.tables[g].size() != expected) {
          return Corrupt(Name(id) + " has a table of " +
                         std::to_string(record->cache.tables[g].size()) + " blocks in group " +
                         std::to_string(g) + ", expected " + std::to_string(expected));
        }
      }
    }
    if (record->paused && record->state == State::kWaiting) {
      return Corrupt(Name(id) + " waits while paused");
    }
  }
  if (num_waiting != policy_->num_waiting() || num_running != num_running_ ||
      num_swapped != num_swapped_) {
    return Corrupt("scheduler: queue lengths disagree with the sequences");
  }
  if (num_running_ > config_.max_num_seqs) {
    return Corrupt("scheduler: " + std::to_string(num_running_) + " sequences run, the limit is " +
                   std::to_string(config_.max_num_seqs));
  }
  return cache_->CheckIntegrity(caches);
}

}  // namespace ink
