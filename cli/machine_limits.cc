#include "machine_limits.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace ink::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kReadBytes = size_t{1} << 30;
constexpr int64_t kPeakRounds = 40000;  // about 30 ms per thread

double Seconds(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

Result<MachineLimits> MachineLimits::Create(Device& device) {
  INK_ASSIGN_OR_RETURN(Buffer buffer, device.Allocate(kReadBytes, LedgerEntry::kLoadScratch));
  // Pages must exist, and differ from the kernel's zero page.
  std::byte* data = buffer.data();
  for (size_t i = 0; i < kReadBytes; i += 4096) data[i] = static_cast<std::byte>(i >> 12);
  MachineLimits limits(device, {{data, kReadBytes}});
  limits.buffer_ = std::move(buffer);
  return limits;
}

MachineLimits::MachineLimits(Device& device, std::vector<Region> regions)
    : device_(&device), loops_(PeakLoopsOf(device.ops().name)), regions_(std::move(regions)) {}

double MachineLimits::Compute(ComputeLimit which) {
  auto loop = which == ComputeLimit::kInt8   ? loops_.int8
              : which == ComputeLimit::kBf16 ? loops_.bf16
                                             : loops_.fp32;
  std::vector<double> ops(device_->num_threads());
  auto begin = Clock::now();
  device_->host_pool().Run([&](int t) { ops[t] = loop(kPeakRounds); });
  double seconds = Seconds(begin);
  double total = 0;
  for (double o : ops) total += o;
  return total / seconds / 1e9;
}

double MachineLimits::Read() {
  double best = 0;
  const int threads = device_->num_threads();
  for (size_t ahead : {size_t{0}, size_t{1024}, size_t{4096}}) {
    size_t bytes = 0;
    for (const Region& region : regions_) bytes += region.size() / threads / 4096 * 4096 * threads;
    auto begin = Clock::now();
    device_->host_pool().Run([&](int t) {
      for (const Region& region : regions_) {
        const size_t share = region.size() / threads / 4096 * 4096;
        if (share > 0) loops_.read(region.data() + t * share, share, ahead);
      }
    });
    best = std::max(best, static_cast<double>(bytes) / Seconds(begin) / 1e9);
  }
  return best;
}

PeakRates MeasurePeaks(const Model& model, Device& device) {
  PeakRates peaks;
  if (device.name() == "cuda") return peaks;
  std::vector<MachineLimits::Region> regions;
  size_t bytes = 0;
  for (const Weight* w : model.parameters().matrices) {
    const auto size = static_cast<size_t>(w->packed.expert_bytes * w->packed.experts);
    if (w->packed.data == nullptr || bytes + size > kReadBytes) continue;
    regions.emplace_back(w->packed.data, size);
    bytes += size;
  }
  MachineLimits limits(device, std::move(regions));
  const ComputeLimit limit = DominantLimit(model, device.ops().name);
  // The best: whatever else runs now makes a limit look lower, never higher.
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < 5 && (i < 2 || Seconds(begin) < 0.4); ++i) {
    peaks.ops = std::max(peaks.ops, limits.Compute(limit) * 1e9);
    if (bytes > 0) peaks.read = std::max(peaks.read, limits.Read() * 1e9);
  }
  return peaks;
}

}  // namespace ink::cli
