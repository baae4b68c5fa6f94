#include "kernels/cpu/peaks.h"

#include "kernels/cpu/vector_isas.h"

namespace ink {
namespace {

double None(int64_t) noexcept { return 0; }

// Portable loops: what the reference table is measured against.
double ScalarFp32(int64_t rounds) noexcept {
  constexpr int kRepeats = 300;
  volatile float input = 0.5f;
  const float x = input;
  float a = x, b = x, c = x, d = x;
  for (int64_t i = 0; i < rounds * kRepeats; ++i) {
    a = a * x + x;
    b = b * x + x;
    c = c * x + x;
    d = d * x + x;
  }
  volatile float sink = a + b + c + d;
  (void)sink;
  return static_cast<double>(rounds) * kRepeats * 8;
}

double ScalarInt8(int64_t rounds) noexcept {
  constexpr int kRepeats = 300;
  volatile int input = 3;
  const int x = input;
  unsigned a = x, b = x, c = x, d = x;
  for (int64_t i = 0; i < rounds * kRepeats; ++i) {
    a = a * x + x;
    b = b * x + x;
    c = c * x + x;
    d = d * x + x;
  }
  volatile unsigned sink = a + b + c + d;
  (void)sink;
  return static_cast<double>(rounds) * kRepeats * 8;
}

void ScalarRead(const std::byte* data, size_t bytes, size_t) noexcept {
  const uint64_t* words = reinterpret_cast<const uint64_t*>(data);
  uint64_t a = 0, b = 0;
  for (size_t i = 0; i + 16 <= bytes; i += 16, words += 2) {
    a ^= words[0];
    b ^= words[1];
  }
  volatile uint64_t sink = a ^ b;
  (void)sink;
}

constexpr PeakLoops kReference = {"reference", ScalarInt8, None, ScalarFp32, ScalarRead};

}  // namespace

const PeakLoops& PeakLoopsOf(std::string_view isa) {
  for (const VectorIsa& vector : VectorIsas()) {
    if (vector.peaks->isa == isa) return *vector.peaks;
  }
  return kReference;
}

}  // namespace ink
