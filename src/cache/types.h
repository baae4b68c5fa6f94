// The words shared by everything that keeps sequence state: blocks, layer groups, block operations.
//
// A sequence's state is one block table per *layer group*. A physical block id of a group names the
// same block in every layer of that group. With kBlockTokens = 32, position p of a sequence is in
//   slot = block_table[p / 32] * 32 + p % 32.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ink {

/// Tokens per KV block. Divides the 256-position partitions of attention (DESIGN 3a).
inline constexpr int64_t kBlockTokens = 32;
/// Granularity in which pools draw from the byte budget: one huge page.
inline constexpr int64_t kSlabBytes = int64_t{2} << 20;

/// Physical block of one group. A recurrent group's "block" is a state slot.
using BlockId = int32_t;
/// Entry of a block table whose block was freed because it fell behind the window. A kernel must
/// never read through it: every position in it is masked.
inline constexpr BlockId kNullBlock = -1;

enum class GroupKind : uint8_t {
  kFullAttention,  // paged KV, every position kept
  kSlidingWindow,  // paged KV, a token sees `window` positions: itself and the window - 1 before it
  kRecurrent,      // one fixed-size state per sequence, saved as checkpoints
};

/// "full", "sliding" or "recurrent".
std::string_view GroupKindName(GroupKind kind);

/// The shape of one layer group's state.
struct GroupSpec {
  GroupKind kind = GroupKind::kFullAttention;
  /// Positions a token sees, itself included; only for kSlidingWindow, >= 1.
  int64_t window = 0;
  /// Bytes of one block (32 tokens of K and V) or one state slot, summed over the group's layers.
  int64_t block_bytes = 0;
  /// Blocks committed at start and never given back.
  int64_t initial_blocks = 0;
  /// Upper bound on blocks; 0 means that only the byte budget bounds it.
  int64_t max_blocks = 0;

  bool operator==(const GroupSpec&) const = default;
};

/// What must be equal for two requests to share cached state. Compared in full, never by hash.
struct CacheScope {
  std::string model;
  std::string adapter;
  std::string tenant;
  std::string cache_dtype;

  auto operator<=>(const CacheScope&) const = default;
};

enum class BlockOpKind : uint8_t {
  kCopy,     // device block src -> device block dst
  kSwapOut,  // device block src -> host block dst
  kSwapIn,   // host block src -> device block dst
  kRelease,  // device blocks [src, src + count): their memory goes to another group; drop the pages
};

/// One memory operation for the runner. A step's operations are carried out strictly in order and
/// before the step's forward pass: a later one may reuse a block that an earlier one read.
struct BlockOp {
  BlockOpKind kind = BlockOpKind::kCopy;
  int32_t group = 0;
  BlockId src = kNullBlock;
  BlockId dst = kNullBlock;
  int32_t count = 1;

  bool operator==(const BlockOp&) const = default;
};

/// Blocks [first, first + count) of a group whose memory went back to the budget.
struct BlockRange {
  int32_t group = 0;
  BlockId first = 0;
  int64_t count = 0;

  bool operator==(const BlockRange&) const = default;
};

/// Number of blocks that hold `tokens` positions.
inline constexpr int64_t BlocksFor(int64_t tokens) {
  return (tokens + kBlockTokens - 1) / kBlockTokens;
}

/// First block that a token at position `next` can see in a window of `window` positions.
inline constexpr int64_t FirstVisibleBlock(int64_t next, int64_t window) {
  const int64_t first = next - window + 1;
  return first <= 0 ? 0 : first / kBlockTokens;
}

}  // namespace ink
