// layers: sampling
// Cost per token of the sampler on a vocabulary of 128,256, by what is turned on. Rows imitate a
// trained model's: a bulk of unlikely tokens, a few hundred plausible ones, a handful of likely
// ones.
#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <vector>

#include "base/rng.h"
#include "sampling/beam_search.h"
#include "sampling/sampler.h"

namespace ink {
namespace {

constexpr int32_t kVocab = 128256;

std::vector<float> ModelRow(uint64_t seed) {
  Rng rng(seed);
  std::vector<float> row(kVocab);
  for (float& l : row) l = -4.0f + 2.0f * rng.Normal();
  for (int i = 0; i < 300; ++i) row[rng.Below(kVocab)] = 8.0f + 2.0f * rng.Normal();
  for (int i = 0; i < 5; ++i) row[rng.Below(kVocab)] = 15.0f + rng.Normal();
  return row;
}

std::vector<float> FlatRow(uint64_t seed) {
  Rng rng(seed);
  std::vector<float> row(kVocab);
  for (float& l : row) l = 0.5f * rng.Normal();
  return row;
}

using Set = std::function<void(SamplingParams&)>;

void Run(benchmark::State& state, const Set& set, const std::vector<uint32_t>& mask = {},
         bool flat = false) {
  SamplingParams params;
  set(params);
  Rng rng(1);
  std::vector<int32_t> prompt(2000);
  for (int32_t& id : prompt) id = static_cast<int32_t>(rng.Below(kVocab));
  auto sampler = Sampler::Create(params, {kVocab, {2}, std::make_shared<DryBreakers>()}, prompt);
  if (!sampler.ok()) return state.SkipWithError(sampler.status().message().c_str());
  // Several rows, as a batch has them: more than fits the second-level cache.
  std::vector<std::vector<float>> rows;
  for (uint64_t i = 0; i < 8; ++i) rows.push_back(flat ? FlatRow(i) : ModelRow(i));
  SamplerScratch scratch;
  size_t i = 0;
  for (auto _ : state) {
    auto result = sampler->Sample(rows[i++ % rows.size()], mask, scratch);
    if (!result.ok()) return state.SkipWithError(result.status().message().c_str());
    benchmark::DoNotOptimize(result->token);
  }
}

std::vector<uint32_t> Mask(double density) {
  Rng rng(4);
  std::vector<uint32_t> mask((kVocab + 31) / 32, 0);
  for (int32_t i = 0; i < kVocab; ++i) {
    if (rng.Uniform() < density) mask[static_cast<size_t>(i) / 32] |= 1u << (i % 32);
  }
  return mask;
}

void Register(const char* name, Set set, std::vector<uint32_t> mask = {}, bool flat = false) {
  benchmark::RegisterBenchmark(name, [set = std::move(set), mask = std::move(mask),
                                      flat](benchmark::State& state) {
    Run(state, set, mask, flat);
  })->Unit(benchmark::kMicrosecond);
}

const bool kRegistered = [] {
  using P = SamplingParams&;
  Register("greedy", [](P p) { p.temperature = 0; });
  Register("greedy/repetition", [](P p) { p.temperature = 0, p.repetition_penalty = 1.1; });
  Register(
      "greedy/mask_1pct", [](P p) { p.temperature = 0; }, Mask(0.01));
  Register(
      "greedy/mask_90pct", [](P p) { p.temperature = 0; }, Mask(0.9));
  Register("temperature", [](P p) { p.temperature = 0.8; });
  Register(
      "temperature/mask_1pct", [](P p) { p.temperature = 0.8; }, Mask(0.01));
  Register(
      "temperature/mask_90pct", [](P p) { p.temperature = 0.8; }, Mask(0.9));
  Register("temperature/logprobs_20", [](P p) { p.temperature = 0.8, p.logprobs = 20; });
  Register("top_k_40", [](P p) { p.top_k = 40; });
  Register("top_k_40/top_p/min_p/temperature", [](P p) {
    p.preset = ChainPreset::kLlamaCpp;
    p.top_k = 40, p.top_p = 0.95, p.min_p = 0.05, p.temperature = 0.8;
  });
  Register("top_p", [](P p) { p.top_p = 0.95; });
  Register(
      "top_p/flat_row", [](P p) { p.top_p = 0.95; }, {}, true);
  Register("min_p", [](P p) { p.min_p = 0.05; });
  Register("typical", [](P p) { p.typical_p = 0.95; });
  Register("top_n_sigma", [](P p) { p.top_n_sigma = 1; });
  Register("xtc", [](P p) { p.xtc_probability = 1; });
  Register("dynatemp", [](P p) { p.dynatemp_range = 0.5; });
  Register("mirostat", [](P p) { p.mirostat = 2; });
  Register("penalties/dry/top_k_40", [](P p) {
    p.repetition_penalty = 1.1, p.frequency_penalty = 0.1;
    p.dry_multiplier = 0.8, p.dry_penalty_last_n = -1, p.top_k = 40;
  });
  benchmark::RegisterBenchmark("beam_scores_8", [](benchmark::State& state) {
    std::vector<float> row = ModelRow(1);
    auto sampler = Sampler::Create({}, {kVocab, {2}, nullptr}, {});
    SamplerScratch scratch;
    for (auto _ : state) benchmark::DoNotOptimize(sampler->BeamScores(row, {}, 8, scratch));
  })->Unit(benchmark::kMicrosecond);
  return true;
}();

}  // namespace
}  // namespace ink
