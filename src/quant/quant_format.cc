#include "quant/quant_format.h"

#include <array>

#include "quant/codecs.h"

namespace ink {
namespace {

constexpr std::array kFormats = {
    QuantFormat{DType::kF32, codec::DecodeF32, codec::EncodeF32},
    QuantFormat{DType::kF16, codec::DecodeF16, codec::EncodeF16},
    QuantFormat{DType::kBF16, codec::DecodeBF16, codec::EncodeBF16},
    QuantFormat{DType::kQ8_0, codec::DecodeQ8_0, codec::EncodeQ8_0},
    QuantFormat{DType::kQ4_0, codec::DecodeQ4_0, codec::EncodeQ4_0},
    QuantFormat{DType::kQ4_1, codec::DecodeQ4_1, codec::EncodeQ4_1},
    QuantFormat{DType::kQ5_0, codec::DecodeQ5_0, codec::EncodeQ5_0},
    QuantFormat{DType::kQ5_1, codec::DecodeQ5_1, codec::EncodeQ5_1},
    QuantFormat{DType::kQ2_K, codec::DecodeQ2_K, codec::EncodeQ2_K},
    QuantFormat{DType::kQ3_K, codec::DecodeQ3_K, codec::EncodeQ3_K},
    QuantFormat{DType::kQ4_K, codec::DecodeQ4_K, codec::EncodeQ4_K},
    QuantFormat{DType::kQ5_K, codec::DecodeQ5_K, codec::EncodeQ5_K},
    QuantFormat{DType::kQ6_K, codec::DecodeQ6_K, codec::EncodeQ6_K},
    QuantFormat{DType::kIQ4_NL, codec::DecodeIQ4_NL, codec::EncodeIQ4_NL},
    QuantFormat{DType::kIQ4_XS, codec::DecodeIQ4_XS, codec::EncodeIQ4_XS},
    QuantFormat{DType::kMXFP4, codec::DecodeMXFP4, codec::EncodeMXFP4},
    QuantFormat{DType::kNF4, codec::DecodeNF4, codec::EncodeNF4},
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
