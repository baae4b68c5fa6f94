// What commands that rewrite tensors say about it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "compress/quantize.h"
#include "compress/recipe.h"

namespace ink::cli {

/// One line per tensor, then the totals.
std::string ReportTable(const QuantizeReport& report, const std::string& out, double seconds);
nlohmann::ordered_json ReportJson(const QuantizeReport& report, double seconds);

/// Names of all recipes, and the same with descriptions for --help.
std::string RecipeNames();
std::string RecipeHelp();

}  // namespace ink::cli
