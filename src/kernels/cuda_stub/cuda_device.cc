// Stands in for cuda/ in builds without CUDA.
#include "kernels/cuda_device.h"

namespace ink {

Result<std::unique_ptr<Device>> CreateCudaDevice(Ledger*) {
  return Unsupported("this build has no CUDA support (configure with -DINKSTONE_CUDA=ON)");
}

const TrainKernels* CudaTrainKernels() { return nullptr; }

}  // namespace ink
