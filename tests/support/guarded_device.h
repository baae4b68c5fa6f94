// A CPU device that catches cheating: its buffers cannot be touched outside kernel calls, explicit
// copies and BeginWrite/EndWrite, and its queue runs as late as it may.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "kernels/cpu/panels.h"
#include "kernels/device.h"

namespace ink::testing_support {

class GuardedDevice : public Device {
 public:
  GuardedDevice(int threads, Ledger* ledger)
      : Device(ledger),
        pool_(threads),
        scratch_(static_cast<std::byte*>(
            std::aligned_alloc(64, kKernelScratchBytes * static_cast<size_t>(threads)))) {}
  ~GuardedDevice() override { std::free(scratch_); }

  std::string_view name() const override { return "guarded"; }
  const OpTable& ops() const override { return *CpuOpTables().front(); }
  int num_threads() const override { return pool_.num_threads(); }
  using Device::Launch;
  void Launch(const KernelCall& call) override {
    auto params = std::make_shared<std::vector<std::byte>>(call.params_bytes);
    std::memcpy(params->data(), call.params, call.params_bytes);
    queue_.push_back([this, params, run = call.run] {
      run(params->data(), KernelContext{&pool_, scratch_, kKernelScratchBytes});
    });
  }
  void CopyToDevice(std::byte* to, const void* from, size_t bytes) override {
    if (bytes == 0) return;
    auto copy = std::make_shared<std::vector<std::byte>>(bytes);
    std::memcpy(copy->data(), from, bytes);
    queue_.push_back([=] { std::memcpy(to, copy->data(), bytes); });
  }
  void CopyToHost(void* to, const std::byte* from, size_t bytes) override {
    queue_.push_back([=] { std::memcpy(to, from, bytes); });
    Synchronize();
  }
  void CopyOnDevice(std::byte* to, const std::byte* from, size_t bytes) override {
    queue_.push_back([=] { std::memmove(to, from, bytes); });
  }
  void Synchronize() override {
    Protect(PROT_READ | PROT_WRITE);
    for (auto& call : queue_) call();
    queue_.clear();
    Protect(PROT_NONE);
  }
  std::byte* BeginWrite(std::byte* data, size_t) override {
    Synchronize();
    Protect(PROT_READ | PROT_WRITE);
    return data;
  }
  void EndWrite(std::byte*, size_t) override { Protect(PROT_NONE); }
  int panel_rows() const override { return kPanelRows; }
  Result<PackedMatrix> PlanPacked(DType type, int64_t rows, int64_t cols,
                                  int experts) const override {
    const PanelFormat* format = FindPanelFormat(type);
    if (format == nullptr) return Unsupported("type");
    return PackedMatrix{
        nullptr, type, rows, cols, PanelBytes(*format, cols), PackedBytes(*format, rows, cols),
        experts};
  }
  void PackPanel(const PackedMatrix& matrix, const std::byte* const* rows, int num_rows,
                 std::byte* out) const override {
    ink::PackPanel(*FindPanelFormat(matrix.type), rows, num_rows, matrix.cols, out);
  }
  void UnpackRow(const PackedMatrix&, int, int64_t, std::byte*) override { FAIL(); }
  ThreadPool& host_pool() override { return pool_; }

 protected:
  Result<std::byte*> AllocateBytes(size_t bytes) override {
    void* p = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    buffers_[static_cast<std::byte*>(p)] = bytes;
    return static_cast<std::byte*>(p);
  }
  void FreeBytes(std::byte* data, size_t bytes) override {
    Synchronize();
    buffers_.erase(data);
    munmap(data, bytes);
  }

 private:
  void Protect(int protection) {
    for (auto& [data, bytes] : buffers_) mprotect(data, bytes, protection);
  }
  ThreadPool pool_;
  std::byte* scratch_;
  std::map<std::byte*, size_t> buffers_;
  std::vector<std::function<void()>> queue_;
};

}  // namespace ink::testing_support
