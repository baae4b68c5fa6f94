#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernel_context.h"
#include "kernels/cpu/reference/vec_math.h"
#include "kernels/op_table.h"

namespace ink::test {
namespace {

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Values of all sizes: a sweep, random ones, extremes.
std::vector<float> Inputs(size_t count) {
  std::mt19937 random(2);
  std::vector<float> x = RandomFloats(random, count, 4.0f);
  for (size_t i = 0; i < count / 2; ++i) {
    x[i] = -110.0f + 220.0f * static_cast<float>(i) / static_cast<float>(count / 2);
  }
  const float extremes[] = {0.0f, -0.0f, 1e-30f, -1e-30f, 1e30f, -1e30f, 3e38f, -3e38f, 0.625f};
  std::copy(std::begin(extremes), std::end(extremes), x.begin());
  return x;
}

// Relative error of the shared exponential, against double.
TEST(VectorMath, Exponentials) {
  EXPECT_EQ(reference::Exp2Scaled(0.0f, 1.7f, -100.0f), 1.0f);
  EXPECT_EQ(reference::Exp2Scaled(-std::numeric_limits<float>::infinity(), 1.0f, -125.0f), 0.0f);
  EXPECT_EQ(reference::Exp2Scaled(-126.0f, 1.0f, -125.0f), 0.0f);
  EXPECT_TRUE(std::isnan(reference::Exp2Scaled(std::nanf(""), 1.0f, -125.0f)));
  EXPECT_EQ(reference::Exp(0.0f), 1.0f);
  double error2 = 0;
  double error = 0;
  for (int i = 0; i <= 400000; ++i) {
    const float x = -124.9f * static_cast<float>(i) / 400000.0f;
    const double exact2 = std::exp2(static_cast<double>(x));
    error2 = std::max(error2, std::abs(reference::Exp2Scaled(x, 1.0f, -125.0f) - exact2) / exact2);
    const float y = -87.0f + 175.0f * static_cast<float>(i) / 400000.0f;
    const double exact = std::exp(static_cast<double>(y));
    error = std::max(error, std::abs(reference::Exp(y) - exact) / exact);
  }
  EXPECT_LT(error2, 2e-7);
  EXPECT_LT(error, 2.5e-7);
}

TEST(VectorMath, Tanh) {
  double error = 0;
  for (int i = -300000; i <= 300000; ++i) {
    const float x = static_cast<float>(i) * 1e-4f;
    if (i == 0) continue;
    const double exact = std::tanh(static_cast<double>(x));
    error = std::max(error, std::abs((reference::Tanh(x) - exact) / exact));
  }
  EXPECT_LT(error, 3e-7);
  EXPECT_EQ(reference::Tanh(1e30f), 1.0f);
  EXPECT_EQ(reference::Tanh(-1e30f), -1.0f);
  EXPECT_TRUE(std::isnan(reference::Tanh(std::nanf(""))));
}

TEST(Elementwise, AddAndScale) {
  Context three(3);
  for (const size_t count : {size_t{1}, size_t{16}, size_t{37}, size_t{16384}, size_t{50001}}) {
    const std::vector<float> a = Inputs(std::max<size_t>(count, 20));
    std::mt19937 random(9);
    const std::vector<float> b = RandomFloats(random, a.size());
    for (const Isa& isa : AllIsas()) {
      std::vector<float> sum(count + 1, -77.0f);
      AddParams add{a.data(), b.data(), sum.data(), static_cast<int64_t>(count)};
      isa.add(add, three);
      std::vector<float> scaled(a.begin(), a.begin() + static_cast<int64_t>(count));
      ScaleParams scale{scaled.data(), scaled.data(), static_cast<int64_t>(count), 0.37f};
      isa.scale(scale, three);
      for (size_t i = 0; i < count; ++i) {
        ASSERT_EQ(sum[i], a[i] + b[i]) << isa.name;
        ASSERT_EQ(scaled[i], a[i] * 0.37f) << isa.name;
      }
      EXPECT_EQ(sum[count], -77.0f);
    }
  }
}

TEST(Elementwise, Adapt) {
  Context three(3);
  std::mt19937 random(4);
  const int64_t rows = 5, dim = 37, stride = 40;
  const std::vector<float> y = RandomFloats(random, rows * stride);
  const std::vector<float> delta = RandomFloats(random, rows * dim);
  const std::vector<float> gain = RandomFloats(random, dim);
  const std::vector<float> bias = RandomFloats(random, dim);
  for (const OpTable* table : CpuOpTables()) {
    for (int kind = 0; kind < 3; ++kind) {
      std::vector<float> out = y;
      AdaptParams params{out.data(), delta.data(), nullptr, nullptr, rows, dim, stride, 0.3f};
      if (kind > 0) params.gain = gain.data();
      if (kind > 1) params.bias = bias.data();
      table->adapt(params, three);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < stride; ++c) {
          const double before = y[r * stride + c];
          double want = before;
          if (c < dim) {
            const double change = 0.3 * delta[r * dim + c];
            if (kind == 0) want = before + change;
            if (kind == 1) want = gain[c] * (before + change);
            if (kind == 2) want = gain[c] * (before - bias[c] + change) + bias[c];
          }
          ASSERT_NEAR(out[r * stride + c], want, 1e-5) << table->name << " " << kind;
        }
      }
    }
  }
}

