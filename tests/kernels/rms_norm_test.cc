#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernel_context.h"

namespace ink::test {
namespace {

struct NormInput {
  NormInput(int64_t rows, int64_t dim, float deviation) {
    std::mt19937 random(static_cast<unsigned>(dim));
    params.num_rows = rows;
    params.dim = dim;
    params.x_stride = dim + 3;
    params.out_stride = dim + 1;
    params.eps = 1e-5f;
    x = RandomFloats(random, rows * params.x_stride, deviation);
    weight = RandomFloats(random, dim);
    params.x = x.data();
    params.weight = weight.data();
  }
  std::vector<float> Run(const Isa& isa, const KernelContext& context) {
    std::vector<float> out(params.num_rows * params.out_stride, -77.0f);
    params.out = out.data();
    isa.rms_norm(params, context);
    return out;
  }
  std::vector<float> x;
  std::vector<float> weight;
  RmsNormParams params;
};

TEST(RmsNorm, IsExactToARoundingOrTwoAndTheSameEverywhere) {
  Context one(1);
  Context three(3);
  for (const int64_t dim : {1, 2, 8, 15, 16, 17, 63, 64, 65, 100, 288, 2048, 4096, 20000}) {
    for (const float deviation : {1e-4f, 1.0f, 1e5f}) {
      const int64_t rows = dim > 1000 ? 9 : 40;
      NormInput input(rows, dim, deviation);
      const std::vector<float> reference = input.Run(kReference, one);
      for (int64_t r = 0; r < rows; ++r) {
        const float* x = input.x.data() + r * input.params.x_stride;
        double squares = 0;
        for (int64_t i = 0; i < dim; ++i) squares += static_cast<double>(x[i]) * x[i];
        const double inverse =
            1.0 / std::sqrt(squares / static_cast<double>(dim) + input.params.eps);
        for (int64_t i = 0; i < dim; ++i) {
          const double exact = x[i] * inverse * input.weight[i];
          // Up to 5 roundings, and the lanes' sums: at most dim / 64 roundings, halved by the root.
          ASSERT_NEAR(reference[r * input.params.out_stride + i], exact,
                      std::abs(exact) * (5 + static_cast<double>(dim) / 128) * 6e-8);
        }
        EXPECT_EQ(reference[r * input.params.out_stride + dim], -77.0f);
      }
      for (const Isa& isa : AllIsas()) {
        EXPECT_EQ(input.Run(isa, three), reference) << isa.name << " " << dim;
      }
    }
  }
}

TEST(RmsNorm, NanStaysInItsRow) {
  Context context(1);
  for (const Isa& isa : AllIsas()) {
    NormInput input(3, 70, 1.0f);
    input.x[input.params.x_stride + 69] = std::nanf("");
    const std::vector<float> out = input.Run(isa, context);
    for (int i = 0; i < 70; ++i) {
      EXPECT_FALSE(std::isnan(out[i]));
      EXPECT_TRUE(std::isnan(out[input.params.out_stride + i]));
      EXPECT_FALSE(std::isnan(out[2 * input.params.out_stride + i]));
    }
  }
}

}  // namespace
}  // namespace ink::test
