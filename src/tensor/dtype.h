// Element and block types. The numeric values are those of GGUF files (ggml_type), so that reading
// a file is a checked cast.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace ink {

enum class DType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
  kMXFP4 = 39,
  kNF4 = 1000,  // exists in memory only (quantized bases of adapters)
};

/// Size of a type: `block_values` values occupy `block_bytes` bytes (1 value for plain types).
struct DTypeInfo {
  DType type;
  std::string_view name;  // lower case, as in commands: "q4_k", "f16"
  int block_values;
  int block_bytes;
  bool quantized;
};

/// All types Inkstone can hold.
std::span<const DTypeInfo> AllDTypes();

/// The row of `type`; every DType value has one.
const DTypeInfo& Info(DType type);

/// The DType of a ggml type id or of a name such as "q4_k" (case ignored), if there is one.
std::optional<DType> DTypeFromId(uint32_t id);
std::optional<DType> DTypeFromName(std::string_view name);

/// Bytes of one row of `values` values; `values` must be a multiple of block_values.
int64_t RowBytes(DType type, int64_t values);

}  // namespace ink
