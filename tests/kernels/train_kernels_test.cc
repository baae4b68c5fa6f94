// The training kernels of every instruction set against plain loops in float64, on generated
// inputs, and the same bits on any number of threads.
#include "kernels/train_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/thread_pool.h"
#include "kernels/cpu/panels.h"
#include "kernels/op_table.h"
#include "quant/half.h"

namespace ink {
namespace {

class Bytes {
 public:
  explicit Bytes(size_t bytes)
      : data_(static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64))) {}
  std::byte* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
};

class Threads {
 public:
  explicit Threads(int threads) : pool_(threads), scratch_(kKernelScratchBytes * threads) {
    context_ = {&pool_, scratch_.get(), kKernelScratchBytes};
  }
  const KernelContext& context() const { return context_; }

 private:
  ThreadPool pool_;
  Bytes scratch_;
  KernelContext context_;
};

std::vector<float> Normals(Rng& rng, int64_t count, float deviation = 1.0f) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = deviation * rng.Normal();
  return values;
}

double Rounded(float x, bool bfloat16) {
  return double{bfloat16 ? BfloatToFloat(FloatToBfloat(x)) : x};
}

struct Product {
  int64_t m, n, k;
  bool a_columns, b_columns, packed, accumulate;
};

// One product in all the ways an operand can come.
std::vector<float> RunProduct(const TrainKernels& kernels, const Product& s, bool bfloat16,
                              const std::vector<float>& a, const std::vector<float>& b,
                              const std::vector<float>& c, int threads) {
  Threads on(threads);
  const DType type = bfloat16 ? DType::kBF16 : DType::kF32;
  std::vector<float> result = c;
  MatmulParams p;
  p.bfloat16 = bfloat16;
  p.a = a.data();
  p.a_stride = (s.a_columns ? s.m : s.k) + 3;
  p.a_columns = s.a_columns;
  p.c = result.data();
  p.c_stride = s.n + 5;
  p.m = s.m;
  p.n = s.n;
  p.k = s.k;
  p.accumulate = s.accumulate;
  const PanelFormat& format = *FindPanelFormat(type);
  Bytes panels(static_cast<size_t>(PackedBytes(format, s.n, s.k)));
  if (s.packed) {
    // As the trainer does it: the panels of W^T for a gradient of inputs, from rows of W.
    PackWeightParams pack;
    pack.w = b.data();
    pack.bfloat16 = bfloat16;
    pack.rows = s.b_columns ? s.k : s.n;
    pack.cols = s.b_columns ? s.n : s.k;
    (s.b_columns ? pack.transposed : pack.panels) = panels.get();
    kernels.pack_weight(pack, on.context());
    p.b_packed = {panels.get(), type, s.n, s.k, PanelBytes(format, s.k), 0, 1};
  } else {
    p.b = b.data();
    p.b_stride = s.b_columns ? s.n : s.k;
    p.b_columns = s.b_columns;
  }
  Bytes workspace(MatmulWorkspaceBytes(p));
  p.workspace = workspace.get();
  kernels.matmul(p, on.context());
  return result;
}

