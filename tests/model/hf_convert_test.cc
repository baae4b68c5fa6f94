#include "model/hf_convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

#include "formats/files.h"
#include "formats/safetensors_writer.h"
#include "model/tiny_models.h"
#include "model/weight_source.h"
#include "model/weight_source_conformance.h"
#include "support/shared.h"

namespace ink {
namespace {

using namespace testing_support;

GgufFile Open(const std::string& path) {
  Result<GgufFile> file = GgufFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status().message();
  return file.ok() ? std::move(file).value() : GgufFile();
}

std::vector<float> Values(const GgufTensor& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.num_values()));
  FindQuantFormat(tensor.type)->decode(tensor.data.data(), out.data(), tensor.num_values());
  return out;
}

std::vector<float> Values(const SafetensorsTensor& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.num_values()));
  for (size_t i = 0; i < out.size() && tensor.type == DType::kF64; ++i) {
    double value;
    std::memcpy(&value, tensor.data.data() + i * 8, 8);
    out[i] = static_cast<float>(value);
  }
  if (tensor.type != DType::kF64) {
    FindQuantFormat(*tensor.type)->decode(tensor.data.data(), out.data(), tensor.num_values());
  }
  return out;
}

void ToHf(const GgufFile& in, const std::string& folder, ConvertOptions options = {}) {
  Status status = ConvertGgufToHf(in, folder, {{"note.txt", "hello"}}, options, nullptr);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(ReadText(folder + "/note.txt"), "hello");
}

void ToGguf(const std::string& folder, const std::string& path) {
  Result<HfModel> model = HfModel::Open(folder);
  ASSERT_TRUE(model.ok()) << model.status().message();
  Metadata vocabulary("vocabulary");
  vocabulary.SetString("tokenizer.ggml.model", "none");
  Status status = ConvertHfToGguf(*model, vocabulary, path, {});
  ASSERT_TRUE(status.ok()) << status.message();
}

// GGUF -> folder -> GGUF: every tensor and every model key is what it was.
void ExpectSameModel(const GgufFile& a, const GgufFile& b) {
  EXPECT_EQ(a.tensors().size(), b.tensors().size());
  for (const GgufTensor& t : a.tensors()) {
    const GgufTensor* other = b.Find(t.name);
    ASSERT_NE(other, nullptr) << t.name;
    EXPECT_EQ(t.dims, other->dims) << t.name;
    EXPECT_EQ(t.num_dims, other->num_dims) << t.name;
    EXPECT_EQ(Info(t.type).name, Info(other->type).name) << t.name;
    EXPECT_TRUE(AsText(t.data) == AsText(other->data)) << t.name;
  }
  const std::string prefix = std::string(*a.metadata().GetString("general.architecture")) + ".";
  for (const Metadata::Entry& entry : a.metadata().entries()) {
    if (!entry.key.starts_with(prefix)) continue;
    // Sizes that equal their default, and the vocabulary that the embedding says.
    if (entry.key.ends_with("vocab_size") || entry.key.ends_with("_length") ||
        entry.key.ends_with("rope.dimension_count")) {
      if (!b.metadata().Has(entry.key)) continue;
    }
    const MetadataValue* value = b.metadata().Find(entry.key);
    ASSERT_NE(value, nullptr) << entry.key;
    EXPECT_EQ(value->encoded, entry.value.encoded) << entry.key << " " << value->ToString();
  }
}

class HfConvert : public ::testing::TestWithParam<TinyModel> {};

