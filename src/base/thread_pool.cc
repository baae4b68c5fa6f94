#include "base/thread_pool.h"

#include "base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ink {
namespace {

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// About 50 us of pauses on Zen 4 (40 ns each): longer than any gap between two kernels of a step,
// shorter than a time slice that a neighbour would miss.
constexpr int kSpins = 1200;
// The caller waits for workers that already run: it gives its core away only when they are late,
// which happens when there are more threads than cores.
constexpr int kJoinSpins = 20000;

}  // namespace

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads) {
  INK_CHECK_GE(num_threads, 1);
  for (int t = 1; t < num_threads; ++t) workers_.emplace_back([this, t] { WorkerLoop(t); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_.store(true);
    epoch_.fetch_add(1);
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::RunErased(ErasedFn fn, void* context) {
  if (num_threads_ == 1) {
    fn(context, 0);
    return;
  }
  fn_ = fn;
  context_ = context;
  pending_.store(num_threads_ - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1);  // publishes fn_, context_ and pending_
  if (sleepers_.load() > 0) {
    // A sleeper checks epoch_ under the mutex, so taking it here loses no wake-up.
    { std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  fn(context, 0);
  for (int spin = 0; pending_.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kJoinSpins) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::WorkerLoop(int thread) {
  uint64_t seen = 0;
  for (;;) {
    int spin = 0;
    while (epoch_.load(std::memory_order_acquire) == seen && spin < kSpins) {
      Pause();
      ++spin;
    }
    if (epoch_.load(std::memory_order_acquire) == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return epoch_.load() != seen; });
      sleepers_.fetch_sub(1);
    }
    ++seen;
    if (stop_.load()) return;
    fn_(context_, thread);
    pending_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace ink
