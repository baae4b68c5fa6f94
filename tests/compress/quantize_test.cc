#include "compress/quantize.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>

#include "base/rng.h"
#include "formats/files.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "quant/quant_format.h"
#include "support/shared.h"

namespace ink {
namespace {

using namespace testing_support;

struct TestTensor {
  std::string name;
  std::vector<int64_t> dims;
  std::vector<float> values;
};

TestTensor Random(const std::string& name, std::vector<int64_t> dims, uint64_t seed) {
  int64_t n = 1;
  for (const int64_t dim : dims) n *= dim;
  Rng rng(seed);
  TestTensor tensor{name, std::move(dims), std::vector<float>(static_cast<size_t>(n))};
  for (float& value : tensor.values) value = 0.1f * rng.Normal();
  return tensor;
}

// Two layers of a model, one of them with experts in it.
std::vector<TestTensor> SmallModel() {
  return {
      Random("token_embd.weight", {256, 40}, 1),
      Random("blk.0.attn_norm.weight", {256}, 2),
      Random("blk.0.attn_v.weight", {256, 17}, 3),
      Random("blk.0.ffn_down.weight", {512, 9}, 4),
      Random("blk.1.attn_q.weight", {256, 33}, 5),
      Random("blk.1.ffn_up_exps.weight", {256, 5, 3}, 6),
      Random("blk.1.ffn_gate_inp.weight", {256, 3}, 7),
      Random("output.weight", {256, 40}, 8),
  };
}

void Write(const std::string& path, const std::vector<TestTensor>& tensors) {
  GgufWriter writer(path);
  writer.metadata().SetString("general.architecture", "llama");
  writer.metadata().SetU32("llama.block_count", 2);
  writer.metadata().SetString("custom.key", "kept");
  writer.metadata().SetU32("general.file_type", 0);
  for (const TestTensor& t : tensors) {
    ASSERT_TRUE(writer.AddTensor(t.name, DType::kF32, t.dims).ok());
  }
  ASSERT_TRUE(writer.Begin().ok());
  for (const TestTensor& t : tensors) {
    ASSERT_TRUE(writer.Write(std::as_bytes(std::span(t.values))).ok());
  }
  ASSERT_TRUE(writer.Finish().ok());
}

Result<QuantizeReport> Quantize(const std::string& in, const std::string& out,
                                std::string_view recipe, QuantizeOptions options = {},
                                int threads = 2) {
  ThreadPool pool(threads);
  options.recipe = FindRecipe(recipe);
  return QuantizeGguf(in, out, options, pool);
}

std::vector<float> Decoded(const GgufTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.num_values()));
  FindQuantFormat(tensor.type)->decode(tensor.data.data(), values.data(), tensor.num_values());
  return values;
}

std::string Encoded(DType type, const std::vector<float>& x, const float* importance = nullptr) {
  std::string bytes(static_cast<size_t>(RowBytes(type, static_cast<int64_t>(x.size()))), '\0');
  FindQuantFormat(type)->encode(x.data(), importance, reinterpret_cast<std::byte*>(bytes.data()),
                                static_cast<int64_t>(x.size()));
  return bytes;
}

