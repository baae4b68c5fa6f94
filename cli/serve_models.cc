#include "serve_models.h"

#include <algorithm>
#include <utility>

#include "engine/adapter_spec.h"
#include "machine_limits.h"
#include "model/weight_source.h"
#include "model_fingerprint.h"

namespace ink::cli {

Result<AdapterSource> ParseServedAdapter(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos) {
    return InvalidArgument("--adapter: expected NAME=FILE or NAME=FILE:SCALE, got \"" + text +
                           "\"");
  }
  INK_ASSIGN_OR_RETURN(const AdapterSpec spec, ParseAdapterSpec(text.substr(equals + 1)));
  return AdapterSource{text.substr(0, equals), spec.path, spec.scale};
}

int64_t ServeLoader::UsedBytes() {
  std::erase_if(loaded_, [](const auto& weak) { return weak.expired(); });
  int64_t used = 0;
  for (const auto& weak : loaded_) {
    if (auto model = weak.lock()) used += model->ledger->total();
  }
  return used;
}

Status ServeLoader::WithinBudget(int64_t bytes, const std::function<Status()>& add) {
  std::lock_guard lock(mutex_);
  const auto budget = static_cast<int64_t>(settings_.engine.memory);
  if (budget > 0) {
    int64_t used = UsedBytes(), program = 0;
    for (const auto& weak : loaded_) {
      auto model = weak.lock();
      if (model == nullptr) continue;
      used += static_cast<int64_t>(model->tokenizer->memory_bytes());
      program = std::max(program, model->program_bytes);
    }
    used += program;
    if (used + bytes > budget) {
      return OutOfMemory("it needs " + std::to_string(bytes) + " bytes, " + std::to_string(used) +
                         " of " + std::to_string(budget) + " bytes (--memory) are used");
    }
  }
  return add();
}

Result<std::shared_ptr<ServedModel>> ServeLoader::Load(const ModelSource& source, bool progress) {
  // One at a time: two at once would each find the budget that the other is about to use.
  std::lock_guard lock(mutex_);
  EngineFlags flags = settings_.engine;
  flags.model = source.path;
  if (source.context > 0) flags.context = source.context;
  if (source.sequences > 0) flags.sequences = source.sequences;
  const int64_t used = UsedBytes();
  const auto budget = static_cast<int64_t>(flags.memory);
  if (budget > 0 && used >= budget) {
    return OutOfMemory("the other models use " + std::to_string(used) + " of " +
                       std::to_string(budget) + " bytes (--memory)");
  }
  ModelLoadFlags load;
  load.progress = progress;
  if (budget > 0 && used > 0) {
    // Planned before its weights are read: it must not grow past the budget while it loads.
    load.plan_only = true;
    INK_ASSIGN_OR_RETURN(LoadedModel planned, LoadForCommand(flags, load));
    INK_ASSIGN_OR_RETURN(EngineConfig config, EngineConfigFrom(flags, *planned.model, 8));
    INK_RETURN_IF_ERROR(CheckMemory(planned, config, static_cast<uint64_t>(budget - used)));
    load.plan_only = false;
  }
  INK_ASSIGN_OR_RETURN(LoadedModel made, LoadForCommand(flags, load));
  auto loaded = std::make_shared<LoadedModel>(std::move(made));
  INK_ASSIGN_OR_RETURN(EngineConfig config, EngineConfigFrom(flags, *loaded->model, 8));
  config.model_name = loaded->name;
  config.policy = settings_.policy;
  config.max_waiting = settings_.max_waiting;
  config.token_budget = settings_.token_budget;
  if (settings_.kv_disk != nullptr) {
    // Everything that the bits of K and V depend on, beside what the engine's scope has.
    INK_ASSIGN_OR_RETURN(const std::string fingerprint, ModelFingerprint(source.path));
    config.kv_disk = settings_.kv_disk;
    config.model_name = fingerprint + " " + INKSTONE_VERSION + " " +
                        std::string(loaded->device->ops().name) + " " +
                        std::to_string(config.context);
  }
  if (used == 0) INK_RETURN_IF_ERROR(CheckMemory(*loaded, config, flags.memory));
  INK_ASSIGN_OR_RETURN(auto engine,
                       Engine::Create(*loaded->model, *loaded->device, loaded->tokenizer, config));
  ServedModelOptions served;
  served.name = source.name;
  served.vocabulary_bytes = static_cast<int64_t>(loaded->tokenizer->memory_bytes());
  served.program_bytes = loaded->program_bytes;
  served.peak_ops = settings_.peaks.ops;
  served.peak_read_bytes = settings_.peaks.read;
  if (served.peak_ops <= 0 || served.peak_read_bytes <= 0) {
    const PeakRates measured = MeasurePeaks(*loaded->model, *loaded->device);
    if (served.peak_ops <= 0) served.peak_ops = measured.ops;
    if (served.peak_read_bytes <= 0) served.peak_read_bytes = measured.read;
  }
  if (loaded->source != nullptr) {
    // GGUF's llama_pooling_type: 2 is the first token's state, 3 the last one's. Text generators
    // have none; their embedding is the mean.
    INK_ASSIGN_OR_RETURN(
        const uint32_t pooling,
        loaded->source->metadata().GetU32(loaded->model->info().architecture + ".pooling_type", 1));
    if (pooling == 2) served.pooling = Pooling::kFirst;
    if (pooling == 3) served.pooling = Pooling::kLast;
  }
  if (source.name == settings_.first) served.chat_template = settings_.chat_template;
  served.resources = loaded;
  served.adapter_budget = [this](int64_t bytes, const std::function<Status()>& add) {
    return WithinBudget(bytes, add);
  };
  INK_ASSIGN_OR_RETURN(auto model, ServedModel::Create(std::move(engine), loaded->model->info(),
                                                       loaded->ledger.get(), served));
  loaded_.push_back(loaded);
  return model;
}

}  // namespace ink::cli
