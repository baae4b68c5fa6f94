// Kernels that only training needs: gradients, the loss, optimizer steps. Same rules as
// op_params.h: plain parameter blocks, device pointers, shapes checked by the caller.
//
// Gradients are sums: a kernel adds to its result unless the parameter says otherwise. Work is cut
// into fixed parts whose results are joined in order, so a result never depends on the number of
// threads.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/op_params.h"

namespace ink {

/// C[m, n] (+)= sum over k of A(m, k) * B(n, k), accumulated in float32.
struct MatmulParams {
  const float* a = nullptr;  // A(m, k) = a[m * a_stride + k], or a[k * a_stride + m] (a_columns)
  int64_t a_stride = 0;
  bool a_columns = false;
  const float* b = nullptr;  // B(n, k) likewise; unused when b_packed has data
  int64_t b_stride = 0;
  bool b_columns = false;
  PackedMatrix b_packed;  // [n, k], BF16 or F32 as `bfloat16` says
  float* c = nullptr;     // [m, n], row stride c_stride
  int64_t c_stride = 0;
  int64_t m = 0, n = 0, k = 0;
  bool accumulate = false;
  bool bfloat16 = false;           // operands are rounded to bfloat16
  std::byte* workspace = nullptr;  // MatmulWorkspaceBytes(*this), 64-byte aligned
};
size_t MatmulWorkspaceBytes(const MatmulParams& params);

/// Fills the panels (kernels/cpu/panels.h) of a weight and of its transpose.
struct PackWeightParams {
  const float* w = nullptr;  // [rows, cols]
  int64_t rows = 0, cols = 0;
  bool bfloat16 = false;
  std::byte* panels = nullptr;      // of [rows, cols]; null: not wanted
  std::byte* transposed = nullptr;  // of [cols, rows]; null: not wanted
};

/// Causal attention inside each sequence of a batch, K and V being the batch's own rows.
struct DenseAttentionParams {
  const float* q = nullptr;  // [num_tokens, num_heads, head_dim], row stride q_stride
  const float* k = nullptr;  // [num_tokens, num_kv_heads, head_dim], row stride k_stride
  const float* v = nullptr;  // likewise, v_stride
  float* out = nullptr;      // q's shape, row stride out_stride
  float* lse = nullptr;      // [num_tokens, num_heads]: log of the sum of exp(score)
  // Gradients, added to; strides are those of the tensors. Null in the forward direction.
  const float* d_out = nullptr;
  float* dq = nullptr;
  float* dk = nullptr;
  float* dv = nullptr;
  int64_t q_stride = 0, k_stride = 0, v_stride = 0, out_stride = 0;
  const SequenceSpan* sequences = nullptr;  // [num_seqs], host-visible
  int num_seqs = 0;
  int64_t max_tokens = 0;  // of a sequence
  int num_heads = 0, num_kv_heads = 0, head_dim = 0;
  float scale = 1.0f;
  float softcap = 0;
  int64_t sliding_window = 0;
  bool bfloat16 = false;
  std::byte* workspace = nullptr;  // DenseAttentionWorkspaceBytes(*this, threads)
};
size_t DenseAttentionWorkspaceBytes(const DenseAttentionParams& params, int num_threads);

/// dx += d(RmsNorm)/dx, dweight += d/dweight. Rows of `dim`.
struct RmsNormGradParams {
  const float* x = nullptr;   // [num_rows, groups * dim], row stride x_stride
  const float* dy = nullptr;  // row stride dy_stride
  float* dx = nullptr;        // row stride x_stride; null: not wanted
  const float* weight = nullptr;
  float* dweight = nullptr;  // [dim]; null: not wanted
  int64_t num_rows = 0, groups = 1, dim = 0;
  int64_t x_stride = 0, dy_stride = 0;
  float eps = 0;
  float* workspace = nullptr;  // [kGradParts, dim]
};
/// Parts into which sums over rows are cut.
inline constexpr int kGradParts = 16;

/// y = activation(gate) * up: dgate and dup are added to.
struct GluGradParams {
  const float* gate = nullptr;
  const float* up = nullptr;
  const float* dy = nullptr;  // [num_rows, dim], contiguous
  float* dgate = nullptr;     // stride gate_stride
  float* dup = nullptr;       // stride up_stride
  int64_t num_rows = 0, dim = 0, gate_stride = 0, up_stride = 0;
  bool overwrite = false;  // dgate and dup hold nothing yet
  Activation activation = Activation::kSilu;
};

/// dx += dy * (1 - (y / cap)^2).
struct SoftcapGradParams {
  const float* y = nullptr;
  const float* dy = nullptr;
  float* dx = nullptr;
  int64_t count = 0;
  float cap = 0;
};

/// p[i] = value.
struct FillParams {
  float* p = nullptr;
  int64_t count = 0;
  float value = 0;
};

/// to[r, c] += scale * from[r, c], or = where `overwrite`.
struct AddScaledParams {
  const float* from = nullptr;
  float* to = nullptr;
  int64_t rows = 0, cols = 0, from_stride = 0, to_stride = 0;
  float scale = 1.0f;
  bool overwrite = false;
};

/// to[ids[t], :] += scale * from[t, :].
struct ScatterAddParams {
  const float* from = nullptr;   // [count, dim], row stride from_stride
  const int32_t* ids = nullptr;  // [count]
  float* to = nullptr;           // [_, dim], row stride to_stride
  int64_t count = 0, dim = 0, from_stride = 0, to_stride = 0;
  float scale = 1.0f;
};

/// to[c] += sum over rows of from[r, c].
struct ColumnSumParams {
  const float* from = nullptr;  // [rows, cols], row stride from_stride
  float* to = nullptr;          // [cols]
  int64_t rows = 0, cols = 0, from_stride = 0;
};

/// In place: x[r, c] = keep ? x[r, c] * scale : 0, where each value (or whole row) is kept when a
/// hash of seed and place says so, with probability `keep`. The same seed gives the same choice
/// again.
struct DropoutParams {
  float* x = nullptr;  // [rows, cols], row stride `stride`
  int64_t rows = 0, cols = 0, stride = 0;
  uint64_t seed = 0;
  float keep = 1.0f;
  float scale = 1.0f;  // of what is kept: 1 / keep, or 1
  bool whole_rows = false;
};

/// In place: x[r, c] = (x[r, c] - shift[c]) * scale[c] + shift[c].
struct ScaleColumnsParams {
  float* x = nullptr;  // [rows, cols], row stride `stride`
  int64_t rows = 0, cols = 0, stride = 0;
  const float* scale = nullptr;  // [cols]
  const float* shift = nullptr;  // [cols] or null
};

/// to[c] += factor[c] * sum over rows of a[r, c] * (b[r, c] - shift[c]).
struct ColumnDotParams {
  const float* a = nullptr;  // [rows, cols], row stride a_stride
  const float* b = nullptr;  // likewise, b_stride
  int64_t rows = 0, cols = 0, a_stride = 0, b_stride = 0;
  const float* factor = nullptr;  // [cols]
  const float* shift = nullptr;   // [cols] or null
  float* to = nullptr;            // [cols]
};

/// loss[r] = -log softmax(logits[r])[target[r]]; dlogits = its weighted gradient (written).
struct CrossEntropyParams {
  const float* logits = nullptr;     // [rows, vocab], contiguous
  const int32_t* targets = nullptr;  // [rows]; negative: no loss, zero gradient
  float* dlogits = nullptr;          // [rows, vocab]; null: not wanted. May be `logits`.
  float* loss = nullptr;             // [rows], unweighted
  const float* weights = nullptr;    // [rows]: each row's gradient is multiplied by it; null: by 1
  int64_t rows = 0, vocab = 0;
  float grad_scale = 1.0f;
};

/// AdamW (Loshchilov and Hutter 2019) on float32 states; gradients are multiplied by grad_scale.
struct AdamParams {
  float* w = nullptr;
  const float* grad = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  int64_t count = 0;
  float grad_scale = 1.0f;
  float lr = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
  float bias1 = 1, bias2 = 1;  // 1 - beta^step
};

/// The same with states of 8 bits in blocks of kState8Block values (Dettmers et al. 2022): m as
/// sign and square root of |m| / max, v as the fourth root of v / max, each with a block's maximum.
struct Adam8Params {
  AdamParams adam;  // m, v unused
  int8_t* m8 = nullptr;
  uint8_t* v8 = nullptr;
  float* m_max = nullptr;  // [ceil(count / kState8Block)]
  float* v_max = nullptr;
};
inline constexpr int64_t kState8Block = 256;

/// partial[i] = sum of squares of block i of kSumBlock values, in float64.
struct SumSquaresParams {
  const float* x = nullptr;
  int64_t count = 0;
  double* partial = nullptr;
};
inline constexpr int64_t kSumBlock = 1 << 14;

struct TrainKernels {
  std::string_view name;
  bool bfloat16;  // whether bfloat16 operands are supported
  void (*matmul)(const MatmulParams&, const KernelContext&) noexcept;
  void (*pack_weight)(const PackWeightParams&, const KernelContext&) noexcept;
  void (*attention)(const DenseAttentionParams&, const KernelContext&) noexcept;
  void (*attention_grad)(const DenseAttentionParams&, const KernelContext&) noexcept;
  void (*rms_norm_grad)(const RmsNormGradParams&, const KernelContext&) noexcept;
  void (*glu_grad)(const GluGradParams&, const KernelContext&) noexcept;
  void (*softcap_grad)(const SoftcapGradParams&, const KernelContext&) noexcept;
  void (*fill)(const FillParams&, const KernelContext&) noexcept;
  void (*add_scaled)(const AddScaledParams&, const KernelContext&) noexcept;
  void (*scatter_add)(const ScatterAddParams&, const KernelContext&) noexcept;
  void (*column_sum)(const ColumnSumParams&, const KernelContext&) noexcept;
  void (*dropout)(const DropoutParams&, const KernelContext&) noexcept;
  void (*scale_columns)(const ScaleColumnsParams&, const KernelContext&) noexcept;
  void (*column_dot)(const ColumnDotParams&, const KernelContext&) noexcept;
  void (*cross_entropy)(const CrossEntropyParams&, const KernelContext&) noexcept;
  void (*adam)(const AdamParams&, const KernelContext&) noexcept;
  void (*adam8)(const Adam8Params&, const KernelContext&) noexcept;
  void (*sum_squares)(const SumSquaresParams&, const KernelContext&) noexcept;
};

/// The training kernels that go with the op table of this name.
const TrainKernels& TrainKernelsFor(std::string_view op_table);

}  // namespace ink
