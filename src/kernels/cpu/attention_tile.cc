// For each partition of 256 keys and each group of rows: scores of up to 8 blocks, softmax, values.
// A group's scores (13 KB) stay in L1 and the partition's K and V (64 KB in f16 at head_dim 64) in
// L2, from where the groups of a tile re-read them; a tile has enough rows that K and V cross the
// memory bus once in 192 rows.
#include "kernels/cpu/attention_tile.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/kv_layout.h"
#include "kernels/cpu/math_constants.h"

namespace ink {
namespace {

constexpr int kGroup = kAttentionGroupRows;
constexpr int kLanes = kMergeLanes;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// How many blocks ahead to prefetch. With one group of rows (decode) the arithmetic takes about as
// long as the memory, which must be kept busy over the softmax between K and V too (2 to 8 blocks
// measure alike, 4 best by a little); with more groups what matters is L2 to L1, and L1 is needed
// for V.
constexpr int kMaxAhead = 4;
constexpr int kTileAhead = 2;

KeyRange Union(KeyRange a, KeyRange b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  return {std::min(a.low, b.low), std::max(a.high, b.high)};
}

KeyRange Intersect(KeyRange a, int64_t low, int64_t high) {
  return {std::max(a.low, low), std::min(a.high, high)};
}

/// The mask of a tree's token, less the ancestors that have left the window.
uint64_t TreeMask(uint64_t mask, int64_t window) {
  if (window > 0) {
    for (int64_t n = __builtin_popcountll(mask); n > window; --n) mask &= mask - 1;
  }
  return mask;
}

size_t PackBytes(int head_dim) { return size_t{4} * kGroup * ((head_dim + 15) / 16 * 16); }

size_t PaddedBlockBytes(const AttentionPlan& plan) {
  const DType type = plan.v_type == kKvF32 ? DType::kF32 : DType::kQ8_0;
  return plan.pad_v ? static_cast<size_t>(KvHeadBytes(type, plan.padded_dim) + 63) / 64 * 64 : 0;
}

}  // namespace

KeyRange VisibleKeys(const SequenceSpan& seq, int64_t t, int64_t window) {
  const int64_t base = seq.kv_length - seq.num_tokens;
  int64_t position = base + t;
  KeyRange range{0, position + 1};
  if (seq.mask == MaskKind::kFull) range.high = seq.kv_length;
  if (seq.mask == MaskKind::kTree) {
    // A drafted token's position is its depth, and the mask lists its ancestors and itself.
    position = base + __builtin_popcountll(seq.tree_mask[t]) - 1;
    range.high = seq.kv_length;
  }
  if (window > 0) range.low = std::max<int64_t>(0, position + 1 - window);
  // Inside the draft, TreeMask applies the window.
  if (seq.mask == MaskKind::kTree) range.low = std::min(range.low, base);
  return range;
}

size_t AttentionPlan::ScratchBytes(int64_t groups) const {
  const size_t per_group = PackBytes(params->cache.head_dim) + sizeof(float) * kGroup * padded_dim +
                           2 * sizeof(float) * kLanes;
  return sizeof(float) * kGroup * kScoreStride + kKvPartitionBlocks * PaddedBlockBytes(*this) +
         groups * per_group;
}

float* AttentionPlan::Slot(int64_t index) const {
  std::byte* scratch = ctx->ThreadScratch(static_cast<int>(index / thread_slots));
  return reinterpret_cast<float*>(scratch + slot_offset) + index % thread_slots * SlotFloats();
}

/// The blocks of one partition and what to prefetch while each is used. Only entries of blocks in
/// use are set.
struct AttentionTile::Blocks {
  const std::byte* k[kKvPartitionBlocks];
  const std::byte* v[kKvPartitionBlocks];
  const std::byte* k_next[kKvPartitionBlocks];
  const std::byte* v_next[kKvPartitionBlocks];
};

AttentionTile::AttentionTile(const AttentionPlan& plan, int64_t seq, int kv_head, int64_t first_row,
                             int rows, int thread)
    : plan_(plan),
      params_(*plan.params),
      seq_(params_.sequences[seq]),
      block_table_(params_.block_tables + seq * params_.block_table_stride),
      kv_head_(kv_head),
      first_row_(first_row),
      rows_(rows),
      groups_((rows + kGroup - 1) / kGroup),
      ahead_(groups_ == 1 ? kMaxAhead : kTileAhead) {
  for (int row = 0; row < rows_; ++row) {
    visible_[row] = VisibleKeys(seq_, Token(row), params_.sliding_window);
    all_ = row == 0 ? visible_[row] : Union(all_, visible_[row]);
  }
  std::byte* memory = plan.ctx->ThreadScratch(thread);
  const auto take = [&memory](size_t bytes) {
    std::byte* start = memory;
    memory += bytes;
    return start;
  };
  const int groups = plan.tile_rows / kGroup;
  scores_ = reinterpret_cast<float*>(take(sizeof(float) * kGroup * kScoreStride));
  padded_ = take(kKvPartitionBlocks * PaddedBlockBytes(plan));
  q_ = take(groups * PackBytes(params_.cache.head_dim));
  out_ = reinterpret_cast<float*>(take(sizeof(float) * plan.tile_rows * plan.padded_dim));
  max_ = reinterpret_cast<float*>(take(sizeof(float) * groups * kLanes));
  sum_ = reinterpret_cast<float*>(take(sizeof(float) * groups * kLanes));
}

void AttentionTile::Run() {
  PrefetchFirstBlocks(first_partition());
  PackQueries();
  Reset(0.0f);
  for (int64_t p = first_partition(); p < end_partition(); ++p) {
    const Blocks blocks = FindBlocks(p);
    for (int g = 0; g < groups_; ++g) RunGroup(g, p * kKvPartition, blocks);
  }
  Finish();
}

void AttentionTile::RunPartitions(int64_t first, int64_t last, int64_t slot) {
  PrefetchFirstBlocks(first);
  PackQueries();
  for (int64_t p = first; p < last; ++p, ++slot) {
    // fma(-0, 0, o) is o for every o, zeros of both signs included.
    Reset(-0.0f);
    RunGroup(0, p * kKvPartition, FindBlocks(p));
    float* result = plan_.Slot(slot);
    std::copy_n(max_, kLanes, result);
    std::copy_n(sum_, kLanes, result + kLanes);
    std::copy_n(out_, int64_t{rows_} * plan_.padded_dim, result + 2 * kLanes);
  }
}

void AttentionTile::MergePartitions(int64_t first, int64_t last, int64_t slot) {
  Reset(0.0f);
  for (int64_t p = first; p < last; ++p, ++slot) {
    const float* part = plan_.Slot(slot);
    float keep[kLanes];
    float add[kLanes];
    MergeCall merge;
    merge.exp_scale = plan_.exp_scale;
    merge.part_max = part;
    merge.part_sum = part + kLanes;
    merge.max = max_;
    merge.sum = sum_;
    merge.keep = keep;
    merge.add = add;
    plan_.tiles->merge(merge);
    for (int r = 0; r < rows_; ++r) {
      if (part[r] == -kInfinity) continue;
      const int64_t offset = int64_t{r} * plan_.padded_dim;
      plan_.tiles->accumulate(out_ + offset, part + 2 * kLanes + offset, plan_.padded_dim, keep[r],
                              add[r]);
    }
  }
  Finish();
}

int AttentionTile::GroupRows(int g) const { return std::min(kGroup, rows_ - g * kGroup); }

const std::byte* AttentionTile::KBlock(int64_t index) const {
  const KvLayerView& cache = params_.cache;
  return cache.k + block_table_[index] * cache.k_block_bytes + kv_head_ * cache.k_head_bytes;
}

const std::byte* AttentionTile::VBlock(int64_t index) const {
  const KvLayerView& cache = params_.cache;
  return cache.v + block_table_[index] * cache.v_block_bytes + kv_head_ * cache.v_head_bytes;
}

void AttentionTile::PackQueries() {
  const int head_dim = params_.cache.head_dim;
  for (int g = 0; g < groups_; ++g) {
    const float* q_rows[kGroup];
    const int rows = GroupRows(g);
    for (int r = 0; r < rows; ++r) {
      q_rows[r] = params_.q + Offset(g * kGroup + r, params_.q_stride);
    }
    plan_.tiles->pack[plan_.k_type](q_rows, rows, head_dim, q_ + g * PackBytes(head_dim));
  }
}

void AttentionTile::Reset(float out) {
  std::fill_n(out_, int64_t{rows_} * plan_.padded_dim, out);
  std::fill_n(max_, groups_ * kLanes, -kInfinity);
  std::fill_n(sum_, groups_ * kLanes, 0.0f);
}

void AttentionTile::PrefetchFirstBlocks(int64_t partition) const {
  const int64_t first = std::max(partition * kKvPartitionBlocks, all_.low / kKvBlockTokens);
  const int64_t last = std::min(first + ahead_, EndBlock());
  for (int64_t b = first; b < last; ++b) {
    const std::byte* k = KBlock(b);
    for (int64_t line = 0; line < params_.cache.k_head_bytes; line += 64) {
      __builtin_prefetch(k + line);
    }
  }
}

/// Blocks are used in this order: a partition's K, its V, the next partition's K. Each one's loop
/// prefetches the block `ahead_` places later.
AttentionTile::Blocks AttentionTile::FindBlocks(int64_t partition) const {
  Blocks blocks;
  const int64_t base = partition * kKvPartitionBlocks;
  const int64_t end = EndBlock();
  const int first = static_cast<int>(std::max<int64_t>(0, all_.low / kKvBlockTokens - base));
  const int last = static_cast<int>(std::min<int64_t>(kKvPartitionBlocks, end - base));
  const std::byte* order[2 * kKvPartitionBlocks + kMaxAhead];
  int n = 0;
  for (int b = first; b < last; ++b) order[n++] = blocks.k[b] = KBlock(base + b);
  for (int b = first; b < last; ++b) order[n++] = blocks.v[b] = VBlock(base + b);
  const int used = n;
  for (int i = 0; i < ahead_; ++i) {
    const int64_t index = base + kKvPartitionBlocks + i;
    order[n++] = index < end ? KBlock(index) : order[used - 1];
  }
  for (int b = first; b < last; ++b) {
    blocks.k_next[b] = order[b - first + ahead_];
    blocks.v_next[b] = order[b - first + (last - first) + ahead_];
  }
  if (KvQuantized(params_.cache.v_type)) {
    // The scales of all V blocks are read at once, before the blocks' own prefetches come to them.
    const int64_t integer_bytes = KvIntegerBytes(params_.cache.v_type, params_.cache.head_dim);
    for (int b = first; b < last; ++b) {
      for (int g = 0; g < KvScaleGroups(params_.cache.head_dim); ++g) {
        __builtin_prefetch(blocks.v[b] + integer_bytes + int64_t{2} * kKvBlockTokens * g);
      }
    }
  }
  for (int b = first; b < last && plan_.pad_v; ++b) {
    std::byte* padded = padded_ + b * PaddedBlockBytes(plan_);
    const int64_t start = (base + b) * kKvBlockTokens;
    const KeyRange tokens = Intersect(all_, start, start + kKvBlockTokens);
    PadVBlock(params_.cache.v_type, blocks.v[b], params_.cache.head_dim,
              static_cast<int>(tokens.low - start), static_cast<int>(tokens.high - start),
              plan_.padded_dim, padded);
    blocks.v[b] = blocks.v_next[b] = padded;
  }
  return blocks;
}

/// Clears the keys of this partition that a tree's token does not see.
void AttentionTile::ApplyTreeMask(int row, int64_t start, float* scores) const {
  const int64_t base = seq_.kv_length - seq_.num_tokens;
  const uint64_t mask = TreeMask(seq_.tree_mask[Token(row)], params_.sliding_window);
  const KeyRange drafted = Intersect({base, seq_.kv_length}, start, start + kKvPartition);
  for (int64_t j = drafted.low; j < drafted.high; ++j) {
    if (!((mask >> (j - base)) & 1)) scores[j - start] = -kInfinity;
  }
}

void AttentionTile::RunGroup(int g, int64_t start, const Blocks& blocks) {
  const int rows = GroupRows(g);
  int low[kGroup];
  int high[kGroup];
  KeyRange group;
  for (int r = 0; r < rows; ++r) {
    KeyRange range = Intersect(visible_[g * kGroup + r], start, start + kKvPartition);
    if (range.empty()) range = {start, start};
    low[r] = static_cast<int>(range.low - start);
    high[r] = static_cast<int>(range.high - start);
    group = r == 0 ? range : Union(group, range);
  }
  if (group.empty()) return;
  const int first = static_cast<int>(group.low - start);
  const int last = static_cast<int>(group.high - start);
  const int first_block = first / kKvBlockTokens;
  const int last_block = (last + kKvBlockTokens - 1) / kKvBlockTokens;
  const int head_dim = params_.cache.head_dim;

  ScoresCall scores;
  scores.rows = rows;
  scores.head_dim = head_dim;
  scores.q = q_ + g * PackBytes(head_dim);
  for (int b = first_block; b < last_block; b += scores.blocks) {
    scores.blocks = std::min(2, last_block - b);
    for (int i = 0; i < scores.blocks; ++i) {
      scores.k[i] = blocks.k[b + i];
      scores.next[i] = blocks.k_next[b + i];
    }
    scores.scores = scores_ + b * kKvBlockTokens;
    plan_.tiles->scores[plan_.k_type](scores);
  }
  if (seq_.mask == MaskKind::kTree) {
    for (int r = 0; r < rows; ++r) {
      ApplyTreeMask(g * kGroup + r, start, scores_ + r * kScoreStride);
    }
  }

  float part_max[kLanes];
  float part_sum[kLanes] = {};
  std::fill_n(part_max, kLanes, -kInfinity);
  SoftmaxCall softmax;
  softmax.rows = rows;
  softmax.first = first_block * kKvBlockTokens;
  softmax.last = last_block * kKvBlockTokens;
  softmax.low = low;
  softmax.high = high;
  softmax.scores = scores_;
  softmax.exp_scale = plan_.exp_scale;
  softmax.softcap = params_.softcap;
  softmax.softcap_inverse = params_.softcap > 0 ? params_.scale / params_.softcap : 0.0f;
  softmax.as_bf16 = plan_.v_type == kKvBF16 && plan_.tiles->bf16_probabilities;
  softmax.maximum = part_max;
  softmax.sum = part_sum;
  plan_.tiles->softmax(softmax);

  float keep[kLanes];
  float add[kLanes];
  MergeCall merge;
  merge.exp_scale = plan_.exp_scale;
  merge.part_max = part_max;
  merge.part_sum = part_sum;
  merge.max = max_ + g * kLanes;
  merge.sum = sum_ + g * kLanes;
  merge.keep = keep;
  merge.add = add;
  plan_.tiles->merge(merge);

  ValuesCall values;
  values.rows = rows;
  values.head_dim = plan_.padded_dim;
  values.first = first;
  values.last = last;
  values.p = scores_;
  for (int b = first_block; b < last_block; ++b) {
    values.v[b] = blocks.v[b];
    values.next[b] = blocks.v_next[b];
  }
  values.out = GroupOut(g);
  values.keep = keep;
  values.add = add;
  plan_.tiles->values[plan_.v_type](values);
}

/// Sinks enter like a partition of one key whose value is zero.
void AttentionTile::AddSinks(int g) {
  float sink[kLanes];
  float one[kLanes];
  std::fill_n(sink, kLanes, -kInfinity);
  std::fill_n(one, kLanes, 1.0f);
  const float unit = params_.softcap > 0 ? 1.0f : 1.0f / params_.scale;
  for (int r = 0; r < GroupRows(g); ++r) sink[r] = params_.sinks[Head(g * kGroup + r)] * unit;
  float keep[kLanes];
  float add[kLanes];
  MergeCall merge;
  merge.exp_scale = plan_.exp_scale;
  merge.part_max = sink;
  merge.part_sum = one;
  merge.max = max_ + g * kLanes;
  merge.sum = sum_ + g * kLanes;
  merge.keep = keep;
  merge.add = add;
  plan_.tiles->merge(merge);
  for (int r = 0; r < GroupRows(g); ++r) {
    float* out = GroupOut(g) + int64_t{r} * plan_.padded_dim;
    for (int d = 0; d < params_.cache.head_dim; ++d) out[d] *= keep[r];
  }
}

void AttentionTile::Finish() {
  for (int g = 0; g < groups_; ++g) {
    if (params_.sinks != nullptr) AddSinks(g);
    for (int r = 0; r < GroupRows(g); ++r) {
      const float sum = sum_[g * kLanes + r];
      const float* from = GroupOut(g) + int64_t{r} * plan_.padded_dim;
      float* out = params_.out + Offset(g * kGroup + r, params_.out_stride);
      if (sum == 0) {
        std::fill_n(out, params_.cache.head_dim, 0.0f);
      } else {
        for (int d = 0; d < params_.cache.head_dim; ++d) out[d] = from[d] / sum;
      }
    }
  }
}

}  // namespace ink
