// Where arrays that share a buffer begin.
#pragma once

#include <cstdint>

namespace ink {

/// `bytes` rounded up to whole cache lines of 64 bytes, which a 512-bit vector fills as well.
constexpr int64_t AlignBytes(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace ink
