#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/rng.h"
#include "quant/quant_format.h"
#include "support/shared.h"

namespace ink {
namespace {

using testing_support::Shared;

std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), values.size() * 4);
  return values;
}

double SquaredError(const std::vector<float>& x, const std::vector<float>& y,
                    const float* importance = nullptr) {
  double sum = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double diff = static_cast<double>(x[i]) - static_cast<double>(y[i]);
    sum += (importance == nullptr ? 1.0 : static_cast<double>(importance[i])) * diff * diff;
  }
  return sum;
}

double SquaredNorm(const std::vector<float>& x) {
  return SquaredError(x, std::vector<float>(x.size(), 0.0f));
}

std::vector<std::byte> Encode(const QuantFormat& format, const std::vector<float>& x,
                              const float* importance = nullptr) {
  const int64_t n = static_cast<int64_t>(x.size());
  // A guard beyond the end and an odd address.
  std::vector<std::byte> bytes(static_cast<size_t>(RowBytes(format.type, n)) + 2, std::byte{0xa5});
  format.encode(x.data(), importance, bytes.data() + 1, n);
  EXPECT_EQ(bytes.front(), std::byte{0xa5});
  EXPECT_EQ(bytes.back(), std::byte{0xa5});
  return {bytes.begin() + 1, bytes.end() - 1};
}

std::vector<float> Decode(const QuantFormat& format, const std::vector<std::byte>& bytes,
                          size_t n) {
  std::vector<float> out(n);
  format.decode(bytes.data(), out.data(), static_cast<int64_t>(n));
  return out;
}

std::vector<float> RoundTrip(const QuantFormat& format, const std::vector<float>& x,
                             const float* importance = nullptr) {
  return Decode(format, Encode(format, x, importance), x.size());
}

std::vector<float> Make(size_t n, uint64_t seed, const std::function<float(Rng&, size_t)>& draw) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) x[i] = draw(rng, i);
  return x;
}

std::vector<float> Gaussian(size_t n, uint64_t seed, float scale) {
  return Make(n, seed, [scale](Rng& rng, size_t) { return scale * rng.Normal(); });
}

struct Distribution {
  std::string name;
  std::vector<float> x;
};

std::vector<Distribution> Distributions() {
  constexpr size_t kN = 4096;
  return {
      {"gaussian", Gaussian(kN, 1, 0.02f)},
      {"heavy tails", Make(kN, 2,
                           [](Rng& rng, size_t) {
                             const float a = rng.Normal();
                             const float b = rng.Normal();
                             return 0.02f * a / (std::fabs(b) + 0.1f);
                           })},
      {"outliers", Make(kN, 3,
                        [](Rng& rng, size_t) {
                          return 0.02f * rng.Normal() * (rng.Uniform() < 0.01 ? 30.0f : 1.0f);
                        })},
      {"positive", Make(kN, 4, [](Rng& rng, size_t) { return static_cast<float>(rng.Uniform()); })},
      {"negative",
       Make(kN, 5, [](Rng& rng, size_t) { return -1.0f - static_cast<float>(rng.Uniform()); })},
      {"sparse",
       Make(kN, 6, [](Rng& rng, size_t) { return rng.Uniform() < 0.1 ? rng.Normal() : 0.0f; })},
      {"row scales", Make(kN, 7,
                          [](Rng& rng, size_t i) {
                            return rng.Normal() *
                                   std::exp(2.0f * std::sin(static_cast<float>(i / 32)));
                          })},
      {"large", Gaussian(kN, 8, 1e4f)},
      {"small", Gaussian(kN, 9, 1e-3f)},
  };
}

std::string GoldenName(const DTypeInfo& info) {
  std::string name(info.name);
  if (name[0] == 'q' && name.ends_with("_k")) name.back() = 'K';
  return name;
}

TEST(EncodeTest, ErrorIsAtMostThatOfTheGoldens) {
  INK_NEEDS_SHARED();
  const Result<std::string> source = ReadFile(Shared("goldens/quants/source.f32"));
  ASSERT_TRUE(source.ok());
  const std::vector<float> x = Floats(*source);
  for (const QuantFormat& format : AllQuantFormats()) {
    if (format.type == DType::kF32 || format.type == DType::kNF4) continue;
    const DTypeInfo& info = Info(format.type);
    const std::string stem = Shared("goldens/quants/" + GoldenName(info));
    const Result<std::string> golden = ReadFile(stem + ".f32");
    ASSERT_TRUE(golden.ok());
    const double theirs = SquaredError(x, Floats(*golden));
    const double ours = SquaredError(x, RoundTrip(format, x));
    EXPECT_LE(ours, 1.001 * theirs) << info.name;
    if (!info.quantized) {
      const Result<std::string> bytes = ReadFile(stem + ".bin");
      ASSERT_TRUE(bytes.ok());
      const std::vector<std::byte> encoded = Encode(format, x);
      ASSERT_EQ(encoded.size(), bytes->size());
      EXPECT_EQ(std::memcmp(encoded.data(), bytes->data(), bytes->size()), 0) << info.name;
    }
  }
}

