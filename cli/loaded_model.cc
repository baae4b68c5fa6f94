#include "loaded_model.h"

#include <chrono>
#include <filesystem>

#include "default_model.h"
#include "engine/adapter_spec.h"
#include "formats/gguf.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer_json.h"

namespace ink::cli {

Result<std::shared_ptr<const Tokenizer>> LoadTokenizer(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return TokenizerFromFolder(path);
  INK_ASSIGN_OR_RETURN(GgufFile file, GgufFile::Open(path));
  return TokenizerFromGguf(file.metadata());
}

Result<LoadedModel> LoadForCommand(const EngineFlags& flags, const ModelLoadFlags& load) {
  LoadedModel out;
  out.program_bytes = ReadProcessMemory().resident;
  const auto begin = std::chrono::steady_clock::now();
  const std::string isa = RequestedIsa();
  out.ledger = std::make_unique<Ledger>();
  INK_ASSIGN_OR_RETURN(out.device, CreateCpuDevice({flags.threads, isa}, out.ledger.get()));
  if (flags.model.empty()) {
    std::span<const std::byte> bytes = DefaultModel();
    if (bytes.empty()) {
      return NotFound("no model: give one with -m (this build has no embedded default model)");
    }
    out.name = kEmbeddedModel;
    INK_ASSIGN_OR_RETURN(out.source, OpenGgufSourceFromBytes(bytes, out.name));
    if (load.tokenizer) {
      INK_ASSIGN_OR_RETURN(out.tokenizer, TokenizerFromGguf(out.source->metadata()));
    }
  } else {
    out.name = flags.model;
    INK_ASSIGN_OR_RETURN(out.source, OpenWeightSource(flags.model));
    if (load.tokenizer) {
      INK_ASSIGN_OR_RETURN(out.tokenizer, LoadTokenizer(flags.model));
    }
  }
  LoadOptions options;
  options.context = load.context > 0 ? load.context : flags.context;
  options.plan_only = load.plan_only;
  std::unique_ptr<ProgressBar> bar;
  struct Progress {
    std::unique_ptr<ProgressBar>* bar;
    int64_t last = 0;
  } progress{&bar};
  if (load.progress && !load.plan_only) {
    options.progress_argument = &progress;
    options.progress = [](void* argument, int64_t done, int64_t total) {
      auto& p = *static_cast<Progress*>(argument);
      if (*p.bar == nullptr) {
        *p.bar = std::make_unique<ProgressBar>("loading", static_cast<uint64_t>(total));
      }
      (*p.bar)->Update(static_cast<uint64_t>(done));
    };
  }
  INK_ASSIGN_OR_RETURN(out.model, LoadModel(*out.source, *out.device, options));
  if (bar != nullptr) bar->Finish();
  for (const std::string& text : flags.adapters) {
    INK_ASSIGN_OR_RETURN(const AdapterSpec spec, ParseAdapterSpec(text));
    INK_ASSIGN_OR_RETURN(Adapter adapter, ReadAdapter(spec.path, out.model->adapter_target()));
    out.adapters.push_back(std::move(adapter));
    out.adapter_uses.push_back({spec.path, spec.scale});
  }
  out.load_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return out;
}

Result<EngineConfig> EngineConfigFrom(const EngineFlags& flags, const Model& model,
                                      int64_t default_sequences) {
  EngineConfig config;
  config.context = flags.context > 0 ? flags.context : model.info().context_length;
  config.max_seqs = static_cast<int32_t>(flags.sequences > 0 ? flags.sequences : default_sequences);
  INK_ASSIGN_OR_RETURN(config.kv_types, ParseKvTypes(flags.cache_type));
  return config;
}

Status CheckMemory(const LoadedModel& loaded, const EngineConfig& config, uint64_t budget) {
  const int64_t vocabulary =
      loaded.tokenizer != nullptr ? static_cast<int64_t>(loaded.tokenizer->memory_bytes()) : 0;
  INK_ASSIGN_OR_RETURN(MemoryPlan plan,
                       PlanMemory(*loaded.model, *loaded.device, config, vocabulary,
                                  loaded.program_bytes, loaded.adapters));
  return CheckBudget(plan, budget);
}

Status UseAdapters(LoadedModel& loaded, Engine& engine) {
  for (size_t i = 0; i < loaded.adapters.size(); ++i) {
    INK_RETURN_IF_ERROR(engine.AddAdapter(loaded.adapter_uses[i].name, loaded.adapters[i]));
    loaded.adapters[i] = {};
  }
  loaded.adapters.clear();
  return engine.SetDefaultAdapters(loaded.adapter_uses);
}

}  // namespace ink::cli
