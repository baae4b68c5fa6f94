// The parts of a run: trainer_setup.cc makes them, trainer.cc turns the crank.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "train/low_rank.h"
#include "train/trainer.h"
#include "train/validation.h"

namespace ink {

class Trainer {
 public:
  Trainer(Device& device, const TrainRun& run, const TrainEvents& events)
      : device_(device), run_(run), recipe_(run.recipe), events_(events) {}
  Status Run();

 private:
  std::string Out(const char* name) const { return run_.out_folder + "/" + name; }
  void Note(const std::string& what) {
    if (events_.note) events_.note(what);
  }
  bool adapts() const { return run_.finetune && recipe_.method != TuneMethod::kFull; }

  // trainer_setup.cc
  Status Prepare();
  Status CheckOutput();
  void RemoveAbandoned();
  Status PrepareTokenizer(const WeightSource* base);
  Status PrepareModel();
  Status PrepareFull(const WeightSource* base);
  Status PrepareAdapters(const WeightSource& base);
  Status PrepareData();
  Status PrepareValidation();
  TrainPlan Plan() const;
  Status Restore();
  /// The recipe, and what it is applied to: another one cannot go on from a checkpoint.
  std::string Identity() const;

  Status Loop();
  Status OneStep(TrainEvents::Step* event);
  bool IsSpike(double loss) const;
  void CountFlops();
  Status Validate();
  std::string Sample();
  void Log(const nlohmann::ordered_json& line) { log_ += line.dump() + "\n"; }
  Status Draw();
  Status Save();
  /// "the last good checkpoint is FILE", or that there is none.
  std::string LastCheckpoint() const;
  /// "the loss" or "the gradient of NAME", whichever is no number.
  std::string WhatIsNoNumber(double loss) const;
  /// The model as a GGUF file, or the adapter.
  Status WriteResult(const std::string& path);

  Device& device_;
  const TrainRun& run_;
  TrainRecipe recipe_;
  const TrainEvents& events_;
  DType output_type_ = DType::kBF16;
  std::map<std::string, DType> base_types_;  // full fine-tuning: what the base's file has
  std::shared_ptr<const Tokenizer> tokenizer_;
  MasterModel master_;  // names, shapes and metadata; values only until they are on the device
  int64_t largest_tensor_ = 0;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ParameterStore> own_parameters_;
  std::unique_ptr<LowRankSet> adapters_;
  AdapterTarget target_;
  ParameterStore* parameters_ = nullptr;  // of one of the two
  std::unique_ptr<ModelStep> step_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<std::vector<Document>> documents_;
  std::vector<Document> held_back_;
  std::unique_ptr<PieceOrder> order_;
  std::vector<TrainBatch> window_;
  // Validation: a text, or documents.
  std::vector<int32_t> validation_;
  int64_t validation_bytes_ = 0, validation_context_ = 0;
  std::vector<const Document*> validation_documents_;
  std::vector<std::string> labels_;
  Checkpoint start_;
  bool restores_ = false;  // start_ holds a checkpoint
  bool bfloat16_ = true;
  int64_t context_ = 0, max_tokens_ = 0, steps_ = 0, step_number_ = 0, tokens_ = 0;
  double body_flops_ = 0, head_flops_ = 0;  // per token, per target
  double loss_mean_ = 0, loss_square_ = 0, best_ = 1e300;
  std::string log_;
};

}  // namespace ink
