// Cuts a call of attention into work items: tiles of query rows of one sequence and K/V head; or,
// where these are too few for the threads and short (decoding few sequences), their partitions,
// whose results are kept and then merged in order, so that the bits are the same.
#include <algorithm>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/kv_layout.h"
#include "kernels/cpu/math_constants.h"

namespace ink {
namespace {

constexpr int kGroup = kAttentionGroupRows;
/// Work items to aim at for each thread, so that all finish at about the same time.
constexpr int64_t kItemsPerThread = 4;

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

int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// The sequence of an item, and the item's index within it.
int64_t FindSequence(const AttentionPlan& plan, int64_t index, int64_t* within) {
  const auto next = std::upper_bound(plan.first_item.begin(), plan.first_item.end(), index);
  const int64_t seq = next - plan.first_item.begin() - 1;
  *within = index - plan.first_item[seq];
  return seq;
}

int64_t Rows(const AttentionPlan& plan, int64_t seq) {
  return plan.params->sequences[seq].num_tokens * plan.heads_per_kv;
}

void RunTile(void* argument, int64_t index, int thread) {
  const AttentionPlan& plan = *static_cast<const AttentionPlan*>(argument);
  int64_t item;
  const int64_t seq = FindSequence(plan, index, &item);
  const int64_t rows = Rows(plan, seq);
  const int64_t tiles = DivideUp(rows, plan.tile_rows);
  // Tiles of one K/V head follow each other, so that they find its K and V in a cache.
  const int64_t first_row = (item % tiles) * plan.tile_rows;
  AttentionTile(plan, seq, static_cast<int>(item / tiles), first_row,
                static_cast<int>(std::min<int64_t>(plan.tile_rows, rows - first_row)), thread)
      .Run();
}

/// The partitions that a sequence of one group of rows reads.
KeyRange Partitions(const AttentionPlan& plan, int64_t seq) {
  const SequenceSpan& span = plan.params->sequences[seq];
  KeyRange keys;
  for (int64_t t = 0; t < span.num_tokens; ++t) {
    const KeyRange visible = VisibleKeys(span, t, plan.params->sliding_window);
    keys.low = t == 0 ? visible.low : std::min(keys.low, visible.low);
    keys.high = std::max(keys.high, visible.high);
  }
  return {keys.low / kKvPartition, DivideUp(keys.high, kKvPartition)};
}

void RunSplit(void* argument, int64_t index, int thread) {
  const AttentionPlan& plan = *static_cast<const AttentionPlan*>(argument);
  int64_t item;
  const int64_t seq = FindSequence(plan, index, &item);
  const KeyRange range = Partitions(plan, seq);
  const int64_t count = range.high - range.low;
  const int64_t items = DivideUp(count, plan.split);
  const int64_t head = item / items;
  const int64_t first = item % items * plan.split;
  const int64_t last = std::min(count, first + plan.split);
  AttentionTile(plan, seq, static_cast<int>(head), 0, static_cast<int>(Rows(plan, seq)), thread)
      .RunPartitions(range.low + first, range.low + last,
                     plan.first_slot[seq] + head * count + first);
}

void MergeSplit(void* argument, int64_t index, int thread) {
  const AttentionPlan& plan = *static_cast<const AttentionPlan*>(argument);
  const int heads = plan.params->cache.num_kv_heads;
  const int64_t seq = index / heads;
  const int64_t head = index % heads;
  if (Rows(plan, seq) == 0) return;
  const KeyRange range = Partitions(plan, seq);
  AttentionTile(plan, seq, static_cast<int>(head), 0, static_cast<int>(Rows(plan, seq)), thread)
      .MergePartitions(range.low, range.high,
                       plan.first_slot[seq] + head * (range.high - range.low));
}

/// Plans items of partitions and returns their number, or 0 where whole tiles are better.
int64_t PlanSplit(AttentionPlan& plan) {
  const AttentionParams& params = *plan.params;
  const int threads = plan.ctx->num_threads();
  const int64_t heads = params.cache.num_kv_heads;
  if (threads == 1 || params.num_seqs * heads >= kItemsPerThread * threads) return 0;
  plan.first_slot.assign(params.num_seqs + 1, 0);
  for (int s = 0; s < params.num_seqs; ++s) {
    if (Rows(plan, s) > kGroup) return 0;
    const KeyRange range = Partitions(plan, s);
    const int64_t count = Rows(plan, s) == 0 ? 0 : range.high - range.low;
    plan.first_slot[s + 1] = plan.first_slot[s] + count * heads;
  }
  const int64_t slots = plan.first_slot.back();
  plan.slot_offset = (plan.ScratchBytes(1) + 63) / 64 * 64;
  const size_t slot_bytes = sizeof(float) * static_cast<size_t>(plan.SlotFloats());
  plan.thread_slots =
      static_cast<int64_t>((plan.ctx->scratch_bytes - plan.slot_offset) / slot_bytes);
  if (slots <= params.num_seqs * heads || slots > plan.thread_slots * threads) return 0;
  plan.split = std::max<int64_t>(1, slots / (kItemsPerThread * threads));
  int64_t items = 0;
  for (int s = 0; s < params.num_seqs; ++s) {
    plan.first_item[s] = items;
    items += DivideUp((plan.first_slot[s + 1] - plan.first_slot[s]) / heads, plan.split) * heads;
  }
  plan.first_item[params.num_seqs] = items;
  return items;
}

int64_t PlanTiles(AttentionPlan& plan) {
  const AttentionParams& params = *plan.params;
  int64_t rows = 0;
  for (int s = 0; s < params.num_seqs; ++s) rows += params.sequences[s].num_tokens;
  rows *= params.num_heads;
  const size_t fixed = plan.ScratchBytes(0);
  const int64_t fitting =
      static_cast<int64_t>((plan.ctx->scratch_bytes - fixed) / (plan.ScratchBytes(1) - fixed));
  const int64_t shared = rows / (kItemsPerThread * plan.ctx->num_threads() * kGroup);
  const int64_t groups = std::min<int64_t>({kMaxTileGroups, fitting, std::max<int64_t>(1, shared)});
  plan.tile_rows = static_cast<int>(groups) * kGroup;
  int64_t items = 0;
  for (int s = 0; s < params.num_seqs; ++s) {
    plan.first_item[s] = items;
    items += DivideUp(Rows(plan, s), plan.tile_rows) * params.cache.num_kv_heads;
  }
  plan.first_item[params.num_seqs] = items;
  return items;
}

}  // namespace

AttentionPlan::AttentionPlan(const AttentionTiles& plan_tiles, const AttentionParams& plan_params,
                             const KernelContext& plan_ctx)
    : tiles(&plan_tiles),
      params(&plan_params),
      ctx(&plan_ctx),
      k_type(TypeIndex(plan_params.cache.k_type)),
      v_type(TypeIndex(plan_params.cache.v_type)),
      heads_per_kv(plan_params.num_heads / plan_params.cache.num_kv_heads),
      padded_dim((plan_params.cache.head_dim + 15) / 16 * 16),
      exp_scale(plan_params.softcap > 0 ? kLog2E : plan_params.scale * kLog2E),
      first_item(plan_params.num_seqs + 1) {
  pad_v = padded_dim != params->cache.head_dim;
  if (pad_v) v_type = KvQuantized(params->cache.v_type) ? kKvQ8_0 : kKvF32;
}

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
  AttentionPlan plan(tiles, params, ctx);
  INK_CHECK_GE(ctx.scratch_bytes, plan.ScratchBytes(1));
  if (const int64_t items = PlanSplit(plan); items > 0) {
    ctx.ParallelFor(items, RunSplit, &plan);
    ctx.ParallelFor(int64_t{params.num_seqs} * params.cache.num_kv_heads, MergeSplit, &plan);
    return;
  }
  ctx.ParallelFor(PlanTiles(plan), RunTile, &plan);
}

}  // namespace ink
