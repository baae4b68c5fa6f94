#include "engine/engine_view.h"

#include <algorithm>

#include "engine/engine_state.h"

namespace ink {
namespace {

double Seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

// How much a block matters on the map, where several share a cell.
int64_t Fullness(const BlockPool& pool, BlockId block) {
  if (!pool.IsPresent(block)) return -2;
  const int64_t owners = pool.ref_count(block);
  if (owners == 0) return pool.registered(block) ? 0 : -1;
  return owners * 2 + (pool.registered(block) ? 1 : 0);
}

char CellOf(int64_t fullness) {
  if (fullness == -2) return ' ';
  if (fullness == -1) return '.';
  if (fullness == 0) return 'c';
  const auto owners = static_cast<char>(std::min<int64_t>(9, fullness / 2));
  return static_cast<char>((fullness % 2 == 1 ? 'A' - 1 : '0') + owners);
}

BlockGroupView ViewGroup(const GroupSpec& spec, const BlockPool& pool) {
  BlockGroupView view;
  view.kind = spec.kind;
  view.window = spec.window;
  view.block_bytes = spec.block_bytes;
  view.blocks = pool.num_blocks();
  view.free = pool.num_free();
  view.cached = pool.num_cached();
  const int64_t limit = pool.id_limit();
  view.blocks_per_cell =
      std::max<int64_t>(1, (limit + static_cast<int64_t>(EngineView::kMaxCells) - 1) /
                               static_cast<int64_t>(EngineView::kMaxCells));
  view.map.reserve(static_cast<size_t>(limit / view.blocks_per_cell + 1));
  int64_t fullest = -2;
  for (int64_t b = 0; b < limit; ++b) {
    const auto block = static_cast<BlockId>(b);
    const int64_t fullness = Fullness(pool, block);
    if (fullness >= 4) {
      ++view.shared;
    } else if (fullness > 0) {
      ++view.owned;
    }
    fullest = std::max(fullest, fullness);
    if ((b + 1) % view.blocks_per_cell == 0 || b + 1 == limit) {
      view.map.push_back(CellOf(fullest));
      fullest = -2;
    }
  }
  return view;
}

void AddRuns(std::span<const BlockId> table, std::vector<BlockRun>* runs) {
  for (BlockId block : table) {
    if (block == kNullBlock) continue;
    if (!runs->empty() && runs->back().first + runs->back().second == block) {
      ++runs->back().second;
    } else if (runs->size() < RequestView::kMaxRuns) {
      runs->emplace_back(block, 1);
    } else {
      return;
    }
  }
}

}  // namespace

std::string_view RequestPhaseName(RequestPhase phase) {
  switch (phase) {
    case RequestPhase::kQueued:
      return "queued";
    case RequestPhase::kPrefill:
      return "prefill";
    case RequestPhase::kDecode:
      return "decode";
    case RequestPhase::kPreempted:
      return "preempted";
    case RequestPhase::kEnded:
      break;
  }
  return "ended";
}

RequestView Engine::Describe(const Request& request, Clock::time_point now) const {
  RequestView view;
  view.id = request.id;
  view.age_s = Seconds(now - request.submitted);
  view.queue_s = request.was_scheduled ? request.timings.queue_s : view.age_s;
  if (request.has_token) {
    view.prefill_s = request.timings.prefill_s;
    view.decode_s = Seconds(now - request.first_token);
  } else if (request.was_scheduled) {
    view.prefill_s = Seconds(now - request.scheduled);
  }
  view.prompt_tokens = request.timings.prompt_tokens;
  view.cached_tokens = request.timings.cached_tokens;
  view.completion_tokens = request.timings.completion_tokens;
  view.max_tokens = request.spec.sampling.max_tokens;
  view.sequences = static_cast<int32_t>(request.sequences.size());
  view.phase = !request.was_scheduled ? RequestPhase::kQueued
               : request.has_token    ? RequestPhase::kDecode
                                      : RequestPhase::kPrefill;
  bool any_running = false;
  const int32_t groups = scheduler_->cache().num_groups();
  view.blocks.resize(groups);
  for (size_t i = 0; i < request.sequences.size(); ++i) {
    const SequenceId id = request.sequences[i];
    if (!scheduler_->Contains(id)) continue;
    any_running |= scheduler_->IsRunning(id);
    if (i == 0) view.computed_tokens = scheduler_->num_computed_tokens(id);
    for (int32_t g = 0; g < groups; ++g) {
      AddRuns(scheduler_->block_table(id, g), &view.blocks[g]);
    }
  }
  if (request.was_scheduled && !any_running) view.phase = RequestPhase::kPreempted;
  return view;
}

void Engine::Remember(const Request& request, const Status& error) {
  Ended ended;
  ended.submitted = request.submitted;
  ended.view = Describe(request, Clock::now());
  ended.view.phase = RequestPhase::kEnded;
  ended.view.decode_s = request.has_token ? request.timings.decode_s : 0;
  ended.view.blocks.clear();
  ended.view.outcome = error.ok() ? "done" : std::string(StatusCodeName(error.code()));
  ended_.push_front(std::move(ended));
  if (ended_.size() > EngineView::kMaxEnded) ended_.pop_back();
}

EngineView Engine::View() const {
  const Clock::time_point now = Clock::now();
  EngineView view;
  const CacheManager& cache = scheduler_->cache();
  for (int32_t g = 0; g < cache.num_groups(); ++g) {
    view.groups.push_back(ViewGroup(cache.group(g), cache.pool(g)));
  }
  view.num_requests = static_cast<int64_t>(requests_.size());
  std::vector<const Request*> open;
  for (const auto& [id, request] : requests_) open.push_back(request.get());
  std::sort(open.begin(), open.end(),
            [](const Request* a, const Request* b) { return a->id < b->id; });
  if (open.size() > EngineView::kMaxRequests) open.resize(EngineView::kMaxRequests);
  for (const Request* request : open) view.running.push_back(Describe(*request, now));
  for (const Ended& ended : ended_) {
    view.ended.push_back(ended.view);
    view.ended.back().age_s = Seconds(now - ended.submitted);
  }
  return view;
}

}  // namespace ink