TEST(TrainKernels, MatmulMatchesFloat64) {
  Rng rng(3);
  const Product shapes[] = {
      {1, 1, 1, false, false, false, false},      {8, 48, 256, false, false, false, true},
      {7, 33, 65, false, true, false, true},      {9, 50, 259, true, true, false, true},
      {130, 210, 301, true, true, false, true},   {17, 64, 31, true, false, false, false},
      {40, 96, 700, false, true, true, false},    {131, 47, 515, false, true, true, true},
      {23, 200, 64, false, false, true, false},   {5, 16, 3, false, false, true, true},
      {64, 193, 1030, false, false, false, true},
  };
  for (const OpTable* table : CpuOpTables()) {
    const TrainKernels& kernels = TrainKernelsFor(table->name);
    for (const bool bfloat16 : {false, true}) {
      if (bfloat16 && !kernels.bfloat16) continue;
      for (const Product& s : shapes) {
        const int64_t a_rows = s.a_columns ? s.k : s.m, a_cols = (s.a_columns ? s.m : s.k) + 3;
        const int64_t b_cols = s.b_columns ? s.n : s.k;
        const auto a = Normals(rng, a_rows * a_cols), b = Normals(rng, s.n * s.k);
        const auto c = Normals(rng, s.m * (s.n + 5));
        const auto got = RunProduct(kernels, s, bfloat16, a, b, c, 2);
        ASSERT_EQ(got, RunProduct(kernels, s, bfloat16, a, b, c, 1));
        const std::string where = std::string(table->name) + " m " + std::to_string(s.m) + " n " +
                                  std::to_string(s.n) + " k " + std::to_string(s.k);
        for (int64_t i = 0; i < s.m; ++i) {
          for (int64_t j = 0; j < s.n + 5; ++j) {
            const auto at = static_cast<size_t>(i * (s.n + 5) + j);
            if (j >= s.n) {
              ASSERT_EQ(got[at], c[at]) << where << ": past the row's end";
              continue;
            }
            double want = s.accumulate ? double{c[at]} : 0, size = std::fabs(want);
            for (int64_t l = 0; l < s.k; ++l) {
              const auto ai = static_cast<size_t>(s.a_columns ? l * a_cols + i : i * a_cols + l);
              const auto bi = static_cast<size_t>(s.b_columns ? l * b_cols + j : j * b_cols + l);
              const double term = Rounded(a[ai], bfloat16) * Rounded(b[bi], bfloat16);
              want += term;
              size += std::fabs(term);
            }
            // Each of at most k + 1 additions rounds by 2^-24 of what is there; signs are random.
            ASSERT_NEAR(got[at], want, 1e-6 * size + 1e-6) << where << " at " << i << ", " << j;
          }
        }
      }
    }
  }
}

// The forward linear of bfloat16 weights and the trainer's product are the same sums in the same
// order, so what was learned is what is served.
TEST(TrainKernels, LinearAndMatmulAgreeBitForBit) {
  Rng rng(5);
  for (const OpTable* table : CpuOpTables()) {
    const TrainKernels& kernels = TrainKernelsFor(table->name);
    if (!kernels.bfloat16) continue;
    for (const Product& s : {Product{300, 112, 512, false, false, true, false},
                             Product{41, 50, 770, false, false, true, false}}) {
      const auto a = Normals(rng, s.m * (s.k + 3)), b = Normals(rng, s.n * s.k);
      const std::vector<float> c(static_cast<size_t>(s.m * (s.n + 5)), 0.0f);
      const auto want = RunProduct(kernels, s, true, a, b, c, 2);
      const PanelFormat& format = *FindPanelFormat(DType::kBF16);
      Bytes panels(static_cast<size_t>(PackedBytes(format, s.n, s.k)));
      Threads on(2);
      PackWeightParams pack;
      pack.w = b.data();
      pack.rows = s.n;
      pack.cols = s.k;
      pack.bfloat16 = true;
      pack.panels = panels.get();
      kernels.pack_weight(pack, on.context());
      std::vector<float> got = c;
      LinearParams p;
      p.x = a.data();
      p.x_stride = s.k + 3;
      p.num_rows = s.m;
      p.cols = s.k;
      p.num_weights = 1;
      p.weights[0] = {panels.get(), DType::kBF16, s.n, s.k, PanelBytes(format, s.k), 0, 1};
      p.y[0] = got.data();
      p.y_stride[0] = s.n + 5;
      Bytes workspace(LinearWorkspaceBytes(p));
      p.workspace = workspace.get();
      table->linear(p, on.context());
      ASSERT_EQ(got, want) << table->name << " m " << s.m;
    }
  }
}

struct AttentionShape {
  std::vector<int64_t> lengths;
  int heads, kv_heads, head_dim;
  float softcap;
  int64_t window;
};

