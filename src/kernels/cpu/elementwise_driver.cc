#include "kernels/cpu/elementwise_driver.h"

#include <algorithm>

namespace ink {

void ForElements(int64_t count, void (*span)(const void* params, int64_t first, int64_t count),
                 const void* params, const KernelContext& ctx) noexcept {
  struct Job {
    int64_t count;
    void (*span)(const void* params, int64_t first, int64_t count);
    const void* params;
  } job{count, span, params};
  ctx.ParallelFor((count + kElementsPerItem - 1) / kElementsPerItem,
                  [](void* argument, int64_t index, int) {
                    const Job& job = *static_cast<const Job*>(argument);
                    const int64_t first = index * kElementsPerItem;
                    job.span(job.params, first, std::min(kElementsPerItem, job.count - first));
                  },
                  &job);
}

void ForRows(int64_t num_rows, int64_t dim, void (*row)(const void* params, int64_t index),
             const void* params, const KernelContext& ctx) noexcept {
  struct Job {
    int64_t num_rows;
    int64_t rows_per_item;
    void (*row)(const void* params, int64_t index);
    const void* params;
  } job{num_rows, std::max<int64_t>(1, kElementsPerItem / std::max<int64_t>(1, dim)), row, params};
  ctx.ParallelFor((num_rows + job.rows_per_item - 1) / job.rows_per_item,
                  [](void* argument, int64_t index, int) {
                    const Job& job = *static_cast<const Job*>(argument);
                    const int64_t end = std::min(job.num_rows, (index + 1) * job.rows_per_item);
                    for (int64_t r = index * job.rows_per_item; r < end; ++r)
                      job.row(job.params, r);
                  },
                  &job);
}

}  // namespace ink
