// Scheduler::Schedule: how one step is planned.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/scheduler.h"
#include "engine/scheduler_log.h"

namespace ink {

SchedulerOutput Scheduler::Schedule() {
  if (log_ != nullptr) log_->Id("schedule", 0);
  SchedulerOutput out;
  out.step = step_;
  no_admission_ = false;
  SettleLastStep(out);
  SortRunning();
  PreemptForWaiting(out);
  int64_t budget = config_.token_budget;
  ScheduleDecodes(budget, out);
  SchedulePrefills(budget, out);
  ++step_;
  totals_.num_preemptions += static_cast<int64_t>(out.preempted.size());
  if (log_ != nullptr) log_->Output(out);
  return out;
}

// Removes what was cancelled, and takes back what the last step left without an Update.
void Scheduler::SettleLastStep(SchedulerOutput& out) {
  for (const SequenceId id : to_cancel_) {
    Remove(*Find(id));
    out.cancelled.push_back(id);
  }
  to_cancel_.clear();
  out.finished = std::exchange(finished_, {});
  for (Record* record : running_) {
    if (record == nullptr || record->pending_tokens == 0) continue;
    record->pending_tokens = record->pending_drafts = 0;
    record->pending_logits = false;
    if (cache_->has_recurrent() || record->num_computed == 0) {
      // A recurrent state may have been advanced part of the way: it cannot be trusted.
      DropState(*record);
      LeaveRunning(*record);
      MakeWaiting(*record);
      out.preempted.push_back({record->entry.id, false});
    } else {
      cache_->TrimReserved(record->cache, record->num_computed);
    }
  }
}

void Scheduler::SortRunning() {
  std::erase(running_, nullptr);
  for (Record* record : running_) record->rank = policy_->RankOf(record->entry);
  // The order changes little from step to step: insertion sort is linear then.
  for (size_t i = 1; i < running_.size(); ++i) {
    Record* record = running_[i];
    size_t j = i;
    for (; j > 0 && record->rank < running_[j - 1]->rank; --j) running_[j] = running_[j - 1];
    running_[j] = record;
  }
}

// A policy may want a waiting sequence to take the place of running ones (priority).
void Scheduler::PreemptForWaiting(SchedulerOutput& out) {
  const PolicyEntry* next = policy_->Next();
  if (next == nullptr) return;
  for (size_t i = running_.size(); i-- > 0;) {
    if (running_[i] == nullptr) continue;
    if (!policy_->MayPreempt(*next, running_[i]->entry)) return;
    AdmissionNeed(*Find(next->id));
    if (num_running_ < config_.max_num_seqs && cache_->CanAllocate(need_)) return;
    Preempt(*running_[i], out);
  }
}

void Scheduler::ScheduleDecodes(int64_t& budget, SchedulerOutput& out) {
  int64_t left = 0;  // decodes after the current one; each is sure of one token
  for (const Record* record : running_) left += record != nullptr && record->is_decode();
  for (size_t i = 0; i < running_.size(); ++i) {
    Record* record = running_[i];
    if (record == nullptr || !record->is_decode()) continue;
    --left;
    const int64_t share = budget - left;
    const int64_t base = std::min(record->uncomputed(), share);
    INK_CHECK_GT(base, 0);
    int64_t drafts = 0;
    if (record->drafts_wanted > 0 && base == record->uncomputed()) {
      // Even if all are accepted and one more token follows, the limit holds.
      drafts =
          std::min({static_cast<int64_t>(record->drafts_wanted), share - base,
                    record->max_total_tokens - static_cast<int64_t>(record->tokens.size()) - 1});
    }
    if (drafts > 0 && TryDrafts(*record, base, drafts, out)) {
      Emit(*record, base, drafts, out);
      budget -= base + drafts;
    } else if (ReserveOrPreempt(*record, record->num_computed + base, /*decode=*/true, out)) {
      Emit(*record, base, 0, out);
      budget -= base;
    }
  }
}

// Drafts are a bet: they take free blocks and never another sequence's.
bool Scheduler::TryDrafts(Record& record, int64_t base, int64_t drafts, SchedulerOutput& out) {
  if (cache_->has_recurrent()) {
    // Rejected drafts bring the state back to this step's start: while it still has tokens to catch
    // up with, another bet could keep it there for ever.
    if (record.num_computed == 0 || base > 1) return false;
    cache_->KeepCheckpoint(record.cache, record.num_computed);
  }
  const int64_t to = record.num_computed + base + drafts;
  if (cache_->Reserve(record.cache, record.num_computed, to, &out.block_ops)) return true;
  cache_->DropCheckpoint(record.cache);
  return false;
}

void Scheduler::SchedulePrefills(int64_t& budget, SchedulerOutput& out) {
  // Running prefills and waiting sequences merge in the policy's order. What is admitted here joins
  // the end of running_, past `end`.
  bool admitting = true;
  const size_t end = running_.size();
  size_t i = 0;
  while (budget > 0) {
    while (i < end && (running_[i] == nullptr || running_[i]->paused ||
                       running_[i]->scheduled_step == step_)) {
      ++i;
    }
    Record* running = i < end ? running_[i] : nullptr;
    const PolicyEntry* next = admitting && !no_admission_ ? policy_->Next() : nullptr;
    if (running == nullptr && next == nullptr) break;
    if (running != nullptr &&
        (next == nullptr || policy_->RankOf(running->entry) < policy_->RankOf(*next))) {
      ++i;
      const int64_t base = ChunkSize(*running, budget);
      if (ReserveOrPreempt(*running, running->num_computed + base, /*decode=*/false, out)) {
        Emit(*running, base, 0, out);
        budget -= base;
      }
      continue;
    }
    Record& record = *Find(next->id);
    if (!TryAdmit(record, out)) {
      admitting = false;  // no overtaking: the first in line waits for what it needs
      continue;
    }
    const int64_t base = ChunkSize(record, budget);
    if (cache_->Reserve(record.cache, record.num_computed, record.num_computed + base,
                        &out.block_ops)) {
      Emit(record, base, 0, out);
      budget -= base;
    } else {
      no_admission_ = true;  // it runs, and gets its chunk in a later step
    }
  }
}

int64_t Scheduler::max_chunk() const {
  return config_.max_chunk > 0 ? std::min(config_.max_chunk, config_.token_budget)
                               : config_.token_budget;
}

int64_t Scheduler::ChunkSize(const Record& record, int64_t budget) const {
  const int64_t limit = cache_->ChunkLimit(record.num_computed, record.num_prompt_tokens);
  return std::min({record.uncomputed(), budget, max_chunk(), limit - record.num_computed});
}

// Blocks that must be free to admit `record`: its own, those that half-done prefills were admitted
// for and do not hold yet, and the watermark. Otherwise long prompts would preempt each other.
void Scheduler::AdmissionNeed(const Record& record) {
  need_.assign(cache_->num_groups(), config_.watermark_blocks);
  const int64_t size = static_cast<int64_t>(record.tokens.size());
  cache_->AddNeed(record.cache, record.num_computed, size, max_chunk(), &need_);
  for (const Record* other : running_) {
    if (other == nullptr || other->paused || other->uncomputed() <= 1) continue;
    cache_->AddNeed(other->cache, other->num_computed, static_cast<int64_t>(other->tokens.size()),
                    max_chunk(), &need_);
  }
}

bool Scheduler::TryAdmit(Record& record, SchedulerOutput& out) {
  while (!AdmitOnce(record, out)) {
    // A paused sequence may hold its place only as long as nobody needs it.
    Record* paused = WorstPaused();
    if (paused == nullptr) return false;
    Preempt(*paused, out);
  }
  return true;
}

bool Scheduler::AdmitOnce(Record& record, SchedulerOutput& out) {
  if (num_running_ >= config_.max_num_seqs) return false;
  // With nothing running, all memory is free or cached, and Add has checked that it suffices.
  const bool alone = num_running_ == 0;
  if (!alone && record.blocked_epoch == cache_->release_epoch()) return false;
  bool swapped_in = false;
  if (record.cache.on_host) {
    AdmissionNeed(record);
    if (!alone && !cache_->CanAllocate(need_)) {
      record.blocked_epoch = cache_->release_epoch();
      return false;
    }
    swapped_in = cache_->SwapIn(record.cache, record.scope, &out.block_ops);
    if (swapped_in) {
      --num_swapped_;
    } else if (alone) {
      DropState(record);
    } else {
      record.blocked_epoch = cache_->release_epoch();
      return false;
    }
  }
  int64_t cached = 0;
  if (!swapped_in) {
    // The last token's logits are needed, so it is always computed.
    const int64_t size = static_cast<int64_t>(record.tokens.size());
    cached = cache_->Attach(record.cache, record.scope, record.tokens,
                            std::min(record.max_cached_tokens, size - 1));
    record.num_computed = cached;
    AdmissionNeed(record);
    if (!alone && !cache_->CanAllocate(need_)) {
      DropState(record);
      record.blocked_epoch = cache_->release_epoch();
      return false;
    }
    totals_.prompt_tokens_queried += size;
    totals_.prompt_tokens_hit += cached;
  }
  policy_->Dequeue(record.entry);
  record.state = State::kRunning;
  running_.push_back(&record);
  ++num_running_;
  out.admitted.push_back({record.entry.id, cached, swapped_in});
  return true;
}

Scheduler::Record* Scheduler::WorstPaused() const {
  for (size_t i = running_.size(); i-- > 0;) {
    if (running_[i] != nullptr && running_[i]->paused) return running_[i];
  }
  return nullptr;
}

// Paused sequences first, then the last in order that this step has not planned.
Scheduler::Record* Scheduler::PickVictim() const {
  if (Record* paused = WorstPaused()) return paused;
  for (size_t i = running_.size(); i-- > 0;) {
    if (running_[i] != nullptr && running_[i]->scheduled_step != step_) return running_[i];
  }
  return nullptr;
}

bool Scheduler::ReserveOrPreempt(Record& record, int64_t to, bool decode, SchedulerOutput& out) {
  while (!cache_->Reserve(record.cache, record.num_computed, to, &out.block_ops)) {
    no_admission_ = true;
    Record* victim = PickVictim();
    INK_CHECK(victim != nullptr);  // `record` itself is not planned yet
    if (victim != &record) {
      Preempt(*victim, out);
      continue;
    }
    if (num_running_ == 1) {
      GiveUpAlone(record, out);
    } else if (decode || out.sequences.empty()) {
      Preempt(record, out);
    }  // else a prefill that keeps its blocks until the planned decodes, all finite, end
    return false;
  }
  return true;
}

// A sequence alone in the cache always fits after Add's check, unless cached blocks are strewn over
// the slabs so that another group cannot draw one. Start over with an empty cache; should even that
// fail, the sequence ends with an error rather than the engine spinning.
void Scheduler::GiveUpAlone(Record& record, SchedulerOutput& out) {
  const SequenceId id = record.entry.id;
  const int64_t size = static_cast<int64_t>(record.tokens.size());
  DropState(record);
  cache_->EvictAll();
  for (const BlockRange& range : cache_->ReleaseUnusedSlabs(/*evict_cached=*/true)) {
    out.block_ops.push_back({.kind = BlockOpKind::kRelease,
                             .group = range.group,
                             .src = range.first,
                             .count = static_cast<int32_t>(range.count)});
  }
  if (++record.failures_alone > 2) {
    out.failed.push_back({id, "sequence " + std::to_string(id) + " with " + std::to_string(size) +
                                  " tokens could not get its blocks with nothing else running"});
    Remove(record);
    return;
  }
  LeaveRunning(record);
  MakeWaiting(record);
  out.preempted.push_back({id, false});
}

void Scheduler::Preempt(Record& record, SchedulerOutput& out) {
  const bool swapped = config_.preemption == PreemptionMode::kSwap && record.num_computed > 0 &&
                       cache_->SwapOut(record.cache, &out.block_ops);
  if (swapped) {
    ++num_swapped_;
  } else {
    DropState(record);
  }
  LeaveRunning(record);
  MakeWaiting(record);
  out.preempted.push_back({record.entry.id, swapped});
}

void Scheduler::Emit(Record& record, int64_t base, int64_t drafts, SchedulerOutput& out) {
  record.scheduled_step = step_;
  record.pending_tokens = static_cast<int32_t>(base + drafts);
  record.pending_drafts = static_cast<int32_t>(drafts);
  record.pending_logits = base == record.uncomputed();
  if (record.pending_logits) record.drafts_wanted = 0;
  policy_->Charge(record.entry, base + drafts);
  totals_.scheduled_tokens += base + drafts;
  out.sequences.push_back({.id = record.entry.id,
                           .start = record.num_computed,
                           .num_tokens = record.pending_tokens,
                           .num_draft_tokens = record.pending_drafts,
                           .needs_logits = record.pending_logits});
}

}  // namespace ink
