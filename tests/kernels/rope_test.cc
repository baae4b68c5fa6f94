#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernel_context.h"

namespace ink::test {
namespace {

struct RopeCase {
  int num_heads = 3;
  int head_dim = 64;
  int rotary_dim = 64;
  int num_axes = 1;
  std::vector<int> sections;
  bool interleaved = false;
  bool inverse = false;
  float magnitude = 1.0f;
  int32_t max_position = 4000;
};

struct RopeInput {
  RopeInput(const RopeCase& shape, int64_t tokens) {
    std::mt19937 random(5);
    stride = int64_t{shape.num_heads} * shape.head_dim + 7;
    x = RandomFloats(random, tokens * stride);
    for (int64_t i = 0; i < tokens * shape.num_axes; ++i) {
      positions.push_back(static_cast<int32_t>(random() % (shape.max_position + 1)));
    }
    for (int i = 0; i < shape.rotary_dim / 2; ++i) {
      inv_freq.push_back(
          std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(shape.rotary_dim)));
    }
    params.x = x.data();
    params.positions = positions.data();
    params.inv_freq = inv_freq.data();
    params.num_tokens = tokens;
    params.x_stride = stride;
    params.out_stride = stride + 2;
    params.num_heads = shape.num_heads;
    params.head_dim = shape.head_dim;
    params.rotary_dim = shape.rotary_dim;
    params.num_axes = shape.num_axes;
    for (size_t i = 0; i < shape.sections.size(); ++i) params.sections[i] = shape.sections[i];
    params.magnitude = shape.magnitude;
    params.interleaved = shape.interleaved;
    params.inverse = shape.inverse;
  }

  std::vector<float> Run(const Isa& isa, const KernelContext& context) {
    std::vector<float> out(params.num_tokens * params.out_stride, -77.0f);
    params.out = out.data();
    isa.rope(params, context);
    return out;
  }

  int64_t stride;
  std::vector<float> x;
  std::vector<int32_t> positions;
  std::vector<float> inv_freq;
  RopeParams params;
};

const std::vector<RopeCase>& Cases() {
  static const std::vector<RopeCase> cases = [] {
    std::vector<RopeCase> list;
    for (const bool interleaved : {false, true}) {
      for (const bool inverse : {false, true}) {
        RopeCase c;
        c.interleaved = interleaved;
        c.inverse = inverse;
        list.push_back(c);
        c.head_dim = 80;
        c.rotary_dim = 20;
        c.magnitude = 1.19f;
        list.push_back(c);
        c.head_dim = 8;
        c.rotary_dim = 8;
        list.push_back(c);
        c.head_dim = 128;
        c.rotary_dim = 128;
        c.max_position = 1000000;
        list.push_back(c);
        c.num_axes = 3;
        c.sections = {16, 24, 24};
        list.push_back(c);
      }
    }
    return list;
  }();
  return cases;
}

TEST(Rope, RotatesByTheExactAngle) {
  Context context(1);
  for (const RopeCase& shape : Cases()) {
    RopeInput input(shape, 40);
    const std::vector<float> out = input.Run(kReference, context);
    double error = 0;
    for (int64_t t = 0; t < 40; ++t) {
      for (int h = 0; h < shape.num_heads; ++h) {
        const float* x = input.x.data() + t * input.stride + h * shape.head_dim;
        const float* y = out.data() + t * input.params.out_stride + h * shape.head_dim;
        for (int i = 0; i < shape.rotary_dim / 2; ++i) {
          int axis = 0;
          for (int end = shape.sections.empty() ? 1 << 30 : shape.sections[0]; i >= end;) {
            end += shape.sections[++axis];
          }
          const long double angle =
              static_cast<long double>(input.positions[t * shape.num_axes + axis]) *
              input.inv_freq[i] * (shape.inverse ? -1 : 1);
          const int a = shape.interleaved ? 2 * i : i;
          const int b = shape.interleaved ? 2 * i + 1 : i + shape.rotary_dim / 2;
          const long double c = std::cos(angle) * shape.magnitude;
          const long double s = std::sin(angle) * shape.magnitude;
          error = std::max<double>(error, std::abs(y[a] - (x[a] * c - x[b] * s)));
          error = std::max<double>(error, std::abs(y[b] - (x[a] * s + x[b] * c)));
        }
        for (int d = shape.rotary_dim; d < shape.head_dim; ++d) EXPECT_EQ(y[d], x[d]);
      }
      EXPECT_EQ(out[t * input.params.out_stride + shape.num_heads * shape.head_dim], -77.0f);
    }
    EXPECT_LT(error, 1e-6);  // three roundings of values up to 5
  }
}

TEST(Rope, EveryInstructionSetGivesTheSameBitsAlsoInPlace) {
  Context one(1);
  Context three(3);
  for (const RopeCase& shape : Cases()) {
    RopeInput input(shape, 17);
    const std::vector<float> reference = input.Run(kReference, one);
    for (const Isa& isa : AllIsas()) {
      EXPECT_EQ(input.Run(isa, three), reference) << isa.name;
      RopeInput in_place(shape, 17);
      in_place.params.out = in_place.x.data();
      in_place.params.out_stride = in_place.params.x_stride;
      isa.rope(in_place.params, three);
      for (int64_t t = 0; t < 17; ++t) {
        EXPECT_EQ(std::memcmp(in_place.x.data() + t * in_place.stride,
                              reference.data() + t * input.params.out_stride,
                              sizeof(float) * shape.num_heads * shape.head_dim),
                  0)
            << isa.name;
      }
    }
  }
}

TEST(Rope, TheInverseUndoesIt) {
  Context context(1);
  RopeCase shape;
  for (const Isa& isa : AllIsas()) {
    RopeInput input(shape, 9);
    std::vector<float> out = input.Run(isa, context);
    input.params.x = out.data();
    input.params.x_stride = input.params.out_stride;
    input.params.inverse = true;
    const std::vector<float> back = input.Run(isa, context);
    for (int64_t t = 0; t < 9; ++t) {
      for (int i = 0; i < shape.num_heads * shape.head_dim; ++i) {
        EXPECT_NEAR(back[t * input.params.out_stride + i], input.x[t * input.stride + i], 2e-6);
      }
    }
  }
}

}  // namespace
}  // namespace ink::test
