// A loaded model: immutable, shared by all sequences, threads and engines.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/adapter.h"
#include "model/forward_batch.h"
#include "model/weight_source.h"
#include "ops/exec_context.h"
#include "ops/weight.h"

namespace ink {

/// What a group of layers keeps per sequence (DESIGN 4).
struct LayerGroup {
  enum class Kind { kFullAttention, kSlidingWindow, kRecurrent };
  Kind kind = Kind::kFullAttention;
  int64_t window = 0;    // tokens, sliding windows only
  int num_kv_heads = 0;  // attention groups
  int head_dim = 0;
  int64_t state_bytes = 0;  // per layer and sequence, recurrent groups only
  std::vector<int> layers;  // which layers belong to it
};

/// Facts that code above the model needs; architecture-specific values stay in its own file.
struct ModelInfo {
  std::string architecture;
  std::string name;
  int64_t d_model = 0;
  int64_t n_vocab = 0;
  int num_layers = 0;
  int64_t context_length = 0;  // trained
  int position_axes = 1;
  std::vector<LayerGroup> groups;
  int64_t weight_bytes = 0;     // packed
  int64_t flops_per_token = 0;  // 2 per weight that multiplies a token, attention excluded
  int64_t num_parameters = 0;
};

class Model {
 public:
  virtual ~Model() = default;
  const ModelInfo& info() const { return info_; }

  /// Runs the layers over a batch: hidden [num_tokens, d_model], after the final norm.
  virtual Tensor Forward(ExecContext& context, const ForwardBatch& batch,
                         const StateView& state) const = 0;
  /// hidden rows -> logits [num_rows, n_vocab]. `rows` [num_rows] in device memory picks rows of
  /// `hidden`; null takes all of them.
  virtual Tensor Logits(ExecContext& context, Tensor hidden, const int32_t* rows,
                        int64_t num_rows) const = 0;

  /// Every weight by canonical name, for adapters, training and saving.
  struct Parameters {
    std::vector<Weight*> matrices;
    std::vector<VectorWeight*> vectors;
  };
  const Parameters& parameters() const { return parameters_; }
  /// What ReadAdapter checks an adapter against.
  const AdapterTarget& adapter_target() const { return adapter_target_; }

 protected:
  friend class ModelLoader;
  ModelInfo info_;
  Parameters parameters_;
  AdapterTarget adapter_target_;
  std::vector<Buffer> buffers_;
};

struct LoadOptions {
  /// Context the sequences will use at most; 0 for the trained length. Chooses between the two
  /// factor sets of long-rope models.
  int64_t context = 0;
  /// Reads headers only: shapes, sizes and groups are known, no weight is loaded (`plan`).
  bool plan_only = false;
  /// Called with bytes done and in total while weights are packed; may be empty.
  void (*progress)(void* argument, int64_t done, int64_t total) = nullptr;
  void* progress_argument = nullptr;
};

/// Loads a model onto `device` through the registry. Errors name tensor, expected and actual;
/// an unknown architecture lists the known ones.
Result<std::unique_ptr<Model>> LoadModel(const WeightSource& source, Device& device,
                                         const LoadOptions& options);

/// Names of all registered architectures.
std::span<const std::string_view> KnownArchitectures();

}  // namespace ink
