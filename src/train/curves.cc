#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "train/trainer.h"

namespace ink {
namespace {

struct Curve {
  std::vector<std::pair<double, double>> points;
  const char* color;
  const char* label;
};

std::string Number(double x) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g", x);
  return text;
}

}  // namespace

Result<std::string> DrawCurves(const std::string& log) {
  Curve loss{{}, "#2f6fab", "training loss (nats per token)"};
  Curve bits{{}, "#b3541e", "validation (bits per byte)"};
  Curve held{{}, "#b3541e", "validation loss (nats per token)"};
  double last = 0, low = 1e300, high = -1e300;
  for (size_t at = 0; at < log.size();) {
    size_t end = log.find('\n', at);
    if (end == std::string::npos) end = log.size();
    const auto json =
        nlohmann::json::parse(log.begin() + static_cast<int64_t>(at),
                              log.begin() + static_cast<int64_t>(end), nullptr, false);
    at = end + 1;
    if (!json.is_object() || !json.contains("step")) continue;
    const double step = json["step"].get<double>();
    auto add = [&](const char* key, Curve& curve) {
      auto value = json.find(key);
      if (value == json.end() || !value->is_number()) return;
      curve.points.emplace_back(step, value->get<double>());
      last = std::max(last, step);
      low = std::min(low, value->get<double>());
      high = std::max(high, value->get<double>());
    };
    add("loss", loss);
    add("bits_per_byte", bits);
    add("validation_loss", held);
  }
  if (loss.points.empty()) return InvalidArgument("the log has no steps to draw");
  constexpr double kWidth = 800, kHeight = 420, kLeft = 60, kTop = 20, kRight = 20, kBottom = 40;
  if (high - low < 1e-6) high = low + 1;
  auto x_of = [&](double step) { return kLeft + step / last * (kWidth - kLeft - kRight); };
  auto y_of = [&](double value) {
    return kTop + (high - value) / (high - low) * (kHeight - kTop - kBottom);
  };
  std::string svg =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 420\" "
      "font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"800\" height=\"420\" fill=\"white\"/>\n";
  for (int i = 0; i <= 4; ++i) {
    const double value = low + (high - low) * i / 4, step = last * i / 4;
    svg += "<line x1=\"60\" x2=\"780\" y1=\"" + Number(y_of(value)) + "\" y2=\"" +
           Number(y_of(value)) + "\" stroke=\"#ddd\"/><text x=\"8\" y=\"" +
           Number(y_of(value) + 4) + "\">" + Number(value) + "</text><text x=\"" +
           Number(x_of(step) - 10) + "\" y=\"398\">" + Number(std::round(step)) + "</text>\n";
  }
  double label_y = 36;
  for (const Curve* curve : {&loss, &bits, &held}) {
    if (curve->points.empty()) continue;
    // At most 800 points: more than one per pixel shows nothing.
    const size_t stride = std::max<size_t>(1, curve->points.size() / 800);
    svg += "<polyline fill=\"none\" stroke=\"" + std::string(curve->color) + "\" points=\"";
    for (size_t i = 0; i < curve->points.size(); i += stride) {
      svg +=
          Number(x_of(curve->points[i].first)) + "," + Number(y_of(curve->points[i].second)) + " ";
    }
    svg += "\"/>\n<text x=\"500\" y=\"" + Number(label_y) + "\" fill=\"" + curve->color + "\">" +
           curve->label + "</text>\n";
    label_y += 18;
  }
  return svg + "</svg>\n";
}

}  // namespace ink
