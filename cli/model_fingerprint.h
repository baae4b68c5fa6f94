// Which model a file holds, for what is kept on disk and must not meet another model.
#pragma once

#include <string>

#include "base/status.h"

namespace ink::cli {

/// Sizes, times of change, first 64 KiB and 4 KiB of each MiB of the model's file (or of each file
/// of its folder), hashed to 128 bits; not its path. An empty path: the embedded default model.
/// Errors: kIo.
Result<std::string> ModelFingerprint(const std::string& path);

}  // namespace ink::cli
