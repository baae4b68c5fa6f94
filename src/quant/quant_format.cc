#include "quant/quant_format.h"

#include <array>

#include "quant/codecs.h"

namespace ink {
namespace {

constexpr std::array kFormats = {
    QuantFormat{DType::kF32, codec::DecodeF32, nullptr},
    QuantFormat{DType::kF16, codec::DecodeF16, nullptr},
    QuantFormat{DType::kBF16, codec::DecodeBF16, nullptr},
    QuantFormat{DType::kQ8_0, codec::DecodeQ8_0, nullptr},
    QuantFormat{DType::kQ4_0, codec::DecodeQ4_0, nullptr},
    QuantFormat{DType::kQ4_1, codec::DecodeQ4_1, nullptr},
    QuantFormat{DType::kQ5_0, codec::DecodeQ5_0, nullptr},
    QuantFormat{DType::kQ5_1, codec::DecodeQ5_1, nullptr},
    QuantFormat{DType::kQ2_K, codec::DecodeQ2_K, nullptr},
    QuantFormat{DType::kQ3_K, codec::DecodeQ3_K, nullptr},
    QuantFormat{DType::kQ4_K, codec::DecodeQ4_K, nullptr},
    QuantFormat{DType::kQ5_K, codec::DecodeQ5_K, nullptr},
    QuantFormat{DType::kQ6_K, codec::DecodeQ6_K, nullptr},
    QuantFormat{DType::kIQ4_NL, codec::DecodeIQ4_NL, nullptr},
    QuantFormat{DType::kIQ4_XS, codec::DecodeIQ4_XS, nullptr},
    QuantFormat{DType::kMXFP4, codec::DecodeMXFP4, nullptr},
    QuantFormat{DType::kNF4, codec::DecodeNF4, nullptr},
};

}  // namespace

std::span<const QuantFormat> AllQuantFormats() { return kFormats; }

const QuantFormat* FindQuantFormat(DType type) {
  for (const QuantFormat& format : kFormats) {
    if (format.type == type) return &format;
  }
  return nullptr;
}

}  // namespace ink
