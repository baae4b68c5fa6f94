// The ledger names every byte (DESIGN promise 2): who holds how much, live and at most.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

namespace ink {

enum class LedgerEntry : int {
  kWeights,
  kKvCache,
  kRecurrentState,
  kActivations,
  kInputs,
  kVocabulary,
  kProgram,
  kHostCaches,
  kLoadScratch,
  kReserve,
  kTraining,
  kCount,
};

/// "weights", "kv_cache", .. as in `plan --json` and the metrics.
std::string_view LedgerEntryName(LedgerEntry entry);

/// Thread-safe. Bytes are those the process holds, which is what the operating system counts.
class Ledger {
 public:
  void Add(LedgerEntry entry, int64_t bytes);
  void Remove(LedgerEntry entry, int64_t bytes) { Add(entry, -bytes); }
  void Set(LedgerEntry entry, int64_t bytes);
  int64_t bytes(LedgerEntry entry) const { return At(entry).load(std::memory_order_relaxed); }
  int64_t peak(LedgerEntry entry) const {
    return peaks_[static_cast<int>(entry)].load(std::memory_order_relaxed);
  }
  int64_t total() const;

 private:
  const std::atomic<int64_t>& At(LedgerEntry entry) const {
    return bytes_[static_cast<int>(entry)];
  }
  std::array<std::atomic<int64_t>, static_cast<int>(LedgerEntry::kCount)> bytes_{};
  std::array<std::atomic<int64_t>, static_cast<int>(LedgerEntry::kCount)> peaks_{};
};

}  // namespace ink
