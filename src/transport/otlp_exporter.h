// Sends spans to an OpenTelemetry collector (OTLP/HTTP with JSON), in batches, from a thread of its
// own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "serve/trace.h"
#include "transport/http_client.h"

namespace ink {

struct OtlpOptions {
  /// The collector, e.g. "http://127.0.0.1:4318"; "/v1/traces" is added where it is not there.
  std::string endpoint;
  HttpHeaders headers;  // e.g. an authorization
  std::string service_name = "inkstone";
  std::string version;
  size_t max_queue = 8192;  // spans waiting; more are dropped
  size_t max_batch = 512;
  std::chrono::milliseconds delay{1000};  // how long a span may wait for others
  HttpClientOptions http;
  /// How long the destructor goes on sending what waits.
  std::chrono::milliseconds last_send{2000};
  /// One sentence when sending begins to fail, and when it works again; any thread; may be empty.
  std::function<void(const std::string& sentence)> log;
};

/// A collector that cannot be reached costs a request nothing: a batch that fails is sent again
/// after 1, 2, 4, ... 30 s, what comes meanwhile waits in the queue, and what finds it full is
/// dropped. Answers that mean "never" (400 and the like) drop their batch.
class OtlpExporter : public SpanSink {
 public:
  /// Errors: kInvalidArgument (endpoint, certificates).
  static Result<std::shared_ptr<OtlpExporter>> Create(OtlpOptions options);
  ~OtlpExporter() override;

  void Add(std::vector<Span> spans) override;
  int64_t exported() const override;
  int64_t dropped() const override;

 private:
  OtlpExporter(OtlpOptions options, std::string path, std::unique_ptr<HttpClient> client);
  void Loop();
  /// kUnavailable: worth another try. `rejected`: spans that the collector did not want.
  Status Send(const std::vector<Span>& batch, int64_t* rejected);

  const OtlpOptions options_;
  const std::string path_;
  const std::unique_ptr<HttpClient> client_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable ended_;
  std::vector<Span> queue_;
  int64_t exported_ = 0;
  int64_t dropped_ = 0;
  bool stop_ = false;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace ink
