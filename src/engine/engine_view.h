// What an engine holds at one moment, for people to look at: every block's state, every request's
// phase. A plain copy, taken between two steps when somebody asks.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cache/types.h"
#include "engine/generation.h"

namespace ink {

enum class RequestPhase : uint8_t {
  kQueued,   // not scheduled yet
  kPrefill,  // scheduled, no token yet
  kDecode,
  kPreempted,  // lost its blocks for a while
  kEnded,
};

/// "queued", "prefill", "decode", "preempted", "ended".
std::string_view RequestPhaseName(RequestPhase phase);

/// Blocks [first, first + count) of a group.
using BlockRun = std::pair<BlockId, int32_t>;

struct RequestView {
  RequestId id = 0;
  RequestPhase phase = RequestPhase::kQueued;
  double age_s = 0;  // since it was submitted; of an ended one too
  double queue_s = 0;
  double prefill_s = 0;
  double decode_s = 0;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;    // of the prompt, from the prefix cache
  int64_t computed_tokens = 0;  // of its first sequence; the prompt's while in prefill
  int64_t completion_tokens = 0;
  int64_t max_tokens = 0;
  int32_t sequences = 0;                      // choices or beams alive
  std::string outcome;                        // of an ended one: "done", or the kind of its error
  std::vector<std::vector<BlockRun>> blocks;  // [group], at most kMaxRuns runs each

  static constexpr size_t kMaxRuns = 256;
};

struct BlockGroupView {
  GroupKind kind = GroupKind::kFullAttention;
  int64_t window = 0;
  int64_t block_bytes = 0;
  int64_t blocks = 0;  // present
  int64_t free = 0;
  int64_t cached = 0;  // kept for reuse, no owner
  int64_t owned = 0;   // one owner
  int64_t shared = 0;  // two owners or more
  /// One character per `blocks_per_cell` neighbouring blocks, the fullest of them: ' ' memory given
  /// back, '.' free, 'c' cached, '1' to '9' owners (9: or more), 'A' to 'I' the same for a block
  /// whose content is registered for reuse.
  std::string map;
  int64_t blocks_per_cell = 1;
};

struct EngineView {
  std::vector<BlockGroupView> groups;
  std::vector<RequestView> running;  // oldest first, at most kMaxRequests
  std::vector<RequestView> ended;    // newest first, at most kMaxEnded
  int64_t num_requests = 0;          // all that are open

  static constexpr size_t kMaxCells = 8192;
  static constexpr size_t kMaxRequests = 256;
  static constexpr size_t kMaxEnded = 32;
};

}  // namespace ink
