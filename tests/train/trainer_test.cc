// Whole runs on a tiny model: resuming, recipes, data, optimizers.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/atomic_file.h"
#include "support/process.h"
#include "train/optimizer.h"
#include "train/trainer.h"
#include "train_case.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using namespace testing_support;

// A folder of this process's own, gone when it ends.
std::string Folder(const std::string& name) {
  static TestFolder all("train");
  const std::string path = all / name;
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

void Write(const std::string& path, const std::string& text) {
  ASSERT_TRUE(WriteFileAtomic(path, text).ok());
}

constexpr const char* kRecipe = R"(
[model]
d_model = 32
layers = 2
heads = 2
kv_heads = 1
ffn = 48
context = 32
[tokenizer]
vocabulary = 270
[[data]]
path = "text.jsonl"
format = "jsonl"
weight = 1.5
[validation]
path = "text.jsonl"
format = "jsonl"
every = 4
[train]
steps = 9
batch_tokens = 96
micro_batch_tokens = 64
[optimizer]
kind = "KIND"
lr = 0.01
[schedule]
kind = "wsd"
warmup = 2
[checkpoint]
every = 100
keep = 2
)";

std::string Corpus() {
  std::string lines;
  for (int i = 0; i < 12; ++i) {
    lines += R"({"text": "Once upon a time there lived king number )" + std::to_string(i) +
             R"( who had three daughters and one old horse. He was glad."})"
             "\n";
  }
  return lines;
}

Status RunOnce(const std::string& recipe, const std::string& data, const std::string& out,
               bool resume, int stop_after) {
  Ledger ledger;
  CpuDeviceOptions options;
  options.num_threads = 2;
  auto device = CreateCpuDevice(options, &ledger);
  if (!device.ok()) return device.status();
  auto parsed = ParseRecipe(recipe, "recipe");
  if (!parsed.ok()) return parsed.status();
  TrainRun run{std::move(*parsed), recipe, data, out, resume};
  TrainEvents events;
  int steps = 0;
  events.step = [&](const TrainEvents::Step&) { ++steps; };
  events.stop = [&] { return stop_after > 0 && steps >= stop_after; };
  return RunTraining(**device, run, events);
}

class ResumeTest : public ::testing::TestWithParam<const char*> {};

// Stopped twice and resumed gives the file that a run never stopped gives.
TEST_P(ResumeTest, IsExact) {
  std::string recipe = kRecipe;
  recipe.replace(recipe.find("KIND"), 4, GetParam());
  const std::string base = Folder(std::string("resume_") + GetParam());
  Write(base + "/text.jsonl", Corpus());
  ASSERT_TRUE(RunOnce(recipe, base, base + "/whole", false, 0).ok());
  EXPECT_EQ(RunOnce(recipe, base, base + "/parts", false, 3).code(), StatusCode::kCancelled);
  EXPECT_EQ(RunOnce(recipe, base, base + "/parts", true, 4).code(), StatusCode::kCancelled);
  const Status last = RunOnce(recipe, base, base + "/parts", true, 0);
  ASSERT_TRUE(last.ok()) << last.message();
  auto whole = ReadFile(base + "/whole/model.gguf"), parts = ReadFile(base + "/parts/model.gguf");
  ASSERT_TRUE(whole.ok() && parts.ok());
  EXPECT_TRUE(*whole == *parts) << "the weights differ";
  auto a = ReadNewestCheckpoint(base + "/whole/checkpoints");
  auto b = ReadNewestCheckpoint(base + "/parts/checkpoints");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_TRUE(std::ranges::equal(a->values, b->values));
  EXPECT_TRUE(std::ranges::equal(a->optimizer, b->optimizer));
  EXPECT_EQ(a->tokens, b->tokens);
}

INSTANTIATE_TEST_SUITE_P(Optimizers, ResumeTest, ::testing::Values("adamw", "adamw8", "muon"));

