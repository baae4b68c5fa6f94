// Adapter files: PEFT and GGUF read, written and refused.
#include "model/adapter.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "formats/safetensors_writer.h"
#include "model/weight_source.h"
#include "support/random_adapter.h"
#include "tiny_models.h"

namespace ink {
namespace {

using testing_support::RandomAdapter;
using testing_support::TinyModel;
using testing_support::TinyModels;
using testing_support::WriteTinyModel;

class AdapterFileTest : public ::testing::Test {
 protected:
  AdapterFileTest()
      : folder_(std::filesystem::temp_directory_path() /
                ("ink_adapter_test_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~AdapterFileTest() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  AdapterTarget Target(const TinyModel& model) {
    WriteTinyModel(model, Path("model.gguf"));
    auto source = OpenWeightSource(Path("model.gguf"));
    EXPECT_TRUE(source.ok()) << source.status().message();
    auto target = AdapterTargetOf(**source);
    EXPECT_TRUE(target.ok()) << target.status().message();
    return *target;
  }
  AdapterTarget Llama() { return Target({.name = "llama", .arch = "llama"}); }

  // Writes a PEFT folder from JSON text and float tensors.
  std::string Peft(const std::string& config,
                   const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors,
                   float value = 0.5f) {
    const std::string folder = Path("peft");
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/adapter_config.json") << config;
    SafetensorsWriter writer(folder + "/adapter_model.safetensors");
    for (const auto& [name, shape] : tensors) {
      EXPECT_TRUE(writer.AddTensor(name, DType::kF32, shape).ok());
    }
    EXPECT_TRUE(writer.Begin().ok());
    for (size_t i : writer.WriteOrder()) {
      int64_t count = 1;
      for (int64_t n : tensors[i].second) count *= n;
      std::vector<float> values(static_cast<size_t>(count), value);
      EXPECT_TRUE(writer.Write(std::as_bytes(std::span(values))).ok());
    }
    EXPECT_TRUE(writer.Finish().ok());
    return folder;
  }
  void ExpectRefused(const std::string& path, const AdapterTarget& target,
                     const std::vector<std::string>& words) {
    auto adapter = ReadAdapter(path, target);
    ASSERT_FALSE(adapter.ok());
    for (const std::string& word : words) {
      EXPECT_NE(adapter.status().message().find(word), std::string::npos)
          << adapter.status().message() << "\n lacks " << word;
    }
  }

  std::filesystem::path folder_;
};

// The same change of weights: A equal, scale * B equal up to rounding, magnitude equal.
void ExpectSame(const Adapter& a, const Adapter& b, float tolerance) {
  ASSERT_EQ(a.matrices.size(), b.matrices.size());
  for (size_t i = 0; i < a.matrices.size(); ++i) {
    const Adapter::Matrix &x = a.matrices[i], &y = b.matrices[i];
    ASSERT_EQ(x.name, y.name);
    ASSERT_EQ(x.rank, y.rank);
    EXPECT_EQ(x.a, y.a);
    EXPECT_EQ(x.magnitude, y.magnitude);
    ASSERT_EQ(x.b.size(), y.b.size());
    for (size_t j = 0; j < x.b.size(); ++j) {
      const float p = a.Scale(x) * x.b[j], q = b.Scale(y) * y.b[j];
      ASSERT_NEAR(p, q, tolerance * std::abs(p)) << x.name << " " << j;
    }
  }
}

TEST_F(AdapterFileTest, PeftAndGgufKeepTheAdapterOnEveryArchitecture) {
  for (const TinyModel& model : TinyModels()) {
    SCOPED_TRACE(model.name);
    const AdapterTarget target = Target(model);
    for (int kind = 0; kind < 4; ++kind) {
      const Adapter adapter = RandomAdapter(target, kind & 1, kind & 2);
      std::filesystem::remove_all(Path("peft"));
      Status status = WritePeftAdapter(adapter, target, Path("peft"));
      ASSERT_TRUE(status.ok()) << status.message();
      auto peft = ReadAdapter(Path("peft"), target);
      ASSERT_TRUE(peft.ok()) << peft.status().message();
      ExpectSame(adapter, *peft, 0);
      EXPECT_EQ(peft->base_model, "someone/base");
      status = WriteGgufAdapter(*peft, target, Path("adapter.gguf"));
      ASSERT_TRUE(status.ok()) << status.message();
      auto gguf = ReadAdapter(Path("adapter.gguf"), target);
      ASSERT_TRUE(gguf.ok()) << gguf.status().message();
      ExpectSame(adapter, *gguf, 1e-6f);
    }
  }
}

// llama.cpp's convention, written out: rows of lora_b of attn_q are interleaved per head.
TEST_F(AdapterFileTest, GgufRowsOfQueriesAreInterleaved) {
  const AdapterTarget target = Llama();  // 4 heads of 32 rows
  Adapter adapter;
  adapter.alpha = 2;
  Adapter::Matrix m{.name = "blk.0.attn_q.weight", .rank = 1, .in = 64, .out = 128, .alpha = 2};
  m.a.assign(64, 1.0f);
  for (int i = 0; i < 128; ++i) m.b.push_back(static_cast<float>(i));
  adapter.matrices.push_back(m);
  ASSERT_TRUE(WriteGgufAdapter(adapter, target, Path("a.gguf")).ok());
  auto file = GgufFile::Open(Path("a.gguf"));
  ASSERT_TRUE(file.ok());
  const GgufTensor* b = file->Find("blk.0.attn_q.weight.lora_b");
  ASSERT_NE(b, nullptr);
  std::vector<float> rows(128);
  std::memcpy(rows.data(), b->data.data(), 512);
  // Head 0: pairs (0, 16), (1, 17), ..
  EXPECT_EQ(rows[0], 0.0f);
  EXPECT_EQ(rows[1], 16.0f);
  EXPECT_EQ(rows[2], 1.0f);
  EXPECT_EQ(rows[3], 17.0f);
  EXPECT_EQ(rows[32], 32.0f);
  EXPECT_EQ(rows[33], 48.0f);
}

TEST_F(AdapterFileTest, PatternsChooseRankAndAlphaAsPeftDoes) {
  const AdapterTarget target = Llama();
  const std::string base = "base_model.model.model.layers.";
  const std::string path =
      Peft(R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true,
               "target_modules": ["q_proj", "o_proj"], "bias": "none",
               "rank_pattern": {"^model.layers.1.self_attn.q_proj": 2},
               "alpha_pattern": {"1.self_attn.q_proj": 6, "q_proj": 5, "proj": 99}})",
           {{base + "0.self_attn.q_proj.lora_A.weight", {4, 64}},
            {base + "0.self_attn.q_proj.lora_B.weight", {128, 4}},
            {base + "0.self_attn.o_proj.lora_A.weight", {4, 128}},
            {base + "0.self_attn.o_proj.lora_B.weight", {64, 4}},
            {base + "1.self_attn.q_proj.lora_A.weight", {2, 64}},
            {base + "1.self_attn.q_proj.lora_B.weight", {128, 2}}});
  auto adapter = ReadAdapter(path, target);
  ASSERT_TRUE(adapter.ok()) << adapter.status().message();
  ASSERT_EQ(adapter->matrices.size(), 3u);
  EXPECT_EQ(adapter->matrices[0].name, "blk.0.attn_q.weight");
  EXPECT_EQ(adapter->matrices[0].alpha, 5.0f);
  EXPECT_FLOAT_EQ(adapter->Scale(adapter->matrices[0]), 5.0f / 2);
  EXPECT_EQ(adapter->matrices[1].name, "blk.0.attn_output.weight");
  EXPECT_EQ(adapter->matrices[1].alpha, 8.0f);
  EXPECT_EQ(adapter->matrices[2].rank, 2);
  EXPECT_EQ(adapter->matrices[2].alpha, 6.0f);
  EXPECT_FLOAT_EQ(adapter->Scale(adapter->matrices[2]), 6.0f / std::sqrt(2.0f));
}

TEST_F(AdapterFileTest, PeftThatCannotBeHonouredIsRefused) {
  const AdapterTarget target = Llama();
  const std::string q = "base_model.model.model.layers.0.self_attn.q_proj.";
  const std::vector<std::pair<std::string, std::vector<int64_t>>> good = {
      {q + "lora_A.weight", {4, 64}}, {q + "lora_B.weight", {128, 4}}};
  const std::string fields = R"("peft_type": "LORA", "r": 4, "target_modules": ["q_proj"])";
  auto config = [&](const std::string& more) { return "{" + fields + more + "}"; };
  ASSERT_TRUE(ReadAdapter(Peft(config(""), good), target).ok());

  struct Case {
    std::string config;
    std::vector<std::pair<std::string, std::vector<int64_t>>> tensors;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases = {
      {"[]", good, {"JSON object"}},
      {"{", good, {"JSON object"}},
      {R"({"r": 4})", good, {"peft_type", "LORA"}},
      {R"({"peft_type": "IA3"})", good, {"peft_type", "IA3"}},
      {config(R"(, "bias": "all")"), good, {"bias", "none", "all"}},
      {config(R"(, "modules_to_save": ["lm_head"])"), good, {"modules_to_save"}},
      {config(R"(, "init_lora_weights": "pissa_niter_4")"), good, {"init_lora_weights", "pissa"}},
      {config(R"(, "lora_alpha": "big")"), good, {"lora_alpha", "number", "big"}},
      {config(R"(, "rank_pattern": {"layers\\.[01].*": 4})"), good, {"pattern", "regular"}},
      {config(R"(, "use_dora": true)"), good, {"q_proj", "use_dora", "none"}},
      {config(""),
       {{q + "lora_A.weight", {8, 64}}, {q + "lora_B.weight", {128, 8}}},
       {"q_proj", "4", "8"}},
      {config(""),
       {{q + "lora_A.weight", {4, 32}}, {q + "lora_B.weight", {128, 4}}},
       {"lora_A", "[4, 64]", "[4, 32]"}},
      {config(""),
       {{q + "lora_A.weight", {4, 64}}, {q + "lora_B.weight", {64, 4}}},
       {"lora_B", "[128, 4]", "[64, 4]"}},
      {config(""), {{q + "lora_A.weight", {4, 64}}}, {"attn_q", "both", "A alone"}},
      {config(""), {}, {"at least one"}},
      {config(""),
       {{"base_model.model.model.embed_tokens.lora_embedding_A", {4, 40}}},
       {"lora_embedding_A", "embedding"}},
      {config(""), {{"base_model.model.lm_head.weight", {40, 64}}}, {"lm_head", "fully trained"}},
      {config(""),
       {{"base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight", {4, 64}}},
       {"layers.7"}},
      {R"({"peft_type": "LORA", "r": 4, "target_modules": ["k_proj"]})",
       good,
       {"target_modules", "q_proj"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.config);
    ExpectRefused(Peft(c.config, c.tensors), target, c.words);
  }
  ExpectRefused(Peft(config(""), good, std::nanf("")), target, {"q_proj", "finite"});
  std::filesystem::rename(Path("peft/adapter_model.safetensors"), Path("peft/adapter_model.bin"));
  ExpectRefused(Path("peft"), target, {"adapter_model.bin", "safetensors"});
  ExpectRefused(Path("nothing"), target, {"nothing", "no such file"});
}

TEST_F(AdapterFileTest, GgufThatDoesNotFitIsRefused) {
  const AdapterTarget target = Llama();
  const Adapter adapter = RandomAdapter(target, false, false);
  ASSERT_TRUE(WriteGgufAdapter(adapter, target, Path("a.gguf")).ok());
  // Another width, another architecture, a model.
  AdapterTarget other = target;
  for (AdapterTarget::Matrix& m : other.matrices) m.cols += 32;
  ExpectRefused(Path("a.gguf"), other, {"lora_a", "96", "64"});
  other = target;
  other.architecture = "qwen3";
  ExpectRefused(Path("a.gguf"), other, {"qwen3", "llama"});
  other = target;
  other.matrices.pop_back();
  ExpectRefused(Path("a.gguf"), other, {target.matrices.back().name});
  ExpectRefused(Path("model.gguf"), target, {"general.type", "adapter"});
}

TEST_F(AdapterFileTest, ExpertsAreRefused) {
  const AdapterTarget target =
      Target({.name = "mixtral", .arch = "llama", .type = DType::kBF16, .experts = true});
  Adapter adapter;
  Adapter::Matrix m{.name = "blk.0.ffn_up_exps.weight", .rank = 1, .in = 64, .out = 96, .alpha = 1};
  m.a.assign(64, 1.0f);
  m.b.assign(96, 1.0f);
  adapter.matrices.push_back(m);
  Status status = WriteGgufAdapter(adapter, target, Path("a.gguf"));
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("experts"), std::string::npos) << status.message();
  const std::string name =
      "base_model.model.model.layers.0.block_sparse_moe.experts.1.w1.lora_A.weight";
  ExpectRefused(Peft(R"({"peft_type": "LORA", "r": 1})", {{name, {1, 64}}}), target, {"experts"});
}

}  // namespace
}  // namespace ink
