// How `inkstone serve` loads models: the first at start, others when asked, all under one budget.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "loaded_model.h"
#include "machine_limits.h"
#include "serve/model_set.h"

namespace ink::cli {

/// NAME=FILE or NAME=FILE:SCALE. Errors: kInvalidArgument.
Result<AdapterSource> ParseServedAdapter(const std::string& text);

/// Thread-safe.
class ServeLoader {
 public:
  struct Settings {
    EngineFlags engine;  // of the first model; threads, cache type and budget are everybody's
    std::string policy;
    int max_waiting = 512;
    int token_budget = 512;
    std::string chat_template;     // source; replaces the first model's own
    std::string first;             // its name
    DiskStore* kv_disk = nullptr;  // outlives every model; null for none
    PeakRates peaks;               // 0: measured when a model was loaded
  };
  explicit ServeLoader(Settings settings) : settings_(std::move(settings)) {}

  /// Errors: as loading, and kOutOfMemory where --memory does not hold it beside the others.
  Result<std::shared_ptr<ServedModel>> Load(const ModelSource& source, bool progress);

  /// Runs `add` where --memory has `bytes` more beside everything loaded.
  Status WithinBudget(int64_t bytes, const std::function<Status()>& add);

 private:
  int64_t UsedBytes();

  const Settings settings_;
  std::mutex mutex_;
  std::vector<std::weak_ptr<LoadedModel>> loaded_;
};

}  // namespace ink::cli
