// Which training kernels go with which op table, and the workspace that they all need.
#include "kernels/cpu/reference/train_kernels.h"
#include "kernels/cpu/vector_isas.h"
#include "kernels/cuda_device.h"

namespace ink {

const TrainKernels& TrainKernelsFor(std::string_view op_table) {
  if (op_table == "cuda" && CudaTrainKernels() != nullptr) return *CudaTrainKernels();
  for (const VectorIsa& isa : VectorIsas()) {
    if (isa.ops->name == op_table) return *isa.train;
  }
  return reference::kTrainKernels;
}

size_t MatmulWorkspaceBytes(const MatmulParams& p) {
  // Tiles of 8 rows of A and, unless it is packed already, panels of 16 rows of B, as float32.
  const int64_t a = (p.m + 7) / 8 * 8 * p.k;
  const int64_t b = p.b_packed.data != nullptr ? 0 : (p.n + 15) / 16 * 16 * p.k;
  return static_cast<size_t>(a + b) * sizeof(float) + 64;
}

size_t DenseAttentionWorkspaceBytes(const DenseAttentionParams& p, int num_threads) {
  const int64_t keys = (p.max_tokens + 64 + 31) / 32 * 32, dims = (p.head_dim + 31) / 32 * 32;
  const int64_t words = 4 * keys * dims + 2 * 64 * dims + 4 * 64 * keys;
  return static_cast<size_t>(words * 4 + 10 * 64) * static_cast<size_t>(num_threads);
}

}  // namespace ink
