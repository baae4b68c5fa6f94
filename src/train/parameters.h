// The weights being trained: float32 masters and gradient sums in two flat buffers, and the packed
// panels that ops read, filled anew after each optimizer step.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/device.h"
#include "kernels/train_kernels.h"
#include "model/model.h"
#include "train/master_model.h"

namespace ink {

struct Parameter {
  std::string name;
  int experts = 1;
  int64_t rows = 1, cols = 0;  // a vector has one row
  bool is_vector = false;
  float* value = nullptr;   // [experts, rows, cols]
  float* grad = nullptr;    // the same shape; sums over micro-batches
  PackedMatrix panels;      // matrices: what the model reads
  PackedMatrix transposed;  // [cols, rows] of each expert, for gradients of inputs

  int64_t size() const { return experts * rows * cols; }
};

/// Takes over a loaded model's parameters. Layers that share weights share a Parameter, so their
/// gradients add up. The model may not be used by anybody else meanwhile.
class ParameterStore {
 public:
  /// `model` was loaded from MakeSource(master, F32 or BF16). Errors: kOutOfMemory.
  static Result<std::unique_ptr<ParameterStore>> Create(Device& device, Model& model,
                                                        const MasterModel& master, bool bfloat16);

  /// Parameters without a model: the tensors' values, no panels; found by name.
  static Result<std::unique_ptr<ParameterStore>> CreateFree(Device& device,
                                                            const MasterModel& tensors,
                                                            bool bfloat16);

  Parameter* Find(std::string_view name) const;
  /// Null for a weight that is not trained.
  Parameter* Find(const Weight& weight) const;
  Parameter* Find(const VectorWeight& weight) const;

  const std::vector<std::unique_ptr<Parameter>>& all() const { return parameters_; }
  float* values() const { return values_; }
  float* grads() const { return grads_; }
  int64_t flat_size() const { return flat_size_; }  // floats in each flat buffer, padding included
  int64_t num_parameters() const { return num_parameters_; }

  /// Fills all panels from the masters.
  void Repack();
  void ZeroGradients();
  /// Copies the masters into `model`'s tensors.
  void CopyTo(MasterModel* model) const;

 private:
  ParameterStore(Device& device, bool bfloat16) : device_(device), bfloat16_(bfloat16) {}

  Device& device_;
  const bool bfloat16_;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::unordered_map<const void*, Parameter*> by_data_;
  Buffer value_buffer_, grad_buffer_, transposed_buffer_;
  float* values_ = nullptr;
  float* grads_ = nullptr;
  int64_t flat_size_ = 0;
  int64_t num_parameters_ = 0;
};

}  // namespace ink
