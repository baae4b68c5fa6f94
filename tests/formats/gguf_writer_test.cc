#include "formats/gguf_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>

#include "base/rng.h"
#include "formats/files.h"
#include "formats/gguf.h"
#include "support/shared.h"

namespace ink {
namespace {

using namespace testing_support;

struct Model {
  struct Tensor {
    std::string name;
    DType type;
    std::vector<int64_t> dims;
    std::string data;
  };
  std::vector<Tensor> tensors;
};

Model RandomModel(uint64_t seed) {
  Rng rng(seed);
  Model model;
  std::vector<DType> types;
  for (const DTypeInfo& info : AllDTypes()) {
    if (info.type != DType::kNF4) types.push_back(info.type);
  }
  const size_t count = rng.Below(12);
  for (size_t i = 0; i < count; ++i) {
    Model::Tensor tensor;
    tensor.name = "blk." + std::to_string(i) + ".weight";
    tensor.type = types[rng.Below(types.size())];
    const DTypeInfo& info = Info(tensor.type);
    tensor.dims.push_back(info.block_values * static_cast<int64_t>(1 + rng.Below(3)));
    const size_t more = rng.Below(4);
    for (size_t d = 0; d < more; ++d) tensor.dims.push_back(1 + static_cast<int64_t>(rng.Below(4)));
    int64_t rows = 1;
    for (size_t d = 1; d < tensor.dims.size(); ++d) rows *= tensor.dims[d];
    tensor.data.resize(static_cast<size_t>(RowBytes(tensor.type, tensor.dims[0]) * rows));
    for (char& c : tensor.data) c = static_cast<char>(rng.Below(256));
    model.tensors.push_back(std::move(tensor));
  }
  return model;
}

void FillMetadata(Metadata& m) {
  m.SetString("general.architecture", "llama");
  m.SetU8("u8", 200);
  m.SetI8("i8", -100);
  m.SetU16("u16", 60000);
  m.SetI16("i16", -30000);
  m.SetU32("u32", 4000000000u);
  m.SetI32("i32", -2000000000);
  m.SetU64("u64", ~uint64_t{0});
  m.SetI64("i64", -(int64_t{1} << 62));
  m.SetF32("f32", 0.1f);
  m.SetF64("f64", 0.1);
  m.SetBool("bool", true);
  m.SetString("empty", "");
  m.SetStrings("strings", std::vector<std::string>{"a", "", std::string("\0b", 2)});
  m.SetStrings("no strings", std::vector<std::string>{});
  m.SetI32s("i32s", std::vector<int32_t>{1, -2, 3});
  m.SetU32s("u32s", std::vector<uint32_t>{1, 4000000000u});
  m.SetF32s("f32s", std::vector<float>{0.5f, -1.0f});
  m.SetBytes("bytes", std::vector<uint8_t>{1, 255});
  const bool truths[] = {true, false};
  m.SetBools("bools", truths);
}

// Writes the model in pieces whose sizes vary with `seed`.
Status WriteModel(GgufWriter& writer, const Model& model, uint64_t seed) {
  FillMetadata(writer.metadata());
  for (const Model::Tensor& t : model.tensors) {
    INK_RETURN_IF_ERROR(writer.AddTensor(t.name, t.type, t.dims));
  }
  INK_RETURN_IF_ERROR(writer.Begin());
  std::string all;
  for (const Model::Tensor& t : model.tensors) all += t.data;
  Rng rng(seed);
  for (size_t at = 0; at < all.size();) {
    const size_t n = std::min<size_t>(all.size() - at, 1 + rng.Below(700));
    INK_RETURN_IF_ERROR(writer.Write(AsBytes(std::string_view(all).substr(at, n))));
    at += n;
  }
  EXPECT_EQ(writer.written_bytes(), writer.total_bytes());
  return writer.Finish();
}

void ExpectSame(const GgufFile& file, const Model& model) {
  const Metadata& m = file.metadata();
  EXPECT_EQ(m.GetU32("u8").value(), 200u);
  EXPECT_EQ(m.GetI64("i8").value(), -100);
  EXPECT_EQ(m.GetI64("i16").value(), -30000);
  EXPECT_EQ(m.GetU64("u64").value(), ~uint64_t{0});
  EXPECT_EQ(m.GetI64("i64").value(), -(int64_t{1} << 62));
  EXPECT_EQ(m.GetFloat("f32").value(), 0.1f);
  EXPECT_EQ(m.Find("f64")->type, MetadataType::kF64);
  EXPECT_EQ(m.GetString("empty").value(), "");
  EXPECT_EQ(m.GetStrings("strings")->ToVector(),
            (std::vector<std::string_view>{"a", "", std::string_view("\0b", 2)}));
  EXPECT_EQ(m.GetStrings("no strings")->size(), 0u);
  EXPECT_EQ(m.GetInts("u32s")->Int(1), 4000000000);
  EXPECT_EQ(m.GetInts("bytes")->Int(1), 255);
  ASSERT_EQ(file.tensors().size(), model.tensors.size());
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const GgufTensor& t = file.tensors()[i];
    EXPECT_EQ(t.name, model.tensors[i].name);
    EXPECT_EQ(t.type, model.tensors[i].type);
    EXPECT_EQ(std::vector<int64_t>(t.dims.begin(), t.dims.begin() + t.num_dims),
              model.tensors[i].dims);
    EXPECT_EQ(AsText(t.data), model.tensors[i].data);
  }
}

TEST(GgufWriter, RoundTripsAndIsDeterministic) {
  TemporaryFolder folder;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const Model model = RandomModel(seed);
    const uint32_t alignment = 1u << (seed % 8);
    std::string first;
    for (int round = 0; round < 2; ++round) {
      GgufWriter writer(folder / "m.gguf", {.alignment = alignment});
      Status status = WriteModel(writer, model, seed * 2 + static_cast<uint64_t>(round));
      ASSERT_TRUE(status.ok()) << status.message();
      const std::string bytes = ReadText(folder / "m.gguf");
      if (round == 0) first = bytes;
      EXPECT_EQ(bytes, first);
    }
    Result<GgufFile> file = GgufFile::Open(folder / "m.gguf");
    ASSERT_TRUE(file.ok()) << file.status().message();
    ExpectSame(*file, model);
    for (const GgufTensor& t : file->tensors()) EXPECT_EQ(t.offset % alignment, 0u);
    EXPECT_EQ(folder.NumFiles(), 1u);
  }
}

