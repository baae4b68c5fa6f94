// inkstone bench: both phases against the machine's limits, measured in the same run.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "bench_measure.h"
#include "bench_plot.h"
#include "command.h"
#include "common.h"
#include "loaded_model.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "bench";

struct Options {
  EngineFlags engine;
  BenchOptions bench;
  std::string plot;
  bool json = false;
};

nlohmann::ordered_json ToJson(const BenchReport& report) {
  nlohmann::ordered_json out;
  out["isa"] = report.isa;
  out["threads"] = report.threads;
  out["model"] = {{"weight_bytes", report.weight_bytes},
                  {"flops_per_token", report.flops_per_token},
                  {"name", report.model}};
  out["limits"] = {{"read_gbps", report.limits.read_gbps},
                   {"int8_gops", report.limits.int8_gops},
                   {"bf16_gflops", report.limits.bf16_gflops},
                   {"fp32_gflops", report.limits.fp32_gflops}};
  out["compute_limit"] = report.compute_limit;
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const BenchResult& r : report.results) {
    results.push_back({{"test", r.prefill ? "prefill" : "decode"},
                       {"batch", r.batch},
                       {"prompt", r.prompt},
                       {"generate", r.generate},
                       {"depth", r.depth},
                       {"tokens_per_second", r.tokens_per_second},
                       {"ms_per_token", r.ms_per_token},
                       {"mfu", r.mfu},
                       {"mbu", r.mbu}});
  }
  out["results"] = std::move(results);
  return out;
}

std::string ToText(const BenchReport& report) {
  char line[256];
  std::snprintf(line, sizeof(line),
                "%s | %s, %d threads | weights %.1f MiB, %.3f GFLOP per token\n",
                report.model.c_str(), report.isa.c_str(), report.threads,
                report.weight_bytes / 1048576.0, report.flops_per_token / 1e9);
  std::string text = line;
  std::snprintf(
      line, sizeof(line),
      "limits: read %.1f GB/s, int8 %.0f GOP/s, bf16 %.0f GFLOP/s, fp32 %.0f GFLOP/s; MFU "
      "is a share of %s\n",
      report.limits.read_gbps, report.limits.int8_gops, report.limits.bf16_gflops,
      report.limits.fp32_gflops, report.compute_limit.c_str());
  text += line;
  text += "test     batch  prompt  generate  depth   tokens/s  ms/token    MFU    MBU\n";
  for (const BenchResult& r : report.results) {
    std::snprintf(line, sizeof(line), "%-8s %5lld %7lld %9lld %6lld %10.1f %9.3f %5.1f%% %5.1f%%\n",
                  r.prefill ? "prefill" : "decode", static_cast<long long>(r.batch),
                  static_cast<long long>(r.prompt), static_cast<long long>(r.generate),
                  static_cast<long long>(r.depth), r.tokens_per_second, r.ms_per_token, 100 * r.mfu,
                  100 * r.mbu);
    text += line;
  }
  return text;
}

Status RunBench(const Options& o) {
  ModelLoadFlags load;
  load.tokenizer = false;
  INK_ASSIGN_OR_RETURN(LoadedModel loaded, LoadForCommand(o.engine, load));
  INK_ASSIGN_OR_RETURN(KvTypes types, ParseKvTypes(o.engine.cache_type));
  BenchOptions options = o.bench;
  options.kv_types = types;
  options.memory_budget = o.engine.memory;
  const int64_t work = static_cast<int64_t>(options.depths.size() * options.batches.size() *
                                            (options.prompts.size() + options.generates.size()) *
                                            options.repetitions);
  ProgressBar bar("bench", static_cast<uint64_t>(work));
  int64_t done = 0;
  options.progress = [&] { bar.Update(static_cast<uint64_t>(++done)); };
  INK_ASSIGN_OR_RETURN(BenchReport report, MeasureBench(*loaded.model, *loaded.device, options));
  bar.Finish();
  report.model = loaded.name;
  if (!o.plot.empty()) INK_RETURN_IF_ERROR(WriteFileAtomic(o.plot, PlotBench(report)));
  INK_RETURN_IF_ERROR(WriteOutput(o.json ? ToJson(report).dump() + "\n" : ToText(report)));
  return FlushOutput();
}

}  // namespace

CommandBody RegisterBench(CLI::App& app) {
  auto o = std::make_shared<Options>();
  AddEngineFlags(app, o->engine);
  auto list = [&](const char* name, std::vector<int64_t>& value, const char* text, int64_t low) {
    app.add_option(name, value, text)
        ->delimiter(',')
        ->check(CLI::Range(low, int64_t{1} << 24))
        ->capture_default_str();
  };
  list("-p,--prompt", o->bench.prompts, "prompt lengths to prefill; 0 for none", 0);
  list("-n,--generate", o->bench.generates, "tokens to decode; 0 for none", 0);
  list("--batch", o->bench.batches, "sequences side by side", 1);
  list("--depth", o->bench.depths, "tokens already in the cache", 0);
  app.add_option("--repeat", o->bench.repetitions, "repetitions, limits measured between them")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--plot", o->plot, "write roofline and cost per token as an SVG");
  app.add_flag("--json", o->json, "one JSON object on stdout");
  return [o] {
    Status status = RunBench(*o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
