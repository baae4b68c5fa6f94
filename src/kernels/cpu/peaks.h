// What the machine can do at most: instruction-throughput and read-bandwidth loops, the limits that
// `inkstone bench` divides by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ink {

/// Each function runs one thread's share and returns the operations it did; 0 where the instruction
/// set has no such instruction. `rounds` of about 1 us each.
struct PeakLoops {
  std::string_view isa;
  double (*int8)(int64_t rounds) noexcept;  // multiply and add count as two
  double (*bf16)(int64_t rounds) noexcept;
  double (*fp32)(int64_t rounds) noexcept;
  /// Reads [data, data + bytes), prefetching `ahead` bytes (0: none).
  void (*read)(const std::byte* data, size_t bytes, size_t ahead) noexcept;
};

/// The loops of the table called `isa`.
const PeakLoops& PeakLoopsOf(std::string_view isa);

}  // namespace ink
