// inkstone train: a model from a recipe.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "command.h"
#include "common.h"
#include "kernels/cuda_device.h"
#include "train/trainer.h"
#include "train_report.h"

namespace ink::cli {
namespace {

struct Options {
  std::string config, data, out, device = "cpu";
  int threads = 0;
  bool resume = false;
};

Status Train(const Options& o) {
  TrainRun run;
  INK_ASSIGN_OR_RETURN(run.recipe_text, ReadTextFile(o.config));
  INK_ASSIGN_OR_RETURN(run.recipe, ParseRecipe(run.recipe_text, o.config));
  run.data_folder = o.data;
  run.out_folder = o.out;
  run.resume = o.resume;
  run.program_bytes = ResidentBytes();
  Ledger ledger;
  const std::string isa = RequestedIsa();
  CpuDeviceOptions device_options;
  device_options.num_threads = o.threads;
  device_options.isa = isa;
  std::unique_ptr<Device> device;
  if (o.device == "cpu") {
    INK_ASSIGN_OR_RETURN(device, CreateCpuDevice(device_options, &ledger));
  } else {
    INK_ASSIGN_OR_RETURN(device, CreateCudaDevice(&ledger));
  }
  return RunWithReport(*device, run);
}

}  // namespace

CommandBody RegisterTrain(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("--config", options->config, "the recipe, a TOML file")->required();
  app.add_option("--data", options->data, "folder of the recipe's relative paths");
  app.add_option("--out", options->out, "folder for checkpoints, log and model")->required();
  app.add_flag("--resume", options->resume, "go on from the newest checkpoint in --out");
  app.add_option("-t,--threads", options->threads, "threads (default: one per core)");
  app.add_option("--device", options->device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
  return [options] {
    const Status done = Train(*options);
    return done.ok() ? kExitOk : Fail("train", done);
  };
}

}  // namespace ink::cli
