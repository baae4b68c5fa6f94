#include "bench_measure.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>

#include "base/rng.h"
#include "engine/memory_plan.h"
#include "engine/model_runner.h"
#include "engine/step_cost.h"
#include "machine_limits.h"

namespace ink::cli {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

class Bencher {
 public:
  Bencher(const Model& model, Device& device, const BenchOptions& options)
      : model_(model), options_(options), device_(device) {
    rng_.emplace(1);
  }

  Status Init(int64_t max_batch, int64_t max_context) {
    RunnerConfig config;
    config.max_tokens = std::max<int64_t>(512, max_batch);
    config.max_seqs = static_cast<int>(max_batch);
    config.max_context = max_context;
    config.max_logit_rows = std::min<int64_t>(max_batch, 32);
    config.kv_types = options_.kv_types;
    per_sequence_ = BlocksFor(max_context);
    config.blocks.assign(model_.info().groups.size(), per_sequence_ * max_batch);
    INK_ASSIGN_OR_RETURN(ModelRunner::Plan plan, ModelRunner::MakePlan(model_, device_, config));
    if (options_.memory_budget > 0) {
      MemoryPlan memory;
      memory[LedgerEntry::kWeights] = model_.info().weight_bytes;
      memory[LedgerEntry::kKvCache] = plan.kv;
      memory[LedgerEntry::kActivations] = plan.activations;
      memory[LedgerEntry::kInputs] = plan.inputs + plan.logits_host;
      INK_RETURN_IF_ERROR(CheckBudget(memory, options_.memory_budget));
    }
    INK_ASSIGN_OR_RETURN(runner_, ModelRunner::Create(model_, device_, config));
    for (int64_t s = 0; s < max_batch; ++s) {
      std::vector<BlockId> table(per_sequence_);
      for (int64_t b = 0; b < per_sequence_; ++b) {
        table[b] = static_cast<BlockId>(s * per_sequence_ + b);
      }
      tables_.push_back(std::move(table));
    }
    return OkStatus();
  }

  // Prefills `count` tokens of each of `batch` sequences from position `start`, in steps of the
  // token budget; the last token's logits only.
  void Prefill(int64_t batch, int64_t start, int64_t count) {
    const int64_t budget = runner_->config().max_tokens;
    std::vector<int64_t> done(batch, 0);
    std::vector<int32_t> ids = Ids(budget);
    int64_t first = 0;
    while (first < batch) {
      std::vector<RunSequence> run;
      int64_t used = 0;
      for (int64_t s = first; s < batch && used < budget; ++s) {
        int64_t take = std::min(budget - used, count - done[s]);
        run.push_back(Part(s, std::span(ids).subspan(used, take), start + done[s],
                           done[s] + take == count ? 1 : 0));
        done[s] += take;
        used += take;
      }
      runner_->Run(run, [](size_t, int64_t, std::span<const float>) {});
      while (first < batch && done[first] == count) ++first;
    }
  }

  void Decode(int64_t batch, int64_t start, int64_t count) {
    std::vector<int32_t> ids = Ids(batch);
    for (int64_t i = 0; i < count; ++i) {
      std::vector<RunSequence> run;
      for (int64_t s = 0; s < batch; ++s) {
        run.push_back(Part(s, std::span(ids).subspan(s, 1), start + i, 1));
      }
      runner_->Run(run, [](size_t, int64_t, std::span<const float>) {});
    }
  }

 private:
  std::vector<int32_t> Ids(int64_t count) {
    std::vector<int32_t> ids(count);
    for (int32_t& id : ids) id = static_cast<int32_t>(rng_->Below(model_.info().n_vocab));
    return ids;
  }
  RunSequence Part(int64_t s, std::span<const int32_t> tokens, int64_t start, int64_t logits) {
    RunSequence part;
    part.tokens = tokens;
    part.start = start;
    part.block_tables.assign(model_.info().groups.size(), tables_[s]);
    part.num_logits = logits;
    return part;
  }