struct AttentionResult {
  std::vector<float> out, lse, dq, dk, dv;
};

struct AttentionInput {
  std::vector<float> q, k, v, d_out, dq, dk, dv;
};

AttentionResult RunAttention(const TrainKernels& kernels, const AttentionShape& s, bool bfloat16,
                             const AttentionInput& in, int threads) {
  Threads on(threads);
  std::vector<SequenceSpan> spans;
  int64_t tokens = 0, longest = 0;
  for (int64_t length : s.lengths) {
    SequenceSpan span;
    span.first_token = tokens;
    span.num_tokens = span.kv_length = length;
    spans.push_back(span);
    tokens += length;
    longest = std::max(longest, length);
  }
  AttentionResult r;
  r.out.assign(in.q.size(), 0.0f);
  r.lse.assign(static_cast<size_t>(tokens * s.heads), 0.0f);
  r.dq = in.dq;
  r.dk = in.dk;
  r.dv = in.dv;
  DenseAttentionParams p;
  p.q = in.q.data();
  p.k = in.k.data();
  p.v = in.v.data();
  p.out = r.out.data();
  p.lse = r.lse.data();
  p.q_stride = p.out_stride = int64_t{s.heads} * s.head_dim;
  p.k_stride = p.v_stride = int64_t{s.kv_heads} * s.head_dim;
  p.sequences = spans.data();
  p.num_seqs = static_cast<int>(spans.size());
  p.max_tokens = longest;
  p.num_heads = s.heads;
  p.num_kv_heads = s.kv_heads;
  p.head_dim = s.head_dim;
  p.scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  p.softcap = s.softcap;
  p.sliding_window = s.window;
  p.bfloat16 = bfloat16;
  Bytes workspace(DenseAttentionWorkspaceBytes(p, threads));
  p.workspace = workspace.get();
  kernels.attention(p, on.context());
  p.d_out = in.d_out.data();
  p.dq = r.dq.data();
  p.dk = r.dk.data();
  p.dv = r.dv.data();
  kernels.attention_grad(p, on.context());
  return r;
}

// Softmax attention and its gradients as textbooks have them, in float64.
struct Slow {
  std::vector<double> out, lse, dq, dk, dv;
};
Slow SlowAttention(const AttentionShape& s, const AttentionInput& in) {
  const int64_t qs = int64_t{s.heads} * s.head_dim, ks = int64_t{s.kv_heads} * s.head_dim;
  Slow r;
  r.out.assign(in.q.size(), 0.0);
  r.lse.assign(in.q.size() / static_cast<size_t>(s.head_dim), 0.0);
  r.dq.assign(in.dq.begin(), in.dq.end());
  r.dk.assign(in.dk.begin(), in.dk.end());
  r.dv.assign(in.dv.begin(), in.dv.end());
  const double scale = 1.0 / std::sqrt(static_cast<double>(s.head_dim));
  int64_t first = 0;
  for (int64_t length : s.lengths) {
    for (int h = 0; h < s.heads; ++h) {
      const int64_t kv = h / (s.heads / s.kv_heads) * s.head_dim;
      for (int64_t i = 0; i < length; ++i) {
        const int64_t qi = (first + i) * qs + int64_t{h} * s.head_dim;
        const int64_t low = s.window > 0 ? std::max<int64_t>(0, i - s.window + 1) : 0;
        std::vector<double> score, slope;
        double total = 0;
        for (int64_t j = low; j <= i; ++j) {
          double dot = 0;
          for (int64_t c = 0; c < s.head_dim; ++c) {
            dot += double{in.q[qi + c]} * double{in.k[(first + j) * ks + kv + c]};
          }
          dot *= scale;
          double d = scale;
          if (s.softcap > 0) {
            const double t = std::tanh(dot / double{s.softcap});
            dot = t * double{s.softcap};
            d *= 1 - t * t;
          }
          score.push_back(dot);
          slope.push_back(d);
          total += std::exp(dot);
        }
        r.lse[(first + i) * s.heads + h] = std::log(total);
        double mean = 0;
        std::vector<double> dp(score.size());
        for (int64_t j = low; j <= i; ++j) {
          const double prob = std::exp(score[j - low]) / total;
          for (int64_t c = 0; c < s.head_dim; ++c) {
            const int64_t vj = (first + j) * ks + kv + c;
            r.out[qi + c] += prob * double{in.v[vj]};
            dp[j - low] += double{in.d_out[qi + c]} * double{in.v[vj]};
            r.dv[vj] += prob * double{in.d_out[qi + c]};
          }
          mean += prob * dp[j - low];
        }
        for (int64_t j = low; j <= i; ++j) {
          const double prob = std::exp(score[j - low]) / total;
          const double ds = prob * (dp[j - low] - mean) * slope[j - low];
          for (int64_t c = 0; c < s.head_dim; ++c) {
            const int64_t kj = (first + j) * ks + kv + c;
            r.dq[qi + c] += ds * double{in.k[kj]};
            r.dk[kj] += ds * double{in.q[qi + c]};
          }
        }
      }
    }
    first += length;
  }
  return r;
}

