// The thread that owns an Engine, and the thread that tells the others what it produced.
//
// Other threads submit and cancel through a mailbox that is read before every step, so a cancel
// takes effect within one step. What a step produced is handed over once per step to a delivery
// thread, which calls the requests' callbacks: formatting a response never delays the next step,
// and the events of one request arrive in order, from one thread.
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
#include <unordered_map>
#include <vector>

#include "engine/engine.h"

namespace ink {

/// A GenerationEvent that owns its parts.
struct TokenEvent {
  enum class Kind { kAccepted, kToken };
  Kind kind = Kind::kToken;  // kAccepted: queued by the engine, tokens will follow
  int choice = 0;
  int32_t token = -1;
  std::string text;
  std::optional<SampleResult> sample;
  FinishReason finish = FinishReason::kNone;
  std::string matched_stop;
  Status error;
  bool last = false;
  GenerationTimings timings;  // with `last`
  std::chrono::steady_clock::time_point at;
};

/// What an engine is doing, as of its last step.
struct EngineSnapshot {
  EngineStats stats;
  int64_t kv_blocks = 0;
  int64_t kv_blocks_used = 0;    // owned by sequences
  int64_t kv_blocks_cached = 0;  // kept for reuse
  int64_t kv_bytes = 0;
  int64_t prefix_index_bytes = 0;
  int64_t requests = 0;  // submitted and not ended
};

class EngineThread {
 public:
  using Ticket = uint64_t;
  using Callback = std::function<void(const TokenEvent&)>;

  explicit EngineThread(std::unique_ptr<Engine> engine);
  /// Cancels what runs, waits for it, and stops.
  ~EngineThread();
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  /// Any thread. The callback runs on the delivery thread: kAccepted, then tokens, up to one event
  /// with `last`; a request that cannot start has only that event, with its error. `request`'s own
  /// on_event is replaced.
  Ticket Submit(GenerationRequest request, Callback callback);
  /// Any thread; unknown tickets are ignored. The callback still gets its last event.
  void Cancel(Ticket ticket);
  /// Cancels whatever has been submitted until now.
  void CancelAll();
  /// Runs `fn` on the engine's thread between two steps.
  void Post(std::function<void(Engine&)> fn);
  /// Runs `fn` there and waits for it. Not from a callback.
  void Run(const std::function<void(Engine&)>& fn);

  /// Refuses new requests (kUnavailable) and lets the running ones end.
  void StopAccepting();
  /// True once nothing is left to do; waits for it at most until `deadline`.
  bool WaitIdle(std::chrono::steady_clock::time_point deadline);

  EngineSnapshot snapshot() const;
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const EngineConfig& config() const { return config_; }

 private:
  struct Delivery {
    std::shared_ptr<const Callback> callback;
    TokenEvent event;
  };

  void EngineLoop();
  void DeliveryLoop();
  void Start(Ticket ticket, GenerationRequest request, std::shared_ptr<const Callback> callback);
  void Hand(const std::shared_ptr<const Callback>& callback, TokenEvent event);
  void PublishStep();

  std::unique_ptr<Engine> engine_;  // engine thread only, after construction
  std::shared_ptr<const Tokenizer> tokenizer_;
  EngineConfig config_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::vector<std::function<void()>> mailbox_;
  bool stop_ = false;
  bool accepting_ = true;
  bool busy_ = false;  // the engine has work, or its mailbox did when last read
  Ticket next_ticket_ = 1;
  int64_t open_requests_ = 0;  // submitted, last event not yet delivered
  EngineSnapshot snapshot_;

  // Engine thread only.
  std::unordered_map<Ticket, RequestId> running_;
  std::vector<Delivery> produced_;

  std::mutex delivery_mutex_;
  std::condition_variable delivery_wake_;
  std::vector<Delivery> deliveries_;
  bool delivery_stop_ = false;

  std::thread engine_thread_;
  std::thread delivery_thread_;
};

}  // namespace ink