TEST_P(HfConvert, RoundTripsBitForBit) {
  TemporaryFolder tmp;
  WriteTinyModel(GetParam(), tmp / "in.gguf");
  const GgufFile in = Open(tmp / "in.gguf");
  for (uint64_t shard : {0, 40000}) {
    const std::string folder = tmp / ("hf" + std::to_string(shard));
    ToHf(in, folder, {.max_shard_bytes = shard});
    EXPECT_EQ(std::filesystem::exists(folder + "/model.safetensors.index.json"), shard > 0);
    Result<std::unique_ptr<WeightSource>> hf = OpenWeightSource(folder);
    ASSERT_TRUE(hf.ok()) << hf.status().message();
    CheckWeightSource(**hf);
    ToGguf(folder, tmp / "back.gguf");
    Result<std::unique_ptr<WeightSource>> back = OpenWeightSource(tmp / "back.gguf");
    ASSERT_TRUE(back.ok()) << back.status().message();
    CheckWeightSource(**back);
    CheckSameWeights(**hf, **back);
    if (Info(GetParam().type).quantized) continue;
    ExpectSameModel(in, Open(tmp / "back.gguf"));
    Result<std::unique_ptr<WeightSource>> original = OpenWeightSource(tmp / "in.gguf");
    ASSERT_TRUE(original.ok());
    CheckSameWeights(**original, **hf);
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, HfConvert, ::testing::ValuesIn(TinyModels()),
                         [](const auto& param) {
                           std::string name = param.param.name;
                           for (char& c : name) c = isalnum(c) ? c : '_';
                           return name;
                         });

// The definitions of the three transforms, element by element.
TEST(HfConvertForms, QueryRowsNormsAndExperts) {
  TemporaryFolder tmp;
  for (const TinyModel& model : TinyModels()) {
    const std::string path = tmp / (model.name + ".gguf");
    WriteTinyModel(model, path);
    const GgufFile in = Open(path);
    ToHf(in, tmp / model.name);
    Result<SafetensorsFile> out = SafetensorsFile::Open(tmp / model.name);
    ASSERT_TRUE(out.ok());
    if (model.arch == "llama") {
      for (const char* part : {"weight", "bias"}) {
        const GgufTensor* q = in.Find("blk.1.attn_q." + std::string(part));
        if (q == nullptr) continue;
        const std::vector<float> gguf = Values(*q);
        const std::vector<float> hf =
            Values(**out->Get("model.layers.1.self_attn.q_proj." + std::string(part)));
        const size_t cols = q->num_dims == 1 ? 1 : static_cast<size_t>(q->dims[0]);
        for (size_t h = 0; h < 4; ++h) {
          for (size_t j = 0; j < 2; ++j) {
            for (size_t i = 0; i < 16; ++i) {
              for (size_t c = 0; c < cols; ++c) {
                EXPECT_EQ(hf[(h * 32 + j * 16 + i) * cols + c],
                          gguf[(h * 32 + i * 2 + j) * cols + c]);
              }
            }
          }
        }
      }
      EXPECT_EQ(Values(**out->Get("model.layers.0.self_attn.v_proj.weight")),
                Values(*in.Find("blk.0.attn_v.weight")));
    }
    const std::vector<float> norm_gguf = Values(*in.Find("blk.0.attn_norm.weight"));
    const std::vector<float> norm_hf = Values(**out->Get("model.layers.0.input_layernorm.weight"));
    for (size_t i = 0; i < norm_gguf.size(); ++i) {
      const bool gemma = model.arch.starts_with("gemma");
      EXPECT_FLOAT_EQ(norm_hf[i], gemma ? norm_gguf[i] - 1 : norm_gguf[i]);
    }
    if (model.experts) {
      const std::string name = model.arch == "llama" ? "block_sparse_moe.experts.2.w2.weight"
                                                     : "mlp.experts.2.down_proj.weight";
      const SafetensorsTensor* last = *out->Get("model.layers.1." + name);
      EXPECT_EQ(last->shape, (std::vector<int64_t>{64, 96}));
      const std::vector<float> stacked = Values(*in.Find("blk.1.ffn_down_exps.weight"));
      EXPECT_EQ(Values(*last), std::vector<float>(stacked.end() - 64 * 96, stacked.end()));
    }
    EXPECT_EQ(out->Find("lm_head.weight") == nullptr, model.tied);
  }
}

TEST(HfConvertForms, QuantizedBecomesTheTypeAskedFor) {
  TemporaryFolder tmp;
  WriteTinyModel({.name = "q", .arch = "llama", .type = DType::kQ4_0}, tmp / "q.gguf");
  const GgufFile in = Open(tmp / "q.gguf");
  for (DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    const std::string folder = tmp / std::string(Info(type).name);
    ToHf(in, folder, {.dequantized = type});
    Result<SafetensorsFile> out = SafetensorsFile::Open(folder);
    ASSERT_TRUE(out.ok());
    const SafetensorsTensor* v = *out->Get("model.layers.0.self_attn.v_proj.weight");
    EXPECT_EQ(*v->type, type);
    EXPECT_EQ(*(*out->Get("model.norm.weight"))->type, DType::kF32) << "plain types stay";
    const std::vector<float> exact = Values(*in.Find("blk.0.attn_v.weight"));
    const std::vector<float> got = Values(*v);
    for (size_t i = 0; i < exact.size(); ++i) {
      EXPECT_NEAR(got[i], exact[i], type == DType::kF32 ? 0 : std::abs(exact[i]) / 128);
    }
  }
  EXPECT_EQ(ConvertGgufToHf(in, tmp / "no", {}, {.dequantized = DType::kQ8_0}, nullptr).code(),
            StatusCode::kInvalidArgument);
}

TEST(HfConvertForms, SharedModels) {
  INK_NEEDS_SHARED();
  for (const char* name : {"models/stories260K.gguf", "goldens/logits/llama-tiny.gguf",
                           "goldens/logits/mixtral-tiny.gguf", "goldens/logits/qwen2-tiny.gguf",
                           "goldens/logits/qwen3-tiny.gguf", "goldens/logits/gemma2-tiny.gguf",
                           "goldens/quantized/bf16.gguf", "goldens/quantized/f16.gguf"}) {
    TemporaryFolder tmp;
    const GgufFile in = Open(Shared(name));
    ToHf(in, tmp / "hf");
    ToGguf(tmp / "hf", tmp / "back.gguf");
    const GgufFile back = Open(tmp / "back.gguf");
    ExpectSameModel(in, back);
    Result<std::unique_ptr<WeightSource>> a = OpenWeightSource(Shared(name));
    Result<std::unique_ptr<WeightSource>> b = OpenWeightSource(tmp / "hf");
    ASSERT_TRUE(a.ok() && b.ok());
    CheckSameWeights(**a, **b);
  }
}

// ---- folders that lie ----

class HfFolder {
 public:
  HfFolder() { Config(R"("tie_word_embeddings":false)"); }
  void Config(const std::string& more) {
    WriteText(tmp_ / "config.json",
              R"({"model_type":"mixtral","hidden_size":8,"intermediate_size":12,
      "num_attention_heads":2,"num_key_value_heads":1,"num_hidden_layers":1,"num_local_experts":2,
      "vocab_size":5,)" +
                  more + "}");
  }
  // All tensors, with `change` applied to the list.
  template <typename Fn>
  Status Open(Fn change) {
    std::map<std::string, std::vector<int64_t>> shapes = {
        {"model.embed_tokens.weight", {5, 8}},
        {"model.norm.weight", {8}},
        {"lm_head.weight", {5, 8}},
        {"model.layers.0.input_layernorm.weight", {8}},
        {"model.layers.0.post_attention_layernorm.weight", {8}},
        {"model.layers.0.self_attn.q_proj.weight", {8, 8}},
        {"model.layers.0.self_attn.k_proj.weight", {4, 8}},
        {"model.layers.0.self_attn.v_proj.weight", {4, 8}},
        {"model.layers.0.self_attn.o_proj.weight", {8, 8}},
        {"model.layers.0.self_attn.rotary_emb.inv_freq", {2}},
        {"model.layers.0.block_sparse_moe.gate.weight", {2, 8}},
    };
    for (int e = 0; e < 2; ++e) {
      const std::string b = "model.layers.0.block_sparse_moe.experts." + std::to_string(e) + ".";
      shapes[b + "w1.weight"] = {12, 8};
      shapes[b + "w2.weight"] = {8, 12};
      shapes[b + "w3.weight"] = {12, 8};
    }
    DType type = DType::kBF16;
    change(shapes, type);
    SafetensorsWriter writer(tmp_ / "model.safetensors");
    for (const auto& [name, shape] : shapes) {
      EXPECT_TRUE(writer.AddTensor(name, type, shape).ok());
    }
    EXPECT_TRUE(writer.Begin().ok());
    EXPECT_TRUE(writer.Write(AsBytes(std::string(writer.total_bytes(), '\1'))).ok());
    EXPECT_TRUE(writer.Finish().ok());
    return HfModel::Open(tmp_.path()).status();
  }
  const std::string& path() const { return tmp_.path(); }

 private:
  TemporaryFolder tmp_;
};

