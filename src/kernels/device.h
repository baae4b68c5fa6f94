// A device owns memory and a queue of kernel calls. Model code never asks which device it runs on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <type_traits>

#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/op_params.h"
#include "kernels/op_table.h"
#include "tensor/ledger.h"

namespace ink {

class Device;

/// Device memory that is accounted in a ledger and freed with the object. Movable.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { Reset(); }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  void Reset();

 private:
  friend class Device;
  Device* device_ = nullptr;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  LedgerEntry entry_ = LedgerEntry::kActivations;
};

/// One kernel call in a queue: a function and a copy of its parameters.
struct KernelCall {
  void (*run)(const void* params, const KernelContext& context) noexcept;
  const void* params;
  size_t params_bytes;
};

/// Seam: every implementation passes tests/kernels/device_conformance.h.
/// Calls run in the order they were launched; memory handed to them stays untouched by the host
/// until Synchronize or CopyToHost.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;
  virtual const OpTable& ops() const = 0;
  virtual int num_threads() const = 0;
  Ledger& ledger() { return *ledger_; }

  /// Zeroed memory, 64-byte aligned (2 MiB pages where large). Errors: kOutOfMemory.
  Result<Buffer> Allocate(size_t bytes, LedgerEntry entry);

  /// Enqueues; the parameters are copied.
  virtual void Launch(const KernelCall& call) = 0;
  template <typename Params>
  void Launch(void (*kernel)(const Params&, const KernelContext&) noexcept, const Params& params) {
    static_assert(std::is_trivially_copyable_v<Params>);
    struct Bound {
      void (*kernel)(const Params&, const KernelContext&) noexcept;
      Params params;
    } bound{kernel, params};
    Launch(KernelCall{[](const void* p, const KernelContext& context) noexcept {
                        const Bound& b = *static_cast<const Bound*>(p);
                        b.kernel(b.params, context);
                      },
                      &bound, sizeof(bound)});
  }

  /// Copies in queue order; the host source may be reused on return.
  virtual void CopyToDevice(std::byte* to, const void* from, size_t bytes) = 0;
  /// Waits for all launched calls, then copies.
  virtual void CopyToHost(void* to, const std::byte* from, size_t bytes) = 0;
  /// In queue order.
  virtual void CopyOnDevice(std::byte* to, const std::byte* from, size_t bytes) = 0;
  virtual void Synchronize() = 0;

  /// Writes while loading: host pointer through which [data, +size) of a buffer may be filled
  /// before any kernel uses it (a staging area on devices with their own memory; EndWrite sends
  /// it).
  virtual std::byte* BeginWrite(std::byte* data, size_t bytes) = 0;
  virtual void EndWrite(std::byte* data, size_t bytes) = 0;

  // Packing: a device lays weights out for its own kernels.
  /// Rows that are packed together.
  virtual int panel_rows() const = 0;
  /// The packed form of `experts` matrices [rows, cols], without data; total size is
  /// expert_bytes * experts. Errors: kUnsupported for a type that cannot be packed.
  virtual Result<PackedMatrix> PlanPacked(DType type, int64_t rows, int64_t cols,
                                          int experts) const = 0;
  /// Packs up to panel_rows() rows (pointers to file bytes) into one panel at `out`, host memory of
  /// matrix.panel_bytes. Thread-safe.
  virtual void PackPanel(const PackedMatrix& matrix, const std::byte* const* rows, int num_rows,
                         std::byte* out) const = 0;
  /// One row back in file format: the inverse of packing.
  virtual void UnpackRow(const PackedMatrix& matrix, int expert, int64_t row, std::byte* out) = 0;

  /// Threads for host work beside the queue (packing weights while loading).
  virtual ThreadPool& host_pool() = 0;

 protected:
  explicit Device(Ledger* ledger) : ledger_(ledger) {}
  virtual Result<std::byte*> AllocateBytes(size_t bytes) = 0;
  virtual void FreeBytes(std::byte* data, size_t bytes) = 0;

 private:
  friend class Buffer;
  Ledger* ledger_;
};

struct CpuDeviceOptions {
  int num_threads = 0;        // 0: one per core
  std::string_view isa = "";  // "" for the best table
};

/// The CPU: calls run at once, on a thread pool. `ledger` outlives the device.
Result<std::unique_ptr<Device>> CreateCpuDevice(const CpuDeviceOptions& options, Ledger* ledger);

}  // namespace ink
