// layers: engine cache
// Cost of the scheduler alone: host time per step and per scheduled token, the model taking no
// time. Required: one core-second per million scheduled tokens, which is 1 us per token.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/scheduler.h"

namespace ink {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

enum Model { kFullOnly, kFullAndSliding };

std::unique_ptr<Scheduler> Make(const char* policy, Model model, int32_t max_num_seqs,
                                int32_t token_budget) {
  SchedulerConfig config;
  config.cache.groups = {{.kind = GroupKind::kFullAttention, .block_bytes = kMiB}};
  if (model == kFullAndSliding) {
    config.cache.groups.push_back(
        {.kind = GroupKind::kSlidingWindow, .window = 512, .block_bytes = kMiB});
  }
  config.cache.device_bytes = int64_t{16384} * kMiB;
  config.max_num_seqs = max_num_seqs;
  config.token_budget = token_budget;
  config.policy = policy;
  auto scheduler = Scheduler::Create(config);
  INK_CHECK(scheduler.ok());
  return std::move(scheduler).value();
}

SequenceRequest Request(SequenceId id, int64_t size, int64_t max_total) {
  SequenceRequest request;
  request.id = id;
  request.tokens.resize(size);
  for (int64_t i = 0; i < size; ++i) {
    request.tokens[i] = static_cast<int32_t>(id * 7919 + i);
  }
  request.max_total_tokens = max_total;
  request.key = id % 2 ? "a" : "b";
  return request;
}

/// Carries out one step; returns its number of tokens.
int64_t Step(Scheduler& scheduler) {
  static constexpr int32_t kToken[] = {1};
  const SchedulerOutput out = scheduler.Schedule();
  for (const ScheduledSequence& sequence : out.sequences) {
    const auto tokens =
        sequence.needs_logits ? std::span<const int32_t>(kToken) : std::span<const int32_t>();
    INK_CHECK(scheduler.Update(sequence.id, tokens).ok());
  }
  return out.num_tokens();
}

void Report(benchmark::State& state, int64_t tokens, int64_t steps) {
  state.SetItemsProcessed(tokens);
  state.counters["s_per_Mtoken"] = benchmark::Counter(
      static_cast<double>(tokens) / 1e6, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["s_per_step"] = benchmark::Counter(
      static_cast<double>(steps), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

/// Decode at a steady batch: each sequence generates 2000 tokens, then another takes its place.
void Decode(benchmark::State& state, const char* policy, Model model) {
  const int32_t batch = static_cast<int32_t>(state.range(0));
  const auto scheduler = Make(policy, model, batch, std::max(batch, 512));
  SequenceId next = 1, oldest = 1;
  int64_t tokens = 0, steps = 0;
  for (auto _ : state) {
    while (next - oldest < static_cast<SequenceId>(batch)) {
      INK_CHECK(scheduler->Add(Request(next, 20 + 13 * (next % 7), 2200)).ok());
      ++next;
    }
    tokens += Step(*scheduler);
    ++steps;
    while (oldest < next && scheduler->tokens(oldest).size() >= 2100) {
      INK_CHECK(scheduler->Finish(oldest++).ok());
    }
  }
  Report(state, tokens, steps);
}
BENCHMARK_CAPTURE(Decode, fcfs_full, "fcfs", kFullOnly)->Arg(1)->Arg(16)->Arg(256);
BENCHMARK_CAPTURE(Decode, priority_full, "priority", kFullOnly)->Arg(16);
BENCHMARK_CAPTURE(Decode, fair_full, "fair", kFullOnly)->Arg(16);
BENCHMARK_CAPTURE(Decode, fcfs_full_and_sliding, "fcfs", kFullAndSliding)->Arg(16);

/// Chat-like load: prompts of 500 tokens, half of them a shared prefix, 100 generated tokens each,
/// always twice as many sequences as places.
void Mixed(benchmark::State& state, const char* policy, Model model) {
  const int32_t batch = static_cast<int32_t>(state.range(0));
  const auto scheduler = Make(policy, model, batch, 512);
  SequenceId next = 1;
  std::vector<SequenceId> live;
  int64_t tokens = 0, steps = 0;
  for (auto _ : state) {
    while (live.size() < static_cast<size_t>(2 * batch)) {
      SequenceRequest request = Request(next, 500, 620);
      for (int i = 0; i < 256; ++i) request.tokens[i] = i;
      INK_CHECK(scheduler->Add(std::move(request)).ok());
      live.push_back(next++);
    }
    tokens += Step(*scheduler);
    ++steps;
    std::erase_if(live, [&](SequenceId id) {
      if (scheduler->tokens(id).size() < 600) return false;
      INK_CHECK(scheduler->Finish(id).ok());
      return true;
    });
  }
  Report(state, tokens, steps);
}
BENCHMARK_CAPTURE(Mixed, fcfs_full, "fcfs", kFullOnly)->Arg(16)->Arg(64);
BENCHMARK_CAPTURE(Mixed, fair_full_and_sliding, "fair", kFullAndSliding)->Arg(16);

/// Prefill of long prompts alone, chunks of 512.
void Prefill(benchmark::State& state) {
  const auto scheduler = Make("fcfs", kFullOnly, 4, 512);
  SequenceId next = 1;
  int64_t tokens = 0, steps = 0;
  for (auto _ : state) {
    if (next == 1 || scheduler->num_computed_tokens(next - 1) >= 32000) {
      if (next > 1) INK_CHECK(scheduler->Finish(next - 1).ok());
      INK_CHECK(scheduler->Add(Request(next, 32000, 32100)).ok());
      ++next;
    }
    tokens += Step(*scheduler);
    ++steps;
  }
  Report(state, tokens, steps);
}
BENCHMARK(Prefill);

}  // namespace
}  // namespace ink
