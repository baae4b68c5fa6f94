// Counts what operator new hands out, so that tests can bound what a hostile file makes us
// allocate.
#pragma once

#include <cstddef>

namespace ink::testing_support {

/// Bytes allocated since construction (freed or not), this thread and all others.
class AllocationMeter {
 public:
  AllocationMeter();
  size_t bytes() const;

 private:
  size_t start_;
};

}  // namespace ink::testing_support
