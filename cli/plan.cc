// inkstone plan: every byte a model will use, before it is loaded.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "common.h"
#include "loaded_model.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "plan";

struct Options {
  EngineFlags engine;
  bool json = false;
};

Status Plan(const Options& o) {
  ModelLoadFlags load;
  load.plan_only = true;
  INK_ASSIGN_OR_RETURN(LoadedModel loaded, LoadForCommand(o.engine, load));
  INK_ASSIGN_OR_RETURN(EngineConfig config, EngineConfigFrom(o.engine, *loaded.model, 1));
  INK_ASSIGN_OR_RETURN(MemoryPlan plan,
                       PlanMemory(*loaded.model, *loaded.device, config,
                                  static_cast<int64_t>(loaded.tokenizer->memory_bytes()),
                                  loaded.program_bytes, loaded.adapters));
  nlohmann::ordered_json entries;
  for (size_t i = 0; i < plan.bytes.size(); ++i) {
    entries[std::string(LedgerEntryName(static_cast<LedgerEntry>(i)))] = plan.bytes[i];
  }
  if (o.json) {
    nlohmann::ordered_json out;
    out["total"] = plan.total();
    out["entries"] = std::move(entries);
    INK_RETURN_IF_ERROR(WriteOutput(out.dump() + "\n"));
  } else {
    std::string text;
    char line[128];
    for (auto& [name, bytes] : entries.items()) {
      std::snprintf(line, sizeof(line), "%-16s %14lld bytes %10.1f MiB\n", name.c_str(),
                    static_cast<long long>(bytes.get<int64_t>()),
                    static_cast<double>(bytes.get<int64_t>()) / (1 << 20));
      text += line;
    }
    std::snprintf(line, sizeof(line), "%-16s %14lld bytes %10.1f MiB\n", "total",
                  static_cast<long long>(plan.total()),
                  static_cast<double>(plan.total()) / (1 << 20));
    text += line;
    const ModelInfo& info = loaded.model->info();
    int64_t per_token = 0;
    for (const LayerGroup& group : info.groups) {
      if (group.window == 0) per_token += GroupBlockBytes(group, config.kv_types) / kBlockTokens;
    }
    std::snprintf(line, sizeof(line), "%d sequence%s of %lld tokens; %lld bytes of KV per token\n",
                  config.max_seqs, config.max_seqs == 1 ? "" : "s",
                  static_cast<long long>(config.context), static_cast<long long>(per_token));
    INK_RETURN_IF_ERROR(WriteOutput(text + line));
  }
  INK_RETURN_IF_ERROR(FlushOutput());
  return CheckBudget(plan, o.engine.memory);
}

}  // namespace

CommandBody RegisterPlan(CLI::App& app) {
  auto o = std::make_shared<Options>();
  AddEngineFlags(app, o->engine);
  AddAdapterFlag(app, o->engine);
  app.add_flag("--json", o->json, "one JSON object on stdout");
  return [o] {
    Status status = Plan(*o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
