// The adapters of a served model: loaded, exchanged and unloaded while requests run.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "model/adapter.h"
#include "serve/engine_thread.h"

namespace ink {

struct AdapterSource {
  std::string name;  // what clients call it, in the place of a model's name
  std::string path;  // a PEFT folder or a GGUF file
  float scale = 1.0f;
};

/// One loading of an adapter. It leaves the engine when the table lets go of it and the last
/// request that uses it is over.
struct ServedAdapter {
  AdapterSource source;
  std::string engine_name;  // the engine's name: another one for each loading
  int64_t bytes = 0;        // on the device
  int64_t created = 0;      // Unix seconds

  AdapterUse use() const { return {engine_name, source.scale}; }
};

struct AdapterView {
  AdapterSource source;
  int64_t bytes = 0;
  int64_t created = 0;
  int64_t requests = 0;
  bool draining = false;  // unloaded or exchanged, and leaves with its last request
};

/// Runs `add`, which takes `bytes` of memory, where the server's budget has them; else kOutOfMemory
/// with the arithmetic.
using AdapterBudgetFn = std::function<Status(int64_t bytes, const std::function<Status()>& add)>;

/// Thread-safe. Handles that Use gave out do not outlive `engine`.
class AdapterTable {
 public:
  /// `engine` and `target` outlive the table; `budget` may be empty.
  AdapterTable(EngineThread& engine, const AdapterTarget& target, AdapterBudgetFn budget)
      : engine_(engine), target_(target), budget_(std::move(budget)) {}

  /// Reads the file and gives it to the engine, between two steps. One that has the name already
  /// serves until then, and goes with its last request. Waits for the engine: not from a callback.
  /// Errors: those of ReadAdapter, kOutOfMemory.
  Status Load(const AdapterSource& source);
  /// No further request gets it. Errors: kNotFound.
  Status Unload(const std::string& name);
  /// A request's hold on the adapter, one for each request; null where there is none of the name.
  std::shared_ptr<const ServedAdapter> Use(const std::string& name) const;
  /// In order of names, then those that drain.
  std::vector<AdapterView> Views() const;

 private:
  using Held = std::shared_ptr<const ServedAdapter>;

  EngineThread& engine_;
  const AdapterTarget& target_;
  const AdapterBudgetFn budget_;
  mutable std::mutex mutex_;
  std::map<std::string, Held> adapters_;
  mutable std::vector<std::weak_ptr<const ServedAdapter>> draining_;
  std::atomic<uint64_t> next_serial_{1};
};

}  // namespace ink
