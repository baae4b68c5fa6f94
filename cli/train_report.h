// What train and finetune show while they run.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "train/trainer.h"

namespace ink::cli {

/// The bytes of this process that are resident now, and at most so far.
int64_t ResidentBytes();
int64_t PeakResidentBytes();

/// Runs the training with plan, progress, validation and peak memory on stderr. The first interrupt
/// stops it after a checkpoint, a second one ends the process.
Status RunWithReport(Device& device, const TrainRun& run);

}  // namespace ink::cli