TEST(Trainer, RefusesToOverwriteAndToResumeAnotherRecipe) {
  std::string recipe = kRecipe;
  recipe.replace(recipe.find("KIND"), 4, "adamw");
  const std::string base = Folder("refuse");
  Write(base + "/text.jsonl", Corpus());
  EXPECT_EQ(RunOnce(recipe, base, base + "/out", true, 0).code(), StatusCode::kNotFound);
  EXPECT_EQ(RunOnce(recipe, base, base + "/out", false, 2).code(), StatusCode::kCancelled);
  EXPECT_EQ(RunOnce(recipe, base, base + "/out", false, 0).code(), StatusCode::kInvalidArgument);
  const Status other = RunOnce(recipe + "\n", base, base + "/out", true, 0);
  EXPECT_EQ(other.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(other.message().find("another recipe"), std::string::npos);
}

// Weight decay of lr * 100 = 1000 times the weight: within 14 steps every weight overflows. The
// update that does it follows a loss that is a number.
TEST(Trainer, StopsAtALossThatIsNoNumberAndKeepsGoodCheckpoints) {
  std::string recipe = kRecipe;
  recipe.replace(recipe.find("KIND"), 4, "adamw");
  recipe.replace(recipe.find("lr = 0.01"), 9, "lr = 10.0\nweight_decay = 100.0");
  recipe.replace(recipe.find("steps = 9"), 9, "steps = 20");
  recipe.replace(recipe.find("every = 100"), 11, "every = 1");
  for (const char* precision : {"bf16", "f32"}) {
    SCOPED_TRACE(precision);
    std::string text = recipe;
    text.replace(text.find("[optimizer]"), 11,
                 "precision = \"" + std::string(precision) + "\"\n[optimizer]");
    const std::string base = Folder(std::string("nan_") + precision);
    Write(base + "/text.jsonl", Corpus());
    const Status status = RunOnce(text, base, base + "/out", false, 0);
    ASSERT_EQ(status.code(), StatusCode::kInvalidArgument);
    const std::string newest = NewestCheckpointPath(base + "/out/checkpoints");
    ASSERT_FALSE(newest.empty());
    EXPECT_NE(status.message().find("not a number"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("the last good checkpoint is " + newest), std::string::npos)
        << status.message();
    auto checkpoint = ReadNewestCheckpoint(base + "/out/checkpoints");
    ASSERT_TRUE(checkpoint.ok());
    EXPECT_EQ(checkpoint->file.path(), newest);
    EXPECT_EQ(status.message().find("step " + std::to_string(checkpoint->step + 1)), 0u)
        << status.message();
    const auto* values = reinterpret_cast<const float*>(checkpoint->values.data());
    const size_t count = checkpoint->values.size() / sizeof(float);
    EXPECT_TRUE(std::all_of(values, values + count, [](float v) { return std::isfinite(v); }));
  }
}

TEST(Checkpoints, AWeightThatIsNoNumberMakesNone) {
  const std::string base = Folder("bad_weight");
  Checkpoint c;
  std::vector<float> values(3000000, 1.0f);  // more than is written at a time
  c.values = std::as_bytes(std::span(values));
  c.step = 1;
  ASSERT_TRUE(WriteCheckpoint(base, c, 1).ok());
  c.step = 2;
  for (float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    values.back() = bad;
    const Status status = WriteCheckpoint(base, c, 1);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message().find("step 2: "), 0u) << status.message();
    EXPECT_EQ(NewestCheckpointPath(base), base + "/step-000000001.ckpt");
    EXPECT_EQ(std::distance(fs::directory_iterator(base), fs::directory_iterator()), 1);
  }
}

TEST(Checkpoints, AbandonedFilesAreRemovedAndOthersStay) {
  const std::string base = Folder("abandoned");
  const std::string alive = std::to_string(getpid());
  // No process has a number above the system's highest, 2^22.
  for (const char* name : {"a.ckpt.tmp.99999999", "b.ckpt.tmp.99999999", "a.ckpt.tmp.x",
                           "a.ckpt.tmp.", "a.ckpt", "a.tmp.99999999.gguf"}) {
    Write(base + "/" + std::string(name), "x");
  }
  Write(base + "/a.ckpt.tmp." + alive, "x");
  RemoveAbandonedFiles(base, "a");
  RemoveAbandonedFiles(base + "/missing");
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(base)) left.push_back(entry.path().filename());
  std::sort(left.begin(), left.end());
  std::vector<std::string> want = {"a.ckpt",       "a.ckpt.tmp.",         "a.ckpt.tmp." + alive,
                                   "a.ckpt.tmp.x", "a.tmp.99999999.gguf", "b.ckpt.tmp.99999999"};
  std::sort(want.begin(), want.end());
  EXPECT_EQ(left, want);
}

