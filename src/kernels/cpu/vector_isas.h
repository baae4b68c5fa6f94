// The instruction sets with kernels of their own, apart from the portable reference.
#pragma once

#include <span>

#include "kernels/cpu/peaks.h"
#include "kernels/op_table.h"
#include "kernels/train_kernels.h"

namespace ink {

struct VectorIsa {
  const OpTable* ops;
  const TrainKernels* train;
  const PeakLoops* peaks;
};

/// Those that this machine runs, the best first. None in a build without them
/// (INKSTONE_VECTOR_KERNELS=OFF, for sanitizers: they take most of its time to compile).
std::span<const VectorIsa> VectorIsas();

}  // namespace ink
