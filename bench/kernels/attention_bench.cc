// layers: kernels
// Attention of one layer in the shape of Llama-3.2-1B (32 heads, 8 K/V heads, head_dim 64).
// Prefill: 512 queries at depth 4096, in GFLOP/s (compare with the fp32 FMA peak). Decode: one
// query at depth 4096 over 16 layers' caches, more than the last-level cache, in bytes of K and V a
// second (compare with the read bandwidth). Rates are per CPU time of the calling thread with one
// thread, and per wall time with more.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/op_params.h"
#include "kernels/op_table.h"
#include "quant/half.h"

namespace ink {
namespace {

constexpr int kHeads = 32;
constexpr int kKvHeads = 8;
constexpr int kHeadDim = 64;
constexpr int64_t kDepth = 4096;

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
using Memory = std::unique_ptr<std::byte, Free>;

/// In huge pages, as the engine's caches are: a head's share of a block is a page or less.
Memory Allocate(size_t bytes) {
  const size_t huge = size_t{2} << 20;
  const size_t rounded = (bytes + huge - 1) / huge * huge;
  Memory memory(static_cast<std::byte*>(std::aligned_alloc(huge, rounded)));
  madvise(memory.get(), rounded, MADV_HUGEPAGE);
  return memory;
}

/// One layer's cache, filled through kv_store, with blocks in order.
struct Layer {
  Layer(const OpTable& table, const KernelContext& context, DType type, int64_t length) {
    cache.k_type = cache.v_type = type;
    cache.num_kv_heads = kKvHeads;
    cache.head_dim = kHeadDim;
    cache.k_head_bytes = cache.v_head_bytes = KvHeadBytes(type, kHeadDim);
    cache.k_block_bytes = cache.v_block_bytes = cache.k_head_bytes * kKvHeads;
    const int64_t blocks = (length + kKvBlockTokens - 1) / kKvBlockTokens;
    memory = Allocate(2 * cache.k_block_bytes * blocks);
    cache.k = memory.get();
    cache.v = memory.get() + cache.k_block_bytes * blocks;
    std::vector<float> rows(length * kKvHeads * kHeadDim);
    std::minstd_rand random(1);
    for (float& x : rows) x = static_cast<float>(random() % 2001) * 1e-3f - 1.0f;
    std::vector<int64_t> slots(length);
    std::iota(slots.begin(), slots.end(), 0);
    KvStoreParams store;
    store.k = store.v = rows.data();
    store.k_stride = store.v_stride = kKvHeads * kHeadDim;
    store.slots = slots.data();
    store.num_tokens = length;
    store.cache = cache;
    table.kv_store(store, context);
  }
  Memory memory;
  KvLayerView cache;
};

struct Run {
  Run(const OpTable& op_table, DType type, int threads, int64_t num_tokens, int num_layers)
      : table(op_table), pool(threads), scratch(Allocate(kKernelScratchBytes * threads)) {
    context.pool = &pool;
    context.scratch = scratch.get();
    context.scratch_bytes = kKernelScratchBytes;
    span.num_tokens = num_tokens;
    span.kv_length = kDepth + num_tokens;
    for (int i = 0; i < num_layers; ++i) layers.emplace_back(table, context, type, span.kv_length);
    blocks.resize((span.kv_length + kKvBlockTokens - 1) / kKvBlockTokens);
    std::iota(blocks.begin(), blocks.end(), 0);
    q.assign(num_tokens * kHeads * kHeadDim, 0.25f);
    out.resize(q.size());
  }
  void Attend(const Layer& layer) {
    AttentionParams p;
    p.q = q.data();
    p.out = out.data();
    p.q_stride = p.out_stride = kHeads * kHeadDim;
    p.sequences = &span;
    p.num_seqs = 1;
    p.block_tables = blocks.data();
    p.block_table_stride = static_cast<int64_t>(blocks.size());
    p.cache = layer.cache;
    p.num_heads = kHeads;
    p.scale = 0.125f;
    table.attention(p, context);
  }
  const OpTable& table;
  ThreadPool pool;
  Memory scratch;
  KernelContext context;
  SequenceSpan span;
  std::vector<Layer> layers;
  std::vector<int32_t> blocks;
  std::vector<float> q;
  std::vector<float> out;
};

void Prefill(benchmark::State& state, const OpTable* table, DType type, int threads) {
  constexpr int64_t kTokens = 512;
  Run run(*table, type, threads, kTokens, 1);
  for (auto _ : state) run.Attend(run.layers[0]);
  double keys = 0;
  for (int64_t t = 0; t < kTokens; ++t) keys += static_cast<double>(kDepth + t + 1);
  state.counters["GFLOP/s"] =
      benchmark::Counter(4e-9 * kHeads * kHeadDim * keys * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

void Decode(benchmark::State& state, const OpTable* table, DType type, int threads) {
  constexpr int kLayers = 16;
  Run run(*table, type, threads, 1, kLayers);
  for (auto _ : state) {
    for (const Layer& layer : run.layers) run.Attend(layer);
  }
  const double bytes = 2.0 * kLayers * static_cast<double>(run.layers[0].cache.k_head_bytes) *
                       kKvHeads * (kDepth + 1) / kKvBlockTokens;
  state.counters["GB/s"] = benchmark::Counter(
      1e-9 * bytes * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

const bool kRegistered = [] {
  for (const OpTable* table : CpuOpTables()) {
    if (table->name == "reference") continue;
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0}) {
      for (const int threads : {1, 2}) {
        const std::string name = "/" + std::string(table->name) + "/" +
                                 std::string(Info(type).name) +
                                 "/threads:" + std::to_string(threads);
        auto* prefill = benchmark::RegisterBenchmark(("attention_prefill" + name).c_str(), Prefill,
                                                     table, type, threads);
        auto* decode = benchmark::RegisterBenchmark(("attention_decode" + name).c_str(), Decode,
                                                    table, type, threads);
        if (threads > 1) {
          prefill->UseRealTime();
          decode->UseRealTime();
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace ink
