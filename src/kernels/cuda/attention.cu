// Dense causal attention with whole score matrices: [sequence, head, tokens, tokens].
#include <cuda_runtime.h>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/gemm.cuh"

namespace ink::cuda {
namespace {

struct Call {
  DenseAttentionParams p;
  const SequenceSpan* spans;  // on the device
  float* s;                   // scores, then probabilities
  float* ds;
  int per_item;  // heads that one item of the batch covers: all, or those of one group member
  int member;    // group member, when items are (sequence, kv head)
  int first_seq;
  __device__ const SequenceSpan& Span(int z) const { return spans[first_seq + z / per_item]; }
  __device__ int Head(int z) const {
    const int h = z % per_item;
    return per_item == p.num_heads ? h : h * (p.num_heads / p.num_kv_heads) + member;
  }
  __device__ int64_t Matrix(int z) const {
    return (static_cast<int64_t>(z / per_item) * p.num_heads + Head(z)) * p.max_tokens *
           p.max_tokens;
  }
  __device__ int KvHead(int z) const { return Head(z) / (p.num_heads / p.num_kv_heads); }
};

enum class Which { kScores, kOut, kDp, kDq, kDk, kDv };

template <Which kWhich>
struct Provider {
  Call call;
  __device__ Product operator()(int z) const {
    const DenseAttentionParams& p = call.p;
    const SequenceSpan& span = call.Span(z);
    const int64_t first = span.first_token;
    const int t = static_cast<int>(span.num_tokens), d = p.head_dim;
    const int head = call.Head(z), kv = call.KvHead(z);
    const float* q = p.q + first * p.q_stride + head * d;
    const float* k = p.k + first * p.k_stride + kv * d;
    const float* v = p.v + first * p.v_stride + kv * d;
    Product r;
    if (kWhich == Which::kScores || kWhich == Which::kDp) {
      const bool grad = kWhich == Which::kDp;
      r.a = grad ? p.d_out + first * p.out_stride + head * d : q;
      r.a_stride = grad ? p.out_stride : p.q_stride;
      r.b = grad ? v : k;
      r.b_stride = grad ? p.v_stride : p.k_stride;
      r.c = (grad ? call.ds : call.s) + call.Matrix(z);
      r.c_stride = p.max_tokens;
      r.m = r.n = t;
      r.k = d;
      r.lower_only = true;
      return r;
    }
    const float* matrix =
        (kWhich == Which::kDq || kWhich == Which::kDk ? call.ds : call.s) + call.Matrix(z);
    r.a = matrix;
    r.a_stride = p.max_tokens;
    r.m = t;
    r.n = d;
    r.k = t;
    if (kWhich == Which::kOut) {
      r.b = v, r.b_stride = p.v_stride;
      r.c = p.out + first * p.out_stride + head * d, r.c_stride = p.out_stride;
      r.k_limit_by_row = 1;
    } else if (kWhich == Which::kDq) {
      r.b = k, r.b_stride = p.k_stride;
      r.c = p.dq + first * p.q_stride + head * d, r.c_stride = p.q_stride;
      r.k_limit_by_row = 1;
      r.accumulate = true;
    } else if (kWhich == Which::kDk) {
      r.b = q, r.b_stride = p.q_stride;
      r.c = p.dk + first * p.k_stride + kv * d, r.c_stride = p.k_stride;
      r.k_start_by_row = 1;
      r.accumulate = true;
    } else {
      r.b = p.d_out + first * p.out_stride + head * d, r.b_stride = p.out_stride;
      r.c = p.dv + first * p.v_stride + kv * d, r.c_stride = p.v_stride;
      r.k_start_by_row = 1;
      r.accumulate = true;
    }
    return r;
  }
};

__device__ float BlockSum(float x) {
  __shared__ float parts[32];
  for (int o = 16; o > 0; o /= 2) x += __shfl_xor_sync(~0u, x, o);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float total = 0;
  for (unsigned i = 0; i < blockDim.x / 32; ++i) total += parts[i];
  return total;
}
__device__ float BlockMax(float x) {
  __shared__ float parts[32];
  for (int o = 16; o > 0; o /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, o));
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float most = parts[0];
  for (unsigned i = 1; i < blockDim.x / 32; ++i) most = fmaxf(most, parts[i]);
  return most;
}

__device__ float Score(const DenseAttentionParams& p, float s) {
  s *= p.scale;
  return p.softcap > 0 ? p.softcap * tanhf(s / p.softcap) : s;
}

// A block per row: probabilities in place, zeros to the end of the row's 64-wide tile.
__global__ void SoftmaxKernel(Call call) {
  const DenseAttentionParams& p = call.p;
  const SequenceSpan& span = call.Span(blockIdx.y);
  const int row = blockIdx.x, t = static_cast<int>(span.num_tokens);
  if (row >= t) return;
  float* s = call.s + call.Matrix(blockIdx.y) + static_cast<int64_t>(row) * p.max_tokens;
  const int low = p.sliding_window > 0 ? max(0, row - static_cast<int>(p.sliding_window) + 1) : 0;
  float most = -3e38f;
  for (int j = low + threadIdx.x; j <= row; j += blockDim.x) most = fmaxf(most, Score(p, s[j]));
  most = BlockMax(most);
  float sum = 0;
  for (int j = low + threadIdx.x; j <= row; j += blockDim.x) sum += __expf(Score(p, s[j]) - most);
  sum = BlockSum(sum);
  const int end = min(t, (row / kTileM + 1) * kTileM);
  for (int j = threadIdx.x; j < end; j += blockDim.x) {
    s[j] = j >= low && j <= row ? __expf(Score(p, s[j]) - most) / sum : 0.0f;
  }
  if (threadIdx.x == 0) {
    p.lse[(span.first_token + row) * p.num_heads + call.Head(blockIdx.y)] = most + __logf(sum);
  }
}

// From scores and dP: probabilities into s, dS into ds.
__global__ void SoftmaxGradKernel(Call call) {
  const DenseAttentionParams& p = call.p;
  const SequenceSpan& span = call.Span(blockIdx.y);
  const int row = blockIdx.x, t = static_cast<int>(span.num_tokens), d = p.head_dim;
  if (row >= t) return;
  const int head = call.Head(blockIdx.y);
  float* s = call.s + call.Matrix(blockIdx.y) + static_cast<int64_t>(row) * p.max_tokens;
  float* ds = call.ds + call.Matrix(blockIdx.y) + static_cast<int64_t>(row) * p.max_tokens;
  const int64_t token = span.first_token + row;
  float dot = 0;
  for (int c = threadIdx.x; c < d; c += blockDim.x) {
    dot +=
        p.d_out[token * p.out_stride + head * d + c] * p.out[token * p.out_stride + head * d + c];
  }
  dot = BlockSum(dot);
  const float lse = p.lse[token * p.num_heads + head];
  const int low = p.sliding_window > 0 ? max(0, row - static_cast<int>(p.sliding_window) + 1) : 0;
  const int end = min(t, (row / kTileM + 1) * kTileM);
  for (int j = threadIdx.x; j < end; j += blockDim.x) {
    float prob = 0, grad = 0;
    if (j >= low && j <= row) {
      const float score = Score(p, s[j]);
      prob = __expf(score - lse);
      grad = prob * (ds[j] - dot) * p.scale;
      if (p.softcap > 0) grad *= 1 - score / p.softcap * (score / p.softcap);
    }
    s[j] = prob;
    ds[j] = grad;
  }
}

// Calls `body` with as many sequences at a time as the scratch holds.
template <typename Body>
void InParts(const DenseAttentionParams& p, const KernelContext& context, Body&& body) {
  if (p.num_seqs == 0) return;
  Call call{};
  call.p = p;
  auto* spans = reinterpret_cast<SequenceSpan*>(context.scratch);
  cudaMemcpyAsync(spans, p.sequences, sizeof(SequenceSpan) * p.num_seqs, cudaMemcpyHostToDevice);
  call.spans = spans;
  const size_t span_bytes = (sizeof(SequenceSpan) * p.num_seqs + 255) / 256 * 256;
  const size_t one = sizeof(float) * p.num_heads * p.max_tokens * p.max_tokens;
  const int fit = static_cast<int>((context.scratch_bytes - span_bytes) / (2 * one));
  if (fit < 1) __builtin_trap();  // a sequence far longer than a GPU's scratch allows
  call.s = reinterpret_cast<float*>(context.scratch + span_bytes);
  for (int first = 0; first < p.num_seqs; first += fit) {
    const int count = p.num_seqs - first < fit ? p.num_seqs - first : fit;
    call.first_seq = first;
    call.ds = call.s + static_cast<int64_t>(count) * one / sizeof(float);
    body(call, count);
  }
}

}  // namespace

