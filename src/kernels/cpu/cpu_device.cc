#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>

#include "kernels/cpu/panels.h"
#include "kernels/device.h"

namespace ink {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// Makes every page resident now: the ledger counts what the operating system counts, and a machine
// without the memory says so before the work begins.
void Commit(std::byte* data, size_t bytes) {
#if defined(MADV_POPULATE_WRITE)
  if (madvise(data, bytes, MADV_POPULATE_WRITE) == 0) return;
#endif
  for (size_t i = 0; i < bytes; i += 4096) {
    static_cast<volatile std::byte*>(data)[i] = std::byte{0};
  }
}

// Memory straight from the kernel: zeroed, returned at once when freed, and in huge pages where a
// buffer is large enough to gain from them (the weight stream crosses a 4 KB page every 100 ns).
Result<std::byte*> MapBytes(size_t bytes) {
  // A huge-page buffer starts on a huge page: map one more and cut both ends off.
  bool huge = bytes >= kHugePage;
  size_t padded = huge ? bytes + kHugePage : bytes;
  void* p = mmap(nullptr, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    return OutOfMemory("cannot map " + std::to_string(bytes) + " bytes: " + std::strerror(errno));
  }
  auto* base = static_cast<std::byte*>(p);
  if (!huge) {
    Commit(base, bytes);
    return base;
  }
  auto address = reinterpret_cast<uintptr_t>(base);
  size_t lead = (kHugePage - address % kHugePage) % kHugePage;
  if (lead > 0) munmap(base, lead);
  size_t tail = (padded - lead - bytes) / 4096 * 4096;
  if (tail > 0) munmap(base + padded - tail, tail);
  // Only whole huge pages, so that no more memory than asked for becomes resident.
  madvise(base + lead, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  Commit(base + lead, bytes);
  return base + lead;
}

class CpuDevice : public Device {
 public:
  CpuDevice(int num_threads, const OpTable* table, Ledger* ledger)
      : Device(ledger), pool_(num_threads), table_(*table) {}
  ~CpuDevice() override {
    if (scratch_ != nullptr) munmap(scratch_, ScratchBytes());
    ledger().Remove(LedgerEntry::kActivations, static_cast<int64_t>(ScratchBytes()));
  }

  Status Init() {
    INK_ASSIGN_OR_RETURN(scratch_, MapBytes(ScratchBytes()));
    ledger().Add(LedgerEntry::kActivations, static_cast<int64_t>(ScratchBytes()));
    context_ = {&pool_, scratch_, kKernelScratchBytes};
    return OkStatus();
  }

  std::string_view name() const override { return "cpu"; }
  const OpTable& ops() const override { return table_; }
  int num_threads() const override { return pool_.num_threads(); }
  using Device::Launch;
  void Launch(const KernelCall& call) override { call.run(call.params, context_); }
  void CopyToDevice(std::byte* to, const void* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void CopyToHost(void* to, const std::byte* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void CopyOnDevice(std::byte* to, const std::byte* from, size_t bytes) override {
    if (bytes > 0) std::memmove(to, from, bytes);
  }
  void Synchronize() override {}
  std::byte* BeginWrite(std::byte* data, size_t) override { return data; }
  void EndWrite(std::byte*, size_t) override {}
  int panel_rows() const override { return kPanelRows; }
  Result<PackedMatrix> PlanPacked(DType type, int64_t rows, int64_t cols,
                                  int experts) const override {
    const PanelFormat* format = FindPanelFormat(type);
    if (format == nullptr) {
      return Unsupported("type " + std::string(Info(type).name) + " cannot be packed for the CPU");
    }
    return PackedMatrix{
        nullptr, type, rows, cols, PanelBytes(*format, cols), PackedBytes(*format, rows, cols),
        experts};
  }
  void PackPanel(const PackedMatrix& matrix, const std::byte* const* rows, int num_rows,
                 std::byte* out) const override {
    ink::PackPanel(*FindPanelFormat(matrix.type), rows, num_rows, matrix.cols, out);
  }
  void UnpackRow(const PackedMatrix& matrix, int expert, int64_t row, std::byte* out) override {
    const std::byte* panel =
        matrix.data + expert * matrix.expert_bytes + row / kPanelRows * matrix.panel_bytes;
    ink::UnpackRow(*FindPanelFormat(matrix.type), panel, static_cast<int>(row % kPanelRows),
                   matrix.cols, out);
  }
  ThreadPool& host_pool() override { return pool_; }

 protected:
  Result<std::byte*> AllocateBytes(size_t bytes) override { return MapBytes(bytes); }
  void FreeBytes(std::byte* data, size_t bytes) override { munmap(data, bytes); }

 private:
  size_t ScratchBytes() const { return kKernelScratchBytes * pool_.num_threads(); }

  ThreadPool pool_;
  const OpTable& table_;
  std::byte* scratch_ = nullptr;
  KernelContext context_;
};

}  // namespace

Result<std::unique_ptr<Device>> CreateCpuDevice(const CpuDeviceOptions& options, Ledger* ledger) {
  INK_ASSIGN_OR_RETURN(const OpTable* table, FindCpuOpTable(options.isa));
  int threads = options.num_threads;
  if (threads == 0) threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (threads < 0 || threads > 1024) {
    return InvalidArgument("threads: expected 1 to 1024, or 0 for one per core, got " +
                           std::to_string(threads));
  }
  auto device = std::make_unique<CpuDevice>(threads, table, ledger);
  INK_RETURN_IF_ERROR(device->Init());
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace ink
