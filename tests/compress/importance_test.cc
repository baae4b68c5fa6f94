#include "compress/importance.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "formats/files.h"
#include "formats/gguf_writer.h"

namespace ink {
namespace {

using namespace testing_support;

ByteBuilder& LegacyEntry(ByteBuilder& b, std::string_view name, int32_t calls,
                         const std::vector<float>& values) {
  b.Put(static_cast<int32_t>(name.size())).Raw(name).Put(calls);
  b.Put(static_cast<int32_t>(values.size()));
  for (const float value : values) b.Put(value);
  return b;
}

std::string LegacyFile() {
  ByteBuilder b;
  b.Put(int32_t{2});
  LegacyEntry(b, "blk.0.attn_q.weight", 4, {4.0f, 8.0f, 0.0f});
  LegacyEntry(b, "output.weight", 0, {1.0f, 2.0f});
  b.Put(int32_t{17}).Put(int32_t{4}).Raw("wiki");
  return b.out;
}

TEST(ImportanceTest, ReadsTheOlderForm) {
  const std::string file = LegacyFile();
  const Result<ImportanceMatrix> matrix = ImportanceMatrix::ParseLegacy(AsBytes(file), "m.dat");
  ASSERT_TRUE(matrix.ok()) << matrix.status().message();
  EXPECT_EQ(matrix->size(), 2u);
  EXPECT_EQ(*matrix->Find("blk.0.attn_q.weight"), (std::vector<float>{1.0f, 2.0f, 0.0f}));
  EXPECT_EQ(*matrix->Find("output.weight"), (std::vector<float>{1.0f, 2.0f}));
  EXPECT_EQ(matrix->Find("blk.1.attn_q.weight"), nullptr);
  EXPECT_EQ(matrix->chunks(), 17u);
  EXPECT_EQ(matrix->dataset(), "wiki");
}

TEST(ImportanceTest, EveryTruncationOfTheOlderFormIsAnErrorOrWhole) {
  const std::string file = LegacyFile();
  const size_t entries_end = file.size() - 12;
  for (size_t size = 0; size < file.size(); ++size) {
    const Result<ImportanceMatrix> matrix =
        ImportanceMatrix::ParseLegacy(AsBytes(file).first(size), "m.dat");
    // The trailer is optional, and its name too.
    const bool whole = size == entries_end || size == entries_end + 4;
    ASSERT_EQ(matrix.ok(), whole) << size;
    if (!whole) {
      EXPECT_EQ(matrix.status().code(), StatusCode::kCorrupt);
      EXPECT_TRUE(matrix.status().message().starts_with("m.dat: ")) << matrix.status().message();
    }
  }
}

TEST(ImportanceTest, LyingCountsAreRefused) {
  const auto status = [](const ByteBuilder& b) {
    return ImportanceMatrix::ParseLegacy(AsBytes(b.out), "m.dat").status();
  };
  for (const int32_t entries : {-1, 0, 1000000, std::numeric_limits<int32_t>::max()}) {
    ByteBuilder b;
    b.Put(entries);
    LegacyEntry(b, "a", 1, {1.0f});
    EXPECT_EQ(status(b).code(), StatusCode::kCorrupt) << entries;
  }
  for (const int32_t length : {-5, 1 << 30}) {
    ByteBuilder b;
    b.Put(int32_t{1}).Put(length).Raw("aaaaaaaaaaaaaaaa");
    EXPECT_EQ(status(b).code(), StatusCode::kCorrupt) << length;
    ByteBuilder c;
    c.Put(int32_t{1}).Put(int32_t{1}).Raw("a").Put(int32_t{1}).Put(length).Raw("xxxxxxxxxxxxxxxx");
    EXPECT_EQ(status(c).code(), StatusCode::kCorrupt) << length;
  }
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -1.0f, std::numeric_limits<float>::infinity()}) {
    ByteBuilder b;
    b.Put(int32_t{1});
    LegacyEntry(b, "some.weight", 1, {1.0f, bad});
    EXPECT_EQ(status(b).code(), StatusCode::kCorrupt);
    EXPECT_NE(status(b).message().find("some.weight at index 1"), std::string::npos);
  }
  ByteBuilder twice;
  twice.Put(int32_t{2});
  LegacyEntry(twice, "a", 1, {1.0f});
  LegacyEntry(twice, "a", 1, {1.0f});
  EXPECT_NE(status(twice).message().find("two entries"), std::string::npos);
}

