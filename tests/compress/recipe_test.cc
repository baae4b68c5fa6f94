#include "compress/recipe.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace ink {
namespace {

// The matrices of a model with its GGUF names.
class Model {
 public:
  Model(std::string architecture, int64_t layers, int64_t heads, int64_t kv_heads,
        int64_t width = 4096, int64_t experts = 0) {
    traits.architecture = std::move(architecture);
    traits.num_layers = layers;
    traits.num_heads = heads;
    traits.num_kv_heads = kv_heads;
    traits.num_experts = experts;
    Add("token_embd.weight", width, 32000);
    for (int64_t l = 0; l < layers; ++l) {
      const std::string p = "blk." + std::to_string(l) + ".";
      const std::string e = experts > 0 ? "_exps" : "";
      Add(p + "attn_norm.weight", width);
      for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
        Add(p + name + ".weight", width, width);
      }
      Add(p + "attn_q.bias", width);
      for (const char* name : {"ffn_gate", "ffn_up", "ffn_down"}) {
        Add(p + name + e + ".weight", width, width, std::max<int64_t>(experts, 1));
      }
      if (experts > 0) Add(p + "ffn_gate_inp.weight", width, experts);
    }
    Add("output_norm.weight", width);
  }

  Model& WithOutput() {
    Add("output.weight", tensors_[0].dims[0], 32000);
    return *this;
  }

  std::map<std::string, DType> Choose(std::string_view recipe, RecipeOptions options = {}) {
    for (size_t i = 0; i < tensors_.size(); ++i) tensors_[i].name = names_[i];
    const Recipe* row = FindRecipe(recipe);
    EXPECT_NE(row, nullptr) << recipe;
    Result<TypeChoice> choice = ChooseTypes(*row, traits, tensors_, options);
    EXPECT_TRUE(choice.ok()) << choice.status().message();
    warnings = choice->warnings;
    std::map<std::string, DType> types;
    for (size_t i = 0; i < tensors_.size(); ++i) types[names_[i]] = choice->types[i];
    return types;
  }

  void Add(const std::string& name, int64_t row, int64_t rows = 1, int64_t experts = 1) {
    names_.push_back(name);
    tensors_.push_back({"", DType::kF32, experts > 1 ? 3 : rows > 1 ? 2 : 1, {row, rows, experts}});
  }
  void SetRow(size_t index, int64_t row) { tensors_[index].dims[0] = row; }
  void SetType(size_t index, DType type) { tensors_[index].type = type; }
  size_t size() const { return tensors_.size(); }

  ModelTraits traits;
  std::vector<std::string> warnings;

 private:
  std::vector<std::string> names_;
  std::vector<RecipeTensor> tensors_;
};

// "0,3,5": the layers whose tensor `name` has `type`.
std::string LayersWith(const std::map<std::string, DType>& types, const std::string& name,
                       DType type) {
  std::string layers;
  for (int l = 0;; ++l) {
    const auto it = types.find("blk." + std::to_string(l) + "." + name + ".weight");
    if (it == types.end()) return layers;
    if (it->second != type) continue;
    if (!layers.empty()) layers += ',';
    layers += std::to_string(l);
  }
}

constexpr const char* kAll16 = "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15";

TEST(RecipeTest, EveryNameIsFoundInAnyCase) {
  for (const Recipe& recipe : AllRecipes()) {
    EXPECT_EQ(FindRecipe(recipe.name), &recipe);
    std::string upper(recipe.name);
    for (char& c : upper) c = static_cast<char>(std::toupper(c));
    EXPECT_EQ(FindRecipe(upper), &recipe);
  }
  EXPECT_EQ(FindRecipe("Q4_K"), FindRecipe("q4_k_m"));
  EXPECT_EQ(FindRecipe("q3_k")->file_type, FileType::kQ3_K_M);
  EXPECT_EQ(FindRecipe("q5_k")->file_type, FileType::kQ5_K_M);
  EXPECT_EQ(FindRecipe("q7_k"), nullptr);
  EXPECT_EQ(FindRecipe(""), nullptr);
}

