// Parameter blocks of the kernels: plain data, copied when a call is enqueued. Pointers are device
// pointers that stay valid until the device has run the call. Shapes were checked by `ops`.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace ink {

class ThreadPool;

/// What a kernel may use besides its parameters.
struct KernelContext {
  ThreadPool* pool = nullptr;
  std::byte* scratch = nullptr;  // [num_threads][scratch_bytes], 64-byte aligned
  size_t scratch_bytes = 0;      // per thread, at least kKernelScratchBytes

  std::byte* ThreadScratch(int thread) const { return scratch + scratch_bytes * thread; }

  /// fn(argument, index, thread) for each index in [0, count), handed out one at a time. Not a
  /// template, so that no code of other layers is compiled with an ISA folder's flags.
  void ParallelFor(int64_t count, void (*fn)(void* argument, int64_t index, int thread),
                   void* argument) const noexcept;
  int num_threads() const noexcept;
};

/// Scratch that a kernel may count on, per thread. The largest user is attention: 32 rows of
/// scores (256 keys), partial outputs and one converted K/V partition at head_dim 256 (640 KiB).
inline constexpr size_t kKernelScratchBytes = size_t{1} << 20;

/// Positions per attention partition (DESIGN 3a) and tokens per KV block (DESIGN 4).
inline constexpr int kKvPartition = 256;
inline constexpr int kKvBlockTokens = 32;

/// A weight [rows, cols] in the panel layout of kernels/cpu/panels.h, or a stack of `experts` of
/// them.
struct PackedMatrix {
  const std::byte* data = nullptr;
  DType type = DType::kF32;
  int64_t rows = 0;          // output features
  int64_t cols = 0;          // input features
  int64_t panel_bytes = 0;   // one panel: 16 rows, all columns
  int64_t expert_bytes = 0;  // distance between two experts' first panels
  int experts = 1;
};

/// Up to this many weights share one activation in a Linear call (Q, K, V; gate, up).
inline constexpr int kMaxLinearWeights = 4;

/// y_i[m, n] = sum_k x[m, k] * w_i[n, k] (+ bias_i[n]).
struct LinearParams {
  const float* x = nullptr;  // [num_rows, cols], row stride x_stride
  int64_t x_stride = 0;      // in floats
  int64_t num_rows = 0;
  int64_t cols = 0;
  int num_weights = 0;
  PackedMatrix weights[kMaxLinearWeights];
  const float* bias[kMaxLinearWeights] = {};  // [rows] or null
  float* y[kMaxLinearWeights] = {};           // [num_rows, rows], row stride y_stride
  int64_t y_stride[kMaxLinearWeights] = {};   // in floats
  std::byte* workspace = nullptr;             // LinearWorkspaceBytes(*this), 64-aligned
};

/// out[i, :] = row ids[i] of the matrix, as float32, times `scale`.
struct GatherRowsParams {
  PackedMatrix matrix;
  const int32_t* ids = nullptr;  // [num_ids]
  int64_t num_ids = 0;
  float scale = 1.0f;
  float* out = nullptr;  // [num_ids, cols]
};

/// out[i, :] = x[rows[i], :].
struct TakeRowsParams {
  const float* x = nullptr;       // [_, dim], row stride x_stride
  const int32_t* rows = nullptr;  // [num_rows]
  float* out = nullptr;           // [num_rows, dim]
  int64_t num_rows = 0;
  int64_t dim = 0;
  int64_t x_stride = 0;
};

/// out[t, :] = embeds[index[t], :] where index[t] >= 0 (input embeddings replace token lookups).
struct ReplaceRowsParams {
  const float* embeds = nullptr;   // [num_embeds, dim]
  const int32_t* index = nullptr;  // [num_tokens], -1 keeps out[t]
  float* out = nullptr;            // [num_tokens, dim]
  int64_t num_tokens = 0;
  int64_t dim = 0;
};

/// out = x / sqrt(mean(x^2) + eps) * weight, per row (Zhang and Sennrich 2019).
struct RmsNormParams {
  const float* x = nullptr;       // [num_rows, dim], row stride x_stride
  const float* weight = nullptr;  // [dim]
  float* out = nullptr;           // [num_rows, dim], row stride out_stride
  int64_t num_rows = 0;
  int64_t dim = 0;
  int64_t x_stride = 0;
  int64_t out_stride = 0;
  float eps = 1e-6f;
};

/// out = a + b.
struct AddParams {
  const float* a = nullptr;  // [count]
  const float* b = nullptr;  // [count]
  float* out = nullptr;      // [count]; may be a or b
  int64_t count = 0;
};

