// The server without its sockets: routes, keys, limits, dispatch. One HttpHandler out of models.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#include "serve/api_error.h"
#include "serve/engine_room.h"
#include "serve/http.h"
#include "serve/keys.h"
#include "serve/limits.h"
#include "serve/metrics.h"
#include "serve/model_set.h"
#include "serve/served_model.h"
#include "serve/static_file.h"
#include "serve/trace.h"

namespace ink {

struct Route;
struct Call;
struct RequestContext;

struct ServiceOptions {
  std::vector<std::shared_ptr<ServedModel>> models;  // the first is "default"
  ModelSet::Options model_set;
  std::vector<ModelSource> sources;  // how `models` were loaded, and more that load when asked for
  /// Only requests whose Host is this machine are answered (no keys): a web page whose name was
  /// made to point here must not reach the models.
  bool loopback_hosts_only = false;
  std::shared_ptr<KeyStore> keys;      // null: no keys
  std::shared_ptr<DiskStore> kv_disk;  // where the models keep cached prefixes, or null
  bool strict = false;                 // unknown fields are errors
  int num_workers = 2;                 // threads that parse, render and tokenize requests
  size_t max_backlog = 1024;           // requests waiting for a worker; more get 429
  std::string version;
  std::vector<StaticFile> files;
  /// One JSON object per finished request, from any thread; may be empty.
  std::function<void(const Json& record)> log;
  std::shared_ptr<SpanSink> trace;  // where spans of requests go; null: none are made
};

/// Thread-safe.
class Service {
 public:
  explicit Service(ServiceOptions options);
  /// Cancels the requests that run and waits until nothing of them is left.
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  /// Never blocks: health checks are answered at once, the rest by the workers and the engines.
  void Handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer);
  HttpHandler handler() {
    return [this](HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
      Handle(std::move(request), std::move(writer));
    };
  }

  /// Refuses new generations; true once the running ones have ended, false at the deadline.
  bool Drain(std::chrono::steady_clock::time_point deadline);

  const ServiceOptions& options() const { return options_; }
  ModelSet& models() { return models_; }
  Metrics& metrics() { return metrics_; }
  /// The OpenAPI 3.1 description of every route, made from the tables that the routes use.
  Json OpenApi() const;

 private:
  struct Job {
    HttpRequest request;
    std::shared_ptr<ResponseWriter> writer;
    std::chrono::steady_clock::time_point received;
  };

  void WorkerLoop();
  std::shared_ptr<void> OpenRequest();
  void Process(Job job);
  ApiStatus Authorize(const HttpRequest& request, std::optional<KeyInfo>* key);
  bool AllowsHost(const HttpRequest& request);
  ApiStatus Dispatch(const Route& route, const HttpRequest& request,
                     const std::optional<KeyInfo>& key, RequestContext context);

  // service_routes.cc
  friend struct Route;
  void SendModels(Call& call, std::string_view only);
  void SendTags(Call& call);
  void SendMemory(Call& call);
  void SendStats(Call& call);
  ApiStatus HandleModels(const HttpRequest& request, const std::optional<KeyInfo>& key, Call& call);
  ApiStatus HandleAdapters(const HttpRequest& request, const std::optional<KeyInfo>& key,
                           Call& call);
  ApiStatus HandleKeys(const HttpRequest& request, const std::optional<KeyInfo>& key, Call& call);

  ServiceOptions options_;
  Metrics metrics_;
  Limiter limiter_;
  EngineRoom engine_room_;
  ModelSet models_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::queue<Job> jobs_;
  bool stop_ = false;
  bool draining_ = false;
  int64_t open_requests_ = 0;  // contexts that exist
  std::condition_variable all_closed_;
  std::vector<std::thread> workers_;
};

}  // namespace ink
