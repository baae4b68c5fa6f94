// Everything that is not a product: a thread per value, or a block per row.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/cuda_ops.h"

namespace ink::cuda {
namespace {

constexpr int kThreads = 256;
unsigned Blocks(int64_t count) { return static_cast<unsigned>((count + kThreads - 1) / kThreads); }
__device__ int64_t Index() { return blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x; }

// Runs fn(i) for i in [0, count).
template <typename Fn>
__global__ void EachKernel(int64_t count, Fn fn) {
  const int64_t i = Index();
  if (i < count) fn(i);
}
template <typename Fn>
void Each(int64_t count, Fn fn) {
  if (count > 0) EachKernel<<<Blocks(count), kThreads>>>(count, fn);
}

template <typename T>
__device__ T BlockSum(T x) {
  __shared__ T parts[32];
  for (int o = 16; o > 0; o /= 2) x += __shfl_xor_sync(~0u, x, o);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  T total = 0;
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

void GatherRows(const GatherRowsParams& p, const KernelContext&) noexcept {
  const PackedMatrix w = p.matrix;
  Each(p.num_ids * w.cols, [=] __device__(int64_t i) {
    const int64_t at = p.ids[i / w.cols] * w.cols + i % w.cols;
    const float value = w.type == DType::kBF16
                            ? __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(w.data)[at])
                            : reinterpret_cast<const float*>(w.data)[at];
    p.out[i] = value * p.scale;
  });
}

void TakeRows(const TakeRowsParams& p, const KernelContext&) noexcept {
  Each(p.num_rows * p.dim,
       [=] __device__(int64_t i) { p.out[i] = p.x[p.rows[i / p.dim] * p.x_stride + i % p.dim]; });
}

__global__ void RmsNormKernel(RmsNormParams p) {
  const float* x = p.x + blockIdx.x * p.x_stride;
  float* out = p.out + blockIdx.x * p.out_stride;
  float sum = 0;
  for (int64_t c = threadIdx.x; c < p.dim; c += blockDim.x) sum += x[c] * x[c];
  const float inverse = rsqrtf(BlockSum(sum) / static_cast<float>(p.dim) + p.eps);
  for (int64_t c = threadIdx.x; c < p.dim; c += blockDim.x) out[c] = x[c] * inverse * p.weight[c];
}
void RmsNorm(const RmsNormParams& p, const KernelContext&) noexcept {
  if (p.num_rows > 0) RmsNormKernel<<<static_cast<unsigned>(p.num_rows), 128>>>(p);
}

void Add(const AddParams& p, const KernelContext&) noexcept {
  Each(p.count, [=] __device__(int64_t i) { p.out[i] = p.a[i] + p.b[i]; });
}
void Scale(const ScaleParams& p, const KernelContext&) noexcept {
  Each(p.count, [=] __device__(int64_t i) { p.out[i] = p.x[i] * p.scale; });
}
void Adapt(const AdaptParams& p, const KernelContext&) noexcept {
  Each(p.num_rows * p.dim, [=] __device__(int64_t i) {
    const int64_t c = i % p.dim;
    float* y = p.y + i / p.dim * p.y_stride + c;
    const float change = p.scale * p.delta[i];
    const float bias = p.bias == nullptr ? 0.0f : p.bias[c];
    *y = p.gain == nullptr ? *y + change : p.gain[c] * ((*y - bias) + change) + bias;
  });
}
void Softcap(const SoftcapParams& p, const KernelContext&) noexcept {
  Each(p.count, [=] __device__(int64_t i) { p.out[i] = p.cap * tanhf(p.x[i] / p.cap); });
}

// activation(g) and its slope.
__device__ float ActivationOf(Activation kind, float g, float* slope) {
  if (kind == Activation::kGeluTanh) {
    const float a = 0.797884560802865f, b = 0.044715f;
    const float t = tanhf(a * (g + b * g * g * g));
    *slope = 0.5f * (1 + t) + 0.5f * g * (1 - t * t) * a * (1 + 3 * b * g * g);
    return 0.5f * g * (1 + t);
  }
  const float s = 1.0f / (1.0f + __expf(-g));
  *slope = s * (1 + g * (1 - s));
  return g * s;
}

void Glu(const GluParams& p, const KernelContext&) noexcept {
  Each(p.num_rows * p.dim, [=] __device__(int64_t i) {
    const int64_t r = i / p.dim, c = i % p.dim;
    float slope;
    p.out[i] = ActivationOf(p.activation, p.gate[r * p.gate_stride + c], &slope) *
               p.up[r * p.up_stride + c];
  });
}

void GluGrad(const GluGradParams& p, const KernelContext&) noexcept {
  Each(p.num_rows * p.dim, [=] __device__(int64_t i) {
    const int64_t r = i / p.dim, c = i % p.dim;
    const int64_t at_gate = r * p.gate_stride + c, at_up = r * p.up_stride + c;
    float slope;
    const float a = ActivationOf(p.activation, p.gate[at_gate], &slope);
    const float dg = p.dy[i] * p.up[at_up] * slope, du = p.dy[i] * a;
    p.dgate[at_gate] = p.overwrite ? dg : p.dgate[at_gate] + dg;
    p.dup[at_up] = p.overwrite ? du : p.dup[at_up] + du;
  });
}

// Split halves of one axis: what the text architectures use.
void Rope(const RopeParams& p, const KernelContext&) noexcept {
  const int64_t per = int64_t{p.num_heads} * p.head_dim;
  Each(p.num_tokens * per, [=] __device__(int64_t i) {
    const int64_t t = i / per;
    const int c = static_cast<int>(i % per), d = c % p.head_dim, half = p.rotary_dim / 2;
    const float* x = p.x + t * p.x_stride + (c - d);
    float* out = p.out + t * p.out_stride + (c - d);
    if (d >= p.rotary_dim) {
      out[d] = x[d];
      return;
    }
    if (d >= half) return;  // written by the pair's first thread
    float sine, cosine;
    sincosf(static_cast<float>(p.positions[t * p.num_axes]) * p.inv_freq[d], &sine, &cosine);
    if (p.inverse) sine = -sine;
    const float a = x[d], b = x[d + half];
    out[d] = (a * cosine - b * sine) * p.magnitude;
    out[d + half] = (a * sine + b * cosine) * p.magnitude;
  });
}

void PackWeight(const PackWeightParams& p, const KernelContext&) noexcept {
  Each(p.rows * p.cols, [=] __device__(int64_t i) {
    const int64_t r = i / p.cols, c = i % p.cols, turned = c * p.rows + r;
    if (p.bfloat16) {
      const __nv_bfloat16 value = __float2bfloat16(p.w[i]);
      if (p.panels != nullptr) reinterpret_cast<__nv_bfloat16*>(p.panels)[i] = value;
      if (p.transposed != nullptr) reinterpret_cast<__nv_bfloat16*>(p.transposed)[turned] = value;
    } else {
      if (p.panels != nullptr) reinterpret_cast<float*>(p.panels)[i] = p.w[i];
      if (p.transposed != nullptr) reinterpret_cast<float*>(p.transposed)[turned] = p.w[i];
    }
  });
}

__global__ void RmsNormGradKernel(RmsNormGradParams p, float* inverses) {
  const int64_t row = blockIdx.x / p.groups, group = blockIdx.x % p.groups;
  const float* x = p.x + row * p.x_stride + group * p.dim;
  const float* dy = p.dy + row * p.dy_stride + group * p.dim;
  float squares = 0, dots = 0;
  for (int64_t c = threadIdx.x; c < p.dim; c += blockDim.x) {
    squares += x[c] * x[c];
    dots += x[c] * p.weight[c] * dy[c];
  }
  const float n = static_cast<float>(p.dim);
  const float inverse = rsqrtf(BlockSum(squares) / n + p.eps);
  const float back = BlockSum(dots) * inverse * inverse * inverse / n;
  if (threadIdx.x == 0) inverses[blockIdx.x] = inverse;
  if (p.dx == nullptr) return;
  float* dx = p.dx + row * p.x_stride + group * p.dim;
  for (int64_t c = threadIdx.x; c < p.dim; c += blockDim.x) {
    dx[c] += dy[c] * p.weight[c] * inverse - x[c] * back;
  }
}
constexpr int kParts = 128;  // of the rows whose shares of dweight are added up apart
__global__ void RmsNormWeightKernel(RmsNormGradParams p, const float* inverses, float* partial) {
  const int64_t c = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (c >= p.dim) return;
  const int64_t rows = p.num_rows * p.groups, per = (rows + kParts - 1) / kParts;
  float sum = 0;
  for (int64_t i = blockIdx.y * per; i < rows && i < (blockIdx.y + 1) * per; ++i) {
    const int64_t row = i / p.groups, group = i % p.groups;
    sum += p.dy[row * p.dy_stride + group * p.dim + c] * p.x[row * p.x_stride + group * p.dim + c] *
           inverses[i];
  }
  partial[blockIdx.y * p.dim + c] = sum;
}
void RmsNormGrad(const RmsNormGradParams& p, const KernelContext& context) noexcept {
  const int64_t rows = p.num_rows * p.groups;
  if (rows == 0) return;
  auto* inverses = reinterpret_cast<float*>(context.scratch);
  float* partial = inverses + (rows + 63) / 64 * 64;
  RmsNormGradKernel<<<static_cast<unsigned>(rows), 128>>>(p, inverses);
  if (p.dweight == nullptr) return;
  RmsNormWeightKernel<<<dim3(static_cast<unsigned>((p.dim + 63) / 64), kParts), 64>>>(p, inverses,
                                                                                      partial);
  Each(p.dim, [=] __device__(int64_t c) {
    float sum = 0;
    for (int i = 0; i < kParts; ++i) sum += partial[i * p.dim + c];
    p.dweight[c] += sum;
  });
}

void SoftcapGrad(const SoftcapGradParams& p, const KernelContext&) noexcept {
  Each(p.count, [=] __device__(int64_t i) {
    const float t = p.y[i] / p.cap;
    p.dx[i] += p.dy[i] * (1 - t * t);
  });
}

void Fill(const FillParams& p, const KernelContext&) noexcept {
  Each(p.count, [=] __device__(int64_t i) { p.p[i] = p.value; });
}

void AddScaled(const AddScaledParams& p, const KernelContext&) noexcept {
  Each(p.rows * p.cols, [=] __device__(int64_t i) {
    const int64_t r = i / p.cols, c = i % p.cols;
    const float value = p.from[r * p.from_stride + c] * p.scale;
    float* to = p.to + r * p.to_stride + c;
    *to = p.overwrite ? value : *to + value;
  });
}

void ScatterAdd(const ScatterAddParams& p, const KernelContext&) noexcept {
  // Rows met twice add up in an order that is not fixed; this is the one kernel that differs in the
  // last bit from run to run.
  Each(p.count * p.dim, [=] __device__(int64_t i) {
    const int64_t t = i / p.dim, c = i % p.dim;
    atomicAdd(p.to + p.ids[t] * p.to_stride + c, p.from[t * p.from_stride + c] * p.scale);
  });
}

void ColumnSum(const ColumnSumParams& p, const KernelContext&) noexcept {
  Each(p.cols, [=] __device__(int64_t c) {
    float sum = 0;
    for (int64_t r = 0; r < p.rows; ++r) sum += p.from[r * p.from_stride + c];
    p.to[c] += sum;
  });
}

// The same hash as on the CPU: what is dropped does not depend on the device.
void Dropout(const DropoutParams& p, const KernelContext&) noexcept {
  const auto low = static_cast<uint32_t>(p.seed), high = static_cast<uint32_t>(p.seed >> 32);
  const auto limit = static_cast<int64_t>(static_cast<double>(p.keep) * 4294967296.0);
  Each(p.rows * p.cols, [=] __device__(int64_t i) {
    const int64_t r = i / p.cols, c = i % p.cols;
    uint32_t h = (static_cast<uint32_t>(p.whole_rows ? r : i) ^ low) * 0x85ebca6bu;
    h = (h ^ (h >> 13) ^ high) * 0xc2b2ae35u;
    h = (h ^ (h >> 16)) * 0x7feb352du;
    h ^= h >> 15;
    float* x = p.x + r * p.stride + c;
    *x = static_cast<int64_t>(h) < limit ? *x * p.scale : 0.0f;
  });
}

void ScaleColumns(const ScaleColumnsParams& p, const KernelContext&) noexcept {
  Each(p.rows * p.cols, [=] __device__(int64_t i) {
    const int64_t r = i / p.cols, c = i % p.cols;
    const float shift = p.shift != nullptr ? p.shift[c] : 0.0f;
    float* x = p.x + r * p.stride + c;
    *x = (*x - shift) * p.scale[c] + shift;
  });
}

void ColumnDot(const ColumnDotParams& p, const KernelContext&) noexcept {
  Each(p.cols, [=] __device__(int64_t c) {
    const float shift = p.shift != nullptr ? p.shift[c] : 0.0f;
    float sum = 0;
    for (int64_t r = 0; r < p.rows; ++r) {
      sum += p.a[r * p.a_stride + c] * (p.b[r * p.b_stride + c] - shift);
    }
    p.to[c] += p.factor[c] * sum;
  });
}

__global__ void CrossEntropyKernel(CrossEntropyParams p) {
  const int64_t row = blockIdx.x;
  const float* x = p.logits + row * p.vocab;
  float* dx = p.dlogits != nullptr ? p.dlogits + row * p.vocab : nullptr;
  const int32_t target = p.targets[row];
  if (target < 0) {
    if (threadIdx.x == 0) p.loss[row] = 0;
    for (int64_t i = threadIdx.x; dx != nullptr && i < p.vocab; i += blockDim.x) dx[i] = 0;
    return;
  }
  float most = -3e38f;
  for (int64_t i = threadIdx.x; i < p.vocab; i += blockDim.x) most = fmaxf(most, x[i]);
  most = BlockMax(most);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < p.vocab; i += blockDim.x) sum += expf(x[i] - most);
  sum = BlockSum(sum);
  if (threadIdx.x == 0) p.loss[row] = most + logf(sum) - x[target];
  if (dx == nullptr) return;
  const float weight = p.grad_scale * (p.weights != nullptr ? p.weights[row] : 1.0f);
  const float scale = weight / sum;
  for (int64_t i = threadIdx.x; i < p.vocab; i += blockDim.x) {
    dx[i] = expf(x[i] - most) * scale - (i == target ? weight : 0.0f);
  }
}
void CrossEntropy(const CrossEntropyParams& p, const KernelContext&) noexcept {
  if (p.rows > 0) CrossEntropyKernel<<<static_cast<unsigned>(p.rows), 256>>>(p);
}

__device__ float AdamStep(const AdamParams& p, float w, float g, float* m, float* v) {
  *m = *m * p.beta1 + g * (1 - p.beta1);
  *v = *v * p.beta2 + g * g * (1 - p.beta2);
  const float update = *m / p.bias1 / (sqrtf(*v / p.bias2) + p.eps);
  return w - p.lr * (update + w * p.weight_decay);
}
void Adam(const AdamParams& p, const KernelContext&) noexcept {
  Each(p.count, [=] __device__(int64_t i) {
    float m = p.m[i], v = p.v[i];
    p.w[i] = AdamStep(p, p.w[i], p.grad[i] * p.grad_scale, &m, &v);
    p.m[i] = m;
    p.v[i] = v;
  });
}

// A block of threads per block of states.
__global__ void Adam8Kernel(Adam8Params p) {
  const AdamParams& a = p.adam;
  const int64_t i = blockIdx.x * kState8Block + threadIdx.x;
  const bool live = i < a.count;
  float m = 0, v = 0;
  if (live) {
    const float root = p.m8[i] / 127.0f, fourth = p.v8[i] / 255.0f;
    m = root * fabsf(root) * p.m_max[blockIdx.x];
    v = fourth * fourth * fourth * fourth * p.v_max[blockIdx.x];
    a.w[i] = AdamStep(a, a.w[i], a.grad[i] * a.grad_scale, &m, &v);
  }
  const float m_max = BlockMax(fabsf(m)), v_max = BlockMax(v);
  if (threadIdx.x == 0) {
    p.m_max[blockIdx.x] = m_max;
    p.v_max[blockIdx.x] = v_max;
  }
  if (!live) return;
  const float size = m_max > 0 ? sqrtf(fabsf(m) / m_max) * 127.0f + 0.5f : 0.0f;
  const int code = static_cast<int>(size);
  p.m8[i] = static_cast<int8_t>(m < 0 ? -code : code);
  const float fourth = v_max > 0 ? sqrtf(sqrtf(v / v_max)) * 255.0f : 0.0f;
  p.v8[i] = static_cast<uint8_t>(min(255, static_cast<int>(fourth + 0.999f)));
}
void Adam8(const Adam8Params& p, const KernelContext&) noexcept {
  const int64_t blocks = (p.adam.count + kState8Block - 1) / kState8Block;
  if (blocks > 0) Adam8Kernel<<<static_cast<unsigned>(blocks), kState8Block>>>(p);
}

__global__ void SumSquaresKernel(SumSquaresParams p) {
  const int64_t first = blockIdx.x * kSumBlock;
  double sum = 0;
  for (int64_t i = first + threadIdx.x; i < first + kSumBlock && i < p.count; i += blockDim.x) {
    sum += static_cast<double>(p.x[i]) * p.x[i];
  }
  sum = BlockSum(sum);
  if (threadIdx.x == 0) p.partial[blockIdx.x] = sum;
}
void SumSquares(const SumSquaresParams& p, const KernelContext&) noexcept {
  const int64_t blocks = (p.count + kSumBlock - 1) / kSumBlock;
  if (blocks > 0) SumSquaresKernel<<<static_cast<unsigned>(blocks), 256>>>(p);
}

}  // namespace

const OpTable kOpTable = {
    .name = "cuda",
    .linear = Linear,
    .gather_rows = GatherRows,
    .take_rows = TakeRows,
    .rms_norm = RmsNorm,
    .add = Add,
    .scale = Scale,
    .adapt = Adapt,
    .softcap = Softcap,
    .glu = Glu,
    .rope = Rope,
};

const TrainKernels kTrainKernels = {
    .name = "cuda",
    .bfloat16 = true,
    .matmul = Matmul,
    .pack_weight = PackWeight,
    .attention = Attention,
    .attention_grad = AttentionGrad,
    .rms_norm_grad = RmsNormGrad,
    .glu_grad = GluGrad,
    .softcap_grad = SoftcapGrad,
    .fill = Fill,
    .add_scaled = AddScaled,
    .scatter_add = ScatterAdd,
    .column_sum = ColumnSum,
    .dropout = Dropout,
    .scale_columns = ScaleColumns,
    .column_dot = ColumnDot,
    .cross_entropy = CrossEntropy,
    .adam = Adam,
    .adam8 = Adam8,
    .sum_squares = SumSquares,
};

}  // namespace ink::cuda
