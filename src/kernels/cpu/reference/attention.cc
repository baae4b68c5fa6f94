// Attention as AttentionParams defines it, one query and head at a time. Nothing is shared with the
// tiled driver, whose oracle this is.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/kv_layout.h"
#include "kernels/cpu/reference/kernels_attn.h"
#include "kernels/cpu/reference/vec_math.h"

namespace ink::reference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool Visible(const AttentionParams& p, const SequenceSpan& seq, int64_t token, int64_t key) {
  const int64_t base = seq.kv_length - seq.num_tokens;
  const int64_t window =
      p.sliding_window > 0 ? p.sliding_window : std::numeric_limits<int64_t>::max();
  switch (seq.mask) {
    case MaskKind::kFull:
      return base + token - key < window;
    case MaskKind::kCausal:
      return key <= base + token && base + token - key < window;
    case MaskKind::kTree:
      break;
  }
  // A drafted token's position is base + the number of its ancestors.
  const uint64_t mask = seq.tree_mask[token];
  const int64_t position = base + __builtin_popcountll(mask) - 1;
  if (key < base) return position - key < window;
  const int64_t index = key - base;
  if (((mask >> index) & 1) == 0) return false;
  const uint64_t before = mask & ((uint64_t{1} << index) - 1);
  return position - (base + __builtin_popcountll(before)) < window;
}

struct Softmax {
  float max = -kInfinity;
  float sum = 0;
  std::vector<float> out;
};

/// Adds one partition's result to the running one.
void Merge(Softmax& total, float max, float sum, const float* out, float exp_scale) {
  const float lowest = kExp2Lowest / exp_scale;
  const float merged = total.max > max ? total.max : max;
  const float keep = Exp2Scaled(total.max - merged, exp_scale, lowest);
  const float add = Exp2Scaled(max - merged, exp_scale, lowest);
  total.max = merged;
  total.sum = std::fma(total.sum, keep, sum * add);
  for (size_t d = 0; d < total.out.size(); ++d) {
    total.out[d] = std::fma(total.out[d], keep, out[d] * add);
  }
}

/// The product of q with token `j` of a decoded block; `scales` is null for plain types.
float Score(const float* q, const float* k, const float* scales, int head_dim, int j) {
  float score = 0;
  if (scales == nullptr) {
    for (int d = 0; d < head_dim; ++d) score = std::fma(q[d], k[d * kKvBlockTokens + j], score);
    return score;
  }
  for (int g = 0; g * 32 < head_dim; ++g) {
    float chain = 0;
    for (int d = g * 32; d < head_dim && d < (g + 1) * 32; ++d) {
      chain = std::fma(q[d], k[d * kKvBlockTokens + j], chain);
    }
    score = std::fma(chain, scales[g * kKvBlockTokens + j], score);
  }
  return score;
}

