// A model as training holds it: float32 tensors in canonical order (model/weight_source.h), and the
// metadata that goes into its file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "formats/metadata.h"
#include "model/weight_source.h"

namespace ink {

struct MasterTensor {
  std::string name;
  int experts = 1;
  int64_t rows = 1;  // of one expert; 1 for a vector
  int64_t cols = 0;
  bool is_vector = false;
  std::vector<float> values;  // [experts, rows, cols]

  int64_t size() const { return experts * rows * cols; }
};

struct MasterModel {
  Metadata metadata;
  std::vector<MasterTensor> tensors;

  MasterTensor* Find(std::string_view name);
  const MasterTensor* Find(std::string_view name) const;
};

/// Sizes of a model made from scratch; the recipe's [model] table.
struct ModelShape {
  std::string architecture = "llama";
  std::string name = "inkstone";
  int64_t d_model = 0;
  int64_t ffn_dim = 0;
  int num_layers = 0;
  int num_heads = 0;
  int num_kv_heads = 0;  // 0: num_heads
  int head_dim = 0;      // 0: d_model / num_heads
  int64_t n_vocab = 0;
  int64_t context = 512;
  bool tied = true;
  float rope_base = 10000.0f;
  float eps = 1e-5f;
  int64_t sliding_window = 0;
  int num_experts = 0;
  int experts_per_token = 2;
  /// Layers that use the weights of an earlier one: layer i uses those of layer share[i] (<= i,
  /// itself when equal). Empty: every layer has its own.
  std::vector<int> share;
};

/// Random weights: normal with deviation 0.02 (output projections 0.02 / sqrt(2 layers), Radford et
/// al. 2019), norms 1, biases 0. Errors: kInvalidArgument for sizes that cannot be, kUnsupported
/// for an architecture without a row here.
Result<MasterModel> InitModel(const ModelShape& shape, uint64_t seed);

/// Decodes every tensor of a source. Errors: those of the source.
Result<MasterModel> ReadMasterModel(const WeightSource& source);

/// A source whose matrices have type `matrix_type` (F32 or BF16). `model` outlives it.
std::unique_ptr<WeightSource> MakeSource(const MasterModel& model, DType matrix_type);

/// Writes a GGUF file with F32 vectors and matrices of the types that `type_of` says; rows that are
/// no multiple of a type's block stay F16. Q and K rows of Llama are permuted as that format wants.
/// `values_of` gives a tensor's values, one tensor at a time. Errors: kIo.
Status WriteMasterModel(const MasterModel& model, const std::string& path,
                        const std::function<DType(const MasterTensor&)>& type_of,
                        const std::function<std::vector<float>(const MasterTensor&)>& values_of);
/// The same with the model's own values and one type.
Status WriteMasterModel(const MasterModel& model, const std::string& path, DType type);

}  // namespace ink