TEST(RecipeTest, NormsBiasesAndRoutersKeepTheirType) {
  Model model("llama", 4, 32, 8, 4096, 16);
  for (const Recipe& recipe : AllRecipes()) {
    for (const auto& [name, type] : model.Choose(recipe.name)) {
      if (name.find("norm") != std::string::npos || name.find("bias") != std::string::npos ||
          name.find("ffn_gate_inp") != std::string::npos) {
        EXPECT_EQ(type, DType::kF32) << recipe.name << " " << name;
      } else if (recipe.type != DType::kF32) {
        EXPECT_NE(type, DType::kF32) << recipe.name << " " << name;
      }
    }
  }
}

// 16 layers: the first and last eighth, and each third of those between.
TEST(RecipeTest, Q4KMRaisesValueAndDownProjections) {
  Model model("llama", 16, 32, 8);
  const auto types = model.WithOutput().Choose("q4_k_m");
  EXPECT_EQ(types.at("output.weight"), DType::kQ6_K);
  EXPECT_EQ(types.at("token_embd.weight"), DType::kQ4_K);
  EXPECT_EQ(LayersWith(types, "attn_v", DType::kQ6_K), "0,1,4,7,10,13,14,15");
  EXPECT_EQ(LayersWith(types, "ffn_down", DType::kQ6_K), "0,1,4,7,10,13,14,15");
  EXPECT_EQ(LayersWith(types, "attn_v", DType::kQ4_K), "2,3,5,6,8,9,11,12");
  for (const char* name : {"attn_q", "attn_k", "attn_output", "ffn_up", "ffn_gate"}) {
    EXPECT_EQ(LayersWith(types, name, DType::kQ4_K), kAll16) << name;
  }
}

TEST(RecipeTest, LayersAreCountedInTheirOrderWhateverTheFiles) {
  Model ordered("llama", 12, 32, 8);
  Model shuffled("llama", 0, 32, 8);
  shuffled.traits.num_layers = 12;
  for (const int l : {10, 2, 11, 0, 9, 1, 3, 8, 7, 4, 6, 5}) {
    for (const char* name : {"ffn_down", "attn_v"}) {
      shuffled.Add("blk." + std::to_string(l) + "." + name + ".weight", 4096, 4096);
    }
  }
  const auto expected = ordered.Choose("q5_k_m");
  for (const auto& [name, type] : shuffled.Choose("q5_k_m")) {
    if (!name.starts_with("blk.")) continue;
    EXPECT_EQ(type, expected.at(name)) << name;
  }
}

TEST(RecipeTest, TiedEmbeddingsCountAsOutput) {
  Model model("gemma3", 16, 8, 4);
  EXPECT_EQ(model.Choose("q4_k_s").at("token_embd.weight"), DType::kQ6_K);
  EXPECT_EQ(model.Choose("q4_0").at("token_embd.weight"), DType::kQ6_K);
  EXPECT_EQ(model.Choose("q8_0").at("token_embd.weight"), DType::kQ8_0);
  EXPECT_EQ(model.Choose("f16").at("token_embd.weight"), DType::kF16);
}

