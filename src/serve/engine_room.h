// GET /v1/engine: what the engines hold, for the engine room of the web page.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/exchange.h"

namespace ink {

/// Thread-safe.
class EngineRoom {
 public:
  /// Has each engine describe itself between two steps, and answers once all have. A description
  /// younger than kFresh is used again, however many ask. Never blocks.
  void Send(RequestContext context, const std::vector<std::shared_ptr<ServedModel>>& models);

  static constexpr std::chrono::milliseconds kFresh{100};

 private:
  // The last description of one model.
  struct Shown {
    std::mutex mutex;
    std::string json;
    std::chrono::steady_clock::time_point at;
  };

  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Shown>> shown_;
};

}  // namespace ink
