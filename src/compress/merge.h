// Folds adapters into a model's weights.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "compress/quantize.h"
#include "formats/gguf.h"
#include "model/adapter.h"

namespace ink {

struct MergeAdapter {
  const Adapter* adapter = nullptr;
  float scale = 1.0f;  // times the adapter's own
};

/// Writes `base` with the adapters folded in, one after the other, as the engine applies them:
/// W += s B A, and for DoRA W = m / |W0 + s B A| (W + s B A), where W0 is the base's matrix.
/// Matrices that no adapter names keep their bytes; changed ones are encoded again in their own
/// type, or everything in `options.recipe`'s types (options.transform is this call's own). An
/// adapter of a tied output head unties it. `target` is the base's. Errors: those of CheckAdapter
/// and QuantizeGguf, and kInvalidArgument for a scale that is not finite or no adapters.
Result<QuantizeReport> MergeAdapters(const GgufFile& base, const AdapterTarget& target,
                                     std::span<const MergeAdapter> adapters, const std::string& out,
                                     QuantizeOptions options, ThreadPool& pool);

}  // namespace ink
