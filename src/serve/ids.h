#pragma once

#include <cstdint>
#include <string>

namespace ink {

/// `bytes` random bytes as hexadecimal, from the operating system.
std::string RandomHex(int bytes);
uint64_t RandomSeed();

}  // namespace ink
