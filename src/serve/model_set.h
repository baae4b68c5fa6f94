// The models of a server: loaded, released while idle, woken by a request, exchanged while requests
// run on what they replace.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "serve/served_model.h"

namespace ink {

/// What a loader needs to know.
struct ModelSource {
  std::string name;       // what clients call it
  std::string path;       // empty: the embedded default model
  int64_t context = 0;    // 0: the server's setting
  int64_t sequences = 0;  // 0: the server's setting
  /// Loaded with it; their names are models' names to clients.
  std::vector<AdapterSource> adapters;
};

/// Errors: as loading a model, and kOutOfMemory where the server's byte budget does not hold it.
using LoadModelFn = std::function<Result<std::shared_ptr<ServedModel>>(const ModelSource&)>;

enum class ModelState { kLoaded, kReleased, kDraining };

struct ModelView {
  ModelSource source;
  ModelState state = ModelState::kLoaded;
  int64_t requests = 0;
  std::shared_ptr<ServedModel> model;  // null when released
};

/// What a client's model name means.
struct ModelChoice {
  std::shared_ptr<ServedModel> model;            // null: no such model
  std::shared_ptr<const ServedAdapter> adapter;  // null: the model alone

  /// As clients know it.
  const std::string& name() const { return adapter ? adapter->source.name : model->name(); }
};

/// Thread-safe. Models leave memory on this object's own thread, once no request holds them: never
/// on a thread of the model itself.
class ModelSet {
 public:
  struct Options {
    LoadModelFn load;  // empty: nothing can be loaded or woken
    /// Idle models leave memory after this long; negative: never. The next request wakes them.
    std::chrono::milliseconds idle_release{-1};
  };

  /// `loaded`: the first models, in order; the first one is "default".
  ModelSet(std::vector<std::shared_ptr<ServedModel>> loaded, Options options);
  /// No request runs any more.
  ~ModelSet();
  ModelSet(const ModelSet&) = delete;
  ModelSet& operator=(const ModelSet&) = delete;

  /// How the model of this name was loaded, for waking it; and models that are not loaded yet.
  void SetSource(ModelSource source);

  /// The model or adapter that a request names ("" and "default": the first model; a ":latest" is
  /// ignored), woken where it was released, which may take as long as loading does.
  Result<ModelChoice> Find(const std::string& name);
  bool Has(const std::string& name) const;
  /// What is in memory, draining models apart.
  std::vector<std::shared_ptr<ServedModel>> Loaded() const;
  /// Those that drain too.
  std::vector<std::shared_ptr<ServedModel>> Everything() const;
  std::vector<ModelView> Views() const;

  /// Loads a model with its adapters and serves it under its name. One that has the name already
  /// serves until the new one is ready, and goes when its last request ends.
  Status Load(const ModelSource& source);
  /// No further request reaches it; it goes when its last request ends. kNotFound.
  Status Unload(const std::string& name);

  /// Loads an adapter of the model ("": the first), which is woken for it. One that has the name
  /// already, of the same model, serves until then and goes when its last request ends.
  Status LoadAdapter(const std::string& model, const AdapterSource& source);
  /// No further request reaches it; it goes when its last request ends. kNotFound.
  Status UnloadAdapter(const std::string& name);

 private:
  struct Slot {
    ModelSource source;
    std::shared_ptr<ServedModel> model;  // null: released
    std::chrono::steady_clock::time_point used;
    std::shared_ptr<std::mutex> loading = std::make_shared<std::mutex>();
  };

  void ReaperLoop();
  struct AdapterIndex {
    size_t slot, adapter;
  };
  std::optional<size_t> IndexOf(const std::string& name) const;
  std::optional<AdapterIndex> AdapterIndexOf(const std::string& name) const;
  Status CheckAdapterName(const std::string& name, const std::string& model) const;
  Result<std::shared_ptr<ServedModel>> Wake(const std::string& name);

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Slot> slots_;
  std::vector<std::shared_ptr<ServedModel>> draining_;
  bool stop_ = false;
  std::thread reaper_;
};

}  // namespace ink
