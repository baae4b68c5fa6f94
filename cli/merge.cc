// inkstone merge: folds adapters into a model.
#include "compress/merge.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/thread_pool.h"
#include "command.h"
#include "common.h"
#include "compress/importance.h"
#include "engine/adapter_spec.h"
#include "gguf_input.h"
#include "interrupt.h"
#include "quantize_report.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "merge";

struct Options {
  std::string model;
  std::vector<std::string> adapters;
  std::string out;
  std::string type;
  std::string importance;
  bool json = false;
  int threads = 0;
};

Status Merge(const Options& o) {
  QuantizeOptions request;
  if (!o.type.empty()) {
    request.recipe = FindRecipe(o.type);
    if (request.recipe == nullptr) {
      return InvalidArgument("--type: expected one of " + RecipeNames() + ", got '" + o.type + "'");
    }
  }
  std::optional<ImportanceMatrix> importance;
  if (!o.importance.empty()) {
    INK_ASSIGN_OR_RETURN(importance, ImportanceMatrix::Load(o.importance));
    request.importance = &*importance;
  }
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  ThreadPool pool(o.threads > 0 ? std::min(o.threads, 1024) : static_cast<int>(cores));

  const InterruptGuard guard;
  const auto start = std::chrono::steady_clock::now();
  ConvertOptions convert;
  convert.progress = [&](uint64_t, uint64_t) { return !guard.interrupted(); };
  std::vector<std::string> warnings;
  INK_ASSIGN_OR_RETURN(const GgufInput base, GgufInput::Open(o.model, o.out, convert, &warnings));
  INK_ASSIGN_OR_RETURN(std::unique_ptr<WeightSource> source, base.OpenSource());
  INK_ASSIGN_OR_RETURN(const AdapterTarget target, AdapterTargetOf(*source));
  std::vector<Adapter> adapters;
  std::vector<MergeAdapter> uses;
  for (const std::string& text : o.adapters) {
    INK_ASSIGN_OR_RETURN(const AdapterSpec spec, ParseAdapterSpec(text));
    INK_ASSIGN_OR_RETURN(Adapter adapter, ReadAdapter(spec.path, target));
    adapters.push_back(std::move(adapter));
    uses.push_back({nullptr, spec.scale});
  }
  for (size_t i = 0; i < adapters.size(); ++i) uses[i].adapter = &adapters[i];
  std::unique_ptr<ProgressBar> bar;
  request.progress = [&](const QuantizeProgress& progress) {
    if (bar == nullptr) bar = std::make_unique<ProgressBar>("merge", progress.total_bytes);
    bar->Update(progress.done_bytes);
    return !guard.interrupted();
  };
  Result<QuantizeReport> report = MergeAdapters(base.file(), target, uses, o.out, request, pool);
  if (bar != nullptr) bar->Finish();
  INK_RETURN_IF_ERROR(report.status());
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  report->warnings.insert(report->warnings.begin(), warnings.begin(), warnings.end());
  for (const std::string& warning : report->warnings) PrintWarning(kCommand, warning);
  if (o.json) {
    nlohmann::ordered_json json = {
        {"input", base.file().path()}, {"output", o.out}, {"adapters", o.adapters}};
    json.update(ReportJson(*report, elapsed.count()));
    INK_RETURN_IF_ERROR(WriteOutput(
        json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n"));
  } else {
    INK_RETURN_IF_ERROR(WriteOutput(ReportTable(*report, o.out, elapsed.count())));
  }
  return FlushOutput();
}

}  // namespace

CommandBody RegisterMerge(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("-m,--model", o->model,
                 "base: a GGUF file or Hugging Face folder (default: the embedded model)");
  app.add_option("--adapter", o->adapters,
                 "adapter, FILE or FILE:SCALE: a PEFT folder or a GGUF file; may be repeated, "
                 "folded in in this order")
      ->required()
      ->allow_extra_args(false);
  app.add_option("OUT", o->out, "GGUF file to write")->required();
  app.add_option("--type", o->type, "types of the weights, see below (default: the base's own)");
  app.add_option("--imatrix", o->importance, "importance matrix for the encoders");
  app.add_option("-t", o->threads, "threads (default: one per core)")->check(CLI::Range(1, 1024));
  app.add_flag("--json", o->json, "report as one JSON object");
  app.footer(RecipeHelp());
  return [o] {
    const Status status = Merge(*o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
