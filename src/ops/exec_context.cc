#include "ops/exec_context.h"

#include "ops/recorder.h"

namespace ink {

Tensor ExecContext::NewTensor(int64_t rows, int64_t cols) {
  if (recorder != nullptr) return recorder->Allocate(rows, cols);
  auto* data = reinterpret_cast<float*>(arena.Allocate(rows * cols * sizeof(float)));
  return {data, rows, cols, cols};
}

}  // namespace ink
