// What a model step costs by the model's own numbers: the numerators of MFU and MBU, by the
// definitions of docs/design.md, section 7.
#pragma once

#include <array>
#include <cstdint>

#include "engine/kv_storage.h"
#include "model/model.h"

namespace ink {

/// Bytes of weights that one step reads: all but the rows of an untied embedding.
int64_t StepWeightBytes(const Model& model);
/// KV bytes that the attention of one query at `position` reads, all layers.
int64_t KvReadBytes(const ModelInfo& info, KvTypes types, int64_t position);

/// Which arithmetic most of a model's multiplications use.
enum class ComputeLimit { kInt8, kBf16, kFp32 };
/// `isa`: the operation table's name.
ComputeLimit DominantLimit(const Model& model, std::string_view isa);

/// The work of steps of one kind.
struct PhaseWork {
  int64_t steps = 0;
  int64_t tokens = 0;
  double seconds = 0;
  double flops = 0;       // flops_per_token for each token
  double bytes_read = 0;  // weights once per step; in decode, the KV that its queries read

  PhaseWork& operator+=(const PhaseWork& other);
};

/// Totals, and the last steps alone: what a gauge shows.
class PhaseMeter {
 public:
  static constexpr int kRecent = 64;  // steps

  void Add(const PhaseWork& step);
  const PhaseWork& total() const { return total_; }
  PhaseWork recent() const;

 private:
  PhaseWork total_;
  std::array<PhaseWork, kRecent> last_{};
  int64_t next_ = 0;
};

}  // namespace ink
