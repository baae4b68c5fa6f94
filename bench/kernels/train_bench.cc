// layers: kernels
// The products and the attention of a training step in the shape of bench/train/llama_30m.toml, one
// thread, in GFLOP/s of CPU time: compare with the bf16 peak of one core.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/op_params.h"
#include "kernels/op_table.h"
#include "kernels/train_kernels.h"

namespace ink {
namespace {

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};

/// In huge pages, as a device's buffers are.
class Memory {
 public:
  explicit Memory(size_t bytes) {
    const size_t huge = size_t{2} << 20;
    const size_t rounded = (bytes + huge) / huge * huge;
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(huge, rounded)));
    madvise(data_.get(), rounded, MADV_HUGEPAGE);
  }
  std::byte* bytes() { return data_.get(); }
  float* floats() { return reinterpret_cast<float*>(data_.get()); }

 private:
  std::unique_ptr<std::byte, Free> data_;
};

Memory Random(int64_t count) {
  Memory memory(static_cast<size_t>(count) * 4);
  std::minstd_rand random(1);
  for (int64_t i = 0; i < count; ++i) {
    memory.floats()[i] = static_cast<float>(random() % 2001) * 1e-3f - 1.0f;
  }
  return memory;
}

struct Run {
  Run() : pool(1), scratch(kKernelScratchBytes) {
    context.pool = &pool;
    context.scratch = scratch.bytes();
    context.scratch_bytes = kKernelScratchBytes;
  }
  ThreadPool pool;
  Memory scratch;
  KernelContext context;
};

