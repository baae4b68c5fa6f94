// inkstone quantize: writes a model in other tensor types.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "command.h"
#include "common.h"
#include "compress/importance.h"
#include "compress/quantize.h"
#include "compress/recipe.h"
#include "gguf_input.h"
#include "interrupt.h"
#include "quantize_report.h"

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
  request.progress = [&](const QuantizeProgress& progress) {
    if (bar == nullptr) bar = std::make_unique<ProgressBar>("quantize", progress.total_bytes);
    bar->Update(progress.done_bytes);
    return !guard.interrupted();
  };
  const auto start = std::chrono::steady_clock::now();
  ConvertOptions convert;
  convert.progress = [&](uint64_t, uint64_t) { return !guard.interrupted(); };
  std::vector<std::string> warnings;
  INK_ASSIGN_OR_RETURN(const GgufInput input,
                       GgufInput::Open(options.in, options.out, convert, &warnings));
  Result<QuantizeReport> report = QuantizeGguf(input.file(), options.out, request, pool);
  if (bar != nullptr) bar->Finish();
  INK_RETURN_IF_ERROR(report.status());
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  report->warnings.insert(report->warnings.begin(), warnings.begin(), warnings.end());
  for (const std::string& warning : report->warnings) PrintWarning(kCommand, warning);
  if (options.json) {
    nlohmann::ordered_json json = {
        {"input", options.in}, {"output", options.out}, {"type", options.type}};
    json.update(ReportJson(*report, elapsed.count()));
    INK_RETURN_IF_ERROR(WriteOutput(
        json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n"));
  } else {
    INK_RETURN_IF_ERROR(WriteOutput(ReportTable(*report, options.out, elapsed.count())));
  }
  return FlushOutput();
}

int Run(const Options& options) {
  const Status status = Quantize(options);
  return status.ok() ? kExitOk : Fail(kCommand, status);
}

}  // namespace

CommandBody RegisterQuantize(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("IN", options->in,
                 "model: a GGUF file (the first of a sharded one) or a Hugging Face folder")
      ->required();
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
