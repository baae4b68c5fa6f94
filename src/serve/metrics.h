// What the server tells Prometheus: the field's usual names under the prefix inkstone_.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generation.h"
#include "engine/memory_plan.h"
#include "engine/step_cost.h"
#include "serve/engine_thread.h"

namespace ink {

class ServedModel;
struct ServedModelOptions;

/// Shares of the machine's limits, as `inkstone bench` defines them; nothing where no step was made
/// or no limit is known.
struct Utilization {
  std::optional<double> mfu;
  std::optional<double> mbu;
};
Utilization UtilizationOf(const PhaseWork& work, const ServedModelOptions& options);

/// Thread-safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void TimeToFirstToken(double seconds);
  void InterTokenLatency(double seconds);
  /// A generation that ended; `reason` is "stop", "length", "abort" or "error".
  void GenerationEnded(std::string_view reason, double total_s, const GenerationTimings& timings);
  void HttpRequest(std::string_view route, int status, double seconds);

  /// Spans so far.
  void SetTrace(int64_t exported, int64_t dropped);

  /// The exposition format, with the state of `models` as of now.
  /// Sets what `Render` says of the KV blocks on disk.
  void SetKvDisk(const DiskStoreStats& stats);
  std::string Render(const std::vector<std::shared_ptr<ServedModel>>& models);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The ledger as the server sees it: entry names to bytes, and the process's own numbers.
struct MemoryReport {
  std::vector<std::pair<std::string, int64_t>> entries;
  int64_t total = 0;
  ProcessMemory process;
};
MemoryReport ReportMemory(const std::vector<std::shared_ptr<ServedModel>>& models);

}  // namespace ink
