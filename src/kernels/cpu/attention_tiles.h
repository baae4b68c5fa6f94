// The inner loops of attention that an instruction set provides, and the driver that runs them over
// sequences, partitions and query tiles. Plain data and declarations only, as ISA folders include
// it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/op_params.h"

namespace ink {

/// Query rows (token and head pairs that share a K/V head) that one inner loop takes. 12 rows by
/// two vectors of keys are 24 of the 32 AVX-512 registers, enough to hide the latency of 2 FMA a
/// cycle (8 chains) and few enough to leave room for K and one broadcast query.
inline constexpr int kAttentionGroupRows = 12;
/// Distance of two rows of scores, in floats: one partition, and a line more so that the rows of a
/// group start in different cache sets.
inline constexpr int kScoreStride = kKvPartition + 16;
inline constexpr int kKvPartitionBlocks = kKvPartition / kKvBlockTokens;

/// Scores of one or two neighbouring blocks for a group of rows.
struct ScoresCall {
  int rows = 0;  // 1 .. kAttentionGroupRows
  int blocks = 1;
  int head_dim = 0;
  const void* q = nullptr;   // as `pack` wrote it
  const std::byte* k[2];     // one head of each K block
  const std::byte* next[2];  // blocks to prefetch, never read
  float* scores = nullptr;   // [rows, 32 * blocks], row stride kScoreStride
};

/// Probabilities of one partition, from scores, in place. Vectors cover columns [first, last);
/// row r sees [low[r], high[r]) of them, which may be empty.
struct SoftmaxCall {
  int rows = 0;
  int first = 0;  // multiples of 32
  int last = 0;
  const int* low = nullptr;
  const int* high = nullptr;
  float* scores = nullptr;    // [rows, kScoreStride]; with as_bf16 the row becomes bf16
  float exp_scale = 0;        // p = 2^((s - m) * exp_scale)
  float softcap = 0;          // 0: none
  float softcap_inverse = 0;  // scale / softcap
  bool as_bf16 = false;
  float* maximum = nullptr;  // [rows] out: -inf where no key is visible
  float* sum = nullptr;      // [rows] out
};

/// Running softmax of a group and the factors with which a partition enters it.
struct MergeCall {
  float exp_scale = 0;
  // All [16]; rows whose part_max is -inf keep their state (keep 1, add 0).
  const float* part_max = nullptr;
  const float* part_sum = nullptr;
  float* max = nullptr;
  float* sum = nullptr;
  float* keep = nullptr;  // out: factor of the old output
  float* add = nullptr;   // out: factor of the partition's output
};

/// out = fma(out, keep, (sum over j of p[j] * V[j]) * add) for a group of rows.
struct ValuesCall {
  int rows = 0;
  int head_dim = 0;  // a multiple of 16
  int first = 0;     // keys [first, last) of the partition
  int last = 0;
  const void* p = nullptr;  // [rows, kScoreStride] floats, or bf16 in the front half of each row
  const std::byte* v[kKvPartitionBlocks];     // one head of each V block
  const std::byte* next[kKvPartitionBlocks];  // blocks to prefetch meanwhile, never read
  float* out = nullptr;                       // [rows, head_dim]
  const float* keep = nullptr;
  const float* add = nullptr;  // rows with add 0 and keep 1 are left alone
};

enum KvTypeIndex { kKvF32, kKvF16, kKvBF16, kKvQ8_0, kKvQ4_0, kNumKvTypes };

struct AttentionTiles {
  /// Queries [rows, head_dim] (rows at q_rows[r]) as `scores` wants them, kAttentionGroupRows to a
  /// dimension; needs 4 * kAttentionGroupRows * head_dim bytes.
  void (*pack[kNumKvTypes])(const float* const* q_rows, int rows, int head_dim, void* packed);
  void (*scores[kNumKvTypes])(const ScoresCall& call);
  void (*softmax)(const SoftmaxCall& call);
  void (*merge)(const MergeCall& call);
  void (*values[kNumKvTypes])(const ValuesCall& call);
  /// out[i] = fma(out[i], keep, part[i] * add), count a multiple of 16.
  void (*accumulate)(float* out, const float* part, int64_t count, float keep, float add);
  /// Probabilities for bf16 V are rounded to bf16.
  bool bf16_probabilities = false;
};

/// The usual `pack`: packed[d * kAttentionGroupRows + r].
void PackQueries(const float* const* q_rows, int rows, int head_dim, void* packed);

void RunAttention(const AttentionTiles& tiles, const AttentionParams& params,
                  const KernelContext& ctx) noexcept;

}  // namespace ink
