// Checkpoints: one file each, whole or absent, named by step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace ink {

struct Checkpoint {
  int64_t step = 0;                       // optimizer steps taken, skipped ones included
  int64_t optimizer_steps = 0;            // without the skipped ones
  int64_t epoch = 0, piece = 0;           // the next data
  int64_t tokens = 0;                     // seen
  double loss_mean = 0, loss_square = 0;  // running, for spikes
  double best = 1e300;                    // best validation so far
  std::string recipe;                     // its text: another recipe cannot go on
  std::vector<std::byte> values;          // float32 masters
  std::vector<std::byte> optimizer;       // state
};

/// Writes FOLDER/step-<step>.ckpt, then removes all but the newest `keep`. Errors: kIo; earlier
/// checkpoints are untouched then.
Status WriteCheckpoint(const std::string& folder, const Checkpoint& checkpoint, int keep);

/// The newest checkpoint that is whole. Errors: kNotFound (none), kCorrupt (the newest file is
/// damaged and there is no older one).
Result<Checkpoint> ReadNewestCheckpoint(const std::string& folder);

}  // namespace ink