TEST(GgufWriter, ShardsReadAsOneModel) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    TemporaryFolder folder;
    const Model model = RandomModel(100 + seed);
    GgufWriter writer(folder / "m.gguf", {.max_shard_bytes = 4096});
    ASSERT_TRUE(WriteModel(writer, model, seed).ok());
    const std::vector<std::string> paths = writer.paths();
    EXPECT_EQ(folder.NumFiles(), paths.size());
    Result<GgufFile> file = GgufFile::Open(paths[0]);
    ASSERT_TRUE(file.ok()) << file.status().message();
    ExpectSame(*file, model);
    EXPECT_EQ(file->files().size(), paths.size());
    if (paths.size() == 1) continue;
    EXPECT_TRUE(paths[1].ends_with("-00002-of-0000" + std::to_string(paths.size()) + ".gguf"));

    Status wrong = GgufFile::Open(paths[1]).status();
    EXPECT_NE(wrong.message().find(paths[0]), std::string::npos) << wrong.message();
    std::filesystem::remove(paths[1]);
    Status missing = GgufFile::Open(paths[0]).status();
    EXPECT_EQ(missing.code(), StatusCode::kNotFound);
    EXPECT_NE(missing.message().find(paths[1]), std::string::npos) << missing.message();
    std::filesystem::copy_file(paths[0], paths[1]);
    EXPECT_FALSE(GgufFile::Open(paths[0]).ok());
    std::filesystem::copy_file(paths[0], folder / "renamed.gguf");
    Status renamed = GgufFile::Open(folder / "renamed.gguf").status();
    EXPECT_NE(renamed.message().find("-00001-of-"), std::string::npos) << renamed.message();
  }
}

TEST(GgufWriter, ShardOfTheWrongSetIsAnError) {
  TemporaryFolder folder;
  auto write = [&](const std::string& name, int tensors) {
    GgufWriter writer(folder / name, {.max_shard_bytes = 32});
    const int64_t dims[] = {8};
    for (int i = 0; i < tensors; ++i) {
      ASSERT_TRUE(
          writer.AddTensor(std::string(1, 't') + std::to_string(i), DType::kF32, dims).ok());
    }
    ASSERT_TRUE(writer.Begin().ok());
    ASSERT_TRUE(writer.Write(AsBytes(std::string(static_cast<size_t>(32 * tensors), 'x'))).ok());
    ASSERT_TRUE(writer.Finish().ok());
  };
  write("a.gguf", 2);
  write("b.gguf", 3);
  EXPECT_TRUE(GgufFile::Open(folder / "a-00001-of-00002.gguf").ok());
  std::filesystem::copy_file(folder / "b-00002-of-00003.gguf", folder / "a-00002-of-00002.gguf",
                             std::filesystem::copy_options::overwrite_existing);
  Status status = GgufFile::Open(folder / "a-00001-of-00002.gguf").status();
  EXPECT_NE(status.message().find("split.count: expected 2, found 3"), std::string::npos)
      << status.message();
}

