// Writes GGUF version 3, whole or in shards. The target appears only when everything was written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/atomic_file.h"
#include "base/status.h"
#include "formats/gguf.h"
#include "formats/metadata.h"
#include "tensor/dtype.h"

namespace ink {

/// Use: fill metadata(), AddTensor for each tensor, Begin, Write the tensors' bytes in the order of
/// the AddTensor calls and in pieces of any size, Finish. The same calls give the same bytes.
/// An object destroyed before Finish leaves nothing behind.
class GgufWriter {
 public:
  struct Options {
    uint32_t alignment = kGgufDefaultAlignment;  // a power of two
    /// Most tensor bytes in one file, 0 for a single file. A tensor is never cut, so one larger
    /// than this has a shard of its own. With more than one shard, PATH.gguf becomes
    /// PATH-00001-of-0000N.gguf and so on.
    uint64_t max_shard_bytes = 0;
  };

  explicit GgufWriter(std::string path);
  GgufWriter(std::string path, Options options);
  GgufWriter(GgufWriter&&) noexcept = default;
  GgufWriter& operator=(GgufWriter&&) noexcept = default;

  /// Written in the order of insertion. general.alignment and split.* are the writer's own.
  Metadata& metadata() { return metadata_; }

  /// `dims` in GGUF order (row length first), 1 to 4 of them. Errors: kInvalidArgument (name empty,
  /// too long or used before; a dimension below 1; rows that are no multiple of the block).
  Status AddTensor(std::string_view name, DType type, std::span<const int64_t> dims);

  /// Creates the temporary files and writes the first header. Errors: kIo.
  Status Begin();
  /// The next bytes of the tensors, in order; a piece may span tensors. Errors: kIo, and
  /// kInvalidArgument past the last tensor's end.
  Status Write(std::span<const std::byte> bytes);
  /// Pads, syncs, and moves the files to their places, the first shard last. Errors: kIo, and
  /// kInvalidArgument when bytes are missing (the tensor is named).
  Status Finish();

  /// Bytes of tensor data declared and written so far.
  uint64_t total_bytes() const { return total_bytes_; }
  uint64_t written_bytes() const { return written_bytes_; }
  /// After Begin: the paths that Finish creates.
  std::vector<std::string> paths() const;

 private:
  struct Tensor {
    std::string name;
    DType type;
    int num_dims;
    std::array<int64_t, kGgufMaxDims> dims;
    uint64_t size;
    uint64_t offset = 0;  // in its shard's data section
    int shard = 0;
  };
  struct Shard {
    std::string path;
    AtomicFile file;
    size_t first = 0, count = 0;  // tensors
  };

  void PlanShards();
  Status WriteHeader(int shard);
  Status FinishTensor();

  std::string path_;
  Options options_;
  Metadata metadata_;
  std::vector<Tensor> tensors_;
  std::unordered_set<std::string> names_;
  std::vector<Shard> shards_;
  bool begun_ = false;
  size_t current_ = 0;         // tensor being written
  uint64_t current_done_ = 0;  // its bytes so far
  uint64_t total_bytes_ = 0;
  uint64_t written_bytes_ = 0;
};

}  // namespace ink
