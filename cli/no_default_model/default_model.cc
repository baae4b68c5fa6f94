// Chosen by CMake where models/inkling.gguf is absent.
#include "default_model.h"

namespace ink::cli {

std::span<const std::byte> DefaultModel() { return {}; }

}  // namespace ink::cli
