// A model's matrices in NF4 (Dettmers et al. 2023), made in memory from a source in float.
#pragma once

#include <memory>

#include "model/weight_source.h"

namespace ink {

/// Float matrices (f32, f16, bf16) become NF4, except where their columns are no multiple of its
/// block and routers of experts; quantized ones stay as they are. `base` outlives the result. A
/// tensor's NF4 bytes are freed once all its rows were dropped.
std::unique_ptr<WeightSource> MakeNf4Source(const WeightSource& base);

}  // namespace ink
