// inkstone train: a model from a recipe.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>

#include "command.h"
#include "common.h"
#include "kernels/cuda_device.h"
#include "train/trainer.h"

namespace ink::cli {
namespace {

struct Options {
  std::string config, data, out, device = "cpu";
  int threads = 0;
  bool resume = false;
};

// Set by the first Ctrl-C; the run stops after a checkpoint. A second one ends it at once.
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void OnInterrupt(int signal) {
  interrupted.store(true);
  std::signal(signal, SIG_DFL);
}

std::string Megabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

int64_t PeakResidentBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

// One line that is written over while it runs; in a pipe, a line now and then.
class StepLine {
 public:
  void Show(const TrainEvents::Step& s, double peak_flops) {
    const bool terminal = isatty(STDERR_FILENO) == 1;
    if (!terminal && s.step % 20 != 0 && s.step != s.steps) return;
    char share[32] = "";
    if (peak_flops > 0) {
      std::snprintf(share, sizeof(share), "  %.0f%% of peak",
                    100 * s.flops_per_second / peak_flops);
    }
    char text[256];
    const auto left = static_cast<int64_t>(s.seconds_left);
    std::snprintf(text, sizeof(text),
                  "step %lld/%lld  loss %.4f  norm %.2f  lr %.2e  %.0f tokens/s  %.0f GFLOP/s%s  "
                  "%lld:%02lld:%02lld left%s",
                  static_cast<long long>(s.step), static_cast<long long>(s.steps), s.loss, s.norm,
                  s.lr, s.tokens_per_second, s.flops_per_second / 1e9, share,
                  static_cast<long long>(left / 3600), static_cast<long long>(left / 60 % 60),
                  static_cast<long long>(left % 60), s.skipped ? "  (skipped)" : "");
    if (terminal) {
      std::cerr << "\r\x1b[K" << text << std::flush;
      open_ = true;
    } else {
      std::cerr << text << "\n";
    }
  }
  void End() {
    if (open_) std::cerr << "\n";
    open_ = false;
  }

 private:
  bool open_ = false;
};

int Run(const Options& o) {
  auto text = ReadTextFile(o.config);
  if (!text.ok()) return Fail("train", text.status());
  auto recipe = ParseRecipe(*text, o.config);
  if (!recipe.ok()) return Fail("train", recipe.status());
  TrainRun run;
  run.recipe = std::move(*recipe);
  run.recipe_text = std::move(*text);
  run.data_folder = o.data;
  run.out_folder = o.out;
  run.resume = o.resume;

  Ledger ledger;
  CpuDeviceOptions device_options;
  device_options.num_threads = o.threads;
  const std::string isa = RequestedIsa();
  device_options.isa = isa;
  Result<std::unique_ptr<Device>> device =
      o.device == "cpu" ? CreateCpuDevice(device_options, &ledger) : CreateCudaDevice(&ledger);
  if (!device.ok()) return Fail("train", device.status());
  StepLine line;
  TrainPlan plan;
  TrainEvents events;
  events.planned = [&](const TrainPlan& p, int64_t parameters, int64_t steps) {
    plan = p;
    std::cerr << parameters << " parameters, " << steps << " steps\nmemory:\n";
    for (const auto& [name, bytes] : p.entries) {
      std::cerr << "  " << name << ": " << Megabytes(bytes) << "\n";
    }
    std::cerr << "  total: " << Megabytes(p.total()) << "\n";
  };
  events.step = [&](const TrainEvents::Step& step) { line.Show(step, 0); };
  events.validated = [&](int64_t step, double bits, bool best) {
    line.End();
    std::cerr << "step " << step << ": validation " << bits << " bits per byte"
              << (best ? ", the best so far" : "") << "\n";
  };
  events.sampled = [&](int64_t, const std::string& sample) { std::cerr << "  " << sample << "\n"; };
  events.note = [&](const std::string& what) { std::cerr << what << "\n"; };
  std::signal(SIGINT, OnInterrupt);
  std::signal(SIGTERM, OnInterrupt);
  events.stop = [] { return interrupted.load(); };
  const Status done = RunTraining(**device, run, events);
  line.End();
  if (plan.total() > 0) {
    std::cerr << "memory planned " << Megabytes(plan.total()) << ", peak of the process "
              << Megabytes(PeakResidentBytes()) << "\n";
  }
  return done.ok() ? kExitOk : Fail("train", done);
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
  return [options] { return Run(*options); };
}

}  // namespace ink::cli
