// Pieces that text filters and str methods share. Results are bounded by the rendering's heap.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace ink::jinja {

/// Strips the code points of `set` at the left and/or right end.
std::string_view StripSet(std::string_view text, std::string_view set, bool left, bool right);

/// str.splitlines(): the line ends of every convention.
std::vector<std::string> SplitLines(Heap& heap, std::string_view text, bool keep_ends);

/// str.split() on white space; at most `limit` splits from the left if not negative.
std::vector<std::string> SplitWords(Heap& heap, std::string_view text, int64_t limit);
std::vector<std::string> SplitWordsFromRight(Heap& heap, std::string_view text, int64_t limit);
/// str.split(separator), separator not empty.
std::vector<std::string> SplitAt(Heap& heap, std::string_view text, std::string_view separator,
                                 int64_t limit);
std::vector<std::string> SplitAtFromRight(Heap& heap, std::string_view text,
                                          std::string_view separator, int64_t limit);

/// str.replace(): `count` negative replaces all; an empty `old` is found between code points.
std::string ReplaceAll(Interpreter& interpreter, std::string_view text, std::string_view old,
                       std::string_view replacement, int64_t count);

// Padding to `width` code points with `fill` (one code point).
std::string Center(Interpreter& interpreter, std::string_view text, int64_t width,
                   std::string_view fill);
std::string PadLeft(Interpreter& interpreter, std::string_view text, int64_t width,
                    std::string_view fill);
std::string PadRight(Interpreter& interpreter, std::string_view text, int64_t width,
                     std::string_view fill);

}  // namespace ink::jinja
