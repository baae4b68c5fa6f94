#include "tensor/dtype.h"

#include <array>

#include "base/check.h"

namespace ink {
namespace {

constexpr std::array kInfos = {
    DTypeInfo{DType::kF32, "f32", 1, 4, false},
    DTypeInfo{DType::kF16, "f16", 1, 2, false},
    DTypeInfo{DType::kBF16, "bf16", 1, 2, false},
    DTypeInfo{DType::kQ4_0, "q4_0", 32, 18, true},
    DTypeInfo{DType::kQ4_1, "q4_1", 32, 20, true},
    DTypeInfo{DType::kQ5_0, "q5_0", 32, 22, true},
    DTypeInfo{DType::kQ5_1, "q5_1", 32, 24, true},
    DTypeInfo{DType::kQ8_0, "q8_0", 32, 34, true},
    DTypeInfo{DType::kQ2_K, "q2_k", 256, 84, true},
    DTypeInfo{DType::kQ3_K, "q3_k", 256, 110, true},
    DTypeInfo{DType::kQ4_K, "q4_k", 256, 144, true},
    DTypeInfo{DType::kQ5_K, "q5_k", 256, 176, true},
    DTypeInfo{DType::kQ6_K, "q6_k", 256, 210, true},
    DTypeInfo{DType::kIQ4_NL, "iq4_nl", 32, 18, true},
    DTypeInfo{DType::kIQ4_XS, "iq4_xs", 256, 136, true},
    DTypeInfo{DType::kMXFP4, "mxfp4", 32, 17, true},
    DTypeInfo{DType::kNF4, "nf4", 64, 36, true},
    DTypeInfo{DType::kI8, "i8", 1, 1, false},
    DTypeInfo{DType::kI16, "i16", 1, 2, false},
    DTypeInfo{DType::kI32, "i32", 1, 4, false},
    DTypeInfo{DType::kI64, "i64", 1, 8, false},
    DTypeInfo{DType::kF64, "f64", 1, 8, false},
};

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (Lower(a[i]) != Lower(b[i])) return false;
  }
  return true;
}

}  // namespace

std::span<const DTypeInfo> AllDTypes() { return kInfos; }

const DTypeInfo& Info(DType type) {
  for (const DTypeInfo& info : kInfos) {
    if (info.type == type) return info;
  }
  INK_CHECK(false);
  return kInfos[0];
}

std::optional<DType> DTypeFromId(uint32_t id) {
  for (const DTypeInfo& info : kInfos) {
    if (static_cast<uint32_t>(info.type) == id && info.type != DType::kNF4) return info.type;
  }
  return std::nullopt;
}

std::optional<DType> DTypeFromName(std::string_view name) {
  for (const DTypeInfo& info : kInfos) {
    if (EqualsIgnoringCase(info.name, name)) return info.type;
  }
  return std::nullopt;
}

int64_t RowBytes(DType type, int64_t values) {
  const DTypeInfo& info = Info(type);
  INK_CHECK_EQ(values % info.block_values, 0);
  return values / info.block_values * info.block_bytes;
}

}  // namespace ink