using Shapes = std::map<std::string, std::vector<int64_t>>;

TEST(HfModel, RefusesFoldersThatLie) {
  auto error = [](const Status& status, std::vector<std::string> parts) {
    ASSERT_FALSE(status.ok()) << parts[0];
    for (const std::string& part : parts) {
      EXPECT_NE(status.message().find(part), std::string::npos)
          << part << " is not in: " << status.message();
    }
  };
  HfFolder folder;
  Status fine = folder.Open([](Shapes&, DType&) {});
  EXPECT_TRUE(fine.ok()) << fine.message();
  error(folder.Open([](Shapes& s, DType&) { s.erase("model.embed_tokens.weight"); }),
        {"embed_tokens.weight", "no such tensor"});
  error(folder.Open([](Shapes& s, DType&) { s.erase("lm_head.weight"); }),
        {"lm_head.weight", "tie_word_embeddings"});
  error(folder.Open([](Shapes& s, DType&) { s.erase("model.norm.weight"); }), {"output_norm"});
  error(folder.Open([](Shapes& s, DType&) {
    s["model.embed_tokens.weight"] = {6, 8};
  }),
        {"vocab_size = 5", "found 6"});
  error(folder.Open([](Shapes& s, DType&) {
    s["model.layers.0.surprise.weight"] = {6, 8};
  }),
        {"surprise"});
  error(folder.Open([](Shapes& s, DType&) { s["model.layers.1.input_layernorm.weight"] = {8}; }),
        {"layers.1"});
  error(folder.Open([](Shapes& s, DType&) {
    s.erase("model.layers.0.block_sparse_moe.experts.1.w3.weight");
  }),
        {"experts.1.w3.weight", "no tensor"});
  error(folder.Open([](Shapes& s, DType&) {
    s["model.layers.0.block_sparse_moe.experts.1.w3.weight"] = {8, 12};
  }),
        {"experts.1.w3.weight", "[12, 8]", "[8, 12]"});
  error(folder.Open([](Shapes& s, DType&) {
    s["model.layers.0.self_attn.k_proj.weight"] = {3, 8};
  }),
        {"k_proj.weight", "rows", "found 3"});
  error(folder.Open([](Shapes& s, DType&) {
    s["model.layers.0.self_attn.k_proj.weight"] = {4, 8, 1};
  }),
        {"k_proj.weight", "shape"});
  error(folder.Open([](Shapes&, DType& type) { type = DType::kI32; }),
        {"dtype", "found I32", "F32"});
  folder.Config(R"("tie_word_embeddings":true)");
  EXPECT_TRUE(folder.Open([](Shapes&, DType&) {}).ok()) << "a stored copy of the tied head";
  EXPECT_TRUE(folder.Open([](Shapes& s, DType&) { s.erase("lm_head.weight"); }).ok());
}

