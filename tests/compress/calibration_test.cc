// Sums of squares of what linears and experts read, against sums computed by hand.
#include "compress/calibration.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "compress/importance.h"
#include "model/model.h"
#include "model/tiny_models.h"
#include "ops/linear.h"
#include "ops/moe.h"

namespace ink {
namespace {

using namespace testing_support;

struct World {
  Ledger ledger;
  std::unique_ptr<Device> device;
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Model> model;
  Buffer memory, inputs;

  explicit World(const TinyModel& tiny) {
    const std::string path = testing::TempDir() + "/ink_calibration_" + tiny.name + ".gguf";
    WriteTinyModel(tiny, path);
    device = CreateCpuDevice({2, ""}, &ledger).value();
    source = OpenGgufSource(path).value();
    model = LoadModel(*source, *device, {}).value();
    memory = device->Allocate(1 << 22, LedgerEntry::kActivations).value();
    inputs = device->Allocate(1 << 20, LedgerEntry::kInputs).value();
  }
  const Weight& Find(const std::string& name) const {
    for (const Weight* weight : model->parameters().matrices) {
      if (weight->name == name) return *weight;
    }
    ADD_FAILURE() << name;
    return *model->parameters().matrices[0];
  }
  std::vector<float> Rows(const std::string& name, int expert) const {
    auto tensor = source->Matrix(name);
    std::vector<float> all, row(static_cast<size_t>(tensor->cols));
    for (int64_t r = 0; r < tensor->rows; ++r) {
      FindQuantFormat(tensor->type)->decode(tensor->Row(expert, r), row.data(), tensor->cols);
      all.insert(all.end(), row.begin(), row.end());
    }
    return all;
  }
};

TEST(Calibration, SumsWhatALinearReads) {
  World world({.name = "plain", .arch = "llama"});
  Calibration calibration(*world.device, false);
  Arena arena(world.memory.data(), world.memory.size());
  ExecContext context{*world.device, arena, nullptr, &calibration};
  const Weight& weight = world.Find("blk.1.attn_k.weight");
  std::vector<double> want(64);
  Rng rng(3);
  for (int64_t rows : {5, 1, 9}) {
    // Two columns more than the weight reads: strides count.
    std::vector<float> x(static_cast<size_t>(rows * 66));
    for (float& value : x) value = rng.Normal();
    world.device->CopyToDevice(world.inputs.data(), x.data(), x.size() * 4);
    Linear(context, Tensor{reinterpret_cast<float*>(world.inputs.data()), rows, 64, 66}, weight);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < 64; ++c) want[c] += std::pow(static_cast<double>(x[r * 66 + c]), 2);
    }
  }
  const Calibration::Sums& sums = calibration.sums().at("blk.1.attn_k.weight");
  EXPECT_EQ(sums.counts, std::vector<int64_t>{15});
  for (int c = 0; c < 64; ++c) ASSERT_NEAR(sums.squares[c], want[c], 1e-9 * want[c]);

  const std::string path = testing::TempDir() + "/ink_calibration.imatrix.gguf";
  Status status = calibration.Write(path, "numbers.txt", 3, 512);
  ASSERT_TRUE(status.ok()) << status.message();
  auto matrix = ImportanceMatrix::Load(path);
  ASSERT_TRUE(matrix.ok()) << matrix.status().message();
  EXPECT_EQ(matrix->dataset(), "numbers.txt");
  EXPECT_EQ(matrix->chunks(), 3u);
  const std::vector<float>* values = matrix->Find("blk.1.attn_k.weight");
  ASSERT_NE(values, nullptr);
  for (int c = 0; c < 64; ++c) ASSERT_NEAR((*values)[c], want[c] / 15, 1e-6 * want[c]);
}

TEST(Calibration, TheVocabularyProjectionOnlyOnDemand) {
  World world({.name = "tied", .arch = "llama", .tied = true});
  std::vector<float> x(64, 0.5f);
  world.device->CopyToDevice(world.inputs.data(), x.data(), x.size() * 4);
  for (bool output : {false, true}) {
    Calibration calibration(*world.device, output);
    Arena arena(world.memory.data(), world.memory.size());
    ExecContext context{*world.device, arena, nullptr, &calibration};
    Linear(context, Tensor{reinterpret_cast<float*>(world.inputs.data()), 1, 64, 64},
           world.Find("token_embd.weight"));
    EXPECT_EQ(calibration.sums().size(), output ? 1u : 0u);
    if (!output) {
      EXPECT_FALSE(calibration.Write(testing::TempDir() + "/ink_none.gguf", "", 1, 512).ok());
    }
  }
}

