#pragma once

#include <cstddef>
#include <span>

namespace ink::cli {

/// The GGUF bytes of models/inkling.gguf, embedded when the file was there at build time; else
/// empty.
std::span<const std::byte> DefaultModel();

}  // namespace ink::cli
