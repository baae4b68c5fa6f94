// A read-only file mapped into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"

namespace ink {

class MappedFile {
 public:
  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  /// Maps the whole of `path`. An empty file maps to an empty span. Errors: kNotFound, kIo.
  static Result<MappedFile> Open(const std::string& path);

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  /// Tells the kernel that pages [offset, offset+size) are no longer needed by this process, so
  /// that they leave its resident set (they stay in the page cache).
  void DropPages(size_t offset, size_t size) const;
  /// Asks for read-ahead of [offset, offset+size).
  void WillNeed(size_t offset, size_t size) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace ink
