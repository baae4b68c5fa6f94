// A fixed set of threads that run one function over a range. Made for kernels: a call costs about a
// microsecond while the workers are spinning, and nothing while they sleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace ink {

class ThreadPool {
 public:
  /// `num_threads` >= 1 counts the calling thread.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  /// Calls fn(thread) once for each thread in [0, num_threads) at the same time and returns when
  /// all are done. `fn` may not call Run again. One caller at a time.
  template <typename Fn>
  void Run(Fn&& fn) {
    using F = std::remove_reference_t<Fn>;
    RunErased([](void* context, int thread) { (*static_cast<F*>(context))(thread); },
              const_cast<void*>(static_cast<const void*>(&fn)));
  }

  /// Calls fn(index, thread) for each index in [0, count), handed out one at a time.
  template <typename Fn>
  void ParallelFor(int64_t count, Fn&& fn) {
    if (count <= 0) return;
    if (num_threads_ == 1 || count == 1) {
      for (int64_t i = 0; i < count; ++i) fn(i, 0);
      return;
    }
    std::atomic<int64_t> next{0};
    Run([&](int thread) {
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) fn(i, thread);
    });
  }

 private:
  using ErasedFn = void (*)(void* context, int thread);
  void RunErased(ErasedFn fn, void* context);
  void WorkerLoop(int thread);

  const int num_threads_;
  std::vector<std::thread> workers_;
  ErasedFn fn_ = nullptr;
  void* context_ = nullptr;
  // epoch_ counts Run calls; a worker that sees it change runs fn_ and decrements pending_.
  alignas(64) std::atomic<uint64_t> epoch_{0};
  alignas(64) std::atomic<int> pending_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace ink
