// Gradients of every registered architecture against finite differences of the loss.
#include <cmath>

#include "train_case.h"

namespace ink {
namespace {

using namespace testing_support;

// The loss moved along `direction` (unit changes of a parameter) by +-h, against the gradient.
struct Slope {
  double measured, expected;
};
Slope Compare(Training& t, const TrainBatch& batch, const Parameter& p,
              const std::vector<float>& direction, double h) {
  std::vector<float> saved(p.value, p.value + p.size());
  double expected = 0;
  for (int64_t i = 0; i < p.size(); ++i) expected += double{p.grad[i]} * direction[i];
  auto loss_at = [&](double step) {
    for (int64_t i = 0; i < p.size(); ++i) {
      p.value[i] = static_cast<float>(saved[i] + step * direction[i]);
    }
    t.parameters->Repack();
    return t.step->Evaluate(batch).sum;
  };
  // Richardson: the error's h^2 term cancels.
  const double near = (loss_at(h) - loss_at(-h)) / (2 * h);
  const double far = (loss_at(2 * h) - loss_at(-2 * h)) / (4 * h);
  std::copy(saved.begin(), saved.end(), p.value);
  t.parameters->Repack();
  return {(4 * near - far) / 3, expected};
}

void CheckGradients(const ModelShape& shape, bool recompute, std::string_view isa) {
  auto t = MakeTraining(shape, /*bfloat16=*/false, recompute, isa);
  Rng rng(3);
  TrainBatch batch;
  AppendSequence(batch, 37, shape.n_vocab, rng);
  AppendSequence(batch, 1, shape.n_vocab, rng);
  AppendSequence(batch, 20, shape.n_vocab, rng);
  t->parameters->ZeroGradients();
  const StepLoss loss = t->step->ForwardBackward(batch, 1.0f);
  ASSERT_GT(loss.targets, 0);
  EXPECT_NEAR(t->step->Evaluate(batch).sum, loss.sum, 1e-4 * loss.sum);
  for (const auto& p : t->parameters->all()) {
    // Half along the gradient, half random: wrong entries cannot hide behind small ones.
    double norm = 0;
    for (int64_t i = 0; i < p->size(); ++i) norm += double{p->grad[i]} * p->grad[i];
    norm = std::sqrt(norm);
    ASSERT_GT(norm, 0) << p->name;
    std::vector<float> direction(static_cast<size_t>(p->size()));
    const double spread = 1.0 / std::sqrt(static_cast<double>(p->size()));
    for (int64_t i = 0; i < p->size(); ++i) {
      direction[i] = static_cast<float>(0.7 * p->grad[i] / norm + 0.7 * spread * rng.Normal());
    }
    // A step along the whole direction changes the loss by about norm * h: large beside the
    // rounding of the loss (1e-7 of its size per token), small beside its curvature.
    const Slope slope = Compare(*t, batch, *p, direction, 4e-3);
    EXPECT_NEAR(slope.measured, slope.expected, 4e-3 * norm + 2e-2) << p->name;
  }
}

class Architectures : public ::testing::TestWithParam<const char*> {};

TEST_P(Architectures, GradientsMatchFiniteDifferences) {
  CheckGradients(TinyShape(GetParam()), false, "");
}

INSTANTIATE_TEST_SUITE_P(All, Architectures,
                         ::testing::Values("llama", "qwen2", "qwen3", "qwen3moe", "gemma2",
                                           "gemma3", "phi3"));

TEST(Gradients, EveryRegisteredArchitectureIsTested) {
  EXPECT_EQ(KnownArchitectures().size(), 7u) << "add the new architecture to the list above";
}

TEST(Gradients, ReferenceKernels) { CheckGradients(TinyShape("llama"), false, "reference"); }

TEST(Gradients, MixtralExperts) {
  ModelShape shape = TinyShape("llama");
  shape.num_experts = shape.experts_per_token = 3;
  CheckGradients(shape, false, "");
}

TEST(Gradients, WithRecomputation) {
  CheckGradients(TinyShape("llama"), true, "");
  CheckGradients(TinyShape("gemma3"), true, "");
}

// Three layers, two of which use one set of weights: stored once, gradients add up.
TEST(Gradients, SharedLayers) {
  ModelShape shape = TinyShape("llama");
  shape.share = {0, 1, 0};
  ModelShape plain = TinyShape("llama");
  auto t = MakeTraining(shape, false);
  auto own = MakeTraining(plain, false);
  EXPECT_LT(t->model->info().weight_bytes, own->model->info().weight_bytes);
  EXPECT_LT(t->parameters->num_parameters(), own->parameters->num_parameters());
  CheckGradients(shape, false, "");
}

TEST(Gradients, RecomputationChangesNoBit) {
  for (bool bfloat16 : {false, true}) {
    auto plain = MakeTraining(TinyShape("llama"), bfloat16, false);
    auto again = MakeTraining(TinyShape("llama"), bfloat16, true);
    EXPECT_LT(again->step->activation_bytes(), plain->step->activation_bytes());
    Rng rng(5);
    TrainBatch batch;
    AppendSequence(batch, 50, 61, rng);
    AppendSequence(batch, 46, 61, rng);
    EXPECT_EQ(plain->step->ForwardBackward(batch, 1.0f).sum,
              again->step->ForwardBackward(batch, 1.0f).sum);
    const int64_t n = plain->parameters->flat_size();
    EXPECT_EQ(std::vector<float>(plain->parameters->grads(), plain->parameters->grads() + n),
              std::vector<float>(again->parameters->grads(), again->parameters->grads() + n));
  }
}

TEST(Gradients, Bfloat16IsCloseToFloat32) {
  auto exact = MakeTraining(TinyShape("llama"), false);
  auto rounded = MakeTraining(TinyShape("llama"), true);
  Rng rng(5);
  TrainBatch batch;
  AppendSequence(batch, 90, 61, rng);
  const double a = exact->step->ForwardBackward(batch, 1.0f).sum;
  const double b = rounded->step->ForwardBackward(batch, 1.0f).sum;
  EXPECT_NEAR(a, b, 0.02 * a);
  double dot = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < exact->parameters->flat_size(); ++i) {
    const double x = exact->parameters->grads()[i], y = rounded->parameters->grads()[i];
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  EXPECT_GT(dot / std::sqrt(aa * bb), 0.99);
}

// Micro-batches of unequal lengths, one without any target, add up to the whole batch.
TEST(Gradients, MicroBatchesEqualOneBatch) {
  auto whole = MakeTraining(TinyShape("llama"), false);
  auto parts = MakeTraining(TinyShape("llama"), false);
  Rng rng(9);
  std::vector<TrainBatch> micro(4);
  AppendSequence(micro[0], 31, 61, rng);
  AppendSequence(micro[1], 7, 61, rng);
  AppendSequence(micro[1], 2, 61, rng);
  AppendSequence(micro[2], 12, 61, rng);
  micro[2].targets.assign(12, -1);
  AppendSequence(micro[3], 40, 61, rng);
  TrainBatch all;
  int64_t targets = 0;
  for (const TrainBatch& m : micro) {
    all.tokens.insert(all.tokens.end(), m.tokens.begin(), m.tokens.end());
    all.positions.insert(all.positions.end(), m.positions.begin(), m.positions.end());
    all.targets.insert(all.targets.end(), m.targets.begin(), m.targets.end());
    all.lengths.insert(all.lengths.end(), m.lengths.begin(), m.lengths.end());
    targets += m.num_targets();
  }
  const float scale = 1.0f / static_cast<float>(targets);
  const double one = whole->step->ForwardBackward(all, scale).sum;
  double sum = 0;
  for (const TrainBatch& m : micro) sum += parts->step->ForwardBackward(m, scale).sum;
  EXPECT_NEAR(one, sum, 1e-5 * one);
  for (const auto& p : whole->parameters->all()) {
    double worst = 0, size = 0;
    const float* other = parts->parameters->grads() + (p->grad - whole->parameters->grads());
    for (int64_t i = 0; i < p->size(); ++i) {
      worst = std::max(worst, std::abs(double{p->grad[i]} - other[i]));
      size = std::max(size, std::abs(double{p->grad[i]}));
    }
    EXPECT_LT(worst, 2e-6 * size + 1e-9) << p->name;
  }
}

}  // namespace
}  // namespace ink