void OneQuery(const AttentionParams& p, int64_t s, int64_t token, int head) {
  const SequenceSpan& seq = p.sequences[s];
  const KvLayerView& cache = p.cache;
  const int head_dim = cache.head_dim;
  const int kv_head = head / (p.num_heads / cache.num_kv_heads);
  const int64_t row = seq.first_token + token;
  const float* q = p.q + row * p.q_stride + int64_t{head} * head_dim;
  const float exp_scale = p.softcap > 0 ? kLog2E : p.scale * kLog2E;
  const float lowest = kExp2Lowest / exp_scale;

  std::vector<float> k(static_cast<size_t>(head_dim) * kKvBlockTokens);
  std::vector<float> v(static_cast<size_t>(head_dim) * kKvBlockTokens);
  std::vector<float> scales(static_cast<size_t>(KvScaleGroups(head_dim)) * kKvBlockTokens);
  std::vector<float> out(head_dim);
  Softmax total;
  total.out.assign(head_dim, 0.0f);
  for (int64_t start = 0; start < seq.kv_length; start += kKvPartition) {
    const int keys = static_cast<int>(std::min<int64_t>(kKvPartition, seq.kv_length - start));
    float scores[kKvPartition];
    float max = -kInfinity;
    for (int j = 0; j < keys; ++j) scores[j] = -kInfinity;
    for (int b = 0; b * kKvBlockTokens < keys; ++b) {
      const int first = b * kKvBlockTokens;
      const int last = std::min(keys, first + kKvBlockTokens);
      bool any = false;
      for (int j = first; j < last; ++j) any = any || Visible(p, seq, token, start + j);
      if (!any) continue;  // behind a window, the table may name no block
      const int64_t block =
          p.block_tables[s * p.block_table_stride + (start + first) / kKvBlockTokens];
      DecodeKBlock(cache.k_type,
                   cache.k + block * cache.k_block_bytes + kv_head * cache.k_head_bytes, head_dim,
                   k.data(), scales.data());
      for (int j = first; j < last; ++j) {
        if (!Visible(p, seq, token, start + j)) continue;
        float score = Score(q, k.data(), KvQuantized(cache.k_type) ? scales.data() : nullptr,
                            head_dim, j - first);
        if (p.softcap > 0) score = p.softcap * Tanh(score * (p.scale / p.softcap));
        scores[j] = score;
        max = max > score ? max : score;
      }
    }
    if (max == -kInfinity) continue;

    float lanes[16] = {};
    std::fill(out.begin(), out.end(), 0.0f);
    for (int b = 0; b * kKvBlockTokens < keys; ++b) {
      const int first = b * kKvBlockTokens;
      const int last = std::min(keys, first + kKvBlockTokens);
      bool any = false;
      for (int j = first; j < last; ++j) any = any || scores[j] != -kInfinity;
      if (!any) continue;
      const int64_t block =
          p.block_tables[s * p.block_table_stride + (start + first) / kKvBlockTokens];
      DecodeVBlock(cache.v_type,
                   cache.v + block * cache.v_block_bytes + kv_head * cache.v_head_bytes, head_dim,
                   0, last - first, v.data(), head_dim, scales.data());
      for (int j = first; j < last; ++j) {
        if (scores[j] == -kInfinity) continue;
        const float probability = Exp2Scaled(scores[j] - max, exp_scale, lowest);
        lanes[j % 16] += probability;
        for (int d = 0; d < head_dim; ++d) {
          const float factor = KvQuantized(cache.v_type)
                                   ? probability * scales[d / 32 * kKvBlockTokens + j - first]
                                   : probability;
          out[d] = std::fma(factor, v[(j - first) * head_dim + d], out[d]);
        }
      }
    }
    for (int width = 8; width >= 1; width /= 2) {
      for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    }
    Merge(total, max, lanes[0], out.data(), exp_scale);
  }
  if (p.sinks != nullptr) {
    const float sink = p.softcap > 0 ? p.sinks[head] : p.sinks[head] * (1.0f / p.scale);
    std::fill(out.begin(), out.end(), 0.0f);
    Merge(total, sink, 1.0f, out.data(), exp_scale);
  }
  float* result = p.out + row * p.out_stride + int64_t{head} * head_dim;
  for (int d = 0; d < head_dim; ++d) result[d] = total.sum == 0 ? 0.0f : total.out[d] / total.sum;
}

}  // namespace

void Attention(const AttentionParams& params, const KernelContext& ctx) noexcept {
  for (int64_t s = 0; s < params.num_seqs; ++s) {
    struct Argument {
      const AttentionParams* params;
      int64_t seq;
    } argument{&params, s};
    ctx.ParallelFor(
        params.sequences[s].num_tokens * params.num_heads,
        [](void* raw, int64_t index, int) {
          const Argument& a = *static_cast<const Argument*>(raw);
          OneQuery(*a.params, a.seq, index / a.params->num_heads,
                   static_cast<int>(index % a.params->num_heads));
        },
        &argument);
  }
}

}  // namespace ink::reference
