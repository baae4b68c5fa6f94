// Writes a model in other tensor types. Streams: memory is a few tens of MiB beside the mapped
// input, whatever the model's size.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "compress/importance.h"
#include "compress/recipe.h"
#include "formats/gguf.h"
#include "tensor/dtype.h"

namespace ink {

struct QuantizeProgress {
  uint64_t done_bytes = 0;  // of the input's tensor data
  uint64_t total_bytes = 0;
  int tensor = 0;  // being worked on, from 0
  int num_tensors = 0;
  std::string_view name;
};

/// Changes values on their way, row by row (merging adapters). Called by several threads at once.
class RowTransform {
 public:
  virtual ~RowTransform() = default;
  virtual bool Changes(std::string_view tensor) const = 0;
  /// `values` [row length] of row `row` in the file's order.
  virtual void Apply(std::string_view tensor, int64_t row, std::span<float> values) const = 0;
  /// The output gets an output.weight of its own, a changed copy of token_embd.weight.
  virtual bool UntiesOutput() const { return false; }
};

struct QuantizeOptions {
  /// Which types; null keeps the input's (tensors that `transform` changes are encoded again).
  const Recipe* recipe = nullptr;
  const RowTransform* transform = nullptr;
  bool pure = false;
  std::vector<TypeOverride> overrides;
  const ImportanceMatrix* importance = nullptr;
  /// Called on the calling thread, about once per 4M values; false cancels.
  std::function<bool(const QuantizeProgress&)> progress;
};

struct TensorReport {
  std::string name;
  int num_dims = 0;
  std::array<int64_t, 4> dims = {1, 1, 1, 1};  // row length first
  DType from = DType::kF32;
  DType to = DType::kF32;
  uint64_t from_bytes = 0;
  uint64_t to_bytes = 0;
  bool weighted = false;  // by an importance matrix
  double squared_error = 0.0;
  double squared_norm = 0.0;  // of the input values

  int64_t num_values() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
  double bits_per_weight() const;
  /// ||x - y|| / ||x||; 0 for a tensor of zeros.
  double relative_error() const;
};

struct QuantizeReport {
  std::vector<TensorReport> tensors;
  uint64_t from_bytes = 0;  // of tensor data
  uint64_t to_bytes = 0;
  uint64_t file_bytes = 0;  // of the new file
  int64_t num_values = 0;
  double bits_per_weight = 0.0;
  double relative_error = 0.0;  // over all values
  std::vector<std::string> warnings;
};

/// Reads the GGUF model `in` (first shard of a sharded one) and writes `out` as one file, which
/// appears only when complete; `in` may be `out`, unless sharded. The result does not depend on the
/// number of threads. Errors: those of GgufFile::Open and GgufWriter; kCorrupt for a value that is
/// not finite (tensor and index are named); kInvalidArgument for one out of the new type's range or
/// an importance matrix of another model; kCancelled.
Result<QuantizeReport> QuantizeGguf(const std::string& in, const std::string& out,
                                    const QuantizeOptions& options, ThreadPool& pool);
/// The same for an open file, which may be in memory.
Result<QuantizeReport> QuantizeGguf(const GgufFile& in, const std::string& out,
                                    const QuantizeOptions& options, ThreadPool& pool);

}  // namespace ink
