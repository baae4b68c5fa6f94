// Parameters of a model as ops see them.
#pragma once

#include <string>

#include "kernels/op_params.h"

namespace ink {

/// A matrix [rows, cols] (or `experts` of them) in the device's packed form. A recorder and
/// adapters know it by its address, so it stays where it is while the model lives.
struct Weight {
  std::string name;
  PackedMatrix packed;
};

/// A float32 vector in device memory: norm weights, biases, rope factors.
struct VectorWeight {
  std::string name;
  const float* data = nullptr;  // [size]
  int64_t size = 0;
};

}  // namespace ink
