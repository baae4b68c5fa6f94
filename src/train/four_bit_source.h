// A model's matrices in four bits, made in memory from a source in float.
#pragma once

#include <memory>

#include "model/weight_source.h"

namespace ink {

/// IQ4_NL: blocks of 32 with a 16-value codebook shaped for normally distributed weights, as NF4
/// has (Dettmers et al. 2023); unlike NF4 it has panels and kernels on every device.
inline constexpr DType kFourBitType = DType::kIQ4_NL;

/// Float matrices (f32, f16, bf16) become kFourBitType, except where their columns are no multiple
/// of its block and routers of experts; quantized ones stay as they are. `base` outlives the
/// result. A tensor's new bytes are freed once all its rows were dropped.
std::unique_ptr<WeightSource> MakeFourBitSource(const WeightSource& base);

}  // namespace ink
