#include "cache/slab_budget.h"

#include "base/check.h"

namespace ink {

SlabBudget::SlabBudget(int64_t total_bytes) : total_bytes_(total_bytes) {
  INK_CHECK_GE(total_bytes, 0);
}

bool SlabBudget::TryReserve(int64_t bytes) {
  INK_CHECK_GE(bytes, 0);
  if (bytes > available_bytes()) return false;
  used_bytes_ += bytes;
  return true;
}

void SlabBudget::Return(int64_t bytes) {
  INK_CHECK_GE(bytes, 0);
  INK_CHECK_LE(bytes, used_bytes_);
  used_bytes_ -= bytes;
}

}  // namespace ink