Status WriteGguf(const std::string& path, std::string_view sums_name,
                 const std::vector<float>& sums, const std::vector<float>& counts) {
  GgufWriter writer(path);
  writer.metadata().SetU32("imatrix.chunk_count", 5);
  const std::vector<std::string> datasets = {"some text"};
  writer.metadata().SetStrings("imatrix.datasets", datasets);
  const std::vector<int64_t> sums_dims = {static_cast<int64_t>(sums.size())};
  const std::vector<int64_t> counts_dims = {1, static_cast<int64_t>(counts.size())};
  INK_RETURN_IF_ERROR(writer.AddTensor(sums_name, DType::kF32, sums_dims));
  INK_RETURN_IF_ERROR(writer.AddTensor("x.weight.counts", DType::kF32, counts_dims));
  INK_RETURN_IF_ERROR(writer.Begin());
  INK_RETURN_IF_ERROR(writer.Write(std::as_bytes(std::span(sums))));
  INK_RETURN_IF_ERROR(writer.Write(std::as_bytes(std::span(counts))));
  return writer.Finish();
}

TEST(ImportanceTest, ReadsGgufWithCountsPerExpert) {
  TemporaryFolder folder;
  const std::string path = folder / "m.gguf";
  ASSERT_TRUE(WriteGguf(path, "x.weight.in_sum2", {2, 4, 6, 8, 10, 12}, {2, 0, 4}).ok());
  const Result<ImportanceMatrix> matrix = ImportanceMatrix::Load(path);
  ASSERT_TRUE(matrix.ok()) << matrix.status().message();
  EXPECT_EQ(*matrix->Find("x.weight"), (std::vector<float>{1, 2, 1, 1, 2.5f, 3}));
  EXPECT_EQ(matrix->chunks(), 5u);
  EXPECT_EQ(matrix->dataset(), "some text");
}

TEST(ImportanceTest, BadGgufContentIsNamed) {
  TemporaryFolder folder;
  const std::string path = folder / "m.gguf";
  ASSERT_TRUE(WriteGguf(path, "x.weight.in_sum2", {2, 4, 6}, {2, 1}).ok());
  EXPECT_NE(ImportanceMatrix::Load(path).status().message().find("3 sums"), std::string::npos);
  ASSERT_TRUE(WriteGguf(path, "y.weight.in_sum2", {2, 4, 6}, {1}).ok());
  EXPECT_NE(ImportanceMatrix::Load(path).status().message().find("y.weight.counts"),
            std::string::npos);
  ASSERT_TRUE(WriteGguf(path, "x.weight", {2, 4, 6}, {1}).ok());
  EXPECT_EQ(ImportanceMatrix::Load(path).status().code(), StatusCode::kCorrupt);
}

TEST(ImportanceTest, LoadTellsTheFormsApart) {
  TemporaryFolder folder;
  WriteText(folder / "m.dat", LegacyFile());
  const Result<ImportanceMatrix> matrix = ImportanceMatrix::Load(folder / "m.dat");
  ASSERT_TRUE(matrix.ok()) << matrix.status().message();
  EXPECT_EQ(matrix->size(), 2u);
  EXPECT_EQ(matrix->path(), folder / "m.dat");
  EXPECT_EQ(ImportanceMatrix::Load(folder / "none").status().code(), StatusCode::kNotFound);
  WriteText(folder / "empty", "");
  EXPECT_EQ(ImportanceMatrix::Load(folder / "empty").status().code(), StatusCode::kCorrupt);
}

}  // namespace
}  // namespace ink
