#include "kernels/cpu/kv_store_driver.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/kv_layout.h"
#include "quant/blocks.h"
#include "quant/half.h"
#include "quant/quant_format.h"

namespace ink {
namespace {

constexpr int kTokens = kKvBlockTokens;
// Tokens of one work item: neighbours share cache lines of K, and half a block keeps most of them
// on one thread while a batch of a few dozen sequences is still divided.
constexpr int kItemTokens = 16;

struct Job {
  const KvStoreRows* rows;
  const KvStoreParams* params;
  const KernelContext* ctx;
};

template <typename T>
void Put(std::byte* block, int64_t index, T value) {
  std::memcpy(block + index * static_cast<int64_t>(sizeof value), &value, sizeof value);
}

/// A token's row of one head into its slot of a block; `is_k` picks K's layout.
void StorePlain(const KvStoreRows& rows, DType type, bool is_k, const float* x, int head_dim,
                int token, uint16_t* row, std::byte* block) {
  if (type == DType::kF32) {
    if (!is_k) {
      std::memcpy(block + int64_t{4} * token * head_dim, x, size_t{4} * head_dim);
      return;
    }
    for (int d = 0; d < head_dim; ++d) Put(block, d * kTokens + token, x[d]);
    return;
  }
  if (type == DType::kF16) {
    rows.to_half(x, row, head_dim);
    if (!is_k) {
      std::memcpy(block + int64_t{2} * token * head_dim, row, size_t{2} * head_dim);
      return;
    }
    for (int d = 0; d < head_dim; ++d) Put(block, d * kTokens + token, row[d]);
    return;
  }
  rows.to_bfloat(x, row, head_dim);
  if (is_k) {
    if (head_dim % 2 != 0) row[head_dim] = 0;
    for (int d = 0; d < head_dim + head_dim % 2; ++d) {
      Put(block, ((d / 2) * kTokens + token) * 2 + d % 2, row[d]);
    }
    return;
  }
  for (int d = 0; d < head_dim; ++d) {
    Put(block, ((token / 2) * head_dim + d) * 2 + token % 2, row[d]);
  }
}

/// Integers (plus 8) and f16 scale of 32 values. The format's own encoder searches for the best
/// scale, which costs 100 times as much as the token's other work here; this takes the scale that
/// maps the value of largest magnitude to -8 and then the best one for the integers so chosen.
uint16_t EncodeQ4(const float x[32], uint8_t out[32]) {
  float values[32];
  float peak = 0;
  for (int i = 0; i < 32; ++i) {
    values[i] = std::isfinite(x[i]) ? x[i] : 0.0f;
    if (std::fabs(values[i]) > std::fabs(peak)) peak = values[i];
  }
  const float inverse = peak != 0 ? -8.0f / peak : 0.0f;
  float product = 0;
  float square = 0;
  for (int i = 0; i < 32; ++i) {
    // In [-8, 8] but for roundings, also where the inverse overflows.
    const float scaled = std::clamp(values[i] * inverse, -8.0f, 7.0f);
    const int q = static_cast<int>(scaled + 8.5f);
    out[i] = static_cast<uint8_t>(q);
    const float level = static_cast<float>(q - 8);
    product += values[i] * level;
    square += level * level;
  }
  const float scale = square > 0 ? product / square : 0.0f;
  return FloatToHalf(std::clamp(scale, -kHalfMax, kHalfMax));
}

/// The integers of 32 values (q4_0: plus 8) and their scale.
uint16_t Encode(DType type, const float x[32], uint8_t out[32]) {
  if (type == DType::kQ4_0) return EncodeQ4(x, out);
  BlockQ8_0 block;
  FindQuantFormat(type)->encode(x, nullptr, reinterpret_cast<std::byte*>(&block), 32);
  std::memcpy(out, block.q, 32);
  return block.d;
}

void StoreQuantized(DType type, bool is_k, const float* x, int head_dim, int token,
                    std::byte* block) {
  std::byte* scales = block + KvIntegerBytes(type, head_dim);
  const int groups = KvScaleGroups(head_dim);
  for (int g = 0; g < groups; ++g) {
    float values[32] = {};
    const int n = std::min(32, head_dim - 32 * g);
    std::memcpy(values, x + 32 * g, sizeof(float) * n);
    uint8_t q[33] = {};
    const uint16_t scale = Encode(type, values, q);
    Put(scales, g * kTokens + token, scale);
    if (type == DType::kQ8_0) {
      for (int i = 0; i < n; ++i) {
        const int d = 32 * g + i;
        Put(block, is_k ? d * kTokens + token : token * head_dim + d, q[i]);
      }
      continue;
    }
    for (int i = 0; i < n; i += 2) {
      const int pair = 16 * g + i / 2;
      const uint8_t byte = static_cast<uint8_t>(q[i] | (q[i + 1] << 4));
      Put(block, is_k ? pair * kTokens + token : token * ((head_dim + 1) / 2) + pair, byte);
    }
  }
}

void StoreRows(const KvStoreRows& rows, DType type, bool is_k, const float* x, int num_heads,
               int head_dim, int64_t head_bytes, int token, uint16_t* row, std::byte* block) {
  for (int h = 0; h < num_heads; ++h) {
    if (Info(type).quantized) {
      StoreQuantized(type, is_k, x + h * head_dim, head_dim, token, block + h * head_bytes);
    } else {
      StorePlain(rows, type, is_k, x + h * head_dim, head_dim, token, row, block + h * head_bytes);
    }
  }
}

}  // namespace

void RunKvStore(const KvStoreRows& rows, const KvStoreParams& params,
                const KernelContext& ctx) noexcept {
  INK_CHECK_LE(static_cast<size_t>(params.cache.head_dim + 1) * 2, ctx.scratch_bytes);
  Job job{&rows, &params, &ctx};
  ctx.ParallelFor((params.num_tokens + kItemTokens - 1) / kItemTokens,
                  [](void* argument, int64_t index, int thread) {
                    const Job& job = *static_cast<const Job*>(argument);
                    const KvStoreParams& p = *job.params;
                    const KvLayerView& cache = p.cache;
                    uint16_t* row = reinterpret_cast<uint16_t*>(job.ctx->ThreadScratch(thread));
                    const int64_t end = std::min(p.num_tokens, (index + 1) * kItemTokens);
                    for (int64_t t = index * kItemTokens; t < end; ++t) {
                      if (p.slots[t] < 0) continue;
                      const int64_t block = p.slots[t] / kTokens;
                      const int token = static_cast<int>(p.slots[t] % kTokens);
                      StoreRows(*job.rows, cache.k_type, true, p.k + t * p.k_stride,
                                cache.num_kv_heads, cache.head_dim, cache.k_head_bytes, token, row,
                                cache.k + block * cache.k_block_bytes);
                      StoreRows(*job.rows, cache.v_type, false, p.v + t * p.v_stride,
                                cache.num_kv_heads, cache.head_dim, cache.v_head_bytes, token, row,
                                cache.v + block * cache.v_block_bytes);
                    }
                  },
                  &job);
}

}  // namespace ink
