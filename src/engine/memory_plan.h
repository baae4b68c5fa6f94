// The memory of a process that serves one model, entry by entry, before any of it is taken.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "engine/engine.h"
#include "tensor/ledger.h"

namespace ink {

struct MemoryPlan {
  std::array<int64_t, static_cast<int>(LedgerEntry::kCount)> bytes{};
  int64_t& operator[](LedgerEntry entry) { return bytes[static_cast<int>(entry)]; }
  int64_t operator[](LedgerEntry entry) const { return bytes[static_cast<int>(entry)]; }
  int64_t total() const;
  /// "weights 760.2 MiB + kv_cache 1024.0 MiB + ... = 1.8 GiB".
  std::string Arithmetic() const;
};

/// `adapters` are those that the engine will be given before its first request.
/// `model` may be loaded with plan_only. `vocabulary_bytes` and `program_bytes` are measured by the
/// caller (the tokenizer's own count; the process before it loads anything).
Result<MemoryPlan> PlanMemory(const Model& model, Device& device, const EngineConfig& config,
                              int64_t vocabulary_bytes, int64_t program_bytes,
                              std::span<const Adapter> adapters = {});

/// kOutOfMemory with the arithmetic when the plan exceeds `budget` bytes (0: no budget).
Status CheckBudget(const MemoryPlan& plan, uint64_t budget);

/// Resident bytes of this process now, and at most so far (VmRSS, VmHWM); of those now, the pages
/// of files: its own text and data, libraries, mapped models.
struct ProcessMemory {
  int64_t resident = 0;
  int64_t peak = 0;
  int64_t file = 0;
};
ProcessMemory ReadProcessMemory();

}  // namespace ink
