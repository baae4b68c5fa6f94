// The machine's limits, measured: arithmetic and read bandwidth of all threads of a device.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/status.h"
#include "engine/step_cost.h"
#include "kernels/cpu/peaks.h"
#include "kernels/device.h"
#include "model/model.h"

namespace ink::cli {

class MachineLimits {
 public:
  using Region = std::span<const std::byte>;

  /// Reads from a buffer of 1 GiB of its own. Errors: kOutOfMemory.
  static Result<MachineLimits> Create(Device& device);
  /// Reads `regions`, whose memory outlives this object.
  MachineLimits(Device& device, std::vector<Region> regions);

  /// Billions of operations per second, once.
  double Compute(ComputeLimit which);
  /// Billions of bytes per second, once: the best of prefetching 0, 1 and 4 KiB ahead.
  double Read();

 private:
  Device* device_;
  const PeakLoops& loops_;
  Buffer buffer_;
  std::vector<Region> regions_;
};

/// What MFU and MBU of a model are shares of, in operations and bytes per second; 0: unknown.
struct PeakRates {
  double ops = 0;
  double read = 0;
};
/// In about half a second and without memory of its own: reads the model's weights. CPU devices
/// only.
PeakRates MeasurePeaks(const Model& model, Device& device);

}  // namespace ink::cli
