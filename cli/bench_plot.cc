#include "bench_plot.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <map>

namespace ink::cli {
namespace {

constexpr double kWidth = 420, kHeight = 320, kLeft = 64, kTop = 48, kGap = 110;
constexpr const char* kPrefillColor = "#1f6feb";
constexpr const char* kDecodeColor = "#d1730f";

struct Axis {
  double low, high;  // log10
  double size;
  double At(double value) const {
    return (std::log10(value) - low) / std::max(1e-9, high - low) * size;
  }
};

std::string Format(const char* format, ...) __attribute__((format(printf, 1, 2)));
std::string Format(const char* format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  return text;
}

std::string Text(double x, double y, const std::string& text, const char* anchor = "middle",
                 int size = 12) {
  return Format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\">%s</text>\n", x, y,
                anchor, size, text.c_str());
}

std::string Line(double x1, double y1, double x2, double y2, const char* style) {
  return Format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2,
                style);
}

std::string Number(double v) {
  return v >= 1000 ? Format("%.0fk", v / 1000) : v >= 1 ? Format("%.0f", v) : Format("%.2g", v);
}

// Frame, decade grid and labels of a log-log panel whose upper left corner is (x0, kTop).
std::string Frame(double x0, const Axis& x, const Axis& y, const char* title, const char* x_label,
                  const char* y_label) {
  std::string svg = Format(
      "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" "
      "stroke=\"#888\"/>\n",
      x0, kTop, kWidth, kHeight);
  for (int d = static_cast<int>(std::ceil(x.low)); d <= x.high; ++d) {
    double at = x0 + x.At(std::pow(10.0, d));
    svg += Line(at, kTop, at, kTop + kHeight, "stroke=\"#ddd\"");
    svg += Text(at, kTop + kHeight + 16, Number(std::pow(10.0, d)));
  }
  for (int d = static_cast<int>(std::ceil(y.low)); d <= y.high; ++d) {
    double at = kTop + kHeight - y.At(std::pow(10.0, d));
    svg += Line(x0, at, x0 + kWidth, at, "stroke=\"#ddd\"");
    svg += Text(x0 - 6, at + 4, Number(std::pow(10.0, d)), "end");
  }
  svg += Text(x0 + kWidth / 2, kTop - 14, title, "middle", 14);
  svg += Text(x0 + kWidth / 2, kTop + kHeight + 36, x_label);
  svg += Format(
      "<text transform=\"translate(%.1f,%.1f) rotate(-90)\" text-anchor=\"middle\" "
      "font-size=\"12\">%s</text>\n",
      x0 - 44, kTop + kHeight / 2, y_label);
  return svg;
}

std::string Dot(double x, double y, bool prefill, const std::string& hint) {
  return Format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"%s\"><title>%s</title></circle>\n",
                x, y, prefill ? kPrefillColor : kDecodeColor, hint.c_str());
}

double ComputeLimitOf(const BenchReport& r) {
  return r.compute_limit == "bf16"   ? r.limits.bf16_gflops
         : r.compute_limit == "fp32" ? r.limits.fp32_gflops
                                     : r.limits.int8_gops;
}

std::string Roofline(const BenchReport& report, double x0) {
  const double peak = ComputeLimitOf(report);
  const double bandwidth = report.limits.read_gbps;
  const Axis x{-1, 4, kWidth};
  const Axis y{std::floor(std::log10(bandwidth * 0.1)), std::ceil(std::log10(peak * 1.1)), kHeight};
  std::string svg = Frame(x0, x, y, "Roofline", "operations per byte read", "Gop/s");
  auto point = [&](double ox, double oy) {
    return std::pair(x0 + x.At(ox), kTop + kHeight - y.At(oy));
  };
  auto [ax, ay] = point(std::max(0.1, std::pow(10.0, y.low) / bandwidth),
                        std::max(std::pow(10.0, y.low), bandwidth * 0.1));
  auto [bx, by] = point(peak / bandwidth, peak);
  auto [cx, cy] = point(1e4, peak);
  svg += Line(ax, ay, bx, by, "stroke=\"#333\" stroke-width=\"2\"");
  svg += Line(bx, by, cx, cy, "stroke=\"#333\" stroke-width=\"2\"");
  svg += Text(cx - 4, cy - 6, Format("%s %.0f Gop/s", report.compute_limit.c_str(), peak), "end");
  for (const BenchResult& r : report.results) {
    const double gops = r.mfu * peak;
    const double gbps = r.mbu * bandwidth;
    if (gops <= 0 || gbps <= 0) continue;
    auto [px, py] = point(std::clamp(gops / gbps, 0.1, 1e4), gops);
    svg += Dot(px, py, r.prefill,
               Format("%s, batch %lld, depth %lld: %.0f Gop/s, %.1f GB/s",
                      r.prefill ? "prefill" : "decode", static_cast<long long>(r.batch),
                      static_cast<long long>(r.depth), gops, gbps));
  }
  return svg;
}

std::string CostPerToken(const BenchReport& report, double x0) {
  double low = 1e9, high = 0, max_batch = 1;
  for (const BenchResult& r : report.results) {
    low = std::min(low, r.ms_per_token);
    high = std::max(high, r.ms_per_token);
    max_batch = std::max(max_batch, static_cast<double>(r.batch));
  }
  if (high == 0) low = high = 1;
  const Axis x{0, std::max(1.0, std::ceil(std::log10(max_batch))), kWidth};
  const Axis y{std::floor(std::log10(low)), std::ceil(std::log10(high) + 1e-9), kHeight};
  std::string svg =
      Frame(x0, x, y, "Cost per token against batch", "sequences in the batch", "ms per token");
  std::map<std::pair<bool, int64_t>, std::vector<std::pair<double, double>>> lines;
  for (const BenchResult& r : report.results) {
    lines[{r.prefill, r.depth}].push_back({static_cast<double>(r.batch), r.ms_per_token});
  }
  for (auto& [key, points] : lines) {
    std::sort(points.begin(), points.end());
    std::string path;
    for (auto& [batch, ms] : points) {
      double px = x0 + x.At(batch), py = kTop + kHeight - y.At(ms);
      path += Format("%s%.1f,%.1f ", path.empty() ? "M" : "L", px, py);
      svg += Dot(px, py, key.first,
                 Format("%s, batch %.0f, depth %lld: %.3f ms", key.first ? "prefill" : "decode",
                        batch, static_cast<long long>(key.second), ms));
    }
    svg += Format("<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", path.c_str(),
                  key.first ? kPrefillColor : kDecodeColor);
  }
  return svg;
}

}  // namespace

std::string PlotBench(const BenchReport& report) {
  const double width = kLeft + 2 * kWidth + kGap + 24, height = kTop + kHeight + 76;
  std::string svg = Format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
      "font-family=\"sans-serif\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      width, height);
  svg += Roofline(report, kLeft);
  svg += CostPerToken(report, kLeft + kWidth + kGap);
  const double y = kTop + kHeight + 60;
  svg += Dot(kLeft + 10, y - 4, true, "prefill") + Text(kLeft + 20, y, "prefill", "start");
  svg += Dot(kLeft + 90, y - 4, false, "decode") + Text(kLeft + 100, y, "decode", "start");
  svg += Text(kLeft + 170, y,
              Format("%s, %d threads, read limit %.1f GB/s", report.isa.c_str(), report.threads,
                     report.limits.read_gbps),
              "start");
  return svg + "</svg>\n";
}

}  // namespace ink::cli
