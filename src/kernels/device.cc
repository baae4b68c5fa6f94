#include "kernels/device.h"

#include <utility>

namespace ink {

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    Reset();
    device_ = std::exchange(other.device_, nullptr);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    entry_ = other.entry_;
  }
  return *this;
}

void Buffer::Reset() {
  if (data_ == nullptr) return;
  device_->ledger().Remove(entry_, static_cast<int64_t>(size_));
  device_->FreeBytes(data_, size_);
  data_ = nullptr;
  size_ = 0;
}

Result<Buffer> Device::Allocate(size_t bytes, LedgerEntry entry) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  INK_ASSIGN_OR_RETURN(buffer.data_, AllocateBytes(bytes));
  buffer.device_ = this;
  buffer.size_ = bytes;
  buffer.entry_ = entry;
  ledger_->Add(entry, static_cast<int64_t>(bytes));
  return buffer;
}

}  // namespace ink
