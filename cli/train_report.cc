#include "train_report.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "common.h"
#include "kernels/cpu/peaks.h"

namespace ink::cli {
namespace {

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

int64_t StatusBytes(const char* key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::stoll(line.substr(std::string(key).size())) * 1024;
  }
  return 0;
}

// The machine's limit for the products of training, as `bench` measures it: the median of a few
// runs of all threads.
double PeakFlops(Device& device, bool bfloat16) {
  if (device.name() == "cuda") return 0;
  const PeakLoops& loops = PeakLoopsOf(device.ops().name);
  const auto loop =
      bfloat16 && TrainKernelsFor(device.ops().name).bfloat16 ? loops.bf16 : loops.fp32;
  constexpr int64_t kRounds = 20000;
  std::vector<double> rates;
  for (int i = 0; i < 5; ++i) {
    std::vector<double> done(static_cast<size_t>(device.num_threads()));
    const auto begin = std::chrono::steady_clock::now();
    device.host_pool().Run([&](int t) { done[static_cast<size_t>(t)] = loop(kRounds); });
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    double total = 0;
    for (double d : done) total += d;
    rates.push_back(total / seconds);
  }
  std::sort(rates.begin(), rates.end());
  return rates[rates.size() / 2];
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

}  // namespace

int64_t ResidentBytes() { return StatusBytes("VmRSS:"); }
int64_t PeakResidentBytes() { return StatusBytes("VmHWM:"); }

Status RunWithReport(Device& device, const TrainRun& run) {
  StepLine line;
  TrainPlan plan;
  double peak_flops = 0;
  TrainEvents events;
  events.planned = [&](const TrainPlan& p, int64_t parameters, int64_t steps) {
    plan = p;
    std::cerr << parameters << (run.finetune ? " trained parameters, " : " parameters, ") << steps
              << " steps\nmemory:\n";
    for (const auto& [name, bytes] : p.entries) {
      std::cerr << "  " << name << ": " << Megabytes(bytes) << "\n";
    }
    std::cerr << "  total: " << Megabytes(p.total()) << "\n";
    peak_flops = PeakFlops(device, run.recipe.bfloat16);
    if (peak_flops > 0) {
      std::cerr << "peak arithmetic: " << static_cast<int64_t>(peak_flops / 1e9) << " GFLOP/s\n";
    }
  };
  double share = 0;
  int64_t shares = 0;
  events.step = [&](const TrainEvents::Step& step) {
    if (peak_flops > 0) {
      share += step.flops_per_second / peak_flops;
      ++shares;
    }
    line.Show(step, peak_flops);
  };
  events.validated = [&](const TrainEvents::Validation& v) {
    line.End();
    std::cerr << "step " << v.step << ": validation " << v.value << " " << v.metric;
    if (v.accuracy > 0) std::cerr << ", accuracy " << v.accuracy;
    std::cerr << (v.best ? ", the best so far" : "") << "\n";
  };
  events.sampled = [&](int64_t, const std::string& sample) { std::cerr << "  " << sample << "\n"; };
  events.note = [&](const std::string& what) { std::cerr << what << "\n"; };
  std::signal(SIGINT, OnInterrupt);
  std::signal(SIGTERM, OnInterrupt);
  events.stop = [] { return interrupted.load(); };
  const Status done = RunTraining(device, run, events);
  line.End();
  if (plan.total() > 0) {
    const int64_t peak = PeakResidentBytes();
    std::cerr << "memory planned " << Megabytes(plan.total()) << ", peak of the process "
              << Megabytes(peak) << "\n";
    // The bound of every plan in this program: 3 percent or 16 MiB, whichever is larger.
    const int64_t over = peak - plan.total();
    if (over > std::max(plan.total() * 3 / 100, int64_t{16} << 20)) {
      std::cerr << "warning: the run used " << Megabytes(over) << " more than planned\n";
    }
    if (shares > 0) {
      char text[64];
      std::snprintf(text, sizeof(text), "mean share of peak arithmetic %.1f%%\n",
                    100 * share / static_cast<double>(shares));
      std::cerr << text;
    }
  }
  return done;
}

}  // namespace ink::cli
