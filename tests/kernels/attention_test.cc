#include "kernel_context.h"

#include <gtest/gtest.h>

#include "attention_case.h"

namespace ink::test {
namespace {

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0};

std::string Describe(const CaseShape& shape) {
  return "heads " + std::to_string(shape.num_heads) + "/" + std::to_string(shape.num_kv_heads) +
         " dim " + std::to_string(shape.head_dim) + " K " + std::string(Info(shape.k_type).name) +
         " V " + std::string(Info(shape.v_type).name) + " softcap " +
         std::to_string(shape.softcap) + " window " + std::to_string(shape.window);
}

bool MultipliesBf16(const Isa& isa, const CaseShape& shape) {
  return isa.bf16_products && (shape.k_type == DType::kBF16 || shape.v_type == DType::kBF16);
}

/// The largest difference from exact arithmetic, over the largest value.
double Error(AttentionCase& c, const CaseShape& shape, const std::vector<float>& out) {
  double error = 0;
  for (int s = 0; s < c.num_sequences(); ++s) {
    const int64_t tokens = c.spec(s).num_tokens;
    for (int64_t t = 0; t<tokens; t += tokens> 8 ? 5 : 1) {
      for (int h = 0; h < shape.num_heads; ++h) {
        const std::vector<double> exact = c.Exact(s, t, h);
        const float* row = c.Row(out, s, t, h);
        for (int d = 0; d < shape.head_dim; ++d) {
          const double difference = std::abs(row[d] - exact[d]);
          error = difference <= error ? error : difference;  // NaN is an error
        }
      }
    }
  }
  return error;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Every instruction set against exact arithmetic and, bit for bit, the reference.
void Check(const CaseShape& shape, const std::vector<CaseSequence>& sequences, unsigned seed = 1) {
  SCOPED_TRACE(Describe(shape));
  AttentionCase c(shape, sequences, seed);
  Context one(1);
  const std::vector<float> reference = c.RunAll(kReference, one);
  // A score of size s is off by up to about head_dim / 2 roundings of its terms, and so is its
  // probability, relatively; values of size 4 follow. Typical errors are a tenth of this.
  const double tolerance = 4e-6 * shape.score_deviation * std::sqrt(shape.head_dim / 16.0) * 4;
  EXPECT_LT(Error(c, shape, reference), tolerance);
  for (const Isa& isa : VectorIsas()) {
    SCOPED_TRACE(isa.name);
    const std::vector<float> out = c.RunAll(isa, one);
    if (MultipliesBf16(isa, shape) && shape.head_dim % 16 == 0) {
      // Rounding q and p to 8 bits: score errors of 2^-9 of |q||k|, at random.
      EXPECT_LT(Error(c, shape, out), 0.02 * shape.score_deviation);
    } else if (!MultipliesBf16(isa, shape)) {
      EXPECT_TRUE(SameBits(out, reference));
    }
  }
}

/// The bits of a query do not depend on what shares the call, nor on threads.
void CheckInvariance(const CaseShape& shape, const std::vector<CaseSequence>& sequences) {
  SCOPED_TRACE(Describe(shape));
  AttentionCase c(shape, sequences, 7);
  Context one(1);
  Context two(2);
  Context three(3);
  for (const Isa& isa : AllIsas()) {
    SCOPED_TRACE(isa.name);
    const std::vector<float> all = c.RunAll(isa, one);
    EXPECT_TRUE(SameBits(all, c.RunAll(isa, two)));
    EXPECT_TRUE(SameBits(all, c.RunAll(isa, three)));
    for (int s = 0; s < c.num_sequences(); ++s) {
      if (c.spec(s).mask != MaskKind::kCausal) continue;
      const int64_t n = c.spec(s).num_tokens;
      for (const int64_t chunk : {int64_t{1}, int64_t{7}, int64_t{50}}) {
        // The reference knows no tiles: one size is enough for it.
        if (isa.attention == kReference.attention && chunk < 50) continue;
        for (int64_t first = 0; first < n; first += chunk) {
          const int64_t last = std::min(n, first + chunk);
          const std::vector<float> part = c.RunPart(isa, two, s, first, last);
          for (int64_t t = first; t < last; ++t) {
            const size_t bytes = sizeof(float) * shape.num_heads * shape.head_dim;
            ASSERT_EQ(std::memcmp(c.Row(part, s, t, 0), c.Row(all, s, t, 0), bytes), 0)
                << "token " << t << " of sequence " << s << ", chunks of " << chunk;
          }
        }
      }
    }
  }
}

TEST(Attention, EveryPairOfCacheTypes) {
  for (const DType k : kTypes) {
    for (const DType v : kTypes) {
      CaseShape shape;
      shape.k_type = k;
      shape.v_type = v;
      Check(shape, {{300, 20}, {1, 1}, {257, 1}});
    }
  }
}

TEST(Attention, HeadDimensions) {
  for (const DType type : kTypes) {
    for (const int dim : {1, 2, 8, 16, 20, 32, 33, 48, 64, 72, 80, 96, 112, 128, 160, 192, 256}) {
      CaseShape shape;
      shape.head_dim = dim;
      shape.k_type = shape.v_type = type;
      Check(shape, {{70, 9}, {290, 2}});
    }
  }
}

TEST(Attention, HeadsPerKvHead) {
  for (const int group : {1, 2, 3, 5, 7, 8, 11, 12, 13, 25}) {
    CaseShape shape;
    shape.num_kv_heads = 2;
    shape.num_heads = 2 * group;
    shape.head_dim = 32;
    shape.k_type = shape.v_type = DType::kF16;
    Check(shape, {{270, 1}, {40, 13}});
  }
}

TEST(Attention, PartitionBoundaries) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
    CaseShape shape;
    shape.k_type = shape.v_type = type;
    shape.num_heads = 2;
    shape.num_kv_heads = 1;
    Check(shape, {{255, 3}, {256, 3}, {257, 3}, {511, 3}, {512, 3}, {513, 3}, {31, 31}, {33, 33}});
  }
}

