// Timing of prefill and decode, interleaved with the machine's limits (DESIGN 7).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/kv_storage.h"
#include "kernels/device.h"
#include "model/model.h"

namespace ink::cli {

struct BenchOptions {
  std::vector<int64_t> prompts = {512};
  std::vector<int64_t> generates = {64};
  std::vector<int64_t> batches = {1};
  std::vector<int64_t> depths = {0};
  int repetitions = 7;
  KvTypes kv_types;
  uint64_t memory_budget = 0;
  std::function<void()> progress;  // after each repetition
};

/// Medians over the run, all threads together.
struct BenchLimits {
  double read_gbps = 0;
  double int8_gops = 0;
  double bf16_gflops = 0;
  double fp32_gflops = 0;
};

struct BenchResult {
  bool prefill = false;
  int64_t batch = 1;
  int64_t prompt = 0;
  int64_t generate = 0;
  int64_t depth = 0;
  double tokens_per_second = 0;  // all sequences
  double ms_per_token = 0;
  double mfu = 0;  // median of pairwise ratios to the compute limit
  double mbu = 0;  // to the read limit; weights and KV count, activations do not
};

struct BenchReport {
  std::string model;
  std::string isa;
  int threads = 0;
  int64_t weight_bytes = 0;
  int64_t flops_per_token = 0;
  std::string compute_limit;  // which limit MFU divides by: "int8", "bf16" or "fp32"
  BenchLimits limits;
  std::vector<BenchResult> results;
};

Result<BenchReport> MeasureBench(const Model& model, Device& device, const BenchOptions& options);

}  // namespace ink::cli