void Attention(const DenseAttentionParams& p, const KernelContext& context) noexcept {
  InParts(p, context, [&](Call call, int count) {
    call.per_item = p.num_heads;
    const int t = static_cast<int>(p.max_tokens), items = count * p.num_heads;
    RunProduct<Form::kRows, Form::kRows>(Provider<Which::kScores>{call}, t, t, items);
    SoftmaxKernel<<<dim3(t, items), 128>>>(call);
    RunProduct<Form::kRows, Form::kColumns>(Provider<Which::kOut>{call}, t, p.head_dim, items);
  });
}

void AttentionGrad(const DenseAttentionParams& p, const KernelContext& context) noexcept {
  InParts(p, context, [&](Call call, int count) {
    call.per_item = p.num_heads;
    const int t = static_cast<int>(p.max_tokens), items = count * p.num_heads;
    RunProduct<Form::kRows, Form::kRows>(Provider<Which::kScores>{call}, t, t, items);
    RunProduct<Form::kRows, Form::kRows>(Provider<Which::kDp>{call}, t, t, items);
    SoftmaxGradKernel<<<dim3(t, items), 128>>>(call);
    RunProduct<Form::kRows, Form::kColumns>(Provider<Which::kDq>{call}, t, p.head_dim, items);
    // Members of a group add to the same keys, one after the other.
    call.per_item = p.num_kv_heads;
    for (int g = 0; g < p.num_heads / p.num_kv_heads; ++g) {
      call.member = g;
      RunProduct<Form::kColumns, Form::kColumns>(Provider<Which::kDk>{call}, t, p.head_dim,
                                                 count * p.num_kv_heads);
      RunProduct<Form::kColumns, Form::kColumns>(Provider<Which::kDv>{call}, t, p.head_dim,
                                                 count * p.num_kv_heads);
    }
  });
}

}  // namespace ink::cuda