TEST(Elementwise, Softcap) {
  Context three(3);
  const std::vector<float> x = Inputs(20011);
  for (const float cap : {5.0f, 30.0f}) {
    std::vector<float> reference;
    for (const Isa& isa : {kReference}) {
      reference.assign(x.size(), 0.0f);
      isa.softcap({x.data(), reference.data(), static_cast<int64_t>(x.size()), cap}, three);
    }
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = cap * std::tanh(static_cast<double>(x[i]) / cap);
      ASSERT_NEAR(reference[i], exact, 4e-7 * std::abs(exact) + 1e-37) << x[i];
    }
    for (const Isa& isa : VectorIsas()) {
      std::vector<float> out = x;
      isa.softcap({out.data(), out.data(), static_cast<int64_t>(x.size()), cap}, three);
      EXPECT_TRUE(SameBits(out, reference)) << isa.name;
    }
  }
}

TEST(Elementwise, Glu) {
  Context one(1);
  Context three(3);
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (const int64_t dim : {1, 7, 16, 33, 20000}) {
      const int64_t rows = 5;
      const std::vector<float> gate = Inputs(rows * (dim + 5));
      std::mt19937 random(4);
      const std::vector<float> up = RandomFloats(random, rows * (dim + 2));
      GluParams p;
      p.gate = gate.data();
      p.up = up.data();
      p.num_rows = rows;
      p.dim = dim;
      p.gate_stride = dim + 5;
      p.up_stride = dim + 2;
      p.activation = activation;
      std::vector<float> reference(rows * dim);
      p.out = reference.data();
      kReference.glu(p, one);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < dim; ++i) {
          const double g = gate[r * p.gate_stride + i];
          const double u = up[r * p.up_stride + i];
          const double z = std::sqrt(2.0 / M_PI) * (g + 0.044715 * g * g * g);
          // (1 + tanh z) / 2 without its cancellation.
          const double exact =
              g * u / (1.0 + std::exp(activation == Activation::kSilu ? -g : -2.0 * z));
          if (std::abs(exact) > std::numeric_limits<float>::max()) {
            ASSERT_TRUE(std::isinf(reference[r * dim + i]));
            continue;
          }
          // The exponential's argument is rounded, which costs it its size in roundings.
          const double argument =
              std::min(90.0, activation == Activation::kSilu ? std::abs(g) : 2 * std::abs(z));
          ASSERT_NEAR(reference[r * dim + i], exact,
                      std::abs(exact) * (4e-7 + 2e-7 * argument) + 1e-30 * std::abs(g * u))
              << g;
        }
      }
      for (const Isa& isa : VectorIsas()) {
        std::vector<float> out(rows * dim, -77.0f);
        p.out = out.data();
        isa.glu(p, three);
        EXPECT_TRUE(SameBits(out, reference)) << isa.name << " " << dim;
      }
    }
  }
}

}  // namespace
}  // namespace ink::test