TEST(HfConvertForms, FailuresLeaveNothingBehind) {
  TemporaryFolder tmp;
  WriteTinyModel({.name = "x", .arch = "llama"}, tmp / "x.gguf");
  const GgufFile in = Open(tmp / "x.gguf");
  // A file where the folder should be.
  WriteText(tmp / "occupied", "before");
  EXPECT_FALSE(ConvertGgufToHf(in, tmp / "occupied", {}, {}, nullptr).ok());
  EXPECT_EQ(ReadText(tmp / "occupied"), "before");
  // Weights of another model beside the new ones.
  std::filesystem::create_directory(tmp / "used");
  WriteText(tmp / "used/model-00001-of-00002.safetensors", "before");
  Status other = ConvertGgufToHf(in, tmp / "used", {}, {}, nullptr);
  EXPECT_EQ(other.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(other.message().find("model-00001-of-00002"), std::string::npos) << other.message();
  EXPECT_FALSE(std::filesystem::exists(tmp / "used/model.safetensors"));
  // Stopped half way.
  int calls = 0;
  Status stopped =
      ConvertGgufToHf(in, tmp / "stopped", {},
                      {.progress = [&](uint64_t, uint64_t) { return ++calls < 5; }}, nullptr);
  EXPECT_EQ(stopped.code(), StatusCode::kCancelled);
  EXPECT_FALSE(std::filesystem::exists(tmp / "stopped"));
  // A tensor without a name on the other side.
  GgufWriter writer(tmp / "odd.gguf");
  writer.metadata().CopyFrom(in.metadata());
  for (const GgufTensor& t : in.tensors()) {
    ASSERT_TRUE(
        writer.AddTensor(t.name, t.type, std::span(t.dims).first(static_cast<size_t>(t.num_dims)))
            .ok());
  }
  const int64_t dims[] = {4};
  ASSERT_TRUE(writer.AddTensor("blk.0.extra.weight", DType::kF32, dims).ok());
  ASSERT_TRUE(writer.Begin().ok());
  for (const GgufTensor& t : in.tensors()) ASSERT_TRUE(writer.Write(t.data).ok());
  ASSERT_TRUE(writer.Write(AsBytes(std::string(16, 'x'))).ok());
  ASSERT_TRUE(writer.Finish().ok());
  Status status = ConvertGgufToHf(Open(tmp / "odd.gguf"), tmp / "new", {}, {}, nullptr);
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_NE(status.message().find("blk.0.extra.weight"), std::string::npos) << status.message();
  EXPECT_FALSE(std::filesystem::exists(tmp / "new"));
}

}  // namespace
}  // namespace ink