/// out = x * scale.
struct ScaleParams {
  const float* x = nullptr;  // [count]
  float* out = nullptr;      // [count]; may be x
  int64_t count = 0;
  float scale = 1.0f;
};

/// out = cap * tanh(x / cap) (Gemma 2).
struct SoftcapParams {
  const float* x = nullptr;  // [count]
  float* out = nullptr;      // [count]; may be x
  int64_t count = 0;
  float cap = 0;
};

/// What an adapter adds to a linear's result, in place: y += scale * delta, or with a gain per
/// column (DoRA) y = gain * ((y - bias) + scale * delta) + bias. Each operation is rounded by
/// itself.
struct AdaptParams {
  float* y = nullptr;            // [num_rows, dim], row stride y_stride
  const float* delta = nullptr;  // [num_rows, dim]
  const float* gain = nullptr;   // [dim] or null
  const float* bias = nullptr;   // [dim] or null; unused without gain
  int64_t num_rows = 0;
  int64_t dim = 0;
  int64_t y_stride = 0;
  float scale = 1.0f;
};

enum class Activation : int32_t { kSilu, kGeluTanh };

/// out = activation(gate) * up.
struct GluParams {
  const float* gate = nullptr;  // [num_rows, dim], row stride gate_stride
  const float* up = nullptr;    // [num_rows, dim], row stride up_stride
  float* out = nullptr;         // [num_rows, dim]
  int64_t num_rows = 0;
  int64_t dim = 0;
  int64_t gate_stride = 0;
  int64_t up_stride = 0;
  Activation activation = Activation::kSilu;
};

/// Rotary position embedding (Su et al. 2021) of the first rotary_dim values of each head:
/// the pair (a, b) becomes (a cos - b sin, a sin + b cos) * magnitude with angle
/// position * inv_freq[i]. Pairs are (i, i + rotary_dim/2), or (2i, 2i+1) when interleaved. The
/// rest of the head is copied.
struct RopeParams {
  const float* x = nullptr;            // [num_tokens, num_heads, head_dim], row stride x_stride
  float* out = nullptr;                // same shape, row stride out_stride; may be x
  const int32_t* positions = nullptr;  // [num_tokens, num_axes]; section i of the pairs uses axis i
  const float* inv_freq = nullptr;     // [rotary_dim / 2]
  int64_t num_tokens = 0;
  int64_t x_stride = 0;
  int64_t out_stride = 0;
  int num_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;
  int num_axes = 1;
  int sections[4] = {};  // pairs per axis; unused when num_axes == 1
  float magnitude = 1.0f;
  bool interleaved = false;
  bool inverse = false;  // rotate by the negated angle (the gradient)
};

/// The paged cache of one layer: block b of K at k + b * k_block_bytes, likewise V.
///
/// Within a block, heads follow each other (k_head_bytes, v_head_bytes apart; at least KvHeadBytes,
/// multiples of 64). K of one head is stored transposed so that a vector holds one dimension of
/// many keys, V by token; fractions round up:
///   f32, f16: K [head_dim][32 tokens], V [32 tokens][head_dim];
///   bf16:  pairs, which one step of a bf16 dot product adds: K [head_dim/2][32 tokens][2] (a last
///          odd dimension is paired with zeros), V [32 tokens/2][head_dim][2];
///   q8_0:  K int8 [head_dim][32 tokens], V int8 [32 tokens][head_dim], each followed by f16 scales
///          [head_dim/32][32 tokens];
///   q4_0:  as q8_0 with two values a byte: K byte [d/2][token] holds d even in its low nibble,
///          d odd in its high one; V byte [token][d/2] likewise; values are stored plus 8.
struct KvLayerView {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  DType k_type = DType::kF16;
  DType v_type = DType::kF16;
  int64_t k_block_bytes = 0;
  int64_t v_block_bytes = 0;
  int64_t k_head_bytes = 0;
  int64_t v_head_bytes = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
};

/// Bytes of one head's 32 tokens of K or of V.
int64_t KvHeadBytes(DType type, int head_dim);

/// Writes new rows of K and V into their slots (slot = block * 32 + position % 32); a negative slot
/// is skipped. Rounding is to nearest even; q8_0 encodes as its QuantFormat does, q4_0 with the
/// scale that maps the value of largest magnitude to -8, refitted once to the integers.
struct KvStoreParams {
  const float* k = nullptr;  // [num_tokens, num_kv_heads, head_dim], row stride k_stride
  const float* v = nullptr;  // [num_tokens, num_kv_heads, head_dim], row stride v_stride
  int64_t k_stride = 0;
  int64_t v_stride = 0;
  const int64_t* slots = nullptr;  // [num_tokens]
  int64_t num_tokens = 0;
  KvLayerView cache;
};

