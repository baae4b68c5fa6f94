// The CUDA device: training on one GPU. Its op table has what training records; paged attention and
// quantized weights are the CPU's so far.
#pragma once

#include <memory>

#include "kernels/device.h"
#include "kernels/train_kernels.h"

namespace ink {

/// GPU 0. Errors: kUnsupported (built without CUDA), kUnavailable (no GPU), kOutOfMemory.
Result<std::unique_ptr<Device>> CreateCudaDevice(Ledger* ledger);

/// The training kernels of the "cuda" op table, null in a build without CUDA.
const TrainKernels* CudaTrainKernels();

}  // namespace ink
