#include "engine/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

namespace ink {
namespace {

// While packing, source pages of one step (16 MiB) are resident beside the panels; pages that the
// kernel faults around the edges of a step add a little.
constexpr int64_t kLoadScratchBytes = 20 << 20;

// What the C library's allocator keeps for small objects: block tables, queues, strings.
constexpr int64_t kReserveBytes = 4 << 20;

std::string Mib(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

}  // namespace

int64_t MemoryPlan::total() const {
  int64_t sum = 0;
  for (int64_t b : bytes) sum += b;
  return sum;
}

std::string MemoryPlan::Arithmetic() const {
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] == 0) continue;
    text += (text.empty() ? "" : " + ") +
            std::string(LedgerEntryName(static_cast<LedgerEntry>(i))) + " " + Mib(bytes[i]);
  }
  return text + " = " + Mib(total());
}

Result<MemoryPlan> PlanMemory(const Model& model, Device& device, const EngineConfig& config,
                              int64_t vocabulary_bytes, int64_t program_bytes,
                              std::span<const Adapter> adapters) {
  MemoryPlan plan;
  INK_ASSIGN_OR_RETURN(ModelRunner::Plan runner, Engine::MakePlan(model, device, config));
  INK_ASSIGN_OR_RETURN(AdapterSet::Plan with_adapters,
                       Engine::MakeAdapterPlan(model, device, config, adapters));
  plan[LedgerEntry::kWeights] = model.info().weight_bytes + with_adapters.weights;
  plan[LedgerEntry::kKvCache] = runner.kv;
  plan[LedgerEntry::kActivations] =
      runner.activations + with_adapters.activations +
      static_cast<int64_t>(kKernelScratchBytes) * device.num_threads();
  plan[LedgerEntry::kInputs] = runner.inputs + runner.logits_host;
  plan[LedgerEntry::kVocabulary] = vocabulary_bytes;
  plan[LedgerEntry::kProgram] = program_bytes;
  plan[LedgerEntry::kHostCaches] = config.host_bytes;
  // Loading is over before activations are touched: what it needs beyond them is scratch.
  plan[LedgerEntry::kLoadScratch] =
      std::max<int64_t>(0, std::min<int64_t>(kLoadScratchBytes, model.info().weight_bytes) -
                               plan[LedgerEntry::kActivations] - plan[LedgerEntry::kKvCache]);
  // The adapters' host copies, until they are on the device.
  for (const Adapter& adapter : adapters) plan[LedgerEntry::kLoadScratch] += adapter.bytes();
  plan[LedgerEntry::kReserve] = kReserveBytes;
  return plan;
}

Status CheckBudget(const MemoryPlan& plan, uint64_t budget) {
  if (budget == 0 || static_cast<uint64_t>(plan.total()) <= budget) return OkStatus();
  return OutOfMemory("memory: expected at most " + Mib(static_cast<int64_t>(budget)) +
                     " (the budget), needed " + plan.Arithmetic());
}

ProcessMemory ReadProcessMemory() {
  ProcessMemory memory;
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    std::istringstream words(line);
    std::string key;
    int64_t kib = 0;
    words >> key >> kib;
    if (key == "VmRSS:") memory.resident = kib * 1024;
    if (key == "VmHWM:") memory.peak = kib * 1024;
    if (key == "RssFile:" || key == "RssShmem:") memory.file += kib * 1024;
  }
  return memory;
}

}  // namespace ink
