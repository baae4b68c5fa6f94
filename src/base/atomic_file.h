// Files that appear whole or not at all: write to a temporary beside the target, fsync, rename.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace ink {

/// Streams a new version of a file. Until Commit succeeds the target is untouched; an object
/// destroyed before that removes its temporary.
class AtomicFile {
 public:
  AtomicFile() = default;
  ~AtomicFile();
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;

  /// Creates `path`.tmp.<pid>. Errors: kIo.
  static Result<AtomicFile> Create(const std::string& path);

  /// Appends; buffered. Errors: kIo (a full disk), with the path and the system's reason.
  Status Write(std::span<const std::byte> bytes);
  Status Write(std::string_view text);
  /// Bytes appended so far.
  uint64_t offset() const { return offset_; }
  /// Flushes, fsyncs file and folder, and renames over the target.
  Status Commit();

 private:
  Status Flush();

  std::string path_;
  std::string temporary_;
  std::string buffer_;
  int fd_ = -1;
  uint64_t offset_ = 0;
};

/// Replaces `path` by `text` in one step.
Status WriteFileAtomic(const std::string& path, std::string_view text);

/// The whole file as bytes. Errors: kNotFound, kIo, and kInvalidArgument above `max_bytes`.
Result<std::string> ReadFile(const std::string& path, uint64_t max_bytes = uint64_t{1} << 40);

}  // namespace ink
