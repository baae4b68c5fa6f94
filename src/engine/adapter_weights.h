// One adapter on a device: A and B packed like any float weight, and what DoRA's row norms need.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/device.h"
#include "model/adapter.h"
#include "model/model.h"

namespace ink {

class AdapterWeights {
 public:
  struct Matrix {
    std::vector<const Weight*> weights;  // the model's matrices it changes (shared layers: several)
    PackedMatrix a;                      // [rank, in] float32
    PackedMatrix b;                      // [out, rank] float32
    float scale = 0;                     // alpha / rank, or alpha / sqrt(rank)
    // DoRA: |W + s B A|^2 of a row is ww + s * (2 wba + s * bb), so that a gain at any scale costs
    // nothing but these. Empty for LoRA.
    std::vector<float> magnitude;     // [out]
    std::vector<double> ww, wba, bb;  // [out]

    /// magnitude / |W + s B A| by row, s = scale * user_scale; a row of zeros has gain 0.
    std::vector<float> Gain(float user_scale) const;
  };

  /// Checks `adapter` against the model, packs it, and for DoRA reads the base's rows. Errors:
  /// those of CheckAdapter, kOutOfMemory.
  static Result<std::shared_ptr<const AdapterWeights>> Create(const Adapter& adapter,
                                                              const Model& model, Device& device);
  /// Bytes that Create will take on the device.
  static Result<int64_t> PlanBytes(const Adapter& adapter, const Model& model, Device& device);

  const std::vector<Matrix>& matrices() const { return matrices_; }
  bool dora() const { return dora_; }

 private:
  static Result<AdapterWeights> Lay(const Adapter& adapter, const Model& model, Device& device,
                                    int64_t* bytes);

  Buffer buffer_;
  std::vector<Matrix> matrices_;
  bool dora_ = false;
};

}  // namespace ink
