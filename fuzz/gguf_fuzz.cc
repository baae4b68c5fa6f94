// layers: formats
#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  ink::Result<ink::GgufFile> file = ink::GgufFile::FromBytes(bytes, "fuzz");
  if (!file.ok()) {
    INK_CHECK(file.status().message().find("expected") != std::string::npos);
    return 0;
  }
  size_t sum = 0;
  for (const ink::Metadata::Entry& entry : file->metadata().entries()) {
    sum += entry.value.ToString().size();
    ink::Result<ink::StringArray> strings = file->metadata().GetStrings(entry.key);
    if (strings.ok()) {
      for (std::string_view text : *strings) sum += text.empty() ? 0 : text.back() == 'x';
    }
    ink::Result<ink::NumberArray> ints = file->metadata().GetInts(entry.key);
    if (ints.ok() && !ints->empty()) sum += ints->Int(ints->size() - 1) == 1;
    ink::Result<ink::NumberArray> floats = file->metadata().GetFloats(entry.key);
    if (floats.ok() && !floats->empty()) sum += floats->Float(floats->size() - 1) == 1;
    sum += file->metadata().GetU32PerLayer(entry.key, 3).ok();
  }
  for (const ink::GgufTensor& tensor : file->tensors()) {
    for (std::byte b : tensor.data) sum += b == std::byte{1};
    INK_CHECK(file->Find(tensor.name) == &tensor);
  }
  return sum == ~size_t{0};
}
