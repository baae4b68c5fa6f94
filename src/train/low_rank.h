// Low-rank adapters in training (model/adapter.h has the formulas and the files): factors are
// Parameters, the weights they adapt stay packed and frozen.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "model/adapter.h"
#include "model/model.h"
#include "ops/recorder.h"
#include "train/parameters.h"

namespace ink {

struct LowRankConfig {
  int64_t rank = 8;
  double alpha = 16;
  bool rank_stabilized = false;
  bool dora = false;
  double dropout = 0;  // on the adapter's input
  /// Which matrices: names without layer and ending ("attn_q", "ffn_down", "output"), as GGUF files
  /// or (q_proj, down_proj, lm_head) Hugging Face call them; "all" for every matrix of the layers.
  std::vector<std::string> targets = {"attn_q", "attn_v"};
};

/// One adapted matrix: y = W x + scale B (A x), and with DoRA y = magnitude / norm * that.
struct LowRank {
  const Weight* weight = nullptr;
  const VectorWeight* bias = nullptr;  // of the same matrix, or null
  Parameter* a = nullptr;              // [rank, cols]
  Parameter* b = nullptr;              // [rows, rank]
  Parameter* magnitude = nullptr;      // [rows], DoRA only
  float scale = 1;
  float dropout = 0;
  // DoRA, in device memory: magnitude / |W + scale B A| and 1 / magnitude by row; the norm is a
  // constant for the gradient (Liu et al. 2024, section 4.3).
  float* factor = nullptr;
  float* inverse_magnitude = nullptr;
};

class LowRankSet {
 public:
  /// New factors for `model`: A uniform within 1 / sqrt(cols), B zero, so that training begins at
  /// the base model. Errors: kInvalidArgument (a target that the model lacks, a rank above the
  /// matrix's sides), kUnsupported (expert matrices), kOutOfMemory.
  static Result<std::unique_ptr<LowRankSet>> Create(Device& device, Model& model,
                                                    const AdapterTarget& target,
                                                    const LowRankConfig& config, bool bfloat16,
                                                    uint64_t seed);

  ParameterStore& parameters() { return *parameters_; }
  /// Null for a weight without an adapter.
  const LowRank* Find(const Weight& weight) const;
  /// Brings DoRA's factors up to date with the parameters: after each step, and after loading them.
  void Refresh();
  /// The factors as a file holds them.
  Adapter ToAdapter(const std::string& base_model) const;
  int64_t state_bytes() const;

 private:
  LowRankSet(Device& device, const LowRankConfig& config) : device_(device), config_(config) {}

  Device& device_;
  const LowRankConfig config_;
  std::unique_ptr<ParameterStore> parameters_;
  std::vector<std::unique_ptr<LowRank>> all_;
  std::vector<const AdapterTarget::Matrix*> matrices_;  // of all_
  AdapterTarget target_;
  std::unordered_map<const Weight*, const LowRank*> by_weight_;
  std::vector<std::vector<double>> base_squares_;  // DoRA: |W|^2 by row
  Buffer factors_, workspace_;
};

/// Rows [first, first + count) of a packed matrix as float32, to `out` [count, cols]. `ids` is
/// device memory for `count` ids.
void UnpackRows(Device& device, const PackedMatrix& matrix, int64_t first, int64_t count,
                int32_t* ids, float* out);

/// dx (+)= dy W for a frozen packed matrix: W is brought back a block of rows at a time, then an
/// ordinary product follows.
struct LinearGradInputParams {
  const float* dy = nullptr;  // [num_rows, rows], row stride dy_stride
  int64_t dy_stride = 0, num_rows = 0;
  PackedMatrix weight;  // [rows, cols]
  float* dx = nullptr;  // [num_rows, cols], row stride dx_stride
  int64_t dx_stride = 0;
  bool accumulate = false;
  bool bfloat16 = false;
  const int32_t* ids = nullptr;    // 0, 1, 2, .. [rows] in device memory
  std::byte* workspace = nullptr;  // LinearGradInputWorkspaceBytes
};
size_t LinearGradInputWorkspaceBytes(const LinearGradInputParams& params);
void LinearGradInput(Device& device, const LinearGradInputParams& params);

}  // namespace ink
