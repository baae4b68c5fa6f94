// The web page of `serve`, built from web/ and part of the program.
#pragma once

#include <vector>

#include "serve/static_file.h"

namespace ink::cli {

/// The page at "/".
std::vector<StaticFile> WebPage();

}  // namespace ink::cli
