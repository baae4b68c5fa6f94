// What ops add to the kernels, which have their own tests: shapes, strides, biases, where results
// live, and that recorders and hooks see every launch.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#include "ops/elementwise.h"
#include "ops/embed.h"
#include "ops/linear.h"
#include "ops/recorder.h"
#include "ops/rms_norm.h"

namespace ink {
namespace {

class OpsTest : public ::testing::Test {
 protected:
  OpsTest() {
    auto device = CreateCpuDevice({2, "reference"}, &ledger_);
    EXPECT_TRUE(device.ok());
    device_ = std::move(*device);
    memory_ = device_->Allocate(1 << 20, LedgerEntry::kActivations).value();
    arena_ = std::make_unique<Arena>(memory_.data(), memory_.size());
  }
  ExecContext Context() { return {*device_, *arena_}; }

  std::vector<float> Random(int64_t n) {
    std::vector<float> v(static_cast<size_t>(n));
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (float& x : v) x = uniform(random_);
    return v;
  }
  Tensor Upload(ExecContext& context, const std::vector<float>& values, int64_t cols) {
    Tensor t = context.NewTensor(static_cast<int64_t>(values.size()) / cols, cols);
    device_->CopyToDevice(reinterpret_cast<std::byte*>(t.data), values.data(),
                          values.size() * sizeof(float));
    return t;
  }
  std::vector<float> Values(const Tensor& t) {
    std::vector<float> all(static_cast<size_t>((t.rows - 1) * t.stride + t.cols)), v;
    device_->CopyToHost(all.data(), reinterpret_cast<const std::byte*>(t.data),
                        all.size() * sizeof(float));
    for (int64_t r = 0; r < t.rows; ++r) {
      v.insert(v.end(), all.begin() + r * t.stride, all.begin() + r * t.stride + t.cols);
    }
    return v;
  }
  const Weight& MakeWeight(const std::vector<float>& values, int64_t cols) {
    const int64_t rows = static_cast<int64_t>(values.size()) / cols;
    PackedMatrix packed = *device_->PlanPacked(DType::kF32, rows, cols, 1);
    buffers_.push_back(
        device_->Allocate(static_cast<size_t>(packed.expert_bytes), LedgerEntry::kWeights).value());
    std::byte* data = buffers_.back().data();
    packed.data = data;
    std::byte* to = device_->BeginWrite(data, static_cast<size_t>(packed.expert_bytes));
    const int panel = device_->panel_rows();
    for (int64_t r = 0; r < rows; r += panel) {
      std::vector<const std::byte*> rows_of;
      for (int64_t i = r; i < std::min<int64_t>(rows, r + panel); ++i) {
        rows_of.push_back(reinterpret_cast<const std::byte*>(values.data() + i * cols));
      }
      device_->PackPanel(packed, rows_of.data(), static_cast<int>(rows_of.size()),
                         to + r / panel * packed.panel_bytes);
    }
    device_->EndWrite(data, static_cast<size_t>(packed.expert_bytes));
    weights_.push_back({"w" + std::to_string(weights_.size()), packed});
    return weights_.back();
  }

  Ledger ledger_;
  std::unique_ptr<Device> device_;
  Buffer memory_;
  std::unique_ptr<Arena> arena_;
  std::deque<Weight> weights_;
  std::vector<Buffer> buffers_;
  std::minstd_rand random_{7};
};

std::vector<float> Product(const std::vector<float>& x, const std::vector<float>& w, int64_t cols,
                           const std::vector<float>& bias) {
  const size_t k = static_cast<size_t>(cols), m = x.size() / k, n = w.size() / k;
  std::vector<float> y(m * n);
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double sum = bias.empty() ? 0.0 : double{bias[j]};
      for (size_t c = 0; c < k; ++c) sum += double{x[i * k + c]} * double{w[j * k + c]};
      y[i * n + j] = static_cast<float>(sum);
    }
  }
  return y;
}

void ExpectNear(const std::vector<float>& got, const std::vector<float>& want, float tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance) << "at " << i;
}

TEST_F(OpsTest, LinearOfSeveralWeightsSharesItsInput) {
  ExecContext context = Context();
  const auto x = Random(5 * 48), w1 = Random(20 * 48), w2 = Random(33 * 48), b = Random(33);
  const Tensor bias_values = Upload(context, b, 33);
  const VectorWeight bias{"bias", bias_values.data, 33};
  Tensor y1, y2;
  Linear(context, Upload(context, x, 48),
         {{&MakeWeight(w1, 48), nullptr, &y1}, {&MakeWeight(w2, 48), &bias, &y2}});
  EXPECT_EQ(y1.rows, 5);
  EXPECT_EQ(y1.cols, 20);
  ExpectNear(Values(y1), Product(x, w1, 48, {}), 1e-5f);
  ExpectNear(Values(y2), Product(x, w2, 48, b), 1e-5f);
}

TEST_F(OpsTest, LinearReadsColumnsOfAWiderTensor) {
  ExecContext context = Context();
  const auto wide = Random(4 * 80), w = Random(16 * 32);
  const Tensor view = Upload(context, wide, 80).Columns(16, 32);
  std::vector<float> x;
  for (int r = 0; r < 4; ++r) {
    x.insert(x.end(), wide.begin() + r * 80 + 16, wide.begin() + r * 80 + 48);
  }
  ExpectNear(Values(Linear(context, view, MakeWeight(w, 32))), Product(x, w, 32, {}), 1e-5f);
}

