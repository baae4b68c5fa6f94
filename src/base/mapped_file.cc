#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace ink {
namespace {

constexpr size_t kPage = 4096;

}  // namespace

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Result<MappedFile> MappedFile::Open(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    std::string message = path + ": cannot open: " + std::strerror(errno);
    return errno == ENOENT ? NotFound(message) : IoError(message);
  }
  struct stat st;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    close(fd);
    return IoError(path + ": expected a regular file");
  }
  MappedFile file;
  file.path_ = path;
  file.size_ = static_cast<size_t>(st.st_size);
  if (file.size_ > 0) {
    void* p = mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
      std::string message =
          path + ": cannot map " + std::to_string(file.size_) + " bytes: " + std::strerror(errno);
      close(fd);
      return IoError(message);
    }
    file.data_ = static_cast<const std::byte*>(p);
  }
  close(fd);
  return file;
}

void MappedFile::DropPages(size_t offset, size_t size) const {
  if (data_ == nullptr || offset >= size_) return;
  size_t begin = (offset + kPage - 1) / kPage * kPage;
  size_t end = std::min(offset + size, size_) / kPage * kPage;
  if (begin < end) madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

void MappedFile::WillNeed(size_t offset, size_t size) const {
  if (data_ == nullptr || offset >= size_) return;
  size_t begin = offset / kPage * kPage;
  size_t end = std::min(offset + size, size_);
  madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_WILLNEED);
}

}  // namespace ink