TEST(Attention, WindowsMasksSinksAndSoftcap) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kQ4_0}) {
    for (const int64_t window : {0, 1, 3, 33, 256, 300}) {
      CaseShape shape;
      shape.k_type = shape.v_type = type;
      shape.window = window;
      shape.head_dim = 32;
      Check(shape, {{600, 40}, {30, 30}, {520, 17, MaskKind::kFull}, {530, 40, MaskKind::kTree}});
      shape.softcap = 5.0f;
      Check(shape, {{600, 10}, {300, 17, MaskKind::kFull}, {280, 40, MaskKind::kTree}});
      shape.sinks = true;
      Check(shape, {{600, 10}, {300, 17, MaskKind::kFull}, {280, 64, MaskKind::kTree}});
      shape.softcap = 0;
      Check(shape, {{600, 10}, {300, 17, MaskKind::kFull}, {280, 64, MaskKind::kTree}});
    }
  }
}

TEST(Attention, LargeScores) {
  for (const float deviation : {0.01f, 30.0f, 300.0f}) {
    CaseShape shape;
    shape.score_deviation = deviation;
    Check(shape, {{600, 5}});
  }
}

TEST(Attention, BitsDependOnNothingElse) {
  for (const DType type : kTypes) {
    for (const int dim : {64, 80, 24}) {
      CaseShape shape;
      shape.k_type = shape.v_type = type;
      shape.head_dim = dim;
      shape.num_heads = 6;
      CheckInvariance(shape, {{300, 70}, {5, 5}, {258, 2}, {513, 1}});
      shape.window = 40;
      CheckInvariance(shape, {{300, 70}, {258, 2}});
    }
  }
}

// Few short items and many threads: partitions become items of their own, with the same bits.
TEST(Attention, ThreadsChangeNothing) {
  Context one(1);
  Context six(6);
  for (const DType type : kTypes) {
    for (const int dim : {64, 20}) {
      CaseShape shape;
      shape.num_heads = 8;
      shape.num_kv_heads = 1;
      shape.head_dim = dim;
      shape.k_type = shape.v_type = type;
      for (const int64_t window : {0, 700}) {
        shape.window = window;
        shape.sinks = window > 0;
        AttentionCase c(shape, {{2000, 1}, {100, 1}, {700, 1}}, 3);
        AttentionCase prefill(shape, {{200, 200}}, 3);
        AttentionCase tree(shape, {{520, 1, MaskKind::kTree}}, 3);
        for (const Isa& isa : VectorIsas()) {
          SCOPED_TRACE(Describe(shape) + " " + isa.name);
          EXPECT_TRUE(SameBits(c.RunAll(isa, one), c.RunAll(isa, six)));
          EXPECT_TRUE(SameBits(prefill.RunAll(isa, one), prefill.RunAll(isa, six)));
          EXPECT_TRUE(SameBits(tree.RunAll(isa, one), tree.RunAll(isa, six)));
        }
      }
    }
  }
}

TEST(Attention, NanReachesTheResult) {
  CaseShape shape;
  Context one(1);
  for (const Isa& isa : AllIsas()) {
    AttentionCase c(shape, {{40, 1}}, 3);
    const KvLayerView cache = c.cache();
    const float nan = std::nanf("");
    std::memcpy(cache.k + c.tables()[0] * cache.k_block_bytes + 4 * 9, &nan, 4);
    const std::vector<float> out = c.RunAll(isa, one);
    EXPECT_TRUE(std::isnan(c.Row(out, 0, 0, 0)[0])) << isa.name;
    EXPECT_FALSE(std::isnan(c.Row(out, 0, 0, 2)[0])) << isa.name;
  }
}

TEST(Attention, AQueryThatSeesNothingGivesZeros) {
  CaseShape shape;
  Context one(1);
  const uint64_t none[1] = {0};
  for (const Isa& isa : AllIsas()) {
    AttentionCase c(shape, {{1, 1}}, 3);
    SequenceSpan span = c.Span(0);
    span.mask = MaskKind::kTree;
    span.tree_mask = none;
    std::vector<float> out(c.num_rows() * c.out_stride, -77.0f);
    isa.attention(c.Params(&span, 1, c.tables(), out.data()), one);
    EXPECT_EQ(out[0], 0.0f) << isa.name;
  }
}

}  // namespace
}  // namespace ink::test