TEST(QuantizeTest, EveryRecipeWritesWhatItsEncodersMake) {
  TemporaryFolder folder;
  const std::vector<TestTensor> tensors = SmallModel();
  Write(folder / "in.gguf", tensors);
  for (const Recipe& recipe : AllRecipes()) {
    const Result<QuantizeReport> report =
        Quantize(folder / "in.gguf", folder / "out.gguf", recipe.name);
    ASSERT_TRUE(report.ok()) << report.status().message();
    const Result<GgufFile> out = GgufFile::Open(folder / "out.gguf");
    ASSERT_TRUE(out.ok()) << out.status().message();
    ASSERT_EQ(out->tensors().size(), tensors.size());
    EXPECT_EQ(*out->metadata().GetString("custom.key"), "kept");
    EXPECT_EQ(*out->metadata().GetU32("general.file_type"),
              static_cast<uint32_t>(recipe.file_type));
    EXPECT_EQ(*out->metadata().GetU32("general.quantization_version"), 2u);
    EXPECT_EQ(report->file_bytes, std::filesystem::file_size(folder / "out.gguf"));
    double bits = 0.0;
    double count = 0.0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const GgufTensor& got = out->tensors()[i];
      const TensorReport& entry = report->tensors[i];
      EXPECT_EQ(got.name, tensors[i].name);
      EXPECT_EQ(entry.name, tensors[i].name);
      EXPECT_EQ(entry.to, got.type);
      EXPECT_EQ(entry.to_bytes, got.size);
      EXPECT_EQ(AsText(got.data), Encoded(got.type, tensors[i].values)) << entry.name;
      double error = 0.0;
      double norm = 0.0;
      const std::vector<float> y = Decoded(got);
      for (size_t k = 0; k < y.size(); ++k) {
        const double x = tensors[i].values[k];
        error += (x - y[k]) * (x - y[k]);
        norm += x * x;
      }
      EXPECT_NEAR(entry.relative_error(), std::sqrt(error / norm), 1e-9);
      bits += 8.0 * static_cast<double>(got.size);
      count += static_cast<double>(y.size());
    }
    EXPECT_NEAR(report->bits_per_weight, bits / count, 1e-9);
    EXPECT_EQ(report->num_values, static_cast<int64_t>(count));
    EXPECT_TRUE(report->warnings.empty()) << report->warnings[0];
  }
}

TEST(QuantizeTest, ThreadsDoNotChangeAByte) {
  TemporaryFolder folder;
  std::vector<TestTensor> tensors = SmallModel();
  tensors.push_back(Random("blk.1.ffn_down.weight", {1280, 300}, 9));
  Write(folder / "in.gguf", tensors);
  std::string first;
  double error = 0.0;
  for (const int threads : {1, 2, 5}) {
    const auto report =
        Quantize(folder / "in.gguf", folder / "out.gguf", "q4_k_m", QuantizeOptions(), threads);
    ASSERT_TRUE(report.ok());
    const std::string bytes = ReadText(folder / "out.gguf");
    if (first.empty()) {
      first = bytes;
      error = report->relative_error;
    }
    EXPECT_EQ(bytes, first);
    EXPECT_EQ(report->relative_error, error);
  }
}

TEST(QuantizeTest, LongRowsAreCutAtBlocks) {
  TemporaryFolder folder;
  // Rows longer than one task, with importance along the row.
  const std::vector<TestTensor> tensors = {Random("blk.0.ffn_up.weight", {70144, 2}, 11)};
  Write(folder / "in.gguf", tensors);
  ByteBuilder matrix;
  matrix.Put(int32_t{1}).Put(int32_t{19}).Raw("blk.0.ffn_up.weight").Put(int32_t{1});
  matrix.Put(int32_t{70144});
  Rng rng(12);
  std::vector<float> importance(70144);
  for (float& w : importance) {
    w = static_cast<float>(rng.Uniform());
    matrix.Put(w);
  }
  const Result<ImportanceMatrix> parsed =
      ImportanceMatrix::ParseLegacy(AsBytes(matrix.out), "m.dat");
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  for (const bool weighted : {false, true}) {
    QuantizeOptions options;
    if (weighted) options.importance = &*parsed;
    ASSERT_TRUE(Quantize(folder / "in.gguf", folder / "out.gguf", "q4_k_s", options).ok());
    const Result<GgufFile> out = GgufFile::Open(folder / "out.gguf");
    ASSERT_TRUE(out.ok());
    std::string expected;
    for (int r = 0; r < 2; ++r) {
      const std::vector<float> row(tensors[0].values.begin() + r * 70144,
                                   tensors[0].values.begin() + (r + 1) * 70144);
      expected += Encoded(DType::kQ4_K, row, weighted ? importance.data() : nullptr);
    }
    EXPECT_EQ(AsText(out->tensors()[0].data), expected) << weighted;
  }
}

