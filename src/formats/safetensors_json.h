// The JSON of safetensors headers and indexes, read event by event: a document of another structure
// is refused at its first foreign token, so a hostile one costs no memory. Private to formats.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "formats/safetensors.h"

namespace ink {

/// Far above any model, so that an index in memory stays small beside its file.
inline constexpr size_t kSafetensorsMaxTensors = 1 << 18;

struct SafetensorsHeader {
  struct Tensor {
    SafetensorsTensor info;       // name, type_name and shape
    uint64_t begin = 0, end = 0;  // in the data section, unchecked
  };
  std::vector<Tensor> tensors;  // in the order of the document; names may repeat
  std::vector<std::pair<std::string, std::string>> metadata;
};

/// Errors: kCorrupt, with `path`.
Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, const std::string& path);

/// The weight_map: tensor name and file name, in the order of the document. Errors: kCorrupt.
Result<std::vector<std::pair<std::string, std::string>>> ParseSafetensorsIndex(
    std::string_view json, const std::string& path);

}  // namespace ink
