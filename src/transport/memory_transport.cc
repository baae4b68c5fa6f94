#include "transport/memory_transport.h"

#include <utility>

namespace ink {

struct MemoryExchange::State {
  mutable std::mutex mutex;
  std::condition_variable changed;
  HttpResponse response;
  bool ended = false;
  bool closed = false;
  std::function<void()> on_close;
};

class MemoryExchange::Writer : public ResponseWriter {
 public:
  explicit Writer(std::shared_ptr<State> state) : state_(std::move(state)) {}
  ~Writer() override {
    Change([](State& s) { s.ended = true; });
  }

  void Send(HttpResponse response) override {
    Change([&](State& s) {
      s.response = std::move(response);
      s.ended = true;
    });
  }
  void Begin(HttpResponse head) override {
    Change([&](State& s) { s.response = std::move(head); });
  }
  void Write(std::string_view chunk) override {
    Change([&](State& s) {
      if (!s.closed) s.response.body += chunk;
    });
  }
  void End() override {
    Change([](State& s) { s.ended = true; });
  }
  bool IsOpen() const override {
    std::lock_guard lock(state_->mutex);
    return !state_->closed;
  }
  void OnClose(std::function<void()> callback) override {
    bool now = false;
    {
      std::lock_guard lock(state_->mutex);
      now = state_->closed;
      if (!now) state_->on_close = std::move(callback);
    }
    if (now) callback();
  }

 private:
  template <typename Fn>
  void Change(Fn fn) {
    {
      std::lock_guard lock(state_->mutex);
      fn(*state_);
    }
    state_->changed.notify_all();
  }
  std::shared_ptr<State> state_;
};

HttpResponse MemoryExchange::Wait() {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->ended; });
  return state_->response;
}

std::string MemoryExchange::WaitForBytes(size_t bytes) {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock,
                       [&] { return state_->ended || state_->response.body.size() >= bytes; });
  return state_->response.body;
}

void MemoryExchange::Close() {
  std::function<void()> callback;
  {
    std::lock_guard lock(state_->mutex);
    state_->closed = true;
    callback = std::move(state_->on_close);
    state_->on_close = nullptr;
  }
  if (callback) callback();
}

bool MemoryExchange::ended() const {
  std::lock_guard lock(state_->mutex);
  return state_->ended;
}

Status MemoryTransport::Start(HttpHandler handler) {
  handler_ = std::move(handler);
  accepting_ = true;
  return OkStatus();
}

Result<MemoryExchange> MemoryTransport::Send(HttpRequest request) {
  if (!accepting_) return Unavailable("the transport takes no new requests");
  auto state = std::make_shared<MemoryExchange::State>();
  handler_(std::move(request), std::make_shared<MemoryExchange::Writer>(state));
  return MemoryExchange(std::move(state));
}

}  // namespace ink
