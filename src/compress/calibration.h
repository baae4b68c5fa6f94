// Computes an importance matrix: looks at the input of every linear while a model runs, and sums
// the squares of each column. The inputs of experts are counted apart, each over the tokens that
// were routed to it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "ops/recorder.h"

namespace ink {

class Calibration : public LinearHook {
 public:
  /// Without `output`, the vocabulary projection is not looked at (its importance hardly helps, and
  /// a tied one is the embedding too).
  Calibration(Device& device, bool output) : device_(device), output_(output) {}

  void AfterLinear(ExecContext& context, const Weight& weight, const VectorWeight* bias, Tensor x,
                   Tensor y) override;
  void AfterExperts(ExecContext& context, const MoeExpertsParams& params, const Weight& gate,
                    const Weight& up, const Weight& down) override;

  struct Sums {
    int64_t cols = 0;
    std::vector<double> squares;  // [experts, cols]
    std::vector<int64_t> counts;  // [experts], rows that were summed
  };
  /// By the weight's name.
  const std::map<std::string, Sums, std::less<>>& sums() const { return sums_; }
  /// The first failure (device memory for experts); what was summed is incomplete then.
  const Status& status() const { return status_; }

  /// llama.cpp's GGUF form: NAME.in_sum2 and NAME.counts per weight. Errors: kInvalidArgument when
  /// nothing was summed or a sum is not finite, kIo.
  Status Write(const std::string& path, const std::string& dataset, uint32_t chunks,
               uint32_t chunk_size) const;

 private:
  Sums& SumsOf(const Weight& weight);
  /// Adds rows [rows, cols] in host memory.
  void Add(Sums* sums, int64_t expert, const float* x, int64_t rows, int64_t stride);

  Device& device_;
  const bool output_;
  std::map<std::string, Sums, std::less<>> sums_;
  std::vector<float> host_;
  Buffer expert_scratch_;
  Status status_;
};

}  // namespace ink