// The relative distance of two results, by norms.
double Distance(const std::vector<float>& got, const std::vector<double>& want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (double{got[i]} - want[i]) * (double{got[i]} - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(error / norm);
}

TEST(TrainKernels, AttentionMatchesFloat64) {
  Rng rng(9);
  const AttentionShape shapes[] = {
      {{1}, 1, 1, 16, 0, 0},           {{70, 3, 129}, 4, 2, 24, 0, 0}, {{200}, 2, 2, 64, 0, 0},
      {{65, 64}, 3, 1, 80, 5.0f, 0},   {{150, 33}, 2, 1, 64, 0, 40},   {{97}, 2, 2, 12, 3.0f, 5},
      {{31, 17, 300}, 2, 2, 48, 0, 0}, {{130}, 2, 1, 128, 0, 1},
  };
  for (const AttentionShape& s : shapes) {
    int64_t tokens = 0;
    for (int64_t length : s.lengths) tokens += length;
    const int64_t qn = tokens * s.heads * s.head_dim, kn = tokens * s.kv_heads * s.head_dim;
    const AttentionInput in{Normals(rng, qn), Normals(rng, kn), Normals(rng, kn), Normals(rng, qn),
                            Normals(rng, qn), Normals(rng, kn), Normals(rng, kn)};
    const Slow want = SlowAttention(s, in);
    for (const OpTable* table : CpuOpTables()) {
      const TrainKernels& kernels = TrainKernelsFor(table->name);
      for (const bool bfloat16 : {false, true}) {
        if (bfloat16 && !kernels.bfloat16) continue;
        const AttentionResult got = RunAttention(kernels, s, bfloat16, in, 1);
        const AttentionResult again = RunAttention(kernels, s, bfloat16, in, 3);
        ASSERT_EQ(got.out, again.out);
        ASSERT_EQ(got.dq, again.dq);
        ASSERT_EQ(got.dk, again.dk);
        ASSERT_EQ(got.dv, again.dv);
        // Operands rounded to bfloat16 are off by up to 2^-9, twice in a row.
        const double limit = bfloat16 ? 1e-2 : 2e-6;
        const std::string where = std::string(table->name) + (bfloat16 ? " bf16" : " f32") +
                                  " head_dim " + std::to_string(s.head_dim);
        EXPECT_LT(Distance(got.out, want.out), limit) << where;
        EXPECT_LT(Distance(got.lse, want.lse), limit) << where;
        EXPECT_LT(Distance(got.dq, want.dq), limit) << where;
        EXPECT_LT(Distance(got.dk, want.dk), limit) << where;
        EXPECT_LT(Distance(got.dv, want.dv), limit) << where;
      }
    }
  }
}

}  // namespace
}  // namespace ink
