// Adapters in training: gradients of the factors against finite differences, on every kind of base.
#include "train/low_rank.h"

#include <algorithm>
#include <cmath>

#include "quant/quant_format.h"
#include "train/four_bit_source.h"
#include "train_case.h"

namespace ink {
namespace {

using namespace testing_support;

struct Case {
  const char* architecture;
  bool dora;
  bool recompute;
  double dropout;
  bool quantized;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.architecture << (c.dora ? " dora" : " lora") << (c.recompute ? " recompute" : "")
       << (c.dropout > 0 ? " dropout" : "") << (c.quantized ? " four bits" : "");
}

class LowRankGradients : public ::testing::TestWithParam<Case> {};

TEST_P(LowRankGradients, AreFiniteDifferences) {
  const Case& c = GetParam();
  ModelShape shape = TinyShape(c.architecture);
  shape.d_model = 64;
  shape.ffn_dim = 64;
  shape.head_dim = 16;
  Ledger ledger;
  CpuDeviceOptions device_options;
  device_options.num_threads = 2;
  auto device = CreateCpuDevice(device_options, &ledger);
  ASSERT_TRUE(device.ok());
  auto master = InitModel(shape, 7);
  ASSERT_TRUE(master.ok()) << master.status().message();
  Rng rng(11);
  for (MasterTensor& tensor : master->tensors) {
    for (float& v : tensor.values)
      v = tensor.is_vector ? v + 0.3f * rng.Normal() : 0.2f * rng.Normal();
  }
  const auto floats = MakeSource(*master, DType::kF32);
  const auto four_bit = MakeFourBitSource(*floats);
  auto model = LoadModel(c.quantized ? *four_bit : *floats, **device, {});
  ASSERT_TRUE(model.ok()) << model.status().message();
  auto target = AdapterTargetOf(*floats);
  ASSERT_TRUE(target.ok()) << target.status().message();
  LowRankConfig config;
  config.rank = 3;
  config.alpha = 5;
  config.dora = c.dora;
  config.dropout = c.dropout;
  config.targets = {"all"};
  auto set = LowRankSet::Create(**device, **model, *target, config, false, 3);
  ASSERT_TRUE(set.ok()) << set.status().message();
  ParameterStore& parameters = (*set)->parameters();
  // B is zero at first: other values, so that every path carries a signal.
  for (const auto& p : parameters.all()) {
    for (int64_t i = 0; i < p->size(); ++i) {
      p->value[i] += p->is_vector ? 0.1f * rng.Normal() : 0.15f * rng.Normal();
    }
  }
  (*set)->Refresh();
  ModelStep::Options options;
  options.bfloat16 = false;
  options.recompute = c.recompute;
  options.max_tokens = 40;
  auto step = ModelStep::Create(**device, **model, parameters, options, set->get());
  ASSERT_TRUE(step.ok());
  TrainBatch batch;
  AppendSequence(batch, 17, shape.n_vocab, rng);
  AppendSequence(batch, 9, shape.n_vocab, rng);
  // The dropout of a seed is always the same, so it has finite differences too.
  auto loss = [&] {
    parameters.ZeroGradients();
    return (*step)->ForwardBackward(batch, 1.0f, 99).sum;
  };
  loss();
  std::vector<float> gradient(parameters.grads(), parameters.grads() + parameters.flat_size());
  if (c.quantized) {
    // Activations are rounded for such weights, which finite differences would see: compared with
    // the same adapters on the decoded weights instead.
    auto decoded = ReadMasterModel(*four_bit);
    ASSERT_TRUE(decoded.ok());
    const auto exact_source = MakeSource(*decoded, DType::kF32);
    auto exact_model = LoadModel(*exact_source, **device, {});
    ASSERT_TRUE(exact_model.ok());
    auto other = LowRankSet::Create(**device, **exact_model, *target, config, false, 3);
    ASSERT_TRUE(other.ok());
    ParameterStore& same = (*other)->parameters();
    std::copy(parameters.values(), parameters.values() + parameters.flat_size(), same.values());
    auto exact_step = ModelStep::Create(**device, **exact_model, same, options, other->get());
    ASSERT_TRUE(exact_step.ok());
    same.ZeroGradients();
    (*exact_step)->ForwardBackward(batch, 1.0f, 99);
    double norm = 0, error = 0;
    for (int64_t i = 0; i < same.flat_size(); ++i) {
      const double want = double{same.grads()[i]};
      const double got = double{gradient[static_cast<size_t>(i)]};
      norm += want * want;
      error += (want - got) * (want - got);
    }
    EXPECT_LT(std::sqrt(error), 0.1 * std::sqrt(norm));
    return;
  }
  int checked = 0;
  for (const auto& p : parameters.all()) {
    // The norm is a constant for the gradient of DoRA: only its magnitudes have exact differences
    // through Refresh; A and B are compared with the factors held still.
    double exact = 0, error = 0;
    for (int trial = 0; trial < 6; ++trial) {
      const int64_t i = static_cast<int64_t>(rng.Below(static_cast<uint64_t>(p->size())));
      const float before = p->value[i];
      const float h = 4e-3f;
      const bool refresh = c.dora && p->is_vector;
      p->value[i] = before + h;
      if (refresh) (*set)->Refresh();
      const double up = loss();
      p->value[i] = before - h;
      if (refresh) (*set)->Refresh();
      const double down = loss();
      p->value[i] = before;
      if (refresh) (*set)->Refresh();
      const double want = (up - down) / (2.0 * double{h});
      const double got = double{gradient[static_cast<size_t>(p->grad + i - parameters.grads())]};
      exact += want * want;
      error += (want - got) * (want - got);
    }
    EXPECT_LE(std::sqrt(error), 0.02 * std::sqrt(exact) + 4e-3) << p->name;
    ++checked;
  }
  EXPECT_GT(checked, 20);
}

INSTANTIATE_TEST_SUITE_P(
    All, LowRankGradients,
    ::testing::Values(Case{"llama", false, false, 0, false}, Case{"llama", false, true, 0.2, false},
                      Case{"llama", true, false, 0, false}, Case{"qwen2", true, true, 0.2, false},
                      Case{"llama", false, false, 0, true}, Case{"gemma3", false, false, 0, false},
                      Case{"qwen3moe", false, false, 0, false},
                      Case{"phi3", true, false, 0, false}));

TEST(LowRank, BeginsAtTheBaseModel) {
  auto t = MakeTraining(TinyShape("qwen2"), false);
  const auto source = MakeSource(t->master, DType::kF32);
  auto target = AdapterTargetOf(*source);
  ASSERT_TRUE(target.ok());
  auto model = LoadModel(*source, *t->device, {});
  ASSERT_TRUE(model.ok());
  Rng rng(3);
  TrainBatch batch;
  AppendSequence(batch, 20, 61, rng);
  const double base = t->step->Evaluate(batch).sum;
  for (bool dora : {false, true}) {
    LowRankConfig config;
    config.dora = dora;
    config.targets = {"all"};
    auto set = LowRankSet::Create(*t->device, **model, *target, config, false, 3);
    ASSERT_TRUE(set.ok()) << set.status().message();
    ModelStep::Options options;
    options.bfloat16 = false;
    options.max_tokens = 96;
    auto step = ModelStep::Create(*t->device, **model, (*set)->parameters(), options, set->get());
    ASSERT_TRUE(step.ok());
    EXPECT_NEAR((*step)->Evaluate(batch).sum, base, 1e-3) << dora;
  }
}

TEST(LowRank, NamesWhatTheModelLacks) {
  auto t = MakeTraining(TinyShape("llama"), false);
  const auto source = MakeSource(t->master, DType::kF32);
  auto target = AdapterTargetOf(*source);
  ASSERT_TRUE(target.ok());
  LowRankConfig config;
  config.targets = {"attn_z"};
  auto set = LowRankSet::Create(*t->device, *t->model, *target, config, false, 3);
  ASSERT_FALSE(set.ok());
  EXPECT_NE(set.status().message().find("attn_q"), std::string::npos) << set.status().message();
  config.targets = {"q_proj"};
  EXPECT_TRUE(LowRankSet::Create(*t->device, *t->model, *target, config, false, 3).ok());
  config.rank = 4096;
  EXPECT_EQ(LowRankSet::Create(*t->device, *t->model, *target, config, false, 3).status().code(),
            StatusCode::kInvalidArgument);
}

// dX of a packed matrix against the product with its decoded values, on every instruction set.
TEST(LowRank, LinearGradInputIsTheProductWithTheWeight) {
  for (const OpTable* table : CpuOpTables()) {
    for (DType type : {DType::kF32, DType::kBF16, DType::kQ8_0, DType::kQ4_K, DType::kIQ4_NL}) {
      Ledger ledger;
      CpuDeviceOptions options;
      options.num_threads = 2;
      options.isa = table->name;
      auto made = CreateCpuDevice(options, &ledger);
      ASSERT_TRUE(made.ok());
      Device& device = **made;
      const int64_t rows = 1037, cols = 512, n = 21;
      Rng rng(5);
      const QuantFormat* format = FindQuantFormat(type);
      auto packed = device.PlanPacked(type, rows, cols, 1);
      ASSERT_TRUE(packed.ok());
      auto buffer =
          device.Allocate(static_cast<size_t>(packed->expert_bytes), LedgerEntry::kWeights);
      ASSERT_TRUE(buffer.ok());
      packed->data = buffer->data();
      std::vector<float> values(static_cast<size_t>(rows * cols)), row(cols);
      std::vector<std::byte> bytes(static_cast<size_t>(rows * RowBytes(type, cols)));
      for (int64_t r = 0; r < rows; ++r) {
        for (float& v : row) v = rng.Normal();
        std::byte* to = bytes.data() + r * RowBytes(type, cols);
        format->encode(row.data(), nullptr, to, cols);
        format->decode(to, values.data() + r * cols, cols);
      }
      for (int64_t first = 0; first < rows; first += device.panel_rows()) {
        std::vector<const std::byte*> pointers;
        for (int64_t r = first; r < std::min(rows, first + device.panel_rows()); ++r) {
          pointers.push_back(bytes.data() + r * RowBytes(type, cols));
        }
        device.PackPanel(*packed, pointers.data(), static_cast<int>(pointers.size()),
                         buffer->data() + first / device.panel_rows() * packed->panel_bytes);
      }
      std::vector<float> dy(static_cast<size_t>(n * rows)), dx(static_cast<size_t>(n * cols), 1.0f);
      for (float& v : dy) v = rng.Normal();
      std::vector<int32_t> ids(rows);
      for (int32_t i = 0; i < rows; ++i) ids[static_cast<size_t>(i)] = i;
      LinearGradInputParams p;
      p.dy = dy.data();
      p.dy_stride = rows;
      p.num_rows = n;
      p.weight = *packed;
      p.dx = dx.data();
      p.dx_stride = cols;
      p.accumulate = true;
      p.ids = ids.data();
      auto workspace = device.Allocate(LinearGradInputWorkspaceBytes(p), LedgerEntry::kTraining);
      ASSERT_TRUE(workspace.ok());
      p.workspace = workspace->data();
      LinearGradInput(device, p);
      device.Synchronize();
      double worst = 0;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t c = 0; c < cols; c += 7) {
          double want = 1;
          for (int64_t r = 0; r < rows; ++r) {
            want += double{dy[static_cast<size_t>(i * rows + r)]} *
                    double{values[static_cast<size_t>(r * cols + c)]};
          }
          worst = std::max(worst, std::abs(want - double{dx[static_cast<size_t>(i * cols + c)]}));
        }
      }
      EXPECT_LT(worst, 2e-3) << table->name << " " << Info(type).name;
    }
  }
}

}  // namespace
}  // namespace ink
