// Merged files against the formulas in double precision.
#include "compress/merge.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "model/tiny_models.h"
#include "model/weight_source.h"
#include "support/random_adapter.h"

namespace ink {
namespace {

using namespace testing_support;

class MergeTest : public ::testing::Test {
 protected:
  MergeTest()
      : folder_(std::filesystem::temp_directory_path() /
                ("ink_merge_test_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~MergeTest() override { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  std::unique_ptr<WeightSource> Open(const std::string& path) {
    auto source = OpenGgufSource(path);
    EXPECT_TRUE(source.ok()) << source.status().message();
    return std::move(source).value();
  }
  std::vector<float> Values(const WeightSource& source, const std::string& name) {
    auto tensor = source.Matrix(name);
    EXPECT_TRUE(tensor.ok()) << tensor.status().message();
    std::vector<float> all, row(static_cast<size_t>(tensor->cols));
    for (int e = 0; e < tensor->num_experts(); ++e) {
      for (int64_t r = 0; r < tensor->rows; ++r) {
        FindQuantFormat(tensor->type)->decode(tensor->Row(e, r), row.data(), tensor->cols);
        all.insert(all.end(), row.begin(), row.end());
      }
    }
    return all;
  }
  // ||a - b|| / ||b||
  static double Distance(const std::vector<float>& a, const std::vector<float>& b) {
    EXPECT_EQ(a.size(), b.size());
    double error = 0, norm = 0;
    for (size_t i = 0; i < b.size(); ++i) {
      error += std::pow(static_cast<double>(a[i]) - b[i], 2);
      norm += std::pow(static_cast<double>(b[i]), 2);
    }
    return std::sqrt(error / norm);
  }

  std::filesystem::path folder_;
  ThreadPool pool_{2};
};

TEST_F(MergeTest, EqualsTheFormulasOnEveryArchitecture) {
  for (TinyModel tiny : TinyModels()) {
    for (DType type : {DType::kF32, DType::kQ8_0}) {
      tiny.type = type;
      SCOPED_TRACE(tiny.name + " " + std::string(Info(type).name));
      WriteTinyModel(tiny, Path("base.gguf"));
      auto base = Open(Path("base.gguf"));
      auto target = AdapterTargetOf(*base);
      ASSERT_TRUE(target.ok());
      const Adapter lora = RandomAdapter(*target, true, false, 1, 0.3f);
      const Adapter dora = RandomAdapter(*target, false, true, 2, 0.3f);
      auto file = GgufFile::Open(Path("base.gguf"));
      ASSERT_TRUE(file.ok());
      const std::vector<MergeAdapter> uses = {{&lora, 0.5f}, {&dora, 1.5f}};
      auto report = MergeAdapters(*file, *target, uses, Path("out.gguf"), {}, pool_);
      ASSERT_TRUE(report.ok()) << report.status().message();
      FoldedSource folded(*base);
      folded.Fold(lora, 0.5);
      folded.Fold(dora, 1.5);
      auto merged = Open(Path("out.gguf"));
      EXPECT_TRUE(merged->Has("output.weight"));  // untied where it was tied
      for (const std::string& name : merged->Names()) {
        SCOPED_TRACE(name);
        if (name.ends_with(".bias")) {
          EXPECT_EQ(*merged->Vector(name), *base->Vector(name));
          continue;
        }
        auto stored = merged->Matrix(name);
        ASSERT_TRUE(stored.ok());
        if (target->Find(name) == nullptr || target->Find(name)->experts) {
          EXPECT_EQ(Values(*merged, name), Values(*base, name));
          continue;
        }
        auto before = base->Matrix(base->Has(name) ? name : "token_embd.weight");
        EXPECT_EQ(stored->type, before->type);
        // Q8_0 rounds to 1/254 of a block's largest value: 0.4% of a normal block at most.
        EXPECT_LT(Distance(Values(*merged, name), Values(folded, name)),
                  stored->type == DType::kF32 ? 1e-7 : 0.008);
      }
    }
  }
}

TEST_F(MergeTest, ARecipeChangesTheTypes) {
  WriteTinyModel({.name = "llama", .arch = "llama"}, Path("base.gguf"));
  auto base = Open(Path("base.gguf"));
  auto target = AdapterTargetOf(*base);
  const Adapter adapter = RandomAdapter(*target, false, false, 1, 0.1f);
  auto file = GgufFile::Open(Path("base.gguf"));
  QuantizeOptions options;
  options.recipe = FindRecipe("q4_0");
  const std::vector<MergeAdapter> uses = {{&adapter, 1.0f}};
  auto report = MergeAdapters(*file, *target, uses, Path("out.gguf"), options, pool_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  auto merged = Open(Path("out.gguf"));
  EXPECT_EQ(merged->Matrix("blk.0.attn_q.weight")->type, DType::kQ4_0);
  FoldedSource folded(*base);
  folded.Fold(adapter, 1);
  EXPECT_LT(Distance(Values(*merged, "blk.0.attn_q.weight"), Values(folded, "blk.0.attn_q.weight")),
            0.12);
}

TEST_F(MergeTest, WhatCannotBeMergedLeavesNothing) {
  WriteTinyModel({.name = "llama", .arch = "llama"}, Path("base.gguf"));
  auto base = Open(Path("base.gguf"));
  auto target = AdapterTargetOf(*base);
  Adapter adapter = RandomAdapter(*target, false, false, 1, 10.0f);
  auto file = GgufFile::Open(Path("base.gguf"));
  auto merge = [&](float scale) {
    const std::vector<MergeAdapter> uses = {{&adapter, scale}};
    return MergeAdapters(*file, *target, uses, Path("out.gguf"), {}, pool_).status();
  };
  EXPECT_FALSE(merge(std::nanf("")).ok());
  EXPECT_FALSE(MergeAdapters(*file, *target, {}, Path("out.gguf"), {}, pool_).ok());
  // Too large for float32: named with its place.
  const Status overflow = merge(3e38f);
  ASSERT_FALSE(overflow.ok());
  EXPECT_NE(overflow.message().find("row"), std::string::npos) << overflow.message();
  adapter.matrices[0].out += 1;
  EXPECT_FALSE(merge(1.0f).ok());
  EXPECT_FALSE(std::filesystem::exists(Path("out.gguf")));
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    ++files;
    (void)entry;
  }
  EXPECT_EQ(files, 1);
}

}  // namespace
}  // namespace ink