TEST(RecipeTest, OtherMixtures) {
  Model model("qwen3", 16, 16, 8);
  model.WithOutput();
  auto types = model.Choose("q4_k_s");
  EXPECT_EQ(LayersWith(types, "attn_v", DType::kQ5_K), "0,1,2,3");
  EXPECT_EQ(LayersWith(types, "ffn_down", DType::kQ5_K), "0,1");
  types = model.Choose("q3_k_m");
  EXPECT_EQ(LayersWith(types, "attn_v", DType::kQ5_K), "0,1");
  EXPECT_EQ(LayersWith(types, "attn_v", DType::kQ4_K), "2,3,4,5,6,7,8,9,10,11,12,13,14,15");
  EXPECT_EQ(LayersWith(types, "ffn_down", DType::kQ5_K), "0");
  EXPECT_EQ(LayersWith(types, "attn_output", DType::kQ4_K), kAll16);
  EXPECT_EQ(LayersWith(types, "attn_q", DType::kQ3_K), kAll16);
  types = model.Choose("q3_k_l");
  for (const char* name : {"attn_v", "attn_output", "ffn_down"}) {
    EXPECT_EQ(LayersWith(types, name, DType::kQ5_K), kAll16) << name;
  }
  types = model.Choose("q2_k");
  EXPECT_EQ(LayersWith(types, "attn_v", DType::kQ3_K), kAll16);  // fewer than 4 heads share a V
  EXPECT_EQ(LayersWith(types, "ffn_down", DType::kQ3_K), kAll16);
  EXPECT_EQ(LayersWith(types, "ffn_up", DType::kQ2_K), kAll16);
  model.traits.num_kv_heads = 4;
  EXPECT_EQ(LayersWith(model.Choose("q2_k"), "attn_v", DType::kQ4_K), kAll16);
  types = model.Choose("iq4_xs");
  EXPECT_EQ(LayersWith(types, "attn_v", DType::kQ5_K), kAll16);
  EXPECT_EQ(LayersWith(types, "ffn_down", DType::kQ5_K), "0,1");
  RecipeOptions weighted;
  weighted.has_importance = true;
  EXPECT_EQ(LayersWith(model.Choose("iq4_xs", weighted), "ffn_down", DType::kQ5_K), "");
  EXPECT_EQ(LayersWith(model.Choose("q4_0", weighted), "ffn_down", DType::kQ4_1), "0,1");
  EXPECT_EQ(LayersWith(model.Choose("q5_0", weighted), "ffn_down", DType::kQ5_1), "0,1");
  EXPECT_EQ(LayersWith(model.Choose("q4_0"), "ffn_down", DType::kQ4_0), kAll16);
}

TEST(RecipeTest, ExpertsAndLargeModels) {
  Model mixtral("llama", 16, 32, 8, 4096, 8);
  mixtral.WithOutput();
  auto types = mixtral.Choose("q4_k_m");
  EXPECT_EQ(LayersWith(types, "attn_v", DType::kQ8_0), kAll16);
  EXPECT_EQ(LayersWith(types, "attn_k", DType::kQ8_0), kAll16);
  EXPECT_EQ(LayersWith(types, "attn_output", DType::kQ5_K), kAll16);
  EXPECT_EQ(LayersWith(types, "ffn_down_exps", DType::kQ6_K), "0,1,4,7,10,13,14,15");
  types = mixtral.Choose("mxfp4_moe");
  EXPECT_EQ(LayersWith(types, "ffn_up_exps", DType::kMXFP4), kAll16);
  EXPECT_EQ(LayersWith(types, "attn_q", DType::kQ8_0), kAll16);
  EXPECT_EQ(types.at("output.weight"), DType::kQ8_0);
  types = mixtral.Choose("mxfp4");
  EXPECT_EQ(LayersWith(types, "attn_q", DType::kMXFP4), kAll16);
  EXPECT_EQ(types.at("token_embd.weight"), DType::kQ8_0);

  Model large("llama", 80, 64, 8);
  types = large.WithOutput().Choose("q4_k_m");
  EXPECT_EQ(types.at("blk.11.attn_v.weight"), DType::kQ5_K);  // else q4_k
  EXPECT_EQ(types.at("blk.0.attn_v.weight"), DType::kQ6_K);
}

TEST(RecipeTest, PureGivesEveryMatrixOneType) {
  Model model("llama", 16, 32, 8);
  model.WithOutput();
  RecipeOptions options;
  options.pure = true;
  for (const Recipe& recipe : AllRecipes()) {
    for (const auto& [name, type] : model.Choose(recipe.name, options)) {
      const bool matrix = name.ends_with("weight") && name.find("norm") == std::string::npos;
      EXPECT_EQ(type, matrix ? recipe.type : DType::kF32) << recipe.name << " " << name;
    }
  }
}

