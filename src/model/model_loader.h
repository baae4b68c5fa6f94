// Declares a model's parameters, then reads and packs them all.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/model.h"
#include "model/weight_source.h"

namespace ink {

/// An architecture's constructor declares what it needs; every declaration checks the tensor's
/// shape. Load() then fills all of it in one buffer. Declared weights must not move until then.
class ModelLoader {
 public:
  ModelLoader(const WeightSource& source, Device& device, const LoadOptions& options)
      : source_(source), device_(device), options_(options) {}

  const WeightSource& source() const { return source_; }
  const LoadOptions& options() const { return options_; }
  const Metadata& metadata() const { return source_.metadata(); }
  bool Has(std::string_view name) const { return source_.Has(SharedName(name)); }

  /// A matrix [rows, cols], or `experts` > 1 of them. Errors name the tensor, the expected and the
  /// actual shape.
  Status Matrix(std::string_view name, int64_t rows, int64_t cols, Weight* out, int experts = 1);
  /// A float32 vector.
  Status Vector(std::string_view name, int64_t size, VectorWeight* out);
  /// A vector that may be absent: then out->data stays null.
  Status OptionalVector(std::string_view name, int64_t size, VectorWeight* out);
  /// A vector computed by the architecture (rope frequencies).
  void Computed(std::string name, std::vector<float> values, VectorWeight* out);
  /// Rows of a matrix, before loading; for the vocabulary's size.
  Result<int64_t> RowsOf(std::string_view name) const;

  /// Reads, packs and hands all parameters to `model`; fills its size facts.
  Status Load(Model* model);

 private:
  struct PendingMatrix {
    SourceTensor tensor;
    Weight* weight;
    int64_t offset;
  };
  struct PendingVector {
    std::vector<float> values;
    VectorWeight* vector;
    int64_t offset;
    bool computed;
  };
  /// Layers may use another layer's weights (metadata key inkstone.shared_layers: for each layer
  /// the one whose weights it uses, itself or an earlier one): the name under which they are
  /// stored.
  std::string SharedName(std::string_view name) const;
  void Pack(const PendingMatrix& matrix, std::byte* base, int64_t total, int64_t* done);

  const WeightSource& source_;
  Device& device_;
  const LoadOptions& options_;
  std::vector<PendingMatrix> matrices_;
  std::vector<PendingVector> vectors_;
  // Weights of layers that use those of an earlier layer, which were declared before.
  std::vector<std::pair<Weight*, const Weight*>> shared_matrices_;
  std::vector<std::pair<VectorWeight*, const VectorWeight*>> shared_vectors_;
  int64_t bytes_ = 0;
};

}  // namespace ink
