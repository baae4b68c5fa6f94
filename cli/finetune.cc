// inkstone finetune: a model adapted to data, whole or by low-rank adapters.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "command.h"
#include "common.h"
#include "default_model.h"
#include "loaded_model.h"
#include "text/gguf_vocab.h"
#include "train/trainer.h"
#include "train_report.h"

namespace ink::cli {
namespace {

struct Options {
  std::string config, model, data, out;
  int threads = 0;
  bool resume = false;
};

Status Finetune(const Options& o) {
  TrainRun run;
  INK_ASSIGN_OR_RETURN(run.recipe_text, ReadTextFile(o.config));
  INK_ASSIGN_OR_RETURN(run.recipe, ParseRecipe(run.recipe_text, o.config, /*finetune=*/true));
  run.finetune = true;
  run.data_folder = o.data;
  run.result_path = o.out;
  run.resume = o.resume;
  while (run.result_path.size() > 1 && run.result_path.back() == '/') run.result_path.pop_back();
  run.out_folder = run.result_path + ".run";
  run.program_bytes = ResidentBytes();
  std::unique_ptr<WeightSource> base;
  if (o.model.empty()) {
    if (DefaultModel().empty()) {
      return NotFound("no model: give one with -m (this build has no embedded default model)");
    }
    INK_ASSIGN_OR_RETURN(base, OpenGgufSourceFromBytes(DefaultModel(), kEmbeddedModel));
    INK_ASSIGN_OR_RETURN(run.base_tokenizer, TokenizerFromGguf(base->metadata()));
    run.base_name = "inkstone default model";
  } else {
    INK_ASSIGN_OR_RETURN(base, OpenWeightSource(o.model));
    INK_ASSIGN_OR_RETURN(run.base_tokenizer, LoadTokenizer(o.model));
    run.base_name = o.model;
  }
  run.base = base.get();
  Ledger ledger;
  const std::string isa = RequestedIsa();
  INK_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device,
                       CreateCpuDevice({o.threads, isa}, &ledger));
  return RunWithReport(*device, run);
}

}  // namespace

CommandBody RegisterFinetune(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("--config", options->config, "the recipe, a TOML file")->required();
  app.add_option("-m,--model", options->model,
                 "the base: GGUF file or Hugging Face folder (default: the embedded model)");
  app.add_option("--data", options->data, "folder of the recipe's relative paths");
  app.add_option("--out", options->out,
                 "the result: a GGUF file (model or adapter), or a folder for a PEFT adapter; "
                 "checkpoints and log are in PATH.run")
      ->required();
  app.add_flag("--resume", options->resume, "go on from the newest checkpoint in PATH.run");
  app.add_option("-t,--threads", options->threads, "threads (default: one per core)");
  return [options] {
    const Status done = Finetune(*options);
    return done.ok() ? kExitOk : Fail("finetune", done);
  };
}

}  // namespace ink::cli
