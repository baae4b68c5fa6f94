// Training seen from below: ops report what they computed, and the trainer (src/train) implements
// this interface with backward rules. Architecture files contain no training code.
#pragma once

#include <cstdint>
#include <span>
#include <variant>

#include "kernels/op_params.h"
#include "ops/weight.h"
#include "tensor/tensor.h"

namespace ink {

struct LinearRecord {
  Tensor x;  // [num_rows, cols]
  const Weight* weight;
  const VectorWeight* bias;  // or null
  Tensor y;                  // [num_rows, rows]
};
struct EmbedRecord {
  const Weight* weight;
  const int32_t* ids;  // [num_tokens]
  float scale;
  Tensor y;  // [num_tokens, cols]
};
struct TakeRowsRecord {
  Tensor x;
  const int32_t* rows;  // [y.rows]
  Tensor y;
};
struct RmsNormRecord {
  Tensor x;  // [num_rows, heads * dim]: each group of weight->size columns is normalized alone
  const VectorWeight* weight;
  float eps;
  Tensor y;
};
struct AddRecord {
  Tensor a, b, y;
};
struct ScaleRecord {
  Tensor x;
  float scale;
  Tensor y;
};
struct SoftcapRecord {
  Tensor x;
  float cap;
  Tensor y;
};
struct GluRecord {
  Tensor gate, up;
  Activation activation;
  Tensor y;
};
struct RopeRecord {
  Tensor x, y;
  RopeParams params;  // x and out are those of the tensors
};
/// K and V come from the batch: sequences' keys are their own rows.
struct AttentionRecord {
  Tensor q, k, v, y;
  AttentionParams params;  // sequences, heads, scale, softcap, window, sinks
  int num_kv_heads;
};
struct MoeRecord {
  Tensor x, logits, y;  // logits [num_tokens, num_experts]
  const Weight *gate, *up, *down;
  int top_k;
  bool normalize;
  Activation activation;
};
using OpRecord =
    std::variant<LinearRecord, EmbedRecord, TakeRowsRecord, RmsNormRecord, AddRecord, ScaleRecord,
                 SoftcapRecord, GluRecord, RopeRecord, AttentionRecord, MoeRecord>;

class Recorder {
 public:
  virtual ~Recorder() = default;
  /// Memory for a result that lives until backward. Views into a result are views into its
  /// gradient as well.
  virtual Tensor Allocate(int64_t rows, int64_t cols) = 0;
  /// Called after the op was launched.
  virtual void Record(const OpRecord& record) = 0;
  /// Computes record.y itself, from K and V of the batch, and records it.
  virtual void Attention(const AttentionRecord& record) = 0;
  /// Computes record.y by the composition of plain ops, and records those.
  virtual void MixtureOfExperts(const MoeRecord& record) = 0;
  /// Layer borders, for recomputing activations: between BeginLayer and EndLayer only `input` and
  /// the output need to be kept.
  virtual void BeginLayer(int layer, Tensor input) = 0;
  virtual void EndLayer(int layer, Tensor output) = 0;
};

/// Rows [first_row, first_row + num_rows) of a batch's activations belong to one sequence.
struct SequenceRows {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int32_t adapter = -1;  // RunSequence::adapter
};

/// Sees every linear after it was launched: adapters add to its result, calibration looks at its
/// input.
class LinearHook {
 public:
  virtual ~LinearHook() = default;
  /// Whose the rows of the linears that follow are; called before the layers and before each pass
  /// of the vocabulary projection. Rows that no entry names belong to nobody.
  virtual void SetRows(std::span<const SequenceRows> rows) {}
  /// `bias` (or null) is part of y already.
  virtual void AfterLinear(struct ExecContext& context, const Weight& weight,
                           const VectorWeight* bias, Tensor x, Tensor y) = 0;
  /// A mixture of experts, which is one op: params.x, experts and weights are what it read.
  virtual void AfterExperts(struct ExecContext& context, const MoeExpertsParams& params,
                            const Weight& gate, const Weight& up, const Weight& down) {}
};

}  // namespace ink