TEST(Calibration, ExpertsAreCountedApart) {
  World world({.name = "experts", .arch = "llama", .experts = true});
  Calibration calibration(*world.device, false);
  Arena arena(world.memory.data(), world.memory.size());
  ExecContext context{*world.device, arena, nullptr, &calibration};
  constexpr int kTokens = 11, kDim = 64, kFfn = 96, kExperts = 3, kTopK = 2;
  Rng rng(8);
  std::vector<float> x(kTokens * kDim), logits(kTokens * kExperts);
  for (float& value : x) value = 0.1f * rng.Normal();
  for (float& value : logits) value = rng.Normal();
  for (int t = 0; t < kTokens; ++t) logits[t * kExperts + 2] = -9;  // nobody chooses expert 2
  std::byte* data = world.inputs.data();
  world.device->CopyToDevice(data, x.data(), x.size() * 4);
  world.device->CopyToDevice(data + 65536, logits.data(), logits.size() * 4);
  const std::string b = "blk.0.";
  MixtureOfExperts(context, Tensor{reinterpret_cast<float*>(data), kTokens, kDim, kDim},
                   Tensor{reinterpret_cast<float*>(data + 65536), kTokens, kExperts, kExperts},
                   world.Find(b + "ffn_gate_exps.weight"), world.Find(b + "ffn_up_exps.weight"),
                   world.Find(b + "ffn_down_exps.weight"), MoeSpec{.top_k = kTopK});
  ASSERT_TRUE(calibration.status().ok());
  std::vector<double> gate_want(kExperts * kDim), down_want(kExperts * kFfn);
  for (int e = 0; e < 2; ++e) {
    const std::vector<float> gate = world.Rows(b + "ffn_gate_exps.weight", e);
    const std::vector<float> up = world.Rows(b + "ffn_up_exps.weight", e);
    for (int t = 0; t < kTokens; ++t) {
      for (int d = 0; d < kDim; ++d) {
        gate_want[e * kDim + d] += std::pow(static_cast<double>(x[t * kDim + d]), 2);
      }
      for (int f = 0; f < kFfn; ++f) {
        double g = 0, u = 0;
        for (int d = 0; d < kDim; ++d) {
          g += static_cast<double>(gate[f * kDim + d]) * x[t * kDim + d];
          u += static_cast<double>(up[f * kDim + d]) * x[t * kDim + d];
        }
        down_want[e * kFfn + f] += std::pow(g / (1 + std::exp(-g)) * u, 2);
      }
    }
  }
  const std::vector<int64_t> counts = {kTokens, kTokens, 0};
  for (const char* name : {"ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"}) {
    EXPECT_EQ(calibration.sums().at(b + name).counts, counts) << name;
  }
  for (const char* name : {"ffn_gate_exps.weight", "ffn_up_exps.weight"}) {
    const auto& squares = calibration.sums().at(b + name).squares;
    for (size_t i = 0; i < gate_want.size(); ++i) ASSERT_NEAR(squares[i], gate_want[i], 1e-6);
  }
  const auto& squares = calibration.sums().at(b + "ffn_down_exps.weight").squares;
  for (size_t i = 0; i < down_want.size(); ++i) {
    ASSERT_NEAR(squares[i], down_want[i], 1e-5 * down_want[i] + 1e-12) << i;
  }
  const std::string path = testing::TempDir() + "/ink_calibration_experts.gguf";
  ASSERT_TRUE(calibration.Write(path, "x", 1, 512).ok());
  auto matrix = ImportanceMatrix::Load(path);
  ASSERT_TRUE(matrix.ok()) << matrix.status().message();
  EXPECT_EQ(matrix->Find(b + "ffn_down_exps.weight")->size(), size_t{kExperts * kFfn});
  EXPECT_EQ((*matrix->Find(b + "ffn_down_exps.weight"))[2 * kFfn], 1.0f);  // never reached
}

}  // namespace
}  // namespace ink
