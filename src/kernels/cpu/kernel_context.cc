#include "base/thread_pool.h"
#include "kernels/op_params.h"

namespace ink {

void KernelContext::ParallelFor(int64_t count, void (*fn)(void*, int64_t, int),
                                void* argument) const noexcept {
  pool->ParallelFor(count, [=](int64_t index, int thread) { fn(argument, index, thread); });
}

int KernelContext::num_threads() const noexcept { return pool->num_threads(); }

}  // namespace ink