TEST(QuantizeTest, EachExpertHasItsOwnImportance) {
  TemporaryFolder folder;
  const std::vector<TestTensor> tensors = SmallModel();
  Write(folder / "in.gguf", tensors);
  ByteBuilder matrix;
  matrix.Put(int32_t{1}).Put(int32_t{24}).Raw("blk.1.ffn_up_exps.weight").Put(int32_t{1});
  matrix.Put(int32_t{3 * 256});
  Rng rng(13);
  std::vector<float> importance(3 * 256);
  for (float& w : importance) {
    w = static_cast<float>(rng.Uniform() * rng.Uniform());
    matrix.Put(w);
  }
  const Result<ImportanceMatrix> parsed =
      ImportanceMatrix::ParseLegacy(AsBytes(matrix.out), "m.dat");
  ASSERT_TRUE(parsed.ok());
  QuantizeOptions options;
  options.importance = &*parsed;
  const auto report = Quantize(folder / "in.gguf", folder / "out.gguf", "q4_0", options);
  ASSERT_TRUE(report.ok()) << report.status().message();
  ASSERT_EQ(report->warnings.size(), 1u);
  EXPECT_NE(report->warnings[0].find("no importance for"), std::string::npos);
  const Result<GgufFile> out = GgufFile::Open(folder / "out.gguf");
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(*out->metadata().GetString("quantize.imatrix.file"), "m.dat");
  EXPECT_EQ(*out->metadata().GetU32("quantize.imatrix.entries_count"), 1u);
  std::string expected;
  const std::vector<float>& x = tensors[5].values;
  for (int row = 0; row < 15; ++row) {
    expected += Encoded(DType::kQ4_0, {x.begin() + row * 256, x.begin() + (row + 1) * 256},
                        importance.data() + row / 5 * 256);
  }
  EXPECT_EQ(AsText(out->tensors()[5].data), expected);
  EXPECT_TRUE(report->tensors[5].weighted);
  EXPECT_FALSE(report->tensors[4].weighted);
}

TEST(QuantizeTest, ImportanceOfAnotherModelIsRefused) {
  TemporaryFolder folder;
  Write(folder / "in.gguf", SmallModel());
  ByteBuilder matrix;
  matrix.Put(int32_t{1}).Put(int32_t{19}).Raw("blk.1.attn_q.weight").Put(int32_t{1});
  matrix.Put(int32_t{2}).Put(1.0f).Put(1.0f);
  const Result<ImportanceMatrix> parsed =
      ImportanceMatrix::ParseLegacy(AsBytes(matrix.out), "m.dat");
  ASSERT_TRUE(parsed.ok());
  QuantizeOptions options;
  options.importance = &*parsed;
  const Status status =
      Quantize(folder / "in.gguf", folder / "out.gguf", "q4_k_m", options).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("blk.1.attn_q.weight has 2 values"), std::string::npos);
  EXPECT_EQ(folder.NumFiles(), 1u);
}

TEST(QuantizeTest, F32DecodesAndRequantizingWarns) {
  TemporaryFolder folder;
  Write(folder / "in.gguf", SmallModel());
  for (const char* recipe : {"q4_k_m", "iq4_xs", "f16"}) {
    ASSERT_TRUE(Quantize(folder / "in.gguf", folder / "q.gguf", recipe).ok());
    const auto report = Quantize(folder / "q.gguf", folder / "f.gguf", "f32");
    ASSERT_TRUE(report.ok());
    EXPECT_EQ(report->relative_error, 0.0);
    EXPECT_EQ(report->bits_per_weight, 32.0);
    EXPECT_TRUE(report->warnings.empty());
    const Result<GgufFile> quantized = GgufFile::Open(folder / "q.gguf");
    const Result<GgufFile> decoded = GgufFile::Open(folder / "f.gguf");
    ASSERT_TRUE(quantized.ok() && decoded.ok());
    for (size_t i = 0; i < quantized->tensors().size(); ++i) {
      EXPECT_EQ(decoded->tensors()[i].type, DType::kF32);
      EXPECT_EQ(Decoded(decoded->tensors()[i]), Decoded(quantized->tensors()[i]));
    }
  }
  ASSERT_TRUE(Quantize(folder / "in.gguf", folder / "q.gguf", "q8_0").ok());
  const auto report = Quantize(folder / "q.gguf", folder / "q4.gguf", "q4_0");
  ASSERT_TRUE(report.ok());
  ASSERT_EQ(report->warnings.size(), 1u);
  EXPECT_NE(report->warnings[0].find("quantized before"), std::string::npos);
  // The same type again is a copy of every byte.
  const auto again = Quantize(folder / "q.gguf", folder / "q8.gguf", "q8_0");
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->warnings.empty());
  EXPECT_EQ(ReadText(folder / "q.gguf"), ReadText(folder / "q8.gguf"));
}