  const Model& model_;
  const BenchOptions& options_;
  Device& device_;
  std::optional<Rng> rng_;
  int64_t per_sequence_ = 0;
  std::unique_ptr<ModelRunner> runner_;
  std::vector<std::vector<BlockId>> tables_;
};

}  // namespace

Result<BenchReport> MeasureBench(const Model& model, Device& device, const BenchOptions& options) {
  BenchReport report;
  report.isa = device.ops().name;
  report.threads = device.num_threads();
  report.weight_bytes = model.info().weight_bytes;
  report.flops_per_token = model.info().flops_per_token;
  const ComputeLimit limit = DominantLimit(model, report.isa);
  report.compute_limit = limit == ComputeLimit::kInt8   ? "int8"
                         : limit == ComputeLimit::kBf16 ? "bf16"
                                                        : "fp32";
  auto max_of = [](const std::vector<int64_t>& values) {
    return values.empty() ? int64_t{0} : *std::max_element(values.begin(), values.end());
  };
  const int64_t extra = std::max(max_of(options.prompts), max_of(options.generates));
  Bencher bencher(model, device, options);
  INK_RETURN_IF_ERROR(
      bencher.Init(max_of(options.batches), max_of(options.depths) + std::max<int64_t>(1, extra)));
  INK_ASSIGN_OR_RETURN(MachineLimits limits, MachineLimits::Create(device));
  std::map<ComputeLimit, std::vector<double>> compute;
  std::vector<double> read;
  for (ComputeLimit c : {ComputeLimit::kInt8, ComputeLimit::kBf16, ComputeLimit::kFp32}) {
    limits.Compute(c);  // warm up
    compute[c].push_back(limits.Compute(c));
  }

  auto measure = [&](BenchResult result) {
    const int64_t tokens = result.batch * (result.prefill ? result.prompt : result.generate);
    auto run = [&] {
      if (result.prefill) {
        bencher.Prefill(result.batch, result.depth, result.prompt);
      } else {
        bencher.Decode(result.batch, result.depth, result.generate);
      }
    };
    run();  // warm up
    std::vector<double> rates, mfu, mbu;
    double flops = static_cast<double>(report.flops_per_token) * static_cast<double>(tokens);
    double bytes = 0;
    const int64_t steps = result.prefill ? (tokens + 511) / 512 : result.generate;
    bytes += static_cast<double>(StepWeightBytes(model)) * static_cast<double>(steps);
    for (int64_t i = 0; i < (result.prefill ? 0 : result.generate); ++i) {
      bytes += static_cast<double>(KvReadBytes(model.info(), options.kv_types, result.depth + i) *
                                   result.batch);
    }
    for (int r = 0; r < options.repetitions; ++r) {
      const double compute_limit = limits.Compute(limit);
      const double read_limit = limits.Read();
      auto begin = Clock::now();
      run();
      const double seconds = Seconds(begin);
      compute[limit].push_back(compute_limit);
      read.push_back(read_limit);
      rates.push_back(static_cast<double>(tokens) / seconds);
      mfu.push_back(flops / seconds / 1e9 / compute_limit);
      mbu.push_back(bytes / seconds / 1e9 / read_limit);
      if (options.progress) options.progress();
    }
    result.tokens_per_second = Median(rates);
    result.ms_per_token = 1000.0 / result.tokens_per_second;
    result.mfu = Median(mfu);
    result.mbu = Median(mbu);
    report.results.push_back(result);
  };

  for (int64_t depth : options.depths) {
    for (int64_t batch : options.batches) {
      if (depth > 0) bencher.Prefill(batch, 0, depth);
      for (int64_t prompt : options.prompts) {
        if (prompt > 0)
          measure({.prefill = true, .batch = batch, .prompt = prompt, .depth = depth});
      }
      for (int64_t generate : options.generates) {
        if (generate > 0) {
          measure({.prefill = false, .batch = batch, .generate = generate, .depth = depth});
        }
      }
    }
  }
  report.limits = {Median(read), Median(compute[ComputeLimit::kInt8]),
                   Median(compute[ComputeLimit::kBf16]), Median(compute[ComputeLimit::kFp32])};
  return report;
}

}  // namespace ink::cli
