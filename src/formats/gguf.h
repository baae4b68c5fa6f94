// GGUF files, versions 2 and 3, little endian
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): magic, version, counts, key-values,
// tensor infos, padding, tensor data. Read by mapping: opening reads the header only. A file is
// hostile input: every count and size is checked before it is used, and every error names the
// field, what was expected and what was found.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"
#include "formats/metadata.h"
#include "tensor/dtype.h"

namespace ink {

/// Metadata keys of the container itself.
inline constexpr std::string_view kGgufAlignmentKey = "general.alignment";
inline constexpr std::string_view kGgufSplitNoKey = "split.no";
inline constexpr std::string_view kGgufSplitCountKey = "split.count";
inline constexpr std::string_view kGgufSplitTensorsKey = "split.tensors.count";
inline constexpr uint32_t kGgufDefaultAlignment = 32;
/// Longest tensor name in bytes that the format allows.
inline constexpr size_t kGgufMaxTensorName = 64;
inline constexpr int kGgufMaxDims = 4;

struct GgufTensor {
  std::string_view name;  // lives as long as the GgufFile
  DType type = DType::kF32;
  int num_dims = 0;
  // GGUF order: dims[0] is the row length (fastest), a multiple of the type's block; a weight
  // [out, in] is {in, out}. Entries from num_dims on are 1.
  std::array<int64_t, kGgufMaxDims> dims = {1, 1, 1, 1};
  int shard = 0;        // which file of a sharded model
  uint64_t offset = 0;  // from the start of that file
  uint64_t size = 0;    // bytes
  // The mapped bytes. Their address is a multiple of general.alignment only (32 by default, but a
  // file may say 1).
  std::span<const std::byte> data;

  int64_t num_values() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
  int64_t num_rows() const { return dims[1] * dims[2] * dims[3]; }
  /// "[2048, 512]", in GGUF order.
  std::string ShapeString() const;
};

/// An open model: one file, or all shards of a sharded one as a single view. Movable; immutable.
class GgufFile {
 public:
  GgufFile() = default;
  GgufFile(GgufFile&&) noexcept = default;
  GgufFile& operator=(GgufFile&&) noexcept = default;

  /// Maps `path` and, where its metadata says split.count > 1, the other shards beside it
  /// (NAME-00002-of-00003.gguf); `path` must then be the first shard. A file without tensors is
  /// fine (vocabulary only). Errors: kNotFound (also for a missing shard, which is named), kIo,
  /// kCorrupt, kUnsupported (version, big endian, tensor type).
  static Result<GgufFile> Open(const std::string& path);

  /// The same for a file already in memory, which must outlive the object; `name` begins messages.
  /// A sharded file is an error here.
  static Result<GgufFile> FromBytes(std::span<const std::byte> bytes, std::string name);

  /// True when the first bytes of the file are GGUF's magic.
  static bool IsGguf(const std::string& path);

  const std::string& path() const { return metadata_.source(); }
  uint32_t version() const { return version_; }  // of the first shard
  /// Of the first shard; others hold only split.* keys.
  const Metadata& metadata() const { return metadata_; }
  /// In file order, shard after shard.
  std::span<const GgufTensor> tensors() const { return tensors_; }
  /// Null when there is none of that name.
  const GgufTensor* Find(std::string_view name) const;
  /// Find, or kNotFound with the name.
  Result<const GgufTensor*> Get(std::string_view name) const;

  /// Sum of the tensors' sizes, without padding.
  uint64_t tensor_bytes() const { return tensor_bytes_; }
  /// The mapped files, indexed by GgufTensor::shard; empty after FromBytes.
  std::span<const MappedFile> files() const { return files_; }
  /// Tells the kernel that the process no longer needs these bytes of the tensor (they stay in the
  /// page cache); only whole pages are dropped.
  void DropPages(const GgufTensor& tensor, uint64_t begin, uint64_t size) const;
  void DropPages(const GgufTensor& tensor) const { DropPages(tensor, 0, tensor.size); }

 private:
  Status AddShard(std::span<const std::byte> bytes, const std::string& name, int shard,
                  Metadata* metadata);

  std::vector<MappedFile> files_;
  Metadata metadata_;
  uint32_t version_ = 0;
  uint64_t tensor_bytes_ = 0;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> index_;
};

/// NAME-00002-of-00003.gguf for prefix NAME, number 1 (counted from 0) and count 3.
std::string GgufShardPath(std::string_view prefix, int number, int count);
/// The prefix of such a path; empty when `path` is not exactly that shard's.
std::string GgufShardPrefix(std::string_view path, int number, int count);

}  // namespace ink