TEST(RecipeTest, RowsThatBlocksDoNotDivideFallBack) {
  const std::map<std::string, DType> expected = {
      {"q2_k", DType::kQ4_0},   {"q3_k_s", DType::kQ4_0}, {"q4_k_s", DType::kQ5_0},
      {"q5_k_s", DType::kQ5_1}, {"q6_k", DType::kQ8_0},   {"iq4_xs", DType::kIQ4_NL},
  };
  for (const auto& [recipe, type] : expected) {
    Model model("llama", 0, 32, 32);
    model.Add("blk.9.ffn_up.weight", 288, 64);
    model.Add("blk.9.ffn_gate.weight", 100, 64);
    model.Add("output.weight", 4096, 32000);
    const auto types = model.Choose(recipe);
    EXPECT_EQ(types.at("blk.9.ffn_up.weight"), type) << recipe;
    EXPECT_EQ(types.at("blk.9.ffn_gate.weight"), DType::kF16) << recipe;
    ASSERT_EQ(model.warnings.size(), 2u);
    EXPECT_NE(model.warnings[0].find("288"), std::string::npos) << model.warnings[0];
    EXPECT_NE(model.warnings[0].find("multiple of 256"), std::string::npos) << model.warnings[0];
  }
  // The output matrix goes to q8_0 at once.
  Model model("llama", 0, 32, 32);
  model.Add("output.weight", 288, 32000);
  EXPECT_EQ(model.Choose("q4_k_m").at("output.weight"), DType::kQ8_0);
}

TEST(RecipeTest, IntegersAreNeverTouched) {
  Model model("llama", 1, 32, 8);
  model.Add("blk.0.ids.weight", 256, 4);
  model.SetType(model.size() - 1, DType::kI32);
  EXPECT_EQ(model.Choose("q4_k_m").at("blk.0.ids.weight"), DType::kI32);
  EXPECT_EQ(model.Choose("f32").at("blk.0.ids.weight"), DType::kI32);
}

TEST(RecipeTest, OverridesDecideFirst) {
  Model model("llama", 4, 32, 8);
  RecipeOptions options;
  for (const char* text : {R"(blk\.[01]\.ffn_down=q8_0)", "ffn_down=q5_0", "nothing=q8_0"}) {
    Result<TypeOverride> parsed = TypeOverride::Parse(text);
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    options.overrides.push_back(*parsed);
  }
  for (const bool pure : {false, true}) {
    options.pure = pure;
    const auto types = model.Choose("q4_k_m", options);
    EXPECT_EQ(LayersWith(types, "ffn_down", DType::kQ8_0), "0,1");
    EXPECT_EQ(LayersWith(types, "ffn_down", DType::kQ5_0), "2,3");
    ASSERT_EQ(model.warnings.size(), 1u);
    EXPECT_NE(model.warnings[0].find("nothing"), std::string::npos);
  }
}

TEST(RecipeTest, BadOverridesAreRefused) {
  for (const char* text : {"", "a", "=q8_0", "a=", "a=q9", "a=i32", "a=nf4", "a=f64"}) {
    EXPECT_EQ(TypeOverride::Parse(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
  RecipeOptions options;
  options.overrides.push_back({"(", DType::kQ8_0});
  const Status status = ChooseTypes(*FindRecipe("q8_0"), {}, {}, options).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("\"(\""), std::string::npos);
}

TEST(RecipeTest, TraitsComeFromMetadata) {
  Metadata metadata("x.gguf");
  metadata.SetString("general.architecture", "llama");
  metadata.SetU32("llama.block_count", 22);
  metadata.SetU32("llama.expert_count", 8);
  metadata.SetU32("llama.attention.head_count", 32);
  const std::vector<uint32_t> kv = {4, 8};
  metadata.SetU32s("llama.attention.head_count_kv", kv);
  const Result<ModelTraits> traits = ModelTraits::FromMetadata(metadata);
  ASSERT_TRUE(traits.ok());
  EXPECT_EQ(traits->num_layers, 22);
  EXPECT_EQ(traits->num_experts, 8);
  EXPECT_EQ(traits->num_heads, 32);
  EXPECT_EQ(traits->num_kv_heads, 4);
  metadata.SetString("llama.block_count", "many");
  EXPECT_EQ(ModelTraits::FromMetadata(metadata).status().code(), StatusCode::kCorrupt);
}

}  // namespace
}  // namespace ink
