// What the engine shows of itself, against its own counters.
#include <algorithm>

#include "engine/harness.h"

namespace ink::testing_support {
namespace {

int64_t CountCells(const std::string& map, std::string_view of) {
  return std::count_if(map.begin(), map.end(),
                       [&](char c) { return of.find(c) != std::string_view::npos; });
}

// Every block is in one class, and the map, the counts and the pool agree.
void ExpectConsistent(Engine& engine) {
  const EngineView view = engine.View();
  const CacheManager& cache = engine.scheduler().cache();
  ASSERT_EQ(view.groups.size(), static_cast<size_t>(cache.num_groups()));
  for (int32_t g = 0; g < cache.num_groups(); ++g) {
    const BlockGroupView& group = view.groups[g];
    EXPECT_EQ(group.blocks, group.free + group.cached + group.owned + group.shared);
    EXPECT_EQ(group.blocks_per_cell, 1);
    EXPECT_EQ(static_cast<int64_t>(group.map.size()), cache.pool(g).id_limit());
    EXPECT_EQ(CountCells(group.map, "."), group.free);
    EXPECT_EQ(CountCells(group.map, "c"), group.cached);
    EXPECT_EQ(CountCells(group.map, "1A"), group.owned);
    EXPECT_EQ(CountCells(group.map, "23456789BCDEFGHI"), group.shared);
    // The blocks that requests say they hold are exactly the owned cells.
    std::string held(group.map.size(), '.');
    for (const RequestView& request : view.running) {
      for (const auto& [first, count] : request.blocks[g]) {
        for (int32_t i = 0; i < count; ++i) held[first + i] = 'x';
      }
    }
    EXPECT_EQ(CountCells(held, "x"), group.owned + group.shared);
  }
}

TEST(EngineView, PhasesBlocksAndSharing) {
  const TinyModel tiny = TinyModels()[2];
  const Loaded loaded = Load(TinyPath(tiny), 1);
  EngineConfig config;
  config.context = 256;
  config.max_seqs = 2;
  config.token_budget = 32;
  auto engine = MakeEngine(loaded, config);
  ExpectConsistent(*engine);
  EXPECT_TRUE(engine->View().running.empty());

  const std::vector<int32_t> prompt = RandomIds(7, 100, loaded.model->info().n_vocab);
  std::vector<Output> outputs[3];
  auto submit = [&](int i) {
    GenerationRequest request;
    request.prompt = prompt;
    request.sampling.max_tokens = 8;
    request.sampling.ignore_eos = true;
    ASSERT_TRUE(SubmitCollect(*engine, std::move(request), &outputs[i]).ok());
  };
  submit(0);
  EXPECT_EQ(engine->View().running.at(0).phase, RequestPhase::kQueued);
  engine->Step();
  EngineView view = engine->View();
  EXPECT_EQ(view.running.at(0).phase, RequestPhase::kPrefill);
  EXPECT_EQ(view.running.at(0).prompt_tokens, 100);
  EXPECT_EQ(view.running.at(0).computed_tokens, 32);
  EXPECT_EQ(view.running.at(0).max_tokens, 8);
  ExpectConsistent(*engine);
  while (engine->View().running.at(0).phase == RequestPhase::kPrefill) engine->Step();
  EXPECT_EQ(engine->View().running.at(0).phase, RequestPhase::kDecode);
  EXPECT_EQ(engine->View().running.at(0).completion_tokens, 1);

  // Two more of the same prompt: one shares the first one's blocks, one has no place.
  submit(1);
  submit(2);
  engine->Step();
  view = engine->View();
  ASSERT_EQ(view.running.size(), 3u);
  EXPECT_EQ(view.num_requests, 3);
  EXPECT_EQ(view.running[1].cached_tokens, 96);
  EXPECT_EQ(view.running[2].phase, RequestPhase::kQueued);
  EXPECT_EQ(view.groups[0].shared, 3);
  EXPECT_EQ(CountCells(view.groups[0].map, "B"), 3);
  ExpectConsistent(*engine);

  engine->Cancel(view.running[2].id);
  while (engine->Step()) ExpectConsistent(*engine);
  view = engine->View();
  EXPECT_TRUE(view.running.empty());
  ASSERT_EQ(view.ended.size(), 3u);
  EXPECT_EQ(view.groups[0].owned + view.groups[0].shared, 0);
  EXPECT_GE(view.groups[0].cached, 3);
  int done = 0;
  for (const RequestView& request : view.ended) {
    EXPECT_EQ(request.phase, RequestPhase::kEnded);
    EXPECT_GE(request.age_s + 1e-9, request.queue_s + request.prefill_s + request.decode_s);
    if (request.outcome == "done") {
      ++done;
      EXPECT_EQ(request.completion_tokens, 8);
    }
  }
  EXPECT_EQ(done, 2);
}

TEST(EngineView, RemembersOnlyTheLast) {
  const Loaded loaded = Load(TinyPath(TinyModels()[2]), 1);
  EngineConfig config;
  config.context = 64;
  config.max_seqs = 4;
  auto engine = MakeEngine(loaded, config);
  std::vector<Output> output;
  for (int i = 0; i < 40; ++i) {
    GenerationRequest request;
    request.prompt = {3};
    request.sampling.max_tokens = 1;
    request.sampling.ignore_eos = true;
    ASSERT_TRUE(SubmitCollect(*engine, std::move(request), &output).ok());
    RunToEnd(*engine);
  }
  const EngineView view = engine->View();
  ASSERT_EQ(view.ended.size(), EngineView::kMaxEnded);
  EXPECT_EQ(view.ended.front().id, 40u);
}

}  // namespace
}  // namespace ink::testing_support
