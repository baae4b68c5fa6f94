// layers: formats
#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  ink::Result<ink::SafetensorsFile> file = ink::SafetensorsFile::FromBytes(bytes, "fuzz");
  if (!file.ok()) {
    INK_CHECK(file.status().message().find("expected") != std::string::npos);
    return 0;
  }
  size_t sum = 0;
  for (const ink::SafetensorsTensor& tensor : file->tensors()) {
    for (std::byte b : tensor.data) sum += b == std::byte{1};
    sum += file->TypeOf(tensor).ok();
    sum += tensor.ShapeString().size();
    INK_CHECK(file->Find(tensor.name) == &tensor);
    INK_CHECK(tensor.type == std::nullopt ||
              ink::SafetensorsBytes(tensor.shape, *tensor.type) == tensor.size);
  }
  return sum == ~size_t{0};
}
