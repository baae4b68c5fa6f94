#include <cuda_runtime.h>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/gemm.cuh"

namespace ink::cuda {
namespace {

// A part of k for each item, into its own matrix.
struct SplitProduct {
  Product product;
  int per;
  __device__ Product operator()(int z) const {
    Product p = product;
    p.k_begin = z * per;
    p.k_end = min(p.k, (z + 1) * per);
    p.c = product.c + static_cast<int64_t>(z) * p.m * p.n;
    return p;
  }
};

__global__ void AddParts(const float* parts, int splits, int64_t m, int64_t n, float* c,
                         int64_t c_stride, bool accumulate) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i >= m * n) return;
  float sum = 0;
  for (int s = 0; s < splits; ++s) sum += parts[s * m * n + i];
  float* to = c + i / n * c_stride + i % n;
  *to = accumulate ? *to + sum : sum;
}

template <Form kA, Form kB>
void Run(Product p, const KernelContext& context) {
  // Few tiles and a long k (gradients of weights) leave most of the GPU idle: k is cut, and the
  // parts are added up in order.
  const int64_t tiles = int64_t{(p.m + kTileM - 1) / kTileM} * ((p.n + kTileN - 1) / kTileN);
  int splits = 1;
  while (tiles * splits < 512 && p.k / (splits * 2) >= 512) splits *= 2;
  if (splits == 1 ||
      sizeof(float) * splits * static_cast<size_t>(p.m) * p.n > context.scratch_bytes) {
    RunProduct<kA, kB>(OneProduct{p}, p.m, p.n, 1);
    return;
  }
  auto* parts = reinterpret_cast<float*>(context.scratch);
  Product part = p;
  part.c = parts;
  part.c_stride = p.n;
  part.accumulate = false;
  const int per = (p.k + splits * kTileK - 1) / (splits * kTileK) * kTileK;
  splits = (p.k + per - 1) / per;
  RunProduct<kA, kB>(SplitProduct{part, per}, p.m, p.n, splits);
  const int64_t count = static_cast<int64_t>(p.m) * p.n;
  AddParts<<<static_cast<unsigned>((count + 255) / 256), 256>>>(parts, splits, p.m, p.n, p.c,
                                                                p.c_stride, p.accumulate);
}

template <Form kA>
void RunWith(Form b, const Product& p, const KernelContext& context) {
  switch (b) {
    case Form::kRows:
      return Run<kA, Form::kRows>(p, context);
    case Form::kColumns:
      return Run<kA, Form::kColumns>(p, context);
    case Form::kBfloatRows:
      return Run<kA, Form::kBfloatRows>(p, context);
  }
}

Form FormOf(const PackedMatrix& matrix) {
  return matrix.type == DType::kBF16 ? Form::kBfloatRows : Form::kRows;
}

}  // namespace

void Linear(const LinearParams& p, const KernelContext&) noexcept {
  for (int i = 0; i < p.num_weights; ++i) {
    const PackedMatrix& w = p.weights[i];
    Product q;
    q.a = p.x;
    q.a_stride = p.x_stride;
    q.b = w.data;
    q.b_stride = w.cols;
    q.c = p.y[i];
    q.c_stride = p.y_stride[i];
    q.m = static_cast<int>(p.num_rows);
    q.n = static_cast<int>(w.rows);
    q.k = static_cast<int>(p.cols);
    q.bias = p.bias[i];
    if (FormOf(w) == Form::kRows) {
      RunProduct<Form::kRows, Form::kRows>(OneProduct{q}, q.m, q.n, 1);
    } else {
      RunProduct<Form::kRows, Form::kBfloatRows>(OneProduct{q}, q.m, q.n, 1);
    }
  }
}

void Matmul(const MatmulParams& p, const KernelContext& context) noexcept {
  Product q;
  q.a = p.a;
  q.a_stride = p.a_stride;
  Form b_form = p.b_columns ? Form::kColumns : Form::kRows;
  q.b = p.b;
  q.b_stride = p.b_stride;
  if (p.b_packed.data != nullptr) {
    q.b = p.b_packed.data;
    q.b_stride = p.b_packed.cols;
    b_form = FormOf(p.b_packed);
  }
  q.c = p.c;
  q.c_stride = p.c_stride;
  q.m = static_cast<int>(p.m);
  q.n = static_cast<int>(p.n);
  q.k = static_cast<int>(p.k);
  q.accumulate = p.accumulate;
  if (p.a_columns) {
    RunWith<Form::kColumns>(b_form, q, context);
  } else {
    RunWith<Form::kRows>(b_form, q, context);
  }
}

}  // namespace ink::cuda
