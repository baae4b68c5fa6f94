#include "engine/adapter_spec.h"

#include <charconv>
#include <cmath>
#include <filesystem>

namespace ink {

Result<AdapterSpec> ParseAdapterSpec(std::string_view text) {
  AdapterSpec spec{std::string(text), 1.0f};
  std::error_code error;
  const size_t colon = text.rfind(':');
  if (colon != std::string_view::npos && !std::filesystem::exists(spec.path, error)) {
    const std::string_view scale = text.substr(colon + 1);
    const char* end = scale.data() + scale.size();
    const auto parsed = std::from_chars(scale.data(), end, spec.scale);
    if (parsed.ec != std::errc() || parsed.ptr != end || !std::isfinite(spec.scale)) {
      return InvalidArgument("adapter \"" + spec.path +
                             "\": expected an existing file, or FILE:SCALE with a finite number, "
                             "got scale \"" +
                             std::string(scale) + "\"");
    }
    spec.path = text.substr(0, colon);
  }
  if (spec.path.empty()) {
    return InvalidArgument("adapter: expected FILE or FILE:SCALE, got \"" + std::string(text) +
                           "\"");
  }
  return spec;
}

}  // namespace ink
