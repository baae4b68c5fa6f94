// A transport without sockets: tests and programs call the handler through it.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "transport/transport.h"

namespace ink {

/// One request in flight.
class MemoryExchange {
 public:
  /// Waits for the end of the answer; the whole body, chunks joined.
  HttpResponse Wait();
  /// Waits until at least `bytes` of the body have come or the answer has ended; the body so far.
  std::string WaitForBytes(size_t bytes);
  /// The client goes away.
  void Close();
  bool ended() const;

 private:
  friend class MemoryTransport;
  class Writer;
  struct State;
  explicit MemoryExchange(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

class MemoryTransport : public Transport {
 public:
  Status Start(HttpHandler handler) override;
  std::string url() const override { return "memory:"; }
  void StopAccepting() override { accepting_ = false; }
  void Stop() override { accepting_ = false; }
  int64_t num_connections() const override { return 0; }

  /// kUnavailable when not accepting.
  Result<MemoryExchange> Send(HttpRequest request);

 private:
  HttpHandler handler_;
  bool accepting_ = false;
};

}  // namespace ink