void Rate(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] = benchmark::Counter(
      1e-9 * flops * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

// A linear of `in` to `out` features over `tokens` rows: its forward pass and both gradients.
enum class Pass { kForward, kGradInput, kGradWeight };

void Product(benchmark::State& state, const OpTable* ops, const TrainKernels* kernels, Pass pass,
             int64_t tokens, int64_t in, int64_t out) {
  Run run;
  Memory x = Random(tokens * in), y = Random(tokens * out), w = Random(out * in);
  Memory panels((out + 16) * (in + 16) * 4), transposed((out + 16) * (in + 16) * 4);
  PackWeightParams pack;
  pack.w = w.floats();
  pack.rows = out;
  pack.cols = in;
  pack.bfloat16 = kernels->bfloat16;
  pack.panels = panels.bytes();
  pack.transposed = transposed.bytes();
  kernels->pack_weight(pack, run.context);
  const DType type = kernels->bfloat16 ? DType::kBF16 : DType::kF32;
  const int64_t element = kernels->bfloat16 ? 2 : 4;
  if (pass == Pass::kForward) {
    LinearParams p;
    p.x = x.floats();
    p.x_stride = p.cols = in;
    p.num_rows = tokens;
    p.num_weights = 1;
    p.weights[0] = {panels.bytes(), type, out, in, 16 * in * element, 0, 1};
    p.y[0] = y.floats();
    p.y_stride[0] = out;
    Memory workspace(LinearWorkspaceBytes(p));
    p.workspace = workspace.bytes();
    for (auto _ : state) ops->linear(p, run.context);
  } else {
    MatmulParams p;
    p.bfloat16 = kernels->bfloat16;
    p.a = y.floats();
    p.a_stride = out;
    if (pass == Pass::kGradInput) {
      p.b_packed = {transposed.bytes(), type, in, out, 16 * out * element, 0, 1};
      p.c = x.floats();
      p.c_stride = p.n = in;
      p.m = tokens;
      p.k = out;
    } else {
      p.a_columns = p.b_columns = p.accumulate = true;
      p.b = x.floats();
      p.b_stride = in;
      p.c = w.floats();
      p.c_stride = p.n = in;
      p.m = out;
      p.k = tokens;
    }
    Memory workspace(MatmulWorkspaceBytes(p));
    p.workspace = workspace.bytes();
    for (auto _ : state) kernels->matmul(p, run.context);
  }
  Rate(state,
       2.0 * static_cast<double>(tokens) * static_cast<double>(in) * static_cast<double>(out));
}

void Attention(benchmark::State& state, const TrainKernels* kernels, bool gradient) {
  constexpr int64_t kTokens = 512, kHeads = 8, kDim = 64, kWidth = kHeads * kDim;
  Run run;
  Memory q = Random(kTokens * kWidth), k = Random(kTokens * kWidth), v = Random(kTokens * kWidth);
  Memory d_out = Random(kTokens * kWidth), out = Random(kTokens * kWidth),
         lse = Random(kTokens * kHeads);
  Memory dq = Random(kTokens * kWidth), dk = Random(kTokens * kWidth),
         dv = Random(kTokens * kWidth);
  SequenceSpan span;
  span.num_tokens = span.kv_length = kTokens;
  DenseAttentionParams p;
  p.q = q.floats();
  p.k = k.floats();
  p.v = v.floats();
  p.out = out.floats();
  p.lse = lse.floats();
  p.d_out = d_out.floats();
  p.dq = dq.floats();
  p.dk = dk.floats();
  p.dv = dv.floats();
  p.q_stride = p.k_stride = p.v_stride = p.out_stride = kWidth;
  p.sequences = &span;
  p.num_seqs = 1;
  p.max_tokens = kTokens;
  p.num_heads = p.num_kv_heads = kHeads;
  p.head_dim = kDim;
  p.scale = 0.125f;
  p.bfloat16 = kernels->bfloat16;
  Memory workspace(DenseAttentionWorkspaceBytes(p, 1));
  p.workspace = workspace.bytes();
  kernels->attention(p, run.context);
  for (auto _ : state) {
    (gradient ? kernels->attention_grad : kernels->attention)(p, run.context);
  }
  // As the trainer counts: half the square of tokens, two products forward, four backward.
  Rate(state, (gradient ? 8.0 : 4.0) * kWidth * kTokens * kTokens / 2);
}

void CrossEntropy(benchmark::State& state, const TrainKernels* kernels) {
  constexpr int64_t kRows = 256, kVocab = 8192;
  Run run;
  Memory logits = Random(kRows * kVocab), gradient = Random(kRows * kVocab);
  std::vector<float> losses(kRows);
  std::vector<int32_t> targets(kRows, 17);
  CrossEntropyParams p;
  p.logits = logits.floats();
  p.targets = targets.data();
  p.dlogits = gradient.floats();
  p.loss = losses.data();
  p.rows = kRows;
  p.vocab = kVocab;
  for (auto _ : state) kernels->cross_entropy(p, run.context);
  state.counters["Gvalues/s"] = benchmark::Counter(
      1e-9 * kRows * kVocab * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

const bool kRegistered = [] {
  for (const OpTable* ops : CpuOpTables()) {
    if (ops->name == "reference") continue;
    const TrainKernels* kernels = &TrainKernelsFor(ops->name);
    const std::string isa = "/" + std::string(ops->name);
    struct Shape {
      const char* name;
      int64_t in, out;
    };
    for (const Shape& s : {Shape{"attention", 512, 512}, Shape{"up", 512, 1408},
                           Shape{"down", 1408, 512}, Shape{"head", 512, 8192}}) {
      const int64_t tokens = s.out == 8192 ? 256 : 1024;
      const std::string name = isa + "/" + s.name;
      benchmark::RegisterBenchmark(("train_forward" + name).c_str(), Product, ops, kernels,
                                   Pass::kForward, tokens, s.in, s.out);
      benchmark::RegisterBenchmark(("train_grad_input" + name).c_str(), Product, ops, kernels,
                                   Pass::kGradInput, tokens, s.in, s.out);
      benchmark::RegisterBenchmark(("train_grad_weight" + name).c_str(), Product, ops, kernels,
                                   Pass::kGradWeight, tokens, s.in, s.out);
    }
    benchmark::RegisterBenchmark(("train_attention_forward" + isa).c_str(), Attention, kernels,
                                 false);
    benchmark::RegisterBenchmark(("train_attention_grad" + isa).c_str(), Attention, kernels, true);
    benchmark::RegisterBenchmark(("train_cross_entropy" + isa).c_str(), CrossEntropy, kernels);
  }
  return true;
}();

}  // namespace
}  // namespace ink
