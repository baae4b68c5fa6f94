// Memory, copies and the queue of one GPU. Weights are packed as plain rows of BF16 or F32.
#include <cuda_runtime.h>

#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda_device.h"

namespace ink {
namespace {

// Scores of attention are whole matrices here: 64 sequences x 8 heads x 512 x 512 floats, twice.
constexpr size_t kScratchBytes = size_t{2} << 30;

void Check(cudaError_t error) {
  if (error != cudaSuccess)
    internal::CheckFailed(__FILE__, __LINE__, "CUDA call", cudaGetErrorString(error));
}

class CudaDevice : public Device {
 public:
  explicit CudaDevice(Ledger* ledger) : Device(ledger), pool_(1) {}
  ~CudaDevice() override { cudaFree(scratch_); }

  Status Init() {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
      return Unavailable("no CUDA device was found");
    }
    if (cudaMalloc(&scratch_, kScratchBytes) != cudaSuccess) {
      return OutOfMemory("cannot allocate " + std::to_string(kScratchBytes) + " bytes on the GPU");
    }
    context_.pool = nullptr;
    context_.scratch = static_cast<std::byte*>(scratch_);
    context_.scratch_bytes = kScratchBytes;
    return OkStatus();
  }

  std::string_view name() const override { return "cuda"; }
  const OpTable& ops() const override { return cuda::kOpTable; }
  int num_threads() const override { return 1; }
  using Device::Launch;
  void Launch(const KernelCall& call) override { call.run(call.params, context_); }
  void CopyToDevice(std::byte* to, const void* from, size_t bytes) override {
    if (bytes > 0) Check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
  }
  void CopyToHost(void* to, const std::byte* from, size_t bytes) override {
    if (bytes > 0) Check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
  }
  void CopyOnDevice(std::byte* to, const std::byte* from, size_t bytes) override {
    if (bytes > 0) Check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice));
  }
  void Synchronize() override { Check(cudaDeviceSynchronize()); }
  std::byte* BeginWrite(std::byte*, size_t bytes) override {
    staging_.resize(bytes);
    return staging_.data();
  }
  void EndWrite(std::byte* data, size_t bytes) override {
    CopyToDevice(data, staging_.data(), bytes);
  }
  int panel_rows() const override { return 16; }
  Result<PackedMatrix> PlanPacked(DType type, int64_t rows, int64_t cols,
                                  int experts) const override {
    if (type != DType::kBF16 && type != DType::kF32) {
      return Unsupported("type " + std::string(Info(type).name) + " cannot be packed for CUDA");
    }
    const int64_t row = RowBytes(type, cols);
    return PackedMatrix{nullptr, type, rows, cols, 16 * row, (rows + 15) / 16 * 16 * row, experts};
  }
  void PackPanel(const PackedMatrix& matrix, const std::byte* const* rows, int num_rows,
                 std::byte* out) const override {
    const int64_t row = RowBytes(matrix.type, matrix.cols);
    std::memset(out, 0, static_cast<size_t>(matrix.panel_bytes));
    for (int r = 0; r < num_rows; ++r)
      std::memcpy(out + r * row, rows[r], static_cast<size_t>(row));
  }
  void UnpackRow(const PackedMatrix& matrix, int expert, int64_t row, std::byte* out) override {
    const int64_t bytes = RowBytes(matrix.type, matrix.cols);
    CopyToHost(out, matrix.data + expert * matrix.expert_bytes + row * bytes,
               static_cast<size_t>(bytes));
  }
  ThreadPool& host_pool() override { return pool_; }

 protected:
  Result<std::byte*> AllocateBytes(size_t bytes) override {
    void* p = nullptr;
    if (cudaMalloc(&p, bytes) != cudaSuccess) {
      return OutOfMemory("cannot allocate " + std::to_string(bytes) + " bytes on the GPU");
    }
    Check(cudaMemset(p, 0, bytes));
    return static_cast<std::byte*>(p);
  }
  void FreeBytes(std::byte* data, size_t) override { cudaFree(data); }

 private:
  ThreadPool pool_;
  void* scratch_ = nullptr;
  KernelContext context_;
  std::vector<std::byte> staging_;
};

}  // namespace

Result<std::unique_ptr<Device>> CreateCudaDevice(Ledger* ledger) {
  auto device = std::make_unique<CudaDevice>(ledger);
  INK_RETURN_IF_ERROR(device->Init());
  return std::unique_ptr<Device>(std::move(device));
}

const TrainKernels* CudaTrainKernels() { return &cuda::kTrainKernels; }

}  // namespace ink
