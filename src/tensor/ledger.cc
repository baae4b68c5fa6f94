#include "tensor/ledger.h"

namespace ink {

std::string_view LedgerEntryName(LedgerEntry entry) {
  switch (entry) {
    case LedgerEntry::kWeights:
      return "weights";
    case LedgerEntry::kKvCache:
      return "kv_cache";
    case LedgerEntry::kRecurrentState:
      return "recurrent_state";
    case LedgerEntry::kActivations:
      return "activations";
    case LedgerEntry::kInputs:
      return "inputs";
    case LedgerEntry::kVocabulary:
      return "vocabulary";
    case LedgerEntry::kProgram:
      return "program";
    case LedgerEntry::kHostCaches:
      return "host_caches";
    case LedgerEntry::kLoadScratch:
      return "load_scratch";
    case LedgerEntry::kReserve:
      return "reserve";
    case LedgerEntry::kTraining:
      return "training";
    case LedgerEntry::kCount:
      break;
  }
  return "unknown";
}

void Ledger::Add(LedgerEntry entry, int64_t bytes) {
  auto& counter = bytes_[static_cast<int>(entry)];
  int64_t now = counter.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  auto& peak = peaks_[static_cast<int>(entry)];
  int64_t seen = peak.load(std::memory_order_relaxed);
  while (now > seen && !peak.compare_exchange_weak(seen, now, std::memory_order_relaxed)) {
  }
}

void Ledger::Set(LedgerEntry entry, int64_t bytes) { Add(entry, bytes - this->bytes(entry)); }

int64_t Ledger::total() const {
  int64_t sum = 0;
  for (const auto& bytes : bytes_) sum += bytes.load(std::memory_order_relaxed);
  return sum;
}

}  // namespace ink