// Relative squared error on Gaussian rows, in units of 1e-6, that ggml's encoders leave (measured
// on the same kind of data), and for NF4 that of its code book.
TEST(EncodeTest, GaussianErrorIsBelowThePeers) {
  const std::map<DType, double> bound = {
      {DType::kF16, 0.05},      {DType::kBF16, 3.0},      {DType::kQ8_0, 29.0},
      {DType::kQ4_0, 7470.1},   {DType::kQ4_1, 6175.3},   {DType::kQ5_0, 1825.8},
      {DType::kQ5_1, 1445.5},   {DType::kQ2_K, 88356.9},  {DType::kQ3_K, 22814.8},
      {DType::kQ4_K, 5122.4},   {DType::kQ5_K, 1308.7},   {DType::kQ6_K, 317.7},
      {DType::kIQ4_NL, 5821.7}, {DType::kIQ4_XS, 5908.8}, {DType::kMXFP4, 13781.0},
      {DType::kNF4, 9500.0},
  };
  const std::vector<float> x = Gaussian(65536, 11, 0.05f);
  for (const auto& [type, limit] : bound) {
    const double error = SquaredError(x, RoundTrip(*FindQuantFormat(type), x)) / SquaredNorm(x);
    EXPECT_LT(error * 1e6, limit) << Info(type).name;
    EXPECT_GT(error * 1e6, limit * 0.3) << Info(type).name << ": too good to be true";
  }
}

TEST(EncodeTest, EveryDistributionKeepsItsRelativeError) {
  // No distribution is worse than some multiple of the uniform quantizer's 1 / (12 levels^2).
  const std::map<DType, double> bound = {
      {DType::kF32, 1e-30},  {DType::kF16, 1e-6},    {DType::kBF16, 1e-5},   {DType::kQ8_0, 3e-4},
      {DType::kQ4_0, 0.05},  {DType::kQ4_1, 0.05},   {DType::kQ5_0, 0.012},  {DType::kQ5_1, 0.012},
      {DType::kQ2_K, 0.17},  {DType::kQ3_K, 0.10},   {DType::kQ4_K, 0.05},   {DType::kQ5_K, 0.012},
      {DType::kQ6_K, 0.003}, {DType::kIQ4_NL, 0.05}, {DType::kIQ4_XS, 0.05}, {DType::kMXFP4, 0.05},
      {DType::kNF4, 0.05},
  };
  for (const Distribution& d : Distributions()) {
    for (const QuantFormat& format : AllQuantFormats()) {
      const double error = SquaredError(d.x, RoundTrip(format, d.x)) / SquaredNorm(d.x);
      EXPECT_LE(error, bound.at(format.type)) << Info(format.type).name << " " << d.name;
    }
  }
}

TEST(EncodeTest, ImportanceLowersTheWeightedError) {
  for (const Distribution& d : Distributions()) {
    const std::vector<float> importance = Make(
        d.x.size(), 21, [](Rng& rng, size_t) { return 1e-6f * std::exp(2.0f * rng.Normal()); });
    for (const QuantFormat& format : AllQuantFormats()) {
      if (!Info(format.type).quantized || format.type == DType::kQ8_0 ||
          format.type == DType::kNF4) {
        continue;
      }
      const double plain = SquaredError(d.x, RoundTrip(format, d.x), importance.data());
      const double weighted =
          SquaredError(d.x, RoundTrip(format, d.x, importance.data()), importance.data());
      EXPECT_LE(weighted, plain * 1.0001) << Info(format.type).name << " " << d.name;
    }
  }
}

TEST(EncodeTest, ImportanceIsScaleFreeAndUniformIsNone) {
  const std::vector<float> x = Gaussian(1024, 31, 1.0f);
  const std::vector<float> importance =
      Make(x.size(), 32, [](Rng& rng, size_t) { return static_cast<float>(rng.Uniform()); });
  std::vector<float> scaled = importance;
  for (float& w : scaled) w *= 1024.0f;
  const std::vector<float> uniform(x.size(), 3.0f);
  const std::vector<float> none(x.size(), 0.0f);
  for (const QuantFormat& format : AllQuantFormats()) {
    EXPECT_EQ(Encode(format, x, importance.data()), Encode(format, x, scaled.data()));
    EXPECT_EQ(Encode(format, x, uniform.data()), Encode(format, x));
    EXPECT_EQ(Encode(format, x, none.data()), Encode(format, x));
  }
}

TEST(EncodeTest, ZerosDecodeToZeros) {
  for (const QuantFormat& format : AllQuantFormats()) {
    for (const float zero : {0.0f, -0.0f}) {
      const std::vector<float> x(512, zero);
      for (const float y : RoundTrip(format, x)) {
        ASSERT_EQ(y, 0.0f) << Info(format.type).name;
      }
    }
    // One value among zeros: the other blocks stay exact.
    std::vector<float> x(768, 0.0f);
    x[300] = 1.0f;
    const std::vector<float> y = RoundTrip(format, x);
    for (size_t i = 0; i < x.size(); ++i) {
      if (i < 256 || i >= 512) {
        ASSERT_EQ(y[i], 0.0f) << Info(format.type).name << " " << i;
      }
    }
    EXPECT_NEAR(y[300], 1.0f, 0.01f) << Info(format.type).name;
  }
}

