#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ink {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

std::string Folder(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) {
    close(fd_);
    unlink(temporary_.c_str());
  }
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      buffer_(std::move(other.buffer_)),
      fd_(std::exchange(other.fd_, -1)),
      offset_(std::exchange(other.offset_, 0)) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(buffer_, other.buffer_);
  std::swap(fd_, other.fd_);
  std::swap(offset_, other.offset_);
  return *this;
}

Result<AtomicFile> AtomicFile::Create(const std::string& path) {
  AtomicFile file;
  file.path_ = path;
  file.temporary_ = path + ".tmp." + std::to_string(getpid());
  file.fd_ = open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file.fd_ < 0) {
    return IoError(file.temporary_ + ": cannot create: " + std::strerror(errno));
  }
  return file;
}

Status AtomicFile::Write(std::span<const std::byte> bytes) {
  offset_ += bytes.size();
  buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return buffer_.size() >= kBufferBytes ? Flush() : OkStatus();
}

Status AtomicFile::Write(std::string_view text) {
  return Write(std::as_bytes(std::span(text.data(), text.size())));
}

Status AtomicFile::Flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    ssize_t n = write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return IoError(path_ + ": cannot write at byte " +
                     std::to_string(offset_ - buffer_.size() + done) + ": " + std::strerror(errno) +
                     "; the file is unchanged");
    }
    done += static_cast<size_t>(n);
  }
  buffer_.clear();
  return OkStatus();
}

Status AtomicFile::Commit() {
  INK_RETURN_IF_ERROR(Flush());
  if (fsync(fd_) != 0 || rename(temporary_.c_str(), path_.c_str()) != 0) {
    return IoError(path_ + ": cannot commit: " + std::strerror(errno));
  }
  close(std::exchange(fd_, -1));
  int folder = open(Folder(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    fsync(folder);  // best effort: some file systems refuse to sync a folder
    close(folder);
  }
  return OkStatus();
}

Status WriteFileAtomic(const std::string& path, std::string_view text) {
  INK_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  INK_RETURN_IF_ERROR(file.Write(text));
  return file.Commit();
}

Result<std::string> ReadFile(const std::string& path, uint64_t max_bytes) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    std::string message = path + ": cannot open: " + std::strerror(errno);
    return errno == ENOENT ? NotFound(message) : IoError(message);
  }
  std::string text;
  char chunk[65536];
  for (;;) {
    ssize_t n = read(fd, chunk, sizeof(chunk));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      std::string message = path + ": cannot read: " + std::strerror(errno);
      close(fd);
      return IoError(message);
    }
    if (n == 0) break;
    text.append(chunk, static_cast<size_t>(n));
    if (text.size() > max_bytes) {
      close(fd);
      return InvalidArgument(path + ": expected at most " + std::to_string(max_bytes) +
                             " bytes, the file is longer");
    }
  }
  close(fd);
  return text;
}

}  // namespace ink
