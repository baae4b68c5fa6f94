#include "engine/scheduler_policy.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/check.h"

namespace ink {
namespace {

/// Waiting entries ordered by (major, arrival) where major never changes: FCFS and priority.
class StaticPolicy : public SchedulerPolicy {
 public:
  void Register(PolicyEntry& entry) override {}
  void Forget(const PolicyEntry& entry) override {}
  void Enqueue(const PolicyEntry& entry) override {
    INK_CHECK(waiting_.emplace(RankOf(entry), &entry).second);
  }
  void Dequeue(const PolicyEntry& entry) override {
    INK_CHECK_EQ(waiting_.erase(RankOf(entry)), 1u);
  }
  const PolicyEntry* Next() const override {
    return waiting_.empty() ? nullptr : waiting_.begin()->second;
  }
  int64_t num_waiting() const override { return static_cast<int64_t>(waiting_.size()); }

 private:
  std::map<Rank, const PolicyEntry*> waiting_;
};

class FcfsPolicy final : public StaticPolicy {
 public:
  std::string_view name() const override { return "fcfs"; }
  Rank RankOf(const PolicyEntry& entry) const override { return {0, entry.arrival}; }
};

class PriorityPolicy final : public StaticPolicy {
 public:
  std::string_view name() const override { return "priority"; }
  Rank RankOf(const PolicyEntry& entry) const override {
    return {-static_cast<int64_t>(entry.priority), entry.arrival};
  }
  bool MayPreempt(const PolicyEntry& waiting, const PolicyEntry& running) const override {
    return waiting.priority > running.priority;
  }
};

class FairPolicy final : public SchedulerPolicy {
 public:
  std::string_view name() const override { return "fair"; }

  void Register(PolicyEntry& entry) override {
    const auto [it, inserted] = slots_.try_emplace(entry.key, -1);
    if (inserted) it->second = NewSlot(it->first);
    entry.key_slot = it->second;
    Key& key = keys_[it->second];
    if (key.num_entries++ == 0) {
      // A key that was away is not owed the time it did not ask for.
      AdvanceClock();
      key.virtual_time = std::max(key.virtual_time, clock_);
      active_.insert(it->second);
    }
    key.weight = std::clamp<uint32_t>(entry.weight, 1, kMaxWeight);
  }

  void Forget(const PolicyEntry& entry) override {
    Key& key = keys_[entry.key_slot];
    INK_CHECK_GT(key.num_entries, 0);
    if (--key.num_entries > 0) return;
    AdvanceClock();
    active_.erase(entry.key_slot);
    PruneIdleKeys();
  }

  void Enqueue(const PolicyEntry& entry) override {
    Key& key = keys_[entry.key_slot];
    Unlist(entry.key_slot);
    INK_CHECK(key.waiting.emplace(entry.arrival, &entry).second);
    List(entry.key_slot);
    ++num_waiting_;
  }

  void Dequeue(const PolicyEntry& entry) override {
    Key& key = keys_[entry.key_slot];
    Unlist(entry.key_slot);
    INK_CHECK_EQ(key.waiting.erase(entry.arrival), 1u);
    List(entry.key_slot);
    --num_waiting_;
  }

  const PolicyEntry* Next() const override {
    if (waiting_keys_.empty()) return nullptr;
    return keys_[waiting_keys_.begin()->second].waiting.begin()->second;
  }
  int64_t num_waiting() const override { return num_waiting_; }

  Rank RankOf(const PolicyEntry& entry) const override {
    return {keys_[entry.key_slot].virtual_time, entry.arrival};
  }

  void Charge(const PolicyEntry& entry, int64_t tokens) override {
    Key& key = keys_[entry.key_slot];
    Unlist(entry.key_slot);
    key.virtual_time += tokens * (kUnitsPerToken / key.weight);
    List(entry.key_slot);
  }

 private:
  struct Key {
    std::string name;
    int64_t virtual_time = 0;
    uint32_t weight = 1;
    int64_t num_entries = 0;
    std::map<uint64_t, const PolicyEntry*> waiting;  // by arrival
  };

  Rank WaitingRank(const Key& key) const { return {key.virtual_time, key.waiting.begin()->first}; }
  void List(int32_t slot) {
    if (!keys_[slot].waiting.empty()) waiting_keys_.emplace(WaitingRank(keys_[slot]), slot);
  }
  void Unlist(int32_t slot) {
    if (!keys_[slot].waiting.empty()) waiting_keys_.erase({WaitingRank(keys_[slot]), slot});
  }

  int32_t NewSlot(const std::string& name) {
    int32_t slot;
    if (free_slots_.empty()) {
      slot = static_cast<int32_t>(keys_.size());
      keys_.emplace_back();
    } else {
      slot = free_slots_.back();
      free_slots_.pop_back();
      keys_[slot] = Key{};
    }
    keys_[slot].name = name;
    return slot;
  }

  // The clock is the virtual time of the active key furthest behind; it never goes back.
  void AdvanceClock() {
    int64_t earliest = std::numeric_limits<int64_t>::max();
    for (const int32_t slot : active_) earliest = std::min(earliest, keys_[slot].virtual_time);
    if (!active_.empty()) clock_ = std::max(clock_, earliest);
  }

  // Idle keys keep their virtual time, so that leaving for a moment clears no debt. Bounded: past
  // kMaxIdleKeys, those without a debt go, and if that is not enough all idle ones.
  void PruneIdleKeys() {
    if (slots_.size() <= active_.size() + kMaxIdleKeys) return;
    for (const bool all : {false, true}) {
      for (auto it = slots_.begin(); it != slots_.end();) {
        const Key& key = keys_[it->second];
        if (key.num_entries == 0 && (all || key.virtual_time <= clock_)) {
          free_slots_.push_back(it->second);
          it = slots_.erase(it);
        } else {
          ++it;
        }
      }
      if (slots_.size() <= active_.size() + kMaxIdleKeys / 2) return;
    }
  }

  static constexpr size_t kMaxIdleKeys = 4096;
  // Virtual time per token at weight 1: integers replay exactly, the largest weight still divides
  // it to 0.1%, and 2^43 tokens fit into the clock.
  static constexpr int64_t kUnitsPerToken = int64_t{1} << 20;

  std::map<std::string, int32_t> slots_;
  std::vector<Key> keys_;
  std::vector<int32_t> free_slots_;
  std::set<int32_t> active_;                         // keys with entries, waiting or not
  std::set<std::pair<Rank, int32_t>> waiting_keys_;  // keys with waiting entries
  int64_t num_waiting_ = 0;
  int64_t clock_ = 0;
};

}  // namespace

Result<std::unique_ptr<SchedulerPolicy>> MakeSchedulerPolicy(std::string_view name) {
  if (name == "fcfs") return std::unique_ptr<SchedulerPolicy>(new FcfsPolicy);
  if (name == "priority") return std::unique_ptr<SchedulerPolicy>(new PriorityPolicy);
  if (name == "fair") return std::unique_ptr<SchedulerPolicy>(new FairPolicy);
  return InvalidArgument("scheduler policy \"" + std::string(name) +
                         "\" is not known, expected fcfs, priority or fair");
}

}  // namespace ink
