// Checkpoints: one file each, whole or absent, named by step.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/mapped_file.h"
#include "base/status.h"
#include "kernels/device.h"

namespace ink {

struct Checkpoint {
  int64_t step = 0;                       // optimizer steps taken, skipped ones included
  int64_t optimizer_steps = 0;            // without the skipped ones
  int64_t epoch = 0, piece = 0;           // the next data
  int64_t tokens = 0;                     // seen
  double loss_mean = 0, loss_square = 0;  // running, for spikes
  double best = 1e300;                    // best validation so far
  std::string recipe;                     // its text: another recipe cannot go on
  std::span<const std::byte> values;      // float32 masters
  std::span<const std::byte> optimizer;   // state
  MappedFile file;                        // of a checkpoint that was read: holds the two
};

/// Writes FOLDER/step-<step>.ckpt, then removes all but the newest `keep`. `values` and `optimizer`
/// are memory of `device` (of the host when null) and go to the file a few MiB at a time. Errors:
/// kIo; kInvalidArgument when a weight is no number (an update can overflow after a loss that was
/// one); earlier checkpoints are untouched then.
Status WriteCheckpoint(const std::string& folder, const Checkpoint& checkpoint, int keep,
                       Device* device = nullptr);

/// Copies to device memory, letting go of the file's pages on the way.
void CopyFromCheckpoint(const Checkpoint& checkpoint, std::span<const std::byte> part,
                        Device& device, std::byte* to);

/// The newest checkpoint that is whole. Errors: kNotFound (none), kCorrupt (the newest file is
/// damaged and there is no older one).
Result<Checkpoint> ReadNewestCheckpoint(const std::string& folder);

/// The newest checkpoint's path, whole or not; empty when there is none.
std::string NewestCheckpointPath(const std::string& folder);

/// Removes what AtomicFile left half written in `folder` when its process was killed: files
/// NAME.tmp.PID of processes that are gone. Only names that begin with `prefix`.
void RemoveAbandonedFiles(const std::string& folder, const std::string& prefix = "");

}  // namespace ink