// Stopped before the first checkpoint, also inside its write: nothing is lost, --resume begins
// anew.
TEST(Trainer, ResumingWithoutACheckpointBeginsAnew) {
  std::string recipe = kRecipe;
  recipe.replace(recipe.find("KIND"), 4, "adamw");
  const std::string base = Folder("anew");
  Write(base + "/text.jsonl", Corpus());
  fs::create_directories(base + "/out/checkpoints");
  Write(base + "/out/checkpoints/step-000000001.ckpt.tmp.99999999", "half of it");
  ASSERT_TRUE(RunOnce(recipe, base, base + "/whole", false, 0).ok());
  const Status status = RunOnce(recipe, base, base + "/out", true, 0);
  ASSERT_TRUE(status.ok()) << status.message();
  auto a = ReadFile(base + "/whole/model.gguf"), b = ReadFile(base + "/out/model.gguf");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_TRUE(*a == *b);
  EXPECT_EQ(
      std::distance(fs::directory_iterator(base + "/out/checkpoints"), fs::directory_iterator()),
      1);
}

TEST(Checkpoints, DamagedOnesAreSkippedAndOldOnesRemoved) {
  const std::string base = Folder("checkpoints");
  Checkpoint c;
  const std::vector<std::byte> values(100, std::byte{3});
  c.values = values;
  for (int step = 1; step <= 4; ++step) {
    c.step = step;
    ASSERT_TRUE(WriteCheckpoint(base, c, 2).ok());
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(base), fs::directory_iterator()), 2);
  auto newest = ReadNewestCheckpoint(base);
  ASSERT_TRUE(newest.ok());
  EXPECT_EQ(newest->step, 4);
  fs::resize_file(base + "/step-000000004.ckpt", 150);
  newest = ReadNewestCheckpoint(base);
  ASSERT_TRUE(newest.ok());
  EXPECT_EQ(newest->step, 3);
  fs::resize_file(base + "/step-000000003.ckpt", 20);
  EXPECT_EQ(ReadNewestCheckpoint(base).status().code(), StatusCode::kCorrupt);
}

TEST(Recipe, NamesUnknownKeysAndWrongTypes) {
  const std::string good =
      std::string(kRecipe).replace(std::string(kRecipe).find("KIND"), 4, "muon");
  EXPECT_TRUE(ParseRecipe(good, "r.toml").ok());
  struct Case {
    const char *from, *to, *message;
  };
  for (const Case& c : {Case{"d_model = 32", "d_modle = 32", "unknown key \"d_modle\""},
                        Case{"d_model = 32", "d_model = \"x\"", "d_model: expected a whole number"},
                        Case{"[schedule]", "[shedule]", "unknown table \"shedule\""},
                        Case{"\"muon\"", "\"sgd\"", "one of adamw, adamw8, muon"},
                        Case{"steps = 9", "", "expected one of steps and epochs"},
                        Case{"layers = 2", "layers = = 2", "not TOML"}}) {
    std::string bad = good;
    bad.replace(bad.find(c.from), std::string(c.from).size(), c.to);
    const auto parsed = ParseRecipe(bad, "r.toml");
    ASSERT_FALSE(parsed.ok()) << c.to;
    EXPECT_NE(parsed.status().message().find(c.message), std::string::npos)
        << parsed.status().message();
    EXPECT_NE(parsed.status().message().find("r.toml"), std::string::npos);
  }
}

TEST(Data, PiecesCoverEachDocumentOncePerEpoch) {
  std::vector<Document> documents(3);
  for (int i = 0; i < 95; ++i) documents[0].tokens.push_back(i);
  for (int i = 0; i < 9; ++i) documents[1].tokens.push_back(200 + i);
  documents[2].tokens = {300, 301, 302, 303};
  documents[2].counts = {false, false, true, true};
  PieceOrder order({{&documents, 1.0}}, 16, 5);
  EXPECT_EQ(order.tokens_per_epoch(), 94 + 8 + 3);
  std::vector<std::pair<int, int>> pairs;
  TrainBatch batch;
  while (order.epoch() == 0) {
    PieceOrder copy = order;
    copy.NextBatch(16, &batch);
    if (copy.epoch() != 0) break;
    order = copy;
    int64_t sum = 0;
    for (int64_t n : batch.lengths) sum += n;
    EXPECT_EQ(sum, batch.num_tokens());
    EXPECT_LE(batch.num_tokens(), 16);
    for (size_t i = 0; i < batch.tokens.size(); ++i) {
      pairs.emplace_back(batch.tokens[i], batch.targets[i]);
    }
  }
  // A last batch that would not fit stays for the next epoch's first call.
  EXPECT_GE(static_cast<int64_t>(pairs.size()), order.tokens_per_epoch() - 16);
  std::sort(pairs.begin(), pairs.end());
  EXPECT_TRUE(std::adjacent_find(pairs.begin(), pairs.end()) == pairs.end());
  for (auto [token, target] : pairs) {
    if (token == 300) {
      EXPECT_EQ(target, -1);
    } else {
      EXPECT_EQ(target, token + 1);
    }
  }
}

