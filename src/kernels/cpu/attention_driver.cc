// Attention over sequences, K/V heads and tiles of query rows. A row is one token and one of the
// heads that share a K/V head. For each partition of 256 keys and each group of rows: scores of up
// to 8 blocks, softmax, values. A group's scores (13 KB) stay in L1 and the partition's K and V (64
// KB in f16 at head_dim 64) in L2, from where the groups of a tile re-read them; a tile has enough
// rows that K and V cross the memory bus once in 192 rows.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/kv_layout.h"
#include "kernels/cpu/math_constants.h"

namespace ink {
namespace {

constexpr int kGroup = kAttentionGroupRows;
constexpr int kMaxTileRows = 16 * kGroup;
constexpr int kMaxTileGroups = kMaxTileRows / kGroup;
constexpr int kLanes = 16;  // MergeCall's arrays

// How many blocks ahead to prefetch. With one group of rows (decode) the arithmetic takes about as
// long as the memory, which must be kept busy over the softmax between K and V too; with more, what
// matters is L2 to L1, and L1 is needed for V.
constexpr int kMaxAhead = 4;

KvTypeIndex TypeIndex(DType type) {
  switch (type) {
    case DType::kF32:
      return kKvF32;
    case DType::kF16:
      return kKvF16;
    case DType::kBF16:
      return kKvBF16;
    case DType::kQ8_0:
      return kKvQ8_0;
    default:
      INK_CHECK(type == DType::kQ4_0);
      return kKvQ4_0;
  }
}

struct Range {
  int64_t low = 0;
  int64_t high = 0;
  bool empty() const { return low >= high; }
};

Range Union(Range a, Range b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  return {std::min(a.low, b.low), std::max(a.high, b.high)};
}

Range Intersect(Range a, int64_t low, int64_t high) {
  return {std::max(a.low, low), std::min(a.high, high)};
}

/// The keys that token `t` of a sequence may see; tree masks clear some of the last ones.
Range VisibleKeys(const SequenceSpan& seq, int64_t t, int64_t window) {
  const int64_t base = seq.kv_length - seq.num_tokens;
  int64_t position = base + t;
  Range range{0, position + 1};
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

/// The mask of a tree's token, less the ancestors that have left the window.
uint64_t TreeMask(uint64_t mask, int64_t window) {
  if (window > 0) {
    for (int64_t n = __builtin_popcountll(mask); n > window; --n) mask &= mask - 1;
  }
  return mask;
}

/// What every work item shares.
struct Plan {
  const AttentionTiles* tiles = nullptr;
  const AttentionParams* params = nullptr;
  const KernelContext* ctx = nullptr;
  KvTypeIndex k_type = kKvF32;
  KvTypeIndex v_type = kKvF32;
  bool pad_v = false;  // head_dim is no multiple of 16: V is padded, as f32 or q8_0
  int heads_per_kv = 1;
  int padded_dim = 0;
  int tile_rows = kGroup;
  float exp_scale = 0;
  std::vector<int64_t> first_item;  // [num_seqs + 1]
};

/// A thread's scratch, carved up.
struct Scratch {
  float* scores = nullptr;      // [kGroup, kScoreStride]
  std::byte* q = nullptr;       // groups of PackBytes
  float* out = nullptr;         // [tile_rows, padded_dim]
  std::byte* values = nullptr;  // a partition's blocks of V when pad_v
  float* max = nullptr;         // [groups, kLanes]
  float* sum = nullptr;         // [groups, kLanes]
};

size_t PackBytes(int head_dim) { return size_t{4} * kGroup * ((head_dim + 15) / 16 * 16); }

size_t PaddedBlockBytes(const Plan& plan) {
  const DType type = plan.v_type == kKvF32 ? DType::kF32 : DType::kQ8_0;
  return plan.pad_v ? static_cast<size_t>(KvHeadBytes(type, plan.padded_dim) + 63) / 64 * 64 : 0;
}

size_t FixedScratch(const Plan& plan) {
  return sizeof(float) * kGroup * kScoreStride + kKvPartitionBlocks * PaddedBlockBytes(plan);
}

size_t GroupScratch(const Plan& plan) {
  return PackBytes(plan.params->cache.head_dim) + sizeof(float) * kGroup * plan.padded_dim +
         2 * sizeof(float) * kLanes;
}

Scratch Carve(const Plan& plan, std::byte* memory) {
  const int groups = plan.tile_rows / kGroup;
  Scratch s;
  const auto take = [&memory](size_t bytes) {
    std::byte* start = memory;
    memory += bytes;
    return start;
  };
  s.scores = reinterpret_cast<float*>(take(sizeof(float) * kGroup * kScoreStride));
  s.values = take(kKvPartitionBlocks * PaddedBlockBytes(plan));
  s.q = take(groups * PackBytes(plan.params->cache.head_dim));
  s.out = reinterpret_cast<float*>(take(sizeof(float) * plan.tile_rows * plan.padded_dim));
  s.max = reinterpret_cast<float*>(take(sizeof(float) * groups * kLanes));
  s.sum = reinterpret_cast<float*>(take(sizeof(float) * groups * kLanes));
  return s;
}

/// The blocks of one partition and what to prefetch while each is used.
struct PartitionBlocks {
  const std::byte* k[kKvPartitionBlocks];  // entries of blocks in use only
  const std::byte* v[kKvPartitionBlocks];
  const std::byte* k_next[kKvPartitionBlocks];
  const std::byte* v_next[kKvPartitionBlocks];
};

/// One tile of rows of one sequence and K/V head.
class Tile {
 public:
  Tile(const Plan& plan, int64_t seq, int kv_head, int64_t first_row, int rows, Scratch scratch)
      : plan_(plan),
        params_(*plan.params),
        seq_(params_.sequences[seq]),
        block_table_(params_.block_tables + seq * params_.block_table_stride),
        kv_head_(kv_head),
        first_row_(first_row),
        rows_(rows),
        groups_((rows + kGroup - 1) / kGroup),
        ahead_(groups_ == 1 ? kMaxAhead : 2),
        scratch_(scratch) {}

  void Run() {
    Prepare();
    for (int64_t b = all_.low / kKvBlockTokens, i = 0; i < ahead_ && b < EndBlock(); ++i, ++b) {
      const std::byte* k = KBlock(b);
      for (int64_t line = 0; line < params_.cache.k_head_bytes; line += 64) {
        __builtin_prefetch(k + line);
      }
    }
    const int64_t first = all_.low / kKvPartition;
    const int64_t last = (all_.high + kKvPartition - 1) / kKvPartition;
    for (int64_t partition = first; partition < last; ++partition) {
      const PartitionBlocks blocks = Blocks(partition);
      for (int g = 0; g < groups_; ++g) RunGroup(g, partition * kKvPartition, blocks);
    }
    Finish();
  }

 private:
  int GroupRows(int g) const { return std::min(kGroup, rows_ - g * kGroup); }
  int64_t Token(int row) const { return (first_row_ + row) / plan_.heads_per_kv; }
  int64_t Head(int row) const {
    return int64_t{kv_head_} * plan_.heads_per_kv + (first_row_ + row) % plan_.heads_per_kv;
  }
  int64_t Offset(int row, int64_t stride) const {
    return (seq_.first_token + Token(row)) * stride + Head(row) * params_.cache.head_dim;
  }
  float* GroupOut(int g) const { return scratch_.out + int64_t{g} * kGroup * plan_.padded_dim; }

  void Prepare() {
    for (int row = 0; row < rows_; ++row) {
      visible_[row] = VisibleKeys(seq_, Token(row), params_.sliding_window);
      all_ = row == 0 ? visible_[row] : Union(all_, visible_[row]);
    }
    const int head_dim = params_.cache.head_dim;
    for (int g = 0; g < groups_; ++g) {
      const float* q_rows[kGroup];
      const int rows = GroupRows(g);
      for (int r = 0; r < rows; ++r) {
        q_rows[r] = params_.q + Offset(g * kGroup + r, params_.q_stride);
      }
      plan_.tiles->pack[plan_.k_type](q_rows, rows, head_dim, scratch_.q + g * PackBytes(head_dim));
    }
    std::fill_n(scratch_.out, int64_t{rows_} * plan_.padded_dim, 0.0f);
    std::fill_n(scratch_.max, groups_ * kLanes, -std::numeric_limits<float>::infinity());
    std::fill_n(scratch_.sum, groups_ * kLanes, 0.0f);
  }

  int64_t EndBlock() const { return (all_.high + kKvBlockTokens - 1) / kKvBlockTokens; }
  const std::byte* Block(const std::byte* base, int64_t block_bytes, int64_t head_bytes,
                         int64_t index) const {
    return base + block_table_[index] * block_bytes + kv_head_ * head_bytes;
  }
  const std::byte* KBlock(int64_t index) const {
    const KvLayerView& cache = params_.cache;
    return Block(cache.k, cache.k_block_bytes, cache.k_head_bytes, index);
  }
  const std::byte* VBlock(int64_t index) const {
    const KvLayerView& cache = params_.cache;
    return Block(cache.v, cache.v_block_bytes, cache.v_head_bytes, index);
  }

  /// Blocks are used in this order: a partition's K, its V, the next partition's K. Each one's loop
  /// prefetches the block `ahead_` places later.
  PartitionBlocks Blocks(int64_t partition) const {
    PartitionBlocks blocks;
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
    for (int b = first; b < last && plan_.pad_v; ++b) {
      std::byte* padded = scratch_.values + b * PaddedBlockBytes(plan_);
      const int64_t start = (base + b) * kKvBlockTokens;
      const Range tokens = Intersect(all_, start, start + kKvBlockTokens);
      PadVBlock(params_.cache.v_type, blocks.v[b], params_.cache.head_dim,
                static_cast<int>(tokens.low - start), static_cast<int>(tokens.high - start),
                plan_.padded_dim, padded);
      blocks.v[b] = blocks.v_next[b] = padded;
    }
    return blocks;
  }

  /// Clears the keys of this partition that a tree's token does not see.
  void ApplyTreeMask(int row, int64_t start, float* scores) const {
    const int64_t base = seq_.kv_length - seq_.num_tokens;
    const int64_t token = Token(row);
    const uint64_t mask = TreeMask(seq_.tree_mask[token], params_.sliding_window);
    const Range drafted = Intersect({base, seq_.kv_length}, start, start + kKvPartition);
    for (int64_t j = drafted.low; j < drafted.high; ++j) {
      if (!((mask >> (j - base)) & 1)) {
        scores[j - start] = -std::numeric_limits<float>::infinity();
      }
    }
  }

  void RunGroup(int g, int64_t start, const PartitionBlocks& blocks) {
    const int rows = GroupRows(g);
    int low[kGroup];
    int high[kGroup];
    Range group;
    for (int r = 0; r < rows; ++r) {
      Range range = Intersect(visible_[g * kGroup + r], start, start + kKvPartition);
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
    scores.q = scratch_.q + g * PackBytes(head_dim);
    for (int b = first_block; b < last_block; ++b) {
      scores.k = blocks.k[b];
      scores.next = blocks.k_next[b];
      scores.scores = scratch_.scores + b * kKvBlockTokens;
      plan_.tiles->scores[plan_.k_type](scores);
    }

    float part_max[kLanes];
    float part_sum[kLanes] = {};
    std::fill_n(part_max, kLanes, -std::numeric_limits<float>::infinity());
    SoftmaxCall softmax;
    softmax.rows = rows;
    softmax.first = first_block * kKvBlockTokens;
    softmax.last = last_block * kKvBlockTokens;
    softmax.low = low;
    softmax.high = high;
    softmax.scores = scratch_.scores;
    softmax.exp_scale = plan_.exp_scale;
    softmax.softcap = params_.softcap;
    softmax.softcap_inverse = params_.softcap > 0 ? params_.scale / params_.softcap : 0.0f;
    softmax.as_bf16 = plan_.v_type == kKvBF16 && plan_.tiles->bf16_probabilities;
    softmax.maximum = part_max;
    softmax.sum = part_sum;
    if (seq_.mask == MaskKind::kTree) {
      for (int r = 0; r < rows; ++r) {
        ApplyTreeMask(g * kGroup + r, start, scratch_.scores + r * kScoreStride);
      }
    }
    plan_.tiles->softmax(softmax);

    float keep[kLanes];
    float add[kLanes];
    MergeCall merge;
    merge.exp_scale = plan_.exp_scale;
    merge.part_max = part_max;
    merge.part_sum = part_sum;
    merge.max = scratch_.max + g * kLanes;
    merge.sum = scratch_.sum + g * kLanes;
    merge.keep = keep;
    merge.add = add;
    plan_.tiles->merge(merge);

    ValuesCall values;
    values.rows = rows;
    values.head_dim = plan_.padded_dim;
    values.first = first;
    values.last = last;
    values.p = scratch_.scores;
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
  void AddSinks(int g) {
    float sink[kLanes];
    std::fill_n(sink, kLanes, -std::numeric_limits<float>::infinity());
    float one[kLanes];
    std::fill_n(one, kLanes, 1.0f);
    const float unit = params_.softcap > 0 ? 1.0f : 1.0f / params_.scale;
    for (int r = 0; r < GroupRows(g); ++r) {
      sink[r] = params_.sinks[Head(g * kGroup + r)] * unit;
    }
    float keep[kLanes];
    float add[kLanes];
    MergeCall merge;
    merge.exp_scale = plan_.exp_scale;
    merge.part_max = sink;
    merge.part_sum = one;
    merge.max = scratch_.max + g * kLanes;
    merge.sum = scratch_.sum + g * kLanes;
    merge.keep = keep;
    merge.add = add;
    plan_.tiles->merge(merge);
    for (int r = 0; r < GroupRows(g); ++r) {
      float* out = GroupOut(g) + int64_t{r} * plan_.padded_dim;
      for (int d = 0; d < params_.cache.head_dim; ++d) out[d] *= keep[r];
    }
  }

  void Finish() {
    for (int g = 0; g < groups_; ++g) {
      if (params_.sinks != nullptr) AddSinks(g);
      for (int r = 0; r < GroupRows(g); ++r) {
        const float sum = scratch_.sum[g * kLanes + r];
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

  const Plan& plan_;
  const AttentionParams& params_;
  const SequenceSpan& seq_;
  const int32_t* const block_table_;
  const int kv_head_;
  const int64_t first_row_;
  const int rows_;
  const int groups_;
  const int ahead_;
  const Scratch scratch_;
  Range all_;
  Range visible_[kMaxTileRows];
};

void RunItem(void* argument, int64_t index, int thread) {
  const Plan& plan = *static_cast<const Plan*>(argument);
  const auto next = std::upper_bound(plan.first_item.begin(), plan.first_item.end(), index);
  const int64_t seq = next - plan.first_item.begin() - 1;
  const SequenceSpan& span = plan.params->sequences[seq];
  const int64_t rows = span.num_tokens * plan.heads_per_kv;
  const int64_t tiles = (rows + plan.tile_rows - 1) / plan.tile_rows;
  // Tiles of one K/V head follow each other, so that they find its K and V in a cache.
  const int64_t item = index - plan.first_item[seq];
  const int64_t first_row = (item % tiles) * plan.tile_rows;
  Tile(plan, seq, static_cast<int>(item / tiles), first_row,
       static_cast<int>(std::min<int64_t>(plan.tile_rows, rows - first_row)),
       Carve(plan, plan.ctx->ThreadScratch(thread)))
      .Run();
}

}  // namespace

void PackQueries(const float* const* q_rows, int rows, int head_dim, void* packed) {
  float* out = static_cast<float*>(packed);
  for (int r = 0; r < rows; ++r) {
    for (int d = 0; d < head_dim; ++d) out[d * kGroup + r] = q_rows[r][d];
  }
}

void RunAttention(const AttentionTiles& tiles, const AttentionParams& params,
                  const KernelContext& ctx) noexcept {
  INK_CHECK(params.scale > 0);
  INK_CHECK_EQ(params.num_heads % params.cache.num_kv_heads, 0);
  Plan plan;
  plan.tiles = &tiles;
  plan.params = &params;
  plan.ctx = &ctx;
  plan.k_type = TypeIndex(params.cache.k_type);
  plan.v_type = TypeIndex(params.cache.v_type);
  plan.heads_per_kv = params.num_heads / params.cache.num_kv_heads;
  plan.padded_dim = (params.cache.head_dim + 15) / 16 * 16;
  plan.pad_v = plan.padded_dim != params.cache.head_dim;
  if (plan.pad_v) plan.v_type = KvQuantized(params.cache.v_type) ? kKvQ8_0 : kKvF32;
  plan.exp_scale = params.softcap > 0 ? kLog2E : params.scale * kLog2E;

  int64_t all_rows = 0;
  for (int s = 0; s < params.num_seqs; ++s) all_rows += params.sequences[s].num_tokens;
  all_rows *= params.num_heads;
  INK_CHECK_GE(ctx.scratch_bytes, FixedScratch(plan) + GroupScratch(plan));
  const int64_t fitting = (ctx.scratch_bytes - FixedScratch(plan)) / GroupScratch(plan);
  // Small enough tiles to give each thread several.
  const int64_t shared = all_rows / (int64_t{4} * ctx.num_threads() * kGroup);
  const int64_t groups = std::min<int64_t>({kMaxTileGroups, fitting, std::max<int64_t>(1, shared)});
  plan.tile_rows = static_cast<int>(groups) * kGroup;

  plan.first_item.resize(params.num_seqs + 1);
  int64_t items = 0;
  for (int s = 0; s < params.num_seqs; ++s) {
    plan.first_item[s] = items;
    const int64_t rows = params.sequences[s].num_tokens * plan.heads_per_kv;
    items += (rows + plan.tile_rows - 1) / plan.tile_rows * params.cache.num_kv_heads;
  }
  plan.first_item[params.num_seqs] = items;
  ctx.ParallelFor(items, RunItem, &plan);
}

}  // namespace ink
