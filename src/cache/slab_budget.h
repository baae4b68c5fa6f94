// One byte budget that all block pools of a memory (device or host) draw slabs from.
#pragma once

#include <cstdint>

namespace ink {

/// Counts bytes only; it allocates nothing. Used by the engine thread alone.
class SlabBudget {
 public:
  /// `total_bytes` >= 0.
  explicit SlabBudget(int64_t total_bytes);

  /// Takes `bytes` (>= 0) if they are left; otherwise changes nothing and returns false. O(1).
  bool TryReserve(int64_t bytes);
  /// Gives back bytes taken before. O(1).
  void Return(int64_t bytes);

  int64_t total_bytes() const { return total_bytes_; }
  int64_t used_bytes() const { return used_bytes_; }
  int64_t available_bytes() const { return total_bytes_ - used_bytes_; }

 private:
  int64_t total_bytes_;
  int64_t used_bytes_ = 0;
};

}  // namespace ink
