// The functions behind the rows of quant_format.cc. Internal to src/quant.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ink::codec {

void DecodeF32(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeF16(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeBF16(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeQ8_0(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeQ4_0(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeQ4_1(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeQ5_0(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeQ5_1(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeQ2_K(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeQ3_K(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeQ4_K(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeQ5_K(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeQ6_K(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeIQ4_NL(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeIQ4_XS(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeMXFP4(const std::byte* blocks, float* out, int64_t n) noexcept;
void DecodeNF4(const std::byte* blocks, float* out, int64_t n) noexcept;

void EncodeF32(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeF16(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeBF16(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeQ8_0(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeQ4_0(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeQ4_1(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeQ5_0(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeQ5_1(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeQ2_K(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeQ3_K(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeQ4_K(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeQ5_K(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeQ6_K(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeIQ4_NL(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeIQ4_XS(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeMXFP4(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;
void EncodeNF4(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept;

}  // namespace ink::codec