// AdamW against its definition in float64.
TEST(Optimizers, AdamWFollowsItsDefinition) {
  auto t = MakeTraining(TinyShape("llama"), false);
  OptimizerConfig config;
  config.lr = 0.02f;
  auto optimizer = Optimizer::Create(*t->device, *t->parameters, config, false);
  ASSERT_TRUE(optimizer.ok());
  const Parameter& p = *t->parameters->all()[1];
  ASSERT_FALSE(p.is_vector);
  std::vector<double> w(p.value, p.value + p.size()), m(w.size()), v(w.size());
  Rng rng(4);
  for (int step = 1; step <= 5; ++step) {
    for (int64_t i = 0; i < t->parameters->flat_size(); ++i) {
      t->parameters->grads()[i] = rng.Normal();
    }
    for (size_t i = 0; i < w.size(); ++i) {
      const double g = 0.5 * double{p.grad[i]};
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.95 * v[i] + 0.05 * g * g;
      w[i] -= 0.02 * (m[i] / (1 - std::pow(0.9, step)) /
                          (std::sqrt(v[i] / (1 - std::pow(0.95, step))) + 1e-8) +
                      0.1 * w[i]);
    }
    (*optimizer)->Step(1.0, 0.5);
  }
  for (size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(p.value[i], w[i], 2e-5);
}

// Muon's step has singular values near one: W^T W of the update is near a multiple of identity.
TEST(Optimizers, MuonStepsAreNearlyOrthogonal) {
  auto t = MakeTraining(TinyShape("llama"), false);
  OptimizerConfig config;
  config.kind = OptimizerKind::kMuon;
  config.lr = 1.0f;
  config.weight_decay = 0;
  auto optimizer = Optimizer::Create(*t->device, *t->parameters, config, false);
  ASSERT_TRUE(optimizer.ok());
  Rng rng(4);
  for (int64_t i = 0; i < t->parameters->flat_size(); ++i) t->parameters->grads()[i] = rng.Normal();
  for (const auto& p : t->parameters->all()) {
    if (p->is_vector || !p->name.starts_with("blk.0.ffn_")) continue;
    const std::vector<float> before(p->value, p->value + p->size());
    (*optimizer)->Step(1.0, 1.0);
    const double size = 0.2 * std::sqrt(static_cast<double>(std::max(p->rows, p->cols)));
    const int64_t small = std::min(p->rows, p->cols);
    double squares = 0;
    for (int64_t i = 0; i < p->size(); ++i) {
      const double d = (p->value[i] - before[i]) / size;
      squares += d * d;
    }
    // Singular values in about [0.7, 1.2] after five iterations.
    EXPECT_GT(squares / small, 0.4) << p->name;
    EXPECT_LT(squares / small, 1.5) << p->name;
    return;
  }
  FAIL() << "no hidden matrix found";
}

TEST(Optimizers, GradientNormIsTheNormOfAllGradients) {
  auto t = MakeTraining(TinyShape("llama"), false);
  auto optimizer = Optimizer::Create(*t->device, *t->parameters, {}, false);
  ASSERT_TRUE(optimizer.ok());
  Rng rng(4);
  double sum = 0;
  for (const auto& p : t->parameters->all()) {
    for (int64_t i = 0; i < p->size(); ++i) {
      p->grad[i] = rng.Normal();
      sum += double{p->grad[i]} * p->grad[i];
    }
  }
  EXPECT_NEAR((*optimizer)->GradientNorm(), std::sqrt(sum), 1e-6 * std::sqrt(sum));
}

}  // namespace
}  // namespace ink
