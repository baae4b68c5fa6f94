// How names from hostile files appear in error messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ink {

/// `text` in double quotes, control bytes as \xNN, cut after `max_bytes` with "...".
std::string Quoted(std::string_view text, size_t max_bytes = 80);

/// `path`: what: expected X, found Y. The one shape of a format error's sentence.
std::string Mismatch(std::string_view path, std::string_view what, std::string_view expected,
                     std::string_view actual);

}  // namespace ink
