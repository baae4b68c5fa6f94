#pragma once

#include <cstddef>
#include <cstdint>

namespace ink::avx512 {

double PeakInt8(int64_t rounds) noexcept;
double PeakBf16(int64_t rounds) noexcept;
double PeakFp32(int64_t rounds) noexcept;
void Read(const std::byte* data, size_t bytes, size_t ahead) noexcept;

}  // namespace ink::avx512
