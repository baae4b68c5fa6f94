#include "quantize_report.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace ink::cli {
namespace {

std::string Format(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

std::string Bytes(uint64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  if (mib >= 1024.0) return Format("%.2f GiB", mib / 1024.0);
  return mib >= 0.1 ? Format("%.2f MiB", mib)
                    : Format("%.1f KiB", static_cast<double>(bytes) / 1024.0);
}

std::string Shape(const TensorReport& tensor) {
  std::string shape = "[";
  for (int i = 0; i < std::max(tensor.num_dims, 1); ++i) {
    if (i > 0) shape += ", ";
    shape += std::to_string(tensor.dims[static_cast<size_t>(i)]);
  }
  return shape + "]";
}

void Pad(std::string* text, size_t width) {
  if (text->size() < width) text->append(width - text->size(), ' ');
}

}  // namespace

std::string ReportTable(const QuantizeReport& report, const std::string& out, double seconds) {
  size_t name_width = 0;
  size_t shape_width = 0;
  for (const TensorReport& tensor : report.tensors) {
    name_width = std::max(name_width, tensor.name.size());
    shape_width = std::max(shape_width, Shape(tensor).size());
  }
  std::string text;
  for (const TensorReport& tensor : report.tensors) {
    std::string line = tensor.name;
    Pad(&line, name_width + 2);
    line += Shape(tensor);
    Pad(&line, name_width + shape_width + 4);
    line += Info(tensor.from).name;
    if (tensor.from != tensor.to) {
      line += " -> ";
      line += Info(tensor.to).name;
    }
    Pad(&line, name_width + shape_width + 22);
    line += Bytes(tensor.to_bytes);
    Pad(&line, name_width + shape_width + 35);
    line += Format("%7.4f bpw", tensor.bits_per_weight());
    if (tensor.squared_error > 0) line += Format("  error %.3e", tensor.relative_error());
    if (tensor.weighted) line += "  weighted";
    text += line + "\n";
  }
  text += out + ": " + Bytes(report.file_bytes) + " (tensors " + Bytes(report.from_bytes) + " -> " +
          Bytes(report.to_bytes) + "), " + Format("%.4f", report.bits_per_weight) +
          " bits per weight, relative error " + Format("%.3e", report.relative_error) + ", " +
          Format("%.1f", seconds) + " s\n";
  return text;
}

nlohmann::ordered_json ReportJson(const QuantizeReport& report, double seconds) {
  nlohmann::ordered_json tensors = nlohmann::ordered_json::array();
  for (const TensorReport& tensor : report.tensors) {
    nlohmann::ordered_json shape = nlohmann::ordered_json::array();
    for (int i = 0; i < std::max(tensor.num_dims, 1); ++i) {
      shape.push_back(tensor.dims[static_cast<size_t>(i)]);
    }
    tensors.push_back({{"name", tensor.name},
                       {"shape", std::move(shape)},
                       {"from", Info(tensor.from).name},
                       {"to", Info(tensor.to).name},
                       {"bytes", tensor.to_bytes},
                       {"bits_per_weight", tensor.bits_per_weight()},
                       {"relative_error", tensor.relative_error()},
                       {"weighted", tensor.weighted}});
  }
  return {{"file_bytes", report.file_bytes},
          {"tensor_bytes_before", report.from_bytes},
          {"tensor_bytes", report.to_bytes},
          {"weights", report.num_values},
          {"bits_per_weight", report.bits_per_weight},
          {"relative_error", report.relative_error},
          {"seconds", seconds},
          {"warnings", report.warnings},
          {"tensors", std::move(tensors)}};
}

std::string RecipeNames() {
  std::string names;
  for (const Recipe& recipe : AllRecipes()) {
    if (!names.empty()) names += ", ";
    names += recipe.name;
  }
  return names;
}

std::string RecipeHelp() {
  std::string text = "types:\n";
  for (const Recipe& recipe : AllRecipes()) {
    std::string line = "  " + std::string(recipe.name);
    Pad(&line, 14);
    line += recipe.description;
    text += line + "\n";
  }
  return text;
}

}  // namespace ink::cli
