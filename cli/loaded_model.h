// A model ready to run, as the commands share it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "common.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "kernels/device.h"
#include "model/model.h"
#include "tensor/ledger.h"
#include "text/tokenizer.h"

namespace ink::cli {

/// Name by which the embedded default model is known in messages.
inline constexpr const char* kEmbeddedModel = "the embedded default model";

struct LoadedModel {
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<Device> device;
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string name;  // path, or kEmbeddedModel
  // Of --adapter, until UseAdapters gave them to the engine.
  std::vector<Adapter> adapters;
  std::vector<AdapterUse> adapter_uses;  // by path
  int64_t program_bytes = 0;
  double load_s = 0;
};

struct ModelLoadFlags {
  bool plan_only = false;
  bool tokenizer = true;
  bool progress = true;
  int64_t context = 0;  // chooses long-rope factors
};

/// Opens device, weights, adapters and vocabulary; without a model path, the embedded default
/// model.
Result<LoadedModel> LoadForCommand(const EngineFlags& flags, const ModelLoadFlags& load);

/// The vocabulary alone, from a GGUF file (a vocabulary-only one too) or a Hugging Face folder.
Result<std::shared_ptr<const Tokenizer>> LoadTokenizer(const std::string& path);

/// Engine settings that the flags name; `default_sequences` where --sequences is absent.
Result<EngineConfig> EngineConfigFrom(const EngineFlags& flags, const Model& model,
                                      int64_t default_sequences);

/// Fits the plan to --memory (when given) or fails with the arithmetic.
Status CheckMemory(const LoadedModel& loaded, const EngineConfig& config, uint64_t budget);

/// Gives the adapters to the engine, as the default of its requests, and frees the host copies.
Status UseAdapters(LoadedModel& loaded, Engine& engine);

}  // namespace ink::cli
