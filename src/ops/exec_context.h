// What an op runs with: a device, memory for results, and optionally a recorder.
#pragma once

#include "kernels/device.h"
#include "ops/arena.h"
#include "tensor/tensor.h"

namespace ink {

class Recorder;
class LinearHook;

struct ExecContext {
  Device& device;
  Arena& arena;
  Recorder* recorder = nullptr;
  LinearHook* linear_hook = nullptr;  // adapters, calibration

  /// A float32 [rows, cols] result: from the recorder's arena when there is a recorder, so that it
  /// lives until backward. Contents are undefined.
  Tensor NewTensor(int64_t rows, int64_t cols);
  /// Bytes for this op only.
  std::byte* Scratch(size_t bytes) { return arena.Allocate(bytes); }

  /// Enqueues a kernel, unless the arena only measures.
  template <typename Params>
  void Launch(void (*kernel)(const Params&, const KernelContext&) noexcept, const Params& params) {
    if (!arena.measuring()) device.Launch(kernel, params);
  }
};

/// Frees what was allocated since it was made. With a recorder results live elsewhere and stay.
class ArenaScope {
 public:
  explicit ArenaScope(ExecContext& context) : arena_(context.arena), mark_(arena_.used()) {}
  ~ArenaScope() { arena_.Rewind(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  size_t mark_;
};

}  // namespace ink
