// How people name an adapter: FILE, or FILE:SCALE.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace ink {

struct AdapterSpec {
  std::string path;
  float scale = 1.0f;
};

/// What stands behind the last ':' is the scale, unless the whole text is an existing path. Errors:
/// kInvalidArgument for an empty path or a scale that is no finite number.
Result<AdapterSpec> ParseAdapterSpec(std::string_view text);

}  // namespace ink
