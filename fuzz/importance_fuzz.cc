// layers: compress
#include <cstddef>
#include <cstdint>
#include <span>

#include "compress/importance.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ink::Result<ink::ImportanceMatrix> matrix =
      ink::ImportanceMatrix::ParseLegacy(std::as_bytes(std::span(data, size)), "fuzz");
  if (matrix.ok()) {
    INK_CHECK_GT(matrix->size(), 0u);
  } else {
    INK_CHECK(!matrix.status().message().empty());
  }
  return 0;
}
