// What a key may do right now: requests and tokens per minute, tokens per day, concurrency.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "serve/api_error.h"
#include "serve/keys.h"

namespace ink {

class Limiter;

/// A running request's hold on its key; gives the concurrency back when it goes.
class KeyLease {
 public:
  KeyLease(Limiter* limiter, KeyInfo key) : limiter_(limiter), key_(std::move(key)) {}
  ~KeyLease();
  KeyLease(const KeyLease&) = delete;
  KeyLease& operator=(const KeyLease&) = delete;

  const KeyInfo& key() const { return key_; }
  /// Counts tokens against the budgets; they were used whether or not the budget had them.
  void Charge(int64_t tokens);

 private:
  Limiter* limiter_;
  KeyInfo key_;
};

/// Thread-safe; outlives its leases.
class Limiter {
 public:
  using Clock = std::chrono::steady_clock;
  using ClockFn = std::function<Clock::time_point()>;

  /// `store` receives the tokens used and may be null; `now` is for tests.
  explicit Limiter(KeyStore* store, ClockFn now = Clock::now) : store_(store), now_(now) {}

  /// Admits a request of the key, or says what is exceeded and when to come back (429).
  /// A minute's allowance is a bucket that refills evenly. Tokens are charged when they are known,
  /// so a bucket may go below zero and the next request waits for it.
  std::shared_ptr<KeyLease> Admit(const KeyInfo& key, ApiError* error);

 private:
  friend class KeyLease;
  struct Bucket {
    double level = 0;
    Clock::time_point at;
    bool filled = false;
    void Refill(double per_minute, Clock::time_point now);
  };
  struct State {
    Bucket requests;
    Bucket tokens;
    int64_t concurrency = 0;
  };

  void Release(const KeyInfo& key);
  void Charge(const KeyInfo& key, int64_t tokens);

  KeyStore* store_;
  ClockFn now_;
  std::mutex mutex_;
  std::unordered_map<std::string, State> states_;
};

}  // namespace ink