TEST_F(OpsTest, EmbedScalesAndTakeRowsPicks) {
  ExecContext context = Context();
  const auto w = Random(10 * 16);
  Tensor ids_space = context.NewTensor(1, 3);
  const std::vector<int32_t> ids{9, 0, 9};
  device_->CopyToDevice(reinterpret_cast<std::byte*>(ids_space.data), ids.data(), 12);
  const Tensor y =
      Embed(context, MakeWeight(w, 16), reinterpret_cast<const int32_t*>(ids_space.data), 3, 2.0f);
  std::vector<float> want;
  for (int32_t id : ids) {
    for (int c = 0; c < 16; ++c) want.push_back(2 * w[static_cast<size_t>(id * 16 + c)]);
  }
  ExpectNear(Values(y), want, 0);
  const Tensor taken =
      TakeRows(context, y, reinterpret_cast<const int32_t*>(ids_space.data) + 1, 1);
  ExpectNear(Values(taken), std::vector<float>(want.begin(), want.begin() + 16), 0);
}

TEST_F(OpsTest, RmsNormOfHeadsNormalizesEachAlone) {
  ExecContext context = Context();
  const auto x = Random(3 * 24), g = Random(8);
  const Tensor gain = Upload(context, g, 8);
  const Tensor y = RmsNorm(context, Upload(context, x, 24), {"norm", gain.data, 8}, 1e-5f);
  std::vector<float> want(x.size());
  for (size_t head = 0; head < x.size() / 8; ++head) {
    double square = 0;
    for (size_t c = 0; c < 8; ++c) square += double{x[head * 8 + c]} * double{x[head * 8 + c]};
    const double scale = 1 / std::sqrt(square / 8 + 1e-5);
    for (size_t c = 0; c < 8; ++c) {
      want[head * 8 + c] = static_cast<float>(double{x[head * 8 + c]} * scale * double{g[c]});
    }
  }
  ExpectNear(Values(y), want, 1e-5f);
}

class Recording : public Recorder {
 public:
  explicit Recording(Arena& arena) : arena_(arena) {}
  Tensor Allocate(int64_t rows, int64_t cols) override {
    ++allocated;
    return {reinterpret_cast<float*>(arena_.Allocate(static_cast<size_t>(rows * cols) * 4)), rows,
            cols, cols};
  }
  void Record(const OpRecord& record) override { records.push_back(record); }
  void Attention(const AttentionRecord&) override {}
  void MixtureOfExperts(const MoeRecord&) override {}
  void BeginLayer(int, Tensor) override {}
  void EndLayer(int, Tensor) override {}
  std::vector<OpRecord> records;
  int allocated = 0;

 private:
  Arena& arena_;
};

// Backward needs what went in: with a recorder nothing is overwritten.
TEST_F(OpsTest, AddInPlaceWritesElsewhereUnderARecorder) {
  ExecContext context = Context();
  const auto a = Random(2 * 8), b = Random(2 * 8);
  std::vector<float> sum(a.size());
  for (size_t i = 0; i < a.size(); ++i) sum[i] = a[i] + b[i];
  const Tensor ta = Upload(context, a, 8), tb = Upload(context, b, 8);
  Recording recorder(*arena_);
  context.recorder = &recorder;
  const Tensor y = AddInPlace(context, ta, tb);
  EXPECT_NE(y.data, ta.data);
  ExpectNear(Values(ta), a, 0);
  ExpectNear(Values(y), sum, 0);
  ASSERT_EQ(recorder.records.size(), 1u);
  EXPECT_EQ(std::get<AddRecord>(recorder.records[0]).y.data, y.data);
  context.recorder = nullptr;
  EXPECT_EQ(AddInPlace(context, ta, tb).data, ta.data);
  ExpectNear(Values(ta), sum, 0);
}

class Hook : public LinearHook {
 public:
  void AfterLinear(ExecContext&, const Weight& weight, const VectorWeight* bias, Tensor,
                   Tensor) override {
    seen.push_back(weight.name + (bias != nullptr ? "+bias" : ""));
  }
  std::vector<std::string> seen;
};

TEST_F(OpsTest, RecordersAndHooksSeeEveryWeightOfALinear) {
  ExecContext context = Context();
  const Weight &w1 = MakeWeight(Random(16 * 16), 16), &w2 = MakeWeight(Random(16 * 16), 16);
  const Tensor zero = Upload(context, std::vector<float>(16), 16);
  const VectorWeight bias{"bias", zero.data, 16}, absent{"none", nullptr, 0};
  Recording recorder(*arena_);
  Hook hook;
  context.recorder = &recorder;
  context.linear_hook = &hook;
  Tensor y1, y2;
  Linear(context, Upload(context, Random(16), 16), {{&w1, &absent, &y1}, {&w2, &bias, &y2}});
  EXPECT_EQ(hook.seen, (std::vector<std::string>{w1.name, w2.name + "+bias"}));
  ASSERT_EQ(recorder.records.size(), 2u);
  EXPECT_EQ(std::get<LinearRecord>(recorder.records[1]).weight, &w2);
}

// A plan is the same pass over an arena that only measures: it must need what the real one needs,
// and touch nothing.
TEST_F(OpsTest, MeasuringNeedsWhatRunningNeeds) {
  const Weight& w = MakeWeight(Random(40 * 64), 64);
  const auto pass = [&](Arena& arena) {
    ExecContext context{*device_, arena};
    Tensor x = context.NewTensor(6, 64);
    ArenaScope scope(context);
    const Tensor y = Linear(context, x, w);
    Scale(context, AddInPlace(context, y, y), 0.5f);
  };
  Arena measuring = Arena::Measuring();
  pass(measuring);
  const size_t before = arena_->used();
  pass(*arena_);
  EXPECT_EQ(measuring.peak(), arena_->peak() - before);
  EXPECT_EQ(arena_->used() - before, size_t{6 * 64 * 4}) << "the scope frees all but x";
}

}  // namespace
}  // namespace ink