TEST(GgufWriter, RefusesWhatAReaderWould) {
  TemporaryFolder folder;
  GgufWriter writer(folder / "m.gguf");
  const int64_t good[] = {32, 2}, odd[] = {33, 2}, zero[] = {32, 0};
  const int64_t huge[] = {int64_t{1} << 40, int64_t{1} << 40}, five[] = {1, 1, 1, 1, 1};
  EXPECT_TRUE(writer.AddTensor("t", DType::kQ8_0, good).ok());
  EXPECT_FALSE(writer.AddTensor("t", DType::kQ8_0, good).ok());
  EXPECT_FALSE(writer.AddTensor("", DType::kQ8_0, good).ok());
  EXPECT_FALSE(writer.AddTensor(std::string(64, 'n'), DType::kQ8_0, good).ok());
  EXPECT_FALSE(writer.AddTensor("a", DType::kQ8_0, odd).ok());
  EXPECT_FALSE(writer.AddTensor("b", DType::kF32, zero).ok());
  EXPECT_FALSE(writer.AddTensor("c", DType::kF32, huge).ok());
  EXPECT_FALSE(writer.AddTensor("d", DType::kF32, five).ok());
  EXPECT_FALSE(writer.AddTensor("e", DType::kF32, {}).ok());
  EXPECT_FALSE(writer.AddTensor("f", DType::kNF4, std::vector<int64_t>{64}).ok());
  EXPECT_EQ(writer.total_bytes(), 68u);
}

TEST(GgufWriter, UnfinishedLeavesTheTargetAlone) {
  TemporaryFolder folder;
  WriteText(folder / "m.gguf", "before");
  const int64_t dims[] = {32};
  {
    GgufWriter writer(folder / "m.gguf");
    ASSERT_TRUE(writer.AddTensor("t", DType::kF32, dims).ok());
    ASSERT_TRUE(writer.Begin().ok());
    ASSERT_TRUE(writer.Write(AsBytes(std::string(100, 'x'))).ok());
    Status status = writer.Finish();
    EXPECT_NE(status.message().find("\"t\": expected 128 bytes, found 100"), std::string::npos)
        << status.message();
    EXPECT_FALSE(writer.Write(AsBytes(std::string(29, 'x'))).ok());
  }
  EXPECT_EQ(ReadText(folder / "m.gguf"), "before");
  EXPECT_EQ(folder.NumFiles(), 1u);
  EXPECT_FALSE(GgufWriter(folder / "no/such/m.gguf").Begin().ok());
}

// A limit on file size stands in for a full disk.
TEST(GgufWriter, FullDiskLeavesTheTargetAlone) {
  TemporaryFolder folder;
  WriteText(folder / "m.gguf", "before");
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {1 << 20, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  Status status;
  {
    GgufWriter writer(folder / "m.gguf");
    const int64_t dims[] = {1 << 20};
    ASSERT_TRUE(writer.AddTensor("t", DType::kF32, dims).ok());
    ASSERT_TRUE(writer.Begin().ok());
    status = writer.Write(AsBytes(std::string(4 << 20, 'x')));
    if (status.ok()) status = writer.Finish();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(status.code(), StatusCode::kIo) << status.message();
  EXPECT_EQ(ReadText(folder / "m.gguf"), "before");
  EXPECT_EQ(folder.NumFiles(), 1u);
}

// Rewriting another program's file with the same keys and tensors gives the same file.
TEST(GgufWriter, RewritesSharedFilesByteForByte) {
  INK_NEEDS_SHARED();
  TemporaryFolder folder;
  for (const char* name : {"models/stories260K.gguf", "goldens/logits/mixtral-tiny.gguf",
                           "goldens/quantized/q4_k.gguf", "goldens/quantized/mxfp4.gguf",
                           "goldens/tokenizers/llama-bpe.gguf"}) {
    Result<GgufFile> file = GgufFile::Open(Shared(name));
    ASSERT_TRUE(file.ok()) << file.status().message();
    GgufWriter writer(folder / "copy.gguf");
    writer.metadata().CopyFrom(file->metadata());
    for (const GgufTensor& t : file->tensors()) {
      ASSERT_TRUE(
          writer.AddTensor(t.name, t.type, std::span(t.dims).first(static_cast<size_t>(t.num_dims)))
              .ok());
    }
    ASSERT_TRUE(writer.Begin().ok());
    for (const GgufTensor& t : file->tensors()) ASSERT_TRUE(writer.Write(t.data).ok());
    ASSERT_TRUE(writer.Finish().ok());
    std::string original = ReadText(Shared(name));
    std::string copy = ReadText(folder / "copy.gguf");
    if (file->tensors().empty()) original.resize(copy.size());  // padding after the keys
    EXPECT_TRUE(copy == original) << name;
  }
}

}  // namespace
}  // namespace ink
