// Tokens to syntax tree.
#pragma once

#include <memory>
#include <string_view>

#include "text/jinja/ast.h"

namespace ink::jinja {

/// Parses valid UTF-8. Throws TemplateError with the line.
std::unique_ptr<Template> Parse(std::string_view source);

}  // namespace ink::jinja