TEST(EncodeTest, ConstantsAreKeptToTheScalesPrecision) {
  for (const QuantFormat& format : AllQuantFormats()) {
    // MXFP4 has no scale but a power of two: a constant is off by up to 1 / 7.
    const double tolerance = format.type == DType::kMXFP4 ? 0.15 : 0.005;
    for (const float constant : {1.0f, -1.0f, 0.1f, -0.37f, 100.7f}) {
      const std::vector<float> x(256, constant);
      for (const float y : RoundTrip(format, x)) {
        ASSERT_NEAR(y / constant, 1.0, tolerance) << Info(format.type).name << " " << constant;
      }
    }
  }
}

TEST(EncodeTest, ExtremeMagnitudesStayFiniteAndKeepTheirSign) {
  for (const float scale : {1e-45f, 1e-38f, 1e-30f, 1e-10f, 1e-7f, 1e6f, 1e20f, 3e37f}) {
    const std::vector<float> x = Gaussian(512, 41, scale);
    for (const QuantFormat& format : AllQuantFormats()) {
      if (!Info(format.type).quantized) continue;
      const std::vector<float> y = RoundTrip(format, x);
      for (size_t i = 0; i < x.size(); ++i) {
        ASSERT_TRUE(std::isfinite(y[i])) << Info(format.type).name << " " << scale;
      }
      // The product never grows: what a format cannot reach is nearer to zero, not beyond.
      EXPECT_LE(SquaredNorm(y), 2.0 * SquaredNorm(x) + 1e-12) << Info(format.type).name << scale;
    }
  }
  // Magnitudes whose scale is a subnormal half keep most of their information.
  const std::vector<float> x = Gaussian(512, 42, 1e-6f);
  for (const QuantFormat& format : AllQuantFormats()) {
    if (!Info(format.type).quantized) continue;
    const double error = SquaredError(x, RoundTrip(format, x)) / SquaredNorm(x);
    EXPECT_LT(error, 0.5) << Info(format.type).name;
  }
}

TEST(EncodeTest, NonFiniteInputGivesFiniteBlocks) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x = Gaussian(512, 51, 1.0f);
  x[3] = nan;
  x[40] = inf;
  x[41] = -inf;
  for (size_t i = 256; i < 512; ++i) x[i] = i % 2 == 0 ? nan : inf;
  std::vector<float> importance(512, 1.0f);
  importance[5] = nan;
  importance[6] = inf;
  importance[7] = -1.0f;
  for (const QuantFormat& format : AllQuantFormats()) {
    if (!Info(format.type).quantized) continue;
    for (const float* w : std::initializer_list<const float*>{nullptr, importance.data()}) {
      for (const float y : RoundTrip(format, x, w)) {
        ASSERT_TRUE(std::isfinite(y)) << Info(format.type).name;
      }
    }
  }
}

TEST(EncodeTest, BlocksAreIndependentOfTheirNeighbours) {
  const std::vector<float> x = Gaussian(1024 + 32 * 6, 61, 0.3f);
  const std::vector<float> importance =
      Make(x.size(), 62, [](Rng& rng, size_t) { return static_cast<float>(rng.Uniform()); });
  for (const QuantFormat& format : AllQuantFormats()) {
    const int unit = Info(format.type).block_values;
    const size_t n = x.size() / static_cast<size_t>(unit) * static_cast<size_t>(unit);
    const std::vector<float> all(x.begin(), x.begin() + static_cast<int64_t>(n));
    const std::vector<std::byte> whole = Encode(format, all, importance.data());
    std::vector<std::byte> parts;
    for (size_t i = 0; i < n; i += static_cast<size_t>(unit)) {
      const std::vector<float> one(x.begin() + static_cast<int64_t>(i),
                                   x.begin() + static_cast<int64_t>(i) + unit);
      const std::vector<std::byte> block = Encode(format, one, importance.data() + i);
      parts.insert(parts.end(), block.begin(), block.end());
    }
    EXPECT_EQ(whole, parts) << Info(format.type).name;
  }
}

// What a format can represent exactly it must find again (or come very near, where several scales
// interact): requantizing a model must not degrade it twice.
TEST(EncodeTest, ReencodingDecodedValuesLosesLittle) {
  const std::vector<float> x = Gaussian(8192, 71, 0.05f);
  for (const QuantFormat& format : AllQuantFormats()) {
    const std::vector<float> once = RoundTrip(format, x);
    const std::vector<float> twice = RoundTrip(format, once);
    const double first = SquaredError(x, once);
    const double second = SquaredError(once, twice);
    const bool exact = !Info(format.type).quantized || format.type == DType::kQ8_0 ||
                       format.type == DType::kNF4 || format.type == DType::kMXFP4;
    if (exact) {
      EXPECT_EQ(once, twice) << Info(format.type).name;
    } else {
      EXPECT_LT(second, 0.3 * first) << Info(format.type).name << " " << second / first;
    }
  }
}

}  // namespace
}  // namespace ink
