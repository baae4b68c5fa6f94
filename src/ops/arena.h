// Memory for the temporaries of one forward pass: a bump allocator with marks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/check.h"

namespace ink {

/// An arena over device memory, or, with `base` null, one that only measures: pointers it returns
/// are then never touched, and peak() says how much a real one needs.
class Arena {
 public:
  Arena(std::byte* base, size_t capacity) : base_(base), capacity_(capacity) {}
  static Arena Measuring() { return Arena(nullptr, SIZE_MAX); }

  bool measuring() const { return base_ == nullptr; }
  /// 64-byte aligned. Running out is a bug: sizes come from a measured plan.
  std::byte* Allocate(size_t bytes) {
    size_t at = used_;
    used_ += (bytes + 63) / 64 * 64;
    INK_CHECK_LE(used_, capacity_);
    peak_ = std::max(peak_, used_);
    return reinterpret_cast<std::byte*>(reinterpret_cast<uintptr_t>(base_) + at);
  }
  size_t used() const { return used_; }
  size_t peak() const { return peak_; }
  void Rewind(size_t mark) { used_ = mark; }

 private:
  std::byte* base_;
  size_t capacity_;
  size_t used_ = 0;
  size_t peak_ = 0;
};

}  // namespace ink
