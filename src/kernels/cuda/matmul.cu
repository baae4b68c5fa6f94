#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/gemm.cuh"

namespace ink::cuda {
namespace {

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
    q.b_form = FormOf(w);
    q.c = p.y[i];
    q.c_stride = p.y_stride[i];
    q.m = static_cast<int>(p.num_rows);
    q.n = static_cast<int>(w.rows);
    q.k = static_cast<int>(p.cols);
    q.bias = p.bias[i];
    RunProduct(OneProduct{q}, q.m, q.n, 1);
  }
}

void Matmul(const MatmulParams& p, const KernelContext&) noexcept {
  Product q;
  q.a = p.a;
  q.a_stride = p.a_stride;
  q.a_form = p.a_columns ? Form::kColumns : Form::kRows;
  if (p.b_packed.data != nullptr) {
    q.b = p.b_packed.data;
    q.b_stride = p.b_packed.cols;
    q.b_form = FormOf(p.b_packed);
  } else {
    q.b = p.b;
    q.b_stride = p.b_stride;
    q.b_form = p.b_columns ? Form::kColumns : Form::kRows;
  }
  q.c = p.c;
  q.c_stride = p.c_stride;
  q.m = static_cast<int>(p.m);
  q.n = static_cast<int>(p.n);
  q.k = static_cast<int>(p.k);
  q.accumulate = p.accumulate;
  RunProduct(OneProduct{q}, q.m, q.n, 1);
}

}  // namespace ink::cuda
