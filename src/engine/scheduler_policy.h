// Who runs first and who is preempted first. The scheduler asks; a policy only orders.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace ink {

/// Chosen by the caller of Scheduler::Add; unique among live sequences.
using SequenceId = uint64_t;

/// What a policy knows of one sequence. Its address is stable from Register to Forget.
struct PolicyEntry {
  SequenceId id = 0;
  uint64_t arrival = 0;   // order of Add; unique
  int32_t priority = 0;   // higher runs earlier (policy "priority")
  std::string key;        // who pays (policy "fair")
  uint32_t weight = 1;    // share of the key, 1..kMaxWeight; the latest request's counts
  int32_t key_slot = -1;  // for the policy's own use
};

inline constexpr uint32_t kMaxWeight = 1024;

/// Position in the order of service; smaller is served first and preempted last.
struct Rank {
  int64_t major = 0;
  uint64_t minor = 0;
  auto operator<=>(const Rank&) const = default;
};

/// Owns the order of waiting sequences and ranks running ones. All methods are deterministic
/// functions of the calls before them, so that a log replays. Engine thread only.
class SchedulerPolicy {
 public:
  virtual ~SchedulerPolicy() = default;
  virtual std::string_view name() const = 0;

  /// Before anything else about an entry; may fill key_slot.
  virtual void Register(PolicyEntry& entry) = 0;
  /// After everything else about an entry, which is not queued.
  virtual void Forget(const PolicyEntry& entry) = 0;
  /// Puts an entry into the waiting queue (new or preempted), or takes it out. O(log waiting).
  virtual void Enqueue(const PolicyEntry& entry) = 0;
  virtual void Dequeue(const PolicyEntry& entry) = 0;
  /// The waiting entry of the smallest rank, or null. O(1) or O(log waiting).
  virtual const PolicyEntry* Next() const = 0;
  virtual int64_t num_waiting() const = 0;

  /// Current rank; a total order over registered entries. O(1).
  virtual Rank RankOf(const PolicyEntry& entry) const = 0;
  /// True if `running` may be preempted only to admit `waiting`.
  virtual bool MayPreempt(const PolicyEntry& waiting, const PolicyEntry& running) const {
    return false;
  }
  /// The entry's sequence was given `tokens` tokens of a step. O(log waiting keys).
  virtual void Charge(const PolicyEntry& entry, int64_t tokens) {}
};

/// "fcfs": in order of arrival. "priority": higher priority first, then arrival; preempts lower
/// priorities to admit a higher one. "fair": each key's tokens, divided by its weight, advance its
/// virtual time; the key furthest behind is served first (start-time fair queueing, Goyal, Vin and
/// Cheng, SIGCOMM 1996). Fails (invalid argument) on another name.
Result<std::unique_ptr<SchedulerPolicy>> MakeSchedulerPolicy(std::string_view name);

}  // namespace ink