enum class MaskKind : int32_t { kCausal = 0, kFull = 1, kTree = 2 };

/// One sequence's share of a batch.
struct SequenceSpan {
  int64_t first_token = 0;  // row of its first token in the batch
  int64_t num_tokens = 0;   // rows in the batch
  int64_t kv_length = 0;    // positions in the cache, the batch's own included
  MaskKind mask = MaskKind::kCausal;
  int32_t adapter = -1;
  // Tree masks (speculation): query i sees the keys before position kv_length - num_tokens and
  // those keys kv_length - num_tokens + j for which bit j of tree_mask[i] is set.
  const uint64_t* tree_mask = nullptr;  // [num_tokens], at most 64 tokens
};

/// softmax(q K^T * scale) V over the paged cache, in the arithmetic of DESIGN 3a, with fma chains
/// that start at +0 and K, V the stored values as float32:
///   s[j] = chain over d = 0, 1, .. of q[d] * K[d][j]; quantized K: a chain of q[d] * integer for
///   each 32 dimensions, and s[j] the chain over these of their result * scale;
///   c = scale * log2(e); with softcap s[j] = softcap * tanh(s[j] * (scale / softcap)) and
///   c = log2(e) instead;
///   per partition of 256 positions: m = max s, p[j] = 2^((s[j] - m) * c), +0 where that is below
///   2^-125; l = sum of p in 16 interleaved partial sums (lane j % 16, ascending), folded 8, 4, 2,
///   1; o[d] = chain of p[j] * V[j][d] over ascending j, quantized V: of (p[j] * scale) * integer;
///   partitions merge ascending from M = -inf, L = 0, O = 0: M' = max(M, m), a = 2^((M - M') * c),
///   b = 2^((m - M') * c), L = fma(L, a, l * b), O = fma(O, a, o * b).
/// The result is O / L, zeros for a query that sees no key. Masked keys have p = +0; partitions
/// with no visible key are skipped.
///
/// Exception: AVX-512 multiplies bf16 K and V as bf16 (vdpbf16ps, pairs of d, pairs of j), with q
/// and p rounded to bf16 and l the sum of the rounded p: twice the rate, and an error like the
/// storage's.
struct AttentionParams {
  const float* q = nullptr;  // [num_tokens, num_heads, head_dim], row stride q_stride
  float* out = nullptr;      // [num_tokens, num_heads, head_dim], row stride out_stride
  int64_t q_stride = 0;
  int64_t out_stride = 0;
  const SequenceSpan* sequences = nullptr;  // [num_seqs]
  int num_seqs = 0;
  const int32_t* block_tables = nullptr;  // [num_seqs, block_table_stride]
  int64_t block_table_stride = 0;
  KvLayerView cache;
  int num_heads = 0;             // a multiple of cache.num_kv_heads
  float scale = 1.0f;            // > 0
  float softcap = 0;             // 0: none
  int64_t sliding_window = 0;    // a query at position p sees keys > p - window; 0: all
  const float* sinks = nullptr;  // [num_heads] extra logits that take part in L only, or null
};

/// Experts of each token: softmax (or sigmoid) over the router's logits, the `top_k` largest, ties
/// to the lower index, listed in ascending expert index (DESIGN 3d).
struct MoeRouteParams {
  const float* logits = nullptr;  // [num_tokens, num_experts]
  int32_t* experts = nullptr;     // [num_tokens, top_k]
  float* weights = nullptr;       // [num_tokens, top_k]
  int64_t num_tokens = 0;
  int num_experts = 0;
  int top_k = 0;
  bool normalize = true;  // weights sum to one over the chosen experts
};

/// out[t] = sum over chosen experts e, ascending, of w * down_e(activation(gate_e x) * up_e x).
struct MoeExpertsParams {
  const float* x = nullptr;  // [num_tokens, dim]
  float* out = nullptr;      // [num_tokens, dim]
  int64_t num_tokens = 0;
  int64_t dim = 0;
  int64_t ffn_dim = 0;
  const int32_t* experts = nullptr;  // [num_tokens, top_k], ascending
  const float* weights = nullptr;    // [num_tokens, top_k]
  int top_k = 0;
  PackedMatrix gate;  // experts of [ffn_dim, dim]
  PackedMatrix up;    // experts of [ffn_dim, dim]
  PackedMatrix down;  // experts of [dim, ffn_dim]
  Activation activation = Activation::kSilu;
  std::byte* workspace = nullptr;  // MoeWorkspaceBytes(*this), 64-aligned
};

}  // namespace ink