TEST(QuantizeTest, MatchesTheDecodedGoldens) {
  INK_NEEDS_SHARED();
  TemporaryFolder folder;
  for (const char* type : {"q4_k", "mxfp4", "bf16"}) {
    const std::string in = Shared(std::string("goldens/quantized/") + type + ".gguf");
    ASSERT_TRUE(Quantize(in, folder / "out.gguf", "f32").ok()) << type;
    const Result<GgufFile> source = GgufFile::Open(in);
    const Result<GgufFile> out = GgufFile::Open(folder / "out.gguf");
    ASSERT_TRUE(source.ok() && out.ok());
    for (const GgufTensor& tensor : source->tensors()) {
      EXPECT_EQ(Decoded(**out->Get(tensor.name)), Decoded(tensor)) << tensor.name;
    }
  }
}

TEST(QuantizeTest, InputMayBeTheOutput) {
  TemporaryFolder folder;
  Write(folder / "a.gguf", SmallModel());
  ASSERT_TRUE(Quantize(folder / "a.gguf", folder / "b.gguf", "q5_k_m").ok());
  ASSERT_TRUE(Quantize(folder / "a.gguf", folder / "a.gguf", "q5_k_m").ok());
  EXPECT_EQ(ReadText(folder / "a.gguf"), ReadText(folder / "b.gguf"));
}

TEST(QuantizeTest, ShardsBecomeOneFileAndAreNotOverwritten) {
  TemporaryFolder folder;
  const std::vector<TestTensor> tensors = SmallModel();
  Write(folder / "one.gguf", tensors);
  GgufWriter writer(folder / "many.gguf", {.max_shard_bytes = 40000});
  writer.metadata().SetString("general.architecture", "llama");
  writer.metadata().SetU32("llama.block_count", 2);
  writer.metadata().SetString("custom.key", "kept");
  writer.metadata().SetU32("general.file_type", 0);
  for (const TestTensor& t : tensors) {
    ASSERT_TRUE(writer.AddTensor(t.name, DType::kF32, t.dims).ok());
  }
  ASSERT_TRUE(writer.Begin().ok());
  const std::vector<std::string> paths = writer.paths();
  ASSERT_GT(paths.size(), 2u);
  for (const TestTensor& t : tensors) {
    ASSERT_TRUE(writer.Write(std::as_bytes(std::span(t.values))).ok());
  }
  ASSERT_TRUE(writer.Finish().ok());

  ASSERT_TRUE(Quantize(folder / "one.gguf", folder / "a.gguf", "q4_k_m").ok());
  const auto report = Quantize(paths[0], folder / "b.gguf", "q4_k_m");
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(ReadText(folder / "a.gguf"), ReadText(folder / "b.gguf"));
  for (const std::string& path : paths) {
    const std::string before = ReadText(path);
    EXPECT_EQ(Quantize(paths[0], path, "q4_k_m").status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(ReadText(path), before);
  }
}

TEST(QuantizeTest, ValuesThatAreNotFiniteAreNamed) {
  const std::map<std::string, float> bad = {
      {"NaN", std::numeric_limits<float>::quiet_NaN()},
      {"infinite", -std::numeric_limits<float>::infinity()},
  };
  for (const auto& [word, value] : bad) {
    for (const size_t which : {size_t{1}, size_t{4}}) {  // a norm that is copied, a matrix
      TemporaryFolder folder;
      std::vector<TestTensor> tensors = SmallModel();
      tensors[which].values[77] = value;
      tensors[which].values[200] = value;
      Write(folder / "in.gguf", tensors);
      for (const char* recipe : {"q4_k_m", "f32", "bf16"}) {
        const Status status = Quantize(folder / "in.gguf", folder / "out.gguf", recipe).status();
        EXPECT_EQ(status.code(), StatusCode::kCorrupt);
        EXPECT_NE(status.message().find(tensors[which].name), std::string::npos);
        EXPECT_NE(status.message().find("index 77 "), std::string::npos) << status.message();
        EXPECT_NE(status.message().find(word), std::string::npos) << status.message();
        EXPECT_EQ(folder.NumFiles(), 1u);
      }
    }
  }
}

TEST(QuantizeTest, Float16OverflowIsAnErrorAndBfloat16IsNot) {
  TemporaryFolder folder;
  std::vector<TestTensor> tensors = SmallModel();
  tensors[4].values[300] = 65520.0f;  // the least that rounds to infinity
  Write(folder / "in.gguf", tensors);
  const Status status = Quantize(folder / "in.gguf", folder / "out.gguf", "f16").status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("index 300 (row 1, column 44)"), std::string::npos)
      << status.message();
  EXPECT_TRUE(Quantize(folder / "in.gguf", folder / "out.gguf", "bf16").ok());
  tensors[4].values[300] = 65519.0f;
  Write(folder / "in.gguf", tensors);
  EXPECT_TRUE(Quantize(folder / "in.gguf", folder / "out.gguf", "f16").ok());
}

