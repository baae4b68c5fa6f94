// The adapters of one engine: loaded by name, chosen by each request, applied to the rows of its
// sequences only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/adapter_weights.h"
#include "ops/recorder.h"

namespace ink {

/// An adapter and the factor on its own scale (alpha / r); a factor of 0 leaves it out.
struct AdapterUse {
  std::string name;
  float scale = 1.0f;
};

struct AdapterInfo {
  std::string name;
  int64_t bytes = 0;      // on the device
  int64_t requests = 0;   // that use it now
  bool draining = false;  // leaves with its last request
};

/// Several adapters of one request apply in the order given: y = W x + b, then for each LoRA
/// y += s B (A x), for each DoRA y = gain * (y - b + s B (A x)) + b, s = its scale * the use's. The
/// result of a row depends on that row alone, so batching changes no bit.
///
/// Used by the engine's thread.
class AdapterSet : public LinearHook {
 public:
  /// `max_rows` rows of activations at most, `max_logit_rows` of the vocabulary projection.
  AdapterSet(const Model& model, Device& device, int64_t max_rows, int64_t max_logit_rows)
      : model_(model), device_(device), max_rows_(max_rows), max_logit_rows_(max_logit_rows) {}

  /// A request's hold on its adapters; while it lives they stay. The set outlives it.
  class Lease {
   public:
    Lease() = default;
    ~Lease() { Reset(); }
    Lease(Lease&& other) noexcept { *this = std::move(other); }
    Lease& operator=(Lease&& other) noexcept;
    /// For RunSequence::adapter; -1: none.
    int32_t id() const { return id_; }
    /// Names adapters and scales: what the prefix cache must keep apart. Empty for none.
    const std::string& scope() const;

   private:
    friend class AdapterSet;
    void Reset();
    AdapterSet* set_ = nullptr;
    int32_t id_ = -1;
  };

  /// Packs the adapter. Errors: kInvalidArgument (an empty name or one in use, shapes unlike the
  /// model's), kOutOfMemory, and CheckAdapter's.
  Status Add(const std::string& name, const Adapter& adapter);
  /// Device bytes that Add will take, what it replaces still there. Errors: those of Add.
  Result<int64_t> PlanAdd(const Adapter& adapter) const;
  /// Removes it at once when no request uses it. Else, with `drain`, it takes no further request
  /// and goes with the last one; without, kUnavailable says how many use it. Errors: kNotFound.
  Status Remove(const std::string& name, bool drain);
  /// In order of names.
  std::vector<AdapterInfo> List() const;

  /// Errors: kNotFound (naming the known ones), kInvalidArgument (a scale that is not finite, a
  /// name twice), kOutOfMemory (gains of DoRA at a new scale).
  Result<Lease> Select(std::span<const AdapterUse> uses);

  /// Device bytes that these adapters and the work with them will take.
  struct Plan {
    int64_t weights = 0;
    int64_t activations = 0;
  };
  static Result<Plan> MakePlan(const Model& model, Device& device,
                               std::span<const Adapter> adapters, int64_t max_rows,
                               int64_t max_logit_rows);

  void SetRows(std::span<const SequenceRows> rows) override;
  void AfterLinear(ExecContext& context, const Weight& weight, const VectorWeight* bias, Tensor x,
                   Tensor y) override;

 private:
  struct Entry {
    uint64_t serial = 0;  // unlike that of any earlier adapter of the name
    std::string content;  // hash of all its values
    std::shared_ptr<const AdapterWeights> weights;
    int64_t bytes = 0;
    int64_t requests = 0;
    bool draining = false;
  };
  // DoRA's gains of one adapter at one scale.
  struct Gains {
    Buffer buffer;
    std::vector<const float*> of_matrix;  // null for a LoRA matrix
  };
  struct Term {
    const AdapterWeights::Matrix* matrix;
    float scale;
    const float* gain;
  };
  struct Selection {
    std::string key;    // adapters by serial, and scales
    std::string scope;  // adapters by content, and scales: means the same in another process
    std::vector<std::string> names;
    std::vector<std::shared_ptr<const AdapterWeights>> weights;
    std::vector<std::shared_ptr<const Gains>> gains;
    std::unordered_map<const Weight*, std::vector<Term>> terms;
    int64_t requests = 0;
  };
  // What one pass over the widest adapted matrix needs.
  struct ScratchSizes {
    int64_t low = 0;        // floats of A x
    int64_t delta = 0;      // floats of B (A x)
    int64_t workspace = 0;  // bytes
    int64_t bytes() const;
    void Cover(const AdapterWeights::Matrix& matrix, int64_t max_rows, int64_t max_logit_rows);
  };

  static Status CoverPlanned(const Adapter& adapter, Device& device, int64_t max_rows,
                             int64_t max_logit_rows, ScratchSizes* sizes);
  Result<std::shared_ptr<const Gains>> GainsOf(const Entry& entry, float scale);
  Status GrowScratch(const AdapterWeights& weights);
  void Release(int32_t selection);
  void Apply(ExecContext& context, const Term& term, const VectorWeight* bias, Tensor x, Tensor y);

  const Model& model_;
  Device& device_;
  const int64_t max_rows_;
  const int64_t max_logit_rows_;
  std::map<std::string, Entry> entries_;
  std::map<std::pair<uint64_t, float>, std::weak_ptr<const Gains>> gains_;
  std::vector<std::unique_ptr<Selection>> selections_;  // by id; null where free
  uint64_t next_serial_ = 1;
  ScratchSizes sizes_;
  Buffer scratch_;
  std::vector<SequenceRows> rows_;  // of the step, neighbours with one selection joined
};

}  // namespace ink
