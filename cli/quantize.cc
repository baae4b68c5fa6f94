// inkstone quantize: writes a model in other tensor types.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "command.h"
#include "common.h"
#include "compress/importance.h"
#include "compress/quantize.h"
#include "compress/recipe.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "quantize";

struct Options {
  std::string in;
  std::string out;
  std::string type;
  std::string importance;
  std::vector<std::string> overrides;
  bool pure = false;
  bool json = false;
  int threads = 0;
};

// Ctrl-C stops between two waves, so that no temporary file stays behind.
volatile std::sig_atomic_t g_interrupted = 0;

class InterruptGuard {
 public:
  InterruptGuard() : previous_(std::signal(SIGINT, [](int) { g_interrupted = 1; })) {}
  ~InterruptGuard() { std::signal(SIGINT, previous_); }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  void (*previous_)(int);
};

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

/// One line per tensor, then the totals.
std::string Table(const QuantizeReport& report, const Options& options, double seconds) {
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
    if (tensor.from != tensor.to) line += Format("  error %.3e", tensor.relative_error());
    if (tensor.weighted) line += "  weighted";
    text += line + "\n";
  }
  text += options.out + ": " + Bytes(report.file_bytes) + " (tensors " + Bytes(report.from_bytes) +
          " -> " + Bytes(report.to_bytes) + "), " + Format("%.4f", report.bits_per_weight) +
          " bits per weight, relative error " + Format("%.3e", report.relative_error) + ", " +
          Format("%.1f", seconds) + " s\n";
  return text;
}

std::string Json(const QuantizeReport& report, const Options& options, double seconds) {
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
  const nlohmann::ordered_json json = {{"input", options.in},
                                       {"output", options.out},
                                       {"type", options.type},
                                       {"file_bytes", report.file_bytes},
                                       {"tensor_bytes_before", report.from_bytes},
                                       {"tensor_bytes", report.to_bytes},
                                       {"weights", report.num_values},
                                       {"bits_per_weight", report.bits_per_weight},
                                       {"relative_error", report.relative_error},
                                       {"seconds", seconds},
                                       {"warnings", report.warnings},
                                       {"tensors", std::move(tensors)}};
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string RecipeNames() {
  std::string names;
  for (const Recipe& recipe : AllRecipes()) {
    if (!names.empty()) names += ", ";
    names += recipe.name;
  }
  return names;
}

Status Quantize(const Options& options) {
  QuantizeOptions request;
  request.recipe = FindRecipe(options.type);
  if (request.recipe == nullptr) {
    return InvalidArgument("unknown type '" + options.type + "', expected one of " + RecipeNames());
  }
  if (options.threads < 0) {
    return InvalidArgument("-t should be 1 or more (0: one per core), it is " +
                           std::to_string(options.threads));
  }
  std::error_code ignored;  // opening the file reports it better
  if (std::filesystem::is_directory(options.in, ignored)) {
    return InvalidArgument(options.in +
                           " is a folder, expected a GGUF file; inkstone convert makes one of a "
                           "Hugging Face folder");
  }
  request.pure = options.pure;
  for (const std::string& text : options.overrides) {
    INK_ASSIGN_OR_RETURN(TypeOverride parsed, TypeOverride::Parse(text));
    request.overrides.push_back(std::move(parsed));
  }
  std::optional<ImportanceMatrix> importance;
  if (!options.importance.empty()) {
    INK_ASSIGN_OR_RETURN(importance, ImportanceMatrix::Load(options.importance));
    request.importance = &*importance;
  }
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  ThreadPool pool(options.threads > 0 ? std::min(options.threads, 1024) : static_cast<int>(cores));

  const InterruptGuard guard;
  std::unique_ptr<ProgressBar> bar;
  request.progress = [&bar](const QuantizeProgress& progress) {
    if (bar == nullptr) bar = std::make_unique<ProgressBar>("quantize", progress.total_bytes);
    bar->Update(progress.done_bytes);
    return g_interrupted == 0;
  };
  const auto start = std::chrono::steady_clock::now();
  const Result<QuantizeReport> report = QuantizeGguf(options.in, options.out, request, pool);
  if (bar != nullptr) bar->Finish();
  INK_RETURN_IF_ERROR(report.status());
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  for (const std::string& warning : report->warnings) PrintWarning(kCommand, warning);
  INK_RETURN_IF_ERROR(WriteOutput(options.json ? Json(*report, options, elapsed.count())
                                               : Table(*report, options, elapsed.count())));
  return FlushOutput();
}

int Run(const Options& options) {
  const Status status = Quantize(options);
  return status.ok() ? kExitOk : Fail(kCommand, status);
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

}  // namespace

CommandBody RegisterQuantize(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("IN", options->in, "GGUF model (the first file of a sharded one)")->required();
  app.add_option("OUT", options->out, "GGUF file to write; may be IN")->required();
  app.add_option("--type", options->type, "type of the weights, see below; f32 decodes")
      ->required();
  app.add_option("--imatrix", options->importance,
                 "importance matrix (GGUF or the older binary form)");
  app.add_option("--tensor-type", options->overrides,
                 "NAME_REGEX=TYPE: type of the tensors whose name matches; may be repeated, the "
                 "first match decides")
      ->allow_extra_args(false);
  app.add_flag("--pure", options->pure, "the same type for every matrix, no mixture");
  app.add_option("-t", options->threads, "threads (default: one per core)");
  app.add_flag("--json", options->json, "report as one JSON object");
  app.footer(RecipeHelp());
  return [options] { return Run(*options); };
}

}  // namespace ink::cli
