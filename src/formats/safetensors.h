// safetensors files (https://huggingface.co/docs/safetensors): u64 header length, a JSON header of
// {name: {dtype, shape, data_offsets}}, tensor data. Read by mapping, one file or the shards of a
// model.safetensors.index.json. The checks are those of the reference implementation: header of at
// most 100 MB, tensors back to back without gap or overlap, sizes that match the shapes, nothing
// after the last. Every error names the field, what was expected and what was found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"
#include "tensor/dtype.h"

namespace ink {

inline constexpr std::string_view kSafetensorsName = "model.safetensors";
inline constexpr std::string_view kSafetensorsIndexName = "model.safetensors.index.json";
inline constexpr size_t kSafetensorsMaxDims = 16;

struct SafetensorsTensor {
  std::string name;
  std::string type_name;      // as in the file: "BF16", "F8_E4M3", ...
  std::optional<DType> type;  // none where Inkstone has no such type; see SafetensorsFile::TypeOf
  // Row-major, slowest first, as in PyTorch: a weight is [out, in]. Empty for a scalar; a dimension
  // may be 0.
  std::vector<int64_t> shape;
  int shard = 0;        // which file
  uint64_t offset = 0;  // from the start of that file
  uint64_t size = 0;    // bytes
  // The mapped bytes; their address need not be a multiple of the element size.
  std::span<const std::byte> data;

  int64_t num_values() const;
  /// "[512, 2048]".
  std::string ShapeString() const;
};

/// Movable; immutable.
class SafetensorsFile {
 public:
  SafetensorsFile() = default;
  SafetensorsFile(SafetensorsFile&&) noexcept = default;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept = default;

  /// `path` is a .safetensors file, an index (*.index.json), or a folder holding model.safetensors
  /// or model.safetensors.index.json (the first is preferred). Every tensor of an index must be in
  /// the file the index names; shards must lie in the index's own folder. Errors: kNotFound (also
  /// for a missing shard), kIo, kCorrupt.
  static Result<SafetensorsFile> Open(const std::string& path);

  /// One file already in memory, which must outlive the object; `name` begins messages.
  static Result<SafetensorsFile> FromBytes(std::span<const std::byte> bytes, std::string name);

  const std::string& path() const { return path_; }
  /// In the order of the data, shard after shard (shards by name).
  std::span<const SafetensorsTensor> tensors() const { return tensors_; }
  /// Null when there is none of that name.
  const SafetensorsTensor* Find(std::string_view name) const;
  /// Find, or kNotFound with the name.
  Result<const SafetensorsTensor*> Get(std::string_view name) const;
  /// The tensor's type, or kUnsupported with its name.
  Result<DType> TypeOf(const SafetensorsTensor& tensor) const;
  /// The __metadata__ of all shards, without duplicates.
  std::span<const std::pair<std::string, std::string>> metadata() const { return metadata_; }

  uint64_t tensor_bytes() const { return tensor_bytes_; }
  /// The mapped files, indexed by SafetensorsTensor::shard; empty after FromBytes.
  std::span<const MappedFile> files() const { return files_; }
  /// Tells the kernel that the process no longer needs these bytes of the tensor.
  void DropPages(const SafetensorsTensor& tensor, uint64_t begin, uint64_t size) const;
  void DropPages(const SafetensorsTensor& tensor) const { DropPages(tensor, 0, tensor.size); }

 private:
  static Result<SafetensorsFile> OpenIndex(const std::string& path);
  Status AddShard(std::span<const std::byte> bytes, const std::string& name, int shard);
  Status AddFile(const std::string& path);
  Status BuildIndex();

  std::string path_;
  std::vector<MappedFile> files_;
  std::vector<SafetensorsTensor> tensors_;
  std::unordered_map<std::string_view, size_t> index_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  uint64_t tensor_bytes_ = 0;
};

/// Bytes that shape x type need; none when a product overflows.
std::optional<uint64_t> SafetensorsBytes(std::span<const int64_t> shape, DType type);
/// "F32", "BF16", ...; empty for types that safetensors files do not have.
std::string_view SafetensorsTypeName(DType type);

}  // namespace ink
