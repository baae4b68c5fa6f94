// Writes safetensors, whole or in shards with an index. The targets appear only when everything was
// written, the index last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/status.h"
#include "tensor/dtype.h"

namespace ink {

/// Use: AddTensor for each tensor, Begin, then for each index of WriteOrder() the bytes of that
/// tensor (in pieces of any size), Finish. The same calls give the same bytes. An object destroyed
/// before Finish leaves nothing behind.
class SafetensorsWriter {
 public:
  struct Options {
    /// Most tensor bytes in one file, 0 for a single file. With more than one shard,
    /// DIR/model.safetensors becomes DIR/model-00001-of-0000N.safetensors and so on, with
    /// DIR/model.safetensors.index.json.
    uint64_t max_shard_bytes = 0;
  };

  explicit SafetensorsWriter(std::string path);
  SafetensorsWriter(std::string path, Options options);
  SafetensorsWriter(SafetensorsWriter&&) noexcept = default;
  SafetensorsWriter& operator=(SafetensorsWriter&&) noexcept = default;

  /// A pair of __metadata__; the Hugging Face libraries expect {"format": "pt"}.
  void AddMetadata(std::string key, std::string value);
  /// `shape` slowest dimension first, as in PyTorch. Errors: kInvalidArgument (name empty or used
  /// before, type that the format lacks, negative dimension, overflow).
  Status AddTensor(std::string_view name, DType type, std::span<const int64_t> shape);

  /// Creates the temporary files and writes the headers. Errors: kIo.
  Status Begin();
  /// After Begin: tensor numbers (by AddTensor call) in the order their bytes must come. Within a
  /// shard wider types come first, so that every tensor is aligned to its element size.
  std::span<const size_t> WriteOrder() const { return order_; }
  /// The next bytes, in WriteOrder; a piece may span tensors. Errors: kIo, and kInvalidArgument
  /// past the last tensor's end.
  Status Write(std::span<const std::byte> bytes);
  /// Syncs and moves the files to their places. Errors: kIo, and kInvalidArgument when bytes are
  /// missing (the tensor is named).
  Status Finish();

  uint64_t total_bytes() const { return total_bytes_; }
  uint64_t written_bytes() const { return written_bytes_; }
  /// After Begin: the paths that Finish creates, an index among them where there is one.
  std::vector<std::string> paths() const;

 private:
  struct Tensor {
    std::string name;
    DType type;
    std::vector<int64_t> shape;
    uint64_t size = 0;
    int shard = 0;
  };
  struct Shard {
    std::string path;
    AtomicFile file;
    std::vector<size_t> tensors;  // in data order
  };

  void PlanShards();
  void SkipFinished();
  std::string HeaderOf(const Shard& shard) const;
  std::string IndexText() const;

  std::string path_;
  Options options_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::vector<Tensor> tensors_;
  std::unordered_set<std::string> names_;
  std::vector<Shard> shards_;
  std::string index_path_;  // empty for one file
  std::vector<size_t> order_;
  bool begun_ = false;
  size_t current_ = 0;         // position in order_
  uint64_t current_done_ = 0;  // bytes of that tensor so far
  uint64_t total_bytes_ = 0;
  uint64_t written_bytes_ = 0;
};

}  // namespace ink
