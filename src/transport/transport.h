// Bytes and connections: turns HTTP/1.1 into HttpRequest and ResponseWriter, and knows nothing of
// what is said over it. Every implementation passes tests/transport/transport_conformance.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "serve/http.h"

namespace ink {

class Transport {
 public:
  virtual ~Transport() = default;

  /// Serves requests with `handler`, on the transport's own threads, from now on. Errors: kIo
  /// (address in use, not permitted), kInvalidArgument (no address).
  virtual Status Start(HttpHandler handler) = 0;
  /// Where it listens, e.g. "http://127.0.0.1:8080"; the port is the real one.
  virtual std::string url() const = 0;
  /// No new connections; those that are open end after their current answer.
  virtual void StopAccepting() = 0;
  /// Ends everything at once and joins the threads. The destructor does the same.
  virtual void Stop() = 0;
  virtual int64_t num_connections() const = 0;
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;  // 0: any free one
  int num_threads = 2;
  size_t max_connections = 2048;
  size_t max_header_bytes = 32 << 10;
  size_t max_body_bytes = 32 << 20;
  /// Bytes of an answer that may wait for a slow reader before it counts as gone.
  size_t max_queued_bytes = 8 << 20;
  std::chrono::seconds idle_timeout{75};     // between requests
  std::chrono::seconds request_timeout{30};  // a request must have arrived within
  std::chrono::seconds write_timeout{30};    // a reader must take some bytes within
  std::string tls_certificate;               // PEM files; both or none
  std::string tls_key;
};

/// The transport outlives every ResponseWriter that it handed out: end the requests first.
/// Boost.Beast over TCP, TLS where configured. Errors: kInvalidArgument (bad certificate or key).
Result<std::unique_ptr<Transport>> CreateHttpTransport(const HttpOptions& options);

/// Whether an address means this machine alone: 127.0.0.0/8, ::1, localhost.
bool IsLoopback(const std::string& host);

}  // namespace ink
