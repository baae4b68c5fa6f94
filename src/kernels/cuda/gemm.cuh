// One tiled product for everything: operands are rounded to bfloat16 on their way into shared
// memory, tensor cores add up in float32.
#pragma once

#include <cuda_bf16.h>
#include <mma.h>

#include <cstdint>
#include <type_traits>

namespace ink::cuda {

enum class Form : int { kRows, kColumns, kBfloatRows };

struct Product {
  const void* a = nullptr;  // A(m, k), placed as its Form says
  int64_t a_stride = 0;
  const void* b = nullptr;  // B(n, k)
  int64_t b_stride = 0;
  float* c = nullptr;  // [m, n]
  int64_t c_stride = 0;
  int m = 0, n = 0, k = 0;
  int k_begin = 0, k_end = 0;  // part of k to add up; k_end 0: all
  bool accumulate = false;
  bool lower_only = false;  // tiles wholly above the diagonal are left alone
  int k_limit_by_row = 0;   // 1: k stops at the tile's last row (A is lower triangular)
  int k_start_by_row = 0;   // 1: k starts at the tile's first row (A^T of a lower triangle)
  const float* bias = nullptr;
};

constexpr int kTileM = 64, kTileN = 64, kTileK = 32, kPad = 8;
static_assert(kTileM == kTileN && kTileM * kTileK == 16 * 128);

// A tile passes through registers, so that all of its loads are on their way at once, and the next
// tile's while the current one is multiplied.
template <Form kForm>
__device__ __forceinline__ void FetchTile(const void* src, int64_t stride, int row0, int rows,
                                          int k0, int k1, float (&to)[16]) {
  using Element = std::conditional_t<kForm == Form::kBfloatRows, __nv_bfloat16, float>;
  // Consecutive threads read consecutive addresses.
  constexpr bool kColumns = kForm == Form::kColumns;
  const int r = kColumns ? threadIdx.x % kTileM : threadIdx.x / kTileK;
  const int k = kColumns ? threadIdx.x / kTileM : threadIdx.x % kTileK;
  constexpr int kRowStep = kColumns ? 0 : 128 / kTileK, kKStep = kColumns ? 128 / kTileM : 0;
  const Element* at = static_cast<const Element*>(src) +
                      (kColumns ? (k0 + k) * stride + row0 + r : (row0 + r) * stride + k0 + k);
  const int64_t step = stride * (kColumns ? kKStep : kRowStep);
#pragma unroll
  for (int j = 0; j < 16; ++j, at += step) {
    const bool inside = row0 + r + j * kRowStep < rows && k0 + k + j * kKStep < k1;
    to[j] = inside ? static_cast<float>(*at) : 0.0f;
  }
}
template <Form kForm>
__device__ __forceinline__ void PutTile(const float (&from)[16],
                                        __nv_bfloat16 (*to)[kTileK + kPad]) {
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    const int i = threadIdx.x + j * 128;
    const int r = kForm == Form::kColumns ? i % kTileM : i / kTileK;
    const int k = kForm == Form::kColumns ? i / kTileM : i % kTileK;
    to[r][k] = __float2bfloat16(from[j]);
  }
}

template <Form kA, Form kB, typename Provider>
__global__ void __launch_bounds__(128, 4) ProductKernel(Provider provider) {
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
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 2; ++j) wmma::fill_fragment(acc[i][j], 0.0f);
  }
  int k1 = p.k_end > 0 ? p.k_end : p.k, k_first = p.k_begin;
  if (p.k_limit_by_row) k1 = min(k1, m0 + kTileM);
  if (p.k_start_by_row) k_first = m0 / kTileK * kTileK;
  float fetched_a[16], fetched_b[16];
  FetchTile<kA>(p.a, p.a_stride, m0, p.m, k_first, k1, fetched_a);
  FetchTile<kB>(p.b, p.b_stride, n0, p.n, k_first, k1, fetched_b);
  for (int k0 = k_first; k0 < k1; k0 += kTileK) {
    PutTile<kA>(fetched_a, as);
    PutTile<kB>(fetched_b, bs);
    __syncthreads();
    if (k0 + kTileK < k1) {
      FetchTile<kA>(p.a, p.a_stride, m0, p.m, k0 + kTileK, k1, fetched_a);
      FetchTile<kB>(p.b, p.b_stride, n0, p.n, k0 + kTileK, k1, fetched_b);
    }
#pragma unroll
    for (int kk = 0; kk < kTileK; kk += 16) {
      wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> fa[2];
      wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::col_major> fb[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        wmma::load_matrix_sync(fa[i], &as[wm + i * 16][kk], kTileK + kPad);
        wmma::load_matrix_sync(fb[i], &bs[wn + i * 16][kk], kTileK + kPad);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) wmma::mma_sync(acc[i][j], fa[i], fb[j], acc[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      wmma::store_matrix_sync(&cs[wm + i * 16][wn + j * 16], acc[i][j], kTileN + 4,
                              wmma::mem_row_major);
    }
  }
  __syncthreads();
#pragma unroll 8
  for (int i = threadIdx.x; i < kTileM * kTileN; i += 128) {
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

template <Form kA, Form kB, typename Provider>
void RunProduct(const Provider& provider, int m, int n, int batch) {
  if (m <= 0 || n <= 0 || batch <= 0) return;
  ProductKernel<kA, kB>
      <<<dim3((m + kTileM - 1) / kTileM, (n + kTileN - 1) / kTileN, batch), 128>>>(provider);
}

}  // namespace ink::cuda
