// One tiled product for everything: operands are rounded to bfloat16 on their way into shared
// memory, tensor cores add up in float32.
#pragma once

#include <cuda_bf16.h>
#include <mma.h>

#include <cstdint>

namespace ink::cuda {

enum class Form : int { kRows, kColumns, kBfloatRows };

struct Product {
  const void* a = nullptr;  // A(m, k); Form says where
  int64_t a_stride = 0;
  Form a_form = Form::kRows;
  const void* b = nullptr;  // B(n, k)
  int64_t b_stride = 0;
  Form b_form = Form::kRows;
  float* c = nullptr;  // [m, n]
  int64_t c_stride = 0;
  int m = 0, n = 0, k = 0;
  bool accumulate = false;
  bool lower_only = false;  // tiles wholly above the diagonal are left alone
  int k_limit_by_row = 0;   // 1: k stops at the tile's last row (A is lower triangular)
  int k_start_by_row = 0;   // 1: k starts at the tile's first row (A^T of a lower triangle)
  const float* bias = nullptr;
};

constexpr int kTileM = 64, kTileN = 64, kTileK = 32, kPad = 8;

template <int kRowsOfTile>
__device__ void LoadTile(const void* src, int64_t stride, Form form, int row0, int rows, int k0,
                         int k1, __nv_bfloat16 (*to)[kTileK + kPad]) {
  for (int i = threadIdx.x; i < kRowsOfTile * kTileK; i += blockDim.x) {
    // Consecutive threads read consecutive addresses.
    int r, k;
    if (form == Form::kColumns) {
      r = i % kRowsOfTile;
      k = i / kRowsOfTile;
    } else {
      k = i % kTileK;
      r = i / kTileK;
    }
    const int row = row0 + r, at = k0 + k;
    __nv_bfloat16 value = __float2bfloat16(0.0f);
    if (row < rows && at < k1) {
      if (form == Form::kBfloatRows) {
        value = static_cast<const __nv_bfloat16*>(src)[row * stride + at];
      } else if (form == Form::kColumns) {
        value = __float2bfloat16(static_cast<const float*>(src)[at * stride + row]);
      } else {
        value = __float2bfloat16(static_cast<const float*>(src)[row * stride + at]);
      }
    }
    to[r][k] = value;
  }
}

template <typename Provider>
__global__ void __launch_bounds__(128) ProductKernel(Provider provider) {
  using namespace nvcuda;
  const Product p = provider(blockIdx.z);
  const int m0 = blockIdx.x * kTileM, n0 = blockIdx.y * kTileN;
  if (m0 >= p.m || n0 >= p.n) return;
  if (p.lower_only && n0 > m0 + kTileM - 1) return;
  __shared__ __align__(16) __nv_bfloat16 as[kTileM][kTileK + kPad];
  __shared__ __align__(16) __nv_bfloat16 bs[kTileN][kTileK + kPad];
  __shared__ __align__(16) float cs[kTileM][kTileN + 4];
  const int warp = threadIdx.x / 32, wm = warp / 2 * 32, wn = warp % 2 * 32;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> acc[2][2];
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) wmma::fill_fragment(acc[i][j], 0.0f);
  }
  int k1 = p.k, k_first = 0;
  if (p.k_limit_by_row) k1 = min(k1, m0 + kTileM);
  if (p.k_start_by_row) k_first = m0 / kTileK * kTileK;
  for (int k0 = k_first; k0 < k1; k0 += kTileK) {
    LoadTile<kTileM>(p.a, p.a_stride, p.a_form, m0, p.m, k0, k1, as);
    LoadTile<kTileN>(p.b, p.b_stride, p.b_form, n0, p.n, k0, k1, bs);
    __syncthreads();
    for (int kk = 0; kk < kTileK; kk += 16) {
      wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> fa[2];
      wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::col_major> fb[2];
      for (int i = 0; i < 2; ++i) {
        wmma::load_matrix_sync(fa[i], &as[wm + i * 16][kk], kTileK + kPad);
        wmma::load_matrix_sync(fb[i], &bs[wn + i * 16][kk], kTileK + kPad);
      }
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) wmma::mma_sync(acc[i][j], fa[i], fb[j], acc[i][j]);
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) {
      wmma::store_matrix_sync(&cs[wm + i * 16][wn + j * 16], acc[i][j], kTileN + 4,
                              wmma::mem_row_major);
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kTileM * kTileN; i += blockDim.x) {
    const int r = i / kTileN, c = i % kTileN;
    if (m0 + r >= p.m || n0 + c >= p.n) continue;
    float* to = p.c + (m0 + r) * p.c_stride + n0 + c;
    float value = cs[r][c];
    if (p.bias != nullptr) value += p.bias[n0 + c];
    *to = p.accumulate ? *to + value : value;
  }
}

struct OneProduct {
  Product product;
  __device__ Product operator()(int) const { return product; }
};

template <typename Provider>
void RunProduct(const Provider& provider, int m, int n, int batch) {
  if (m <= 0 || n <= 0 || batch <= 0) return;
  ProductKernel<<<dim3((m + kTileM - 1) / kTileM, (n + kTileN - 1) / kTileN, batch), 128>>>(
      provider);
}

}  // namespace ink::cuda