TEST(QuantizeTest, MissingTruncatedAndEmptyInputs) {
  TemporaryFolder folder;
  EXPECT_EQ(Quantize(folder / "none.gguf", folder / "out.gguf", "q8_0").status().code(),
            StatusCode::kNotFound);
  Write(folder / "in.gguf", SmallModel());
  const std::string whole = ReadText(folder / "in.gguf");
  for (const size_t size :
       {size_t{0}, size_t{3}, size_t{24}, size_t{400}, whole.size() / 2, whole.size() - 4096}) {
    WriteText(folder / "cut.gguf", std::string_view(whole).substr(0, size));
    const Status status = Quantize(folder / "cut.gguf", folder / "out.gguf", "q8_0").status();
    EXPECT_EQ(status.code(), StatusCode::kCorrupt) << size << " " << status.message();
  }
  GgufWriter writer(folder / "vocabulary.gguf");
  ASSERT_TRUE(writer.Begin().ok() && writer.Finish().ok());
  EXPECT_EQ(Quantize(folder / "vocabulary.gguf", folder / "out.gguf", "q8_0").status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(folder / "out.gguf"));
  EXPECT_EQ(Quantize(folder / "in.gguf", folder / "no/such/folder.gguf", "q8_0").status().code(),
            StatusCode::kIo);
}

// A file size limit stands for a full disk: write() fails part way.
TEST(QuantizeTest, FullDiskLeavesTheTargetAsItWas) {
  TemporaryFolder folder;
  std::vector<TestTensor> tensors = SmallModel();
  tensors.push_back(Random("blk.1.ffn_up.weight", {4096, 512}, 21));
  Write(folder / "in.gguf", tensors);
  WriteText(folder / "out.gguf", "old");
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {rlim_t{100000}, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = Quantize(folder / "in.gguf", folder / "out.gguf", "q8_0").status();
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(status.code(), StatusCode::kIo) << status.message();
  EXPECT_NE(status.message().find("out.gguf"), std::string::npos) << status.message();
  EXPECT_EQ(ReadText(folder / "out.gguf"), "old");
  EXPECT_EQ(folder.NumFiles(), 2u);
}

TEST(QuantizeTest, ProgressRunsToTheEndAndCanCancel) {
  TemporaryFolder folder;
  Write(folder / "in.gguf", SmallModel());
  uint64_t last = 0;
  uint64_t total = 0;
  QuantizeOptions options;
  options.progress = [&](const QuantizeProgress& progress) {
    EXPECT_GT(progress.done_bytes, last);
    EXPECT_FALSE(progress.name.empty());
    EXPECT_LT(progress.tensor, progress.num_tensors);
    last = progress.done_bytes;
    total = progress.total_bytes;
    return true;
  };
  ASSERT_TRUE(Quantize(folder / "in.gguf", folder / "out.gguf", "q6_k", options).ok());
  EXPECT_EQ(last, total);
  options.progress = [](const QuantizeProgress& progress) { return progress.tensor < 3; };
  EXPECT_EQ(Quantize(folder / "in.gguf", folder / "new.gguf", "q6_k", options).status().code(),
            StatusCode::kCancelled);
  EXPECT_EQ(folder.NumFiles(), 2u);
}

}  // namespace
}  // namespace ink
