#include "serve/limits.h"

#include <algorithm>
#include <ctime>

namespace ink {

KeyLease::~KeyLease() { limiter_->Release(key_); }
void KeyLease::Charge(int64_t tokens) { limiter_->Charge(key_, tokens); }

void Limiter::Bucket::Refill(double per_minute, Clock::time_point now) {
  if (!filled) {
    level = per_minute;
    filled = true;
  } else {
    const double seconds = std::chrono::duration<double>(now - at).count();
    level = std::min(per_minute, level + per_minute * seconds / 60);
  }
  at = now;
}

std::shared_ptr<KeyLease> Limiter::Admit(const KeyInfo& key, ApiError* error) {
  const KeyPolicy& policy = key.policy;
  auto refuse = [&](std::string message, double retry_after_s) {
    error->http_status = 429;
    error->message = std::move(message);
    error->code = "rate_limit_exceeded";
    error->retry_after_s = std::max(1.0, retry_after_s);
    return nullptr;
  };
  std::lock_guard lock(mutex_);
  State& state = states_[key.id];
  const Clock::time_point now = now_();
  if (policy.max_concurrency > 0 && state.concurrency >= policy.max_concurrency) {
    return refuse("this key may run " + std::to_string(policy.max_concurrency) +
                      " requests at once, and as many are running",
                  1);
  }
  if (policy.tokens_per_day > 0 && key.tokens_today >= policy.tokens_per_day) {
    return refuse("this key may use " + std::to_string(policy.tokens_per_day) +
                      " tokens per day, and has used " + std::to_string(key.tokens_today),
                  static_cast<double>(86400 - std::time(nullptr) % 86400));
  }
  if (policy.tokens_per_minute > 0) {
    const double per_minute = static_cast<double>(policy.tokens_per_minute);
    state.tokens.Refill(per_minute, now);
    if (state.tokens.level <= 0) {
      return refuse("this key may use " + std::to_string(policy.tokens_per_minute) +
                        " tokens per minute, and has used them",
                    (1 - state.tokens.level) * 60 / per_minute);
    }
  }
  if (policy.requests_per_minute > 0) {
    const double per_minute = static_cast<double>(policy.requests_per_minute);
    state.requests.Refill(per_minute, now);
    if (state.requests.level < 1) {
      return refuse("this key may make " + std::to_string(policy.requests_per_minute) +
                        " requests per minute, and has made them",
                    (1 - state.requests.level) * 60 / per_minute);
    }
    state.requests.level -= 1;
  }
  ++state.concurrency;
  return std::make_shared<KeyLease>(this, key);
}

void Limiter::Release(const KeyInfo& key) {
  std::lock_guard lock(mutex_);
  --states_[key.id].concurrency;
}

void Limiter::Charge(const KeyInfo& key, int64_t tokens) {
  if (tokens <= 0) return;
  {
    std::lock_guard lock(mutex_);
    State& state = states_[key.id];
    if (key.policy.tokens_per_minute > 0) {
      state.tokens.Refill(static_cast<double>(key.policy.tokens_per_minute), now_());
      state.tokens.level -= static_cast<double>(tokens);
    }
  }
  // A full disk must not fail a request that was served; the budget is then short by these tokens.
  if (store_ != nullptr) (void)store_->AddUsage(key.id, tokens);
}

}  // namespace ink
