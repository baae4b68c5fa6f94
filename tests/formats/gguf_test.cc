#include "formats/gguf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include "base/rng.h"
#include "formats/allocation_meter.h"
#include "formats/files.h"
#include "formats/gguf_writer.h"
#include "support/shared.h"

namespace ink {
namespace {

using namespace testing_support;

// Header of a file with the given counts.
ByteBuilder Header(uint64_t num_tensors, uint64_t num_keys, uint32_t version = 3) {
  ByteBuilder b;
  b.Raw("GGUF").U32(version).U64(num_tensors).U64(num_keys);
  return b;
}

ByteBuilder& TensorInfo(ByteBuilder& b, std::string_view name, std::vector<uint64_t> dims,
                        uint32_t type, uint64_t offset) {
  b.Str(name).U32(static_cast<uint32_t>(dims.size()));
  for (uint64_t dim : dims) b.U64(dim);
  return b.U32(type).U64(offset);
}

// Every kind of value and two tensors, 32 bytes alignment.
std::string SmallFile() {
  ByteBuilder b = Header(2, 8);
  b.Str("a").U32(8).Str("text");
  b.Str("b").U32(4).U32(7);
  b.Str("c").U32(7).Raw("\1");
  b.Str("d").U32(9).U32(8).U64(2).Str("x").Str("yz");
  b.Str("e").U32(9).U32(6).U64(2).Put(1.5f).Put(-2.0f);
  b.Str("f").U32(12).Put(0.25);
  b.Str("g").U32(11).Put(int64_t{-5});
  b.Str("h").U32(9).U32(7).U64(3).Raw(std::string_view("\1\0\1", 3));
  TensorInfo(b, "first", {3, 2}, 0, 0);
  TensorInfo(b, "second", {32}, 8, 32);
  b.Pad(32);
  for (int i = 0; i < 6; ++i) b.Put(static_cast<float>(i));
  b.Pad(32);
  b.Raw(std::string(34, 'q')).Pad(32);
  return b.out;
}

Status ErrorOf(std::string_view bytes) {
  return GgufFile::FromBytes(AsBytes(bytes), "file.gguf").status();
}

void ExpectError(const Status& status, std::vector<std::string> parts) {
  ASSERT_FALSE(status.ok()) << "expected an error with " << parts[0];
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos)
        << part << " is not in: " << status.message();
  }
}

TEST(GgufFile, ReadsEveryKindOfValue) {
  const std::string bytes = SmallFile();
  Result<GgufFile> opened = GgufFile::FromBytes(AsBytes(bytes), "file.gguf");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const Metadata& m = opened->metadata();
  EXPECT_EQ(m.size(), 8u);
  EXPECT_EQ(*m.GetString("a"), "text");
  EXPECT_EQ(*m.GetU32("b"), 7u);
  EXPECT_EQ(*m.GetI64("b"), 7);
  EXPECT_EQ(*m.GetFloat("b"), 7.0f);
  EXPECT_TRUE(*m.GetBool("c"));
  EXPECT_EQ(m.GetStrings("d")->ToVector(), (std::vector<std::string_view>{"x", "yz"}));
  EXPECT_EQ(m.GetFloats("e")->Float(1), -2.0);
  EXPECT_EQ(*m.GetFloat("f"), 0.25f);
  EXPECT_EQ(*m.GetI64("g"), -5);
  EXPECT_EQ(m.Find("h")->ToString(), "[bool x 3]");
  std::string order;
  for (const Metadata::Entry& entry : m.entries()) order += entry.key;
  EXPECT_EQ(order, "abcdefgh");

  ASSERT_EQ(opened->tensors().size(), 2u);
  const GgufTensor* first = opened->Find("first");
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->type, DType::kF32);
  EXPECT_EQ(first->num_dims, 2);
  EXPECT_EQ(first->dims, (std::array<int64_t, 4>{3, 2, 1, 1}));
  EXPECT_EQ(first->size, 24u);
  EXPECT_EQ(first->ShapeString(), "[3, 2]");
  float value;
  std::memcpy(&value, first->data.data() + 20, 4);
  EXPECT_EQ(value, 5.0f);
  EXPECT_EQ(AsText((*opened->Get("second"))->data), std::string(34, 'q'));
  EXPECT_EQ(opened->tensor_bytes(), 58u);
  ExpectError(opened->Get("third").status(), {"\"third\"", "no tensor"});
}

TEST(GgufFile, GettersSayWhatTheyExpected) {
  const std::string bytes = SmallFile();
  Result<GgufFile> opened = GgufFile::FromBytes(AsBytes(bytes), "file.gguf");
  ASSERT_TRUE(opened.ok());
  const Metadata& m = opened->metadata();
  EXPECT_EQ(m.GetU32("none").status().code(), StatusCode::kNotFound);
  ExpectError(m.GetU32("none").status(), {"file.gguf", "\"none\"", "an integer", "no such key"});
  EXPECT_EQ(*m.GetU32("none", 9), 9u);
  ExpectError(m.GetU32("a", 9).status(), {"\"a\"", "an integer", "string \"text\""});
  ExpectError(m.GetU32("g").status(), {"\"g\"", "0 or more", "i64 -5"});
  ExpectError(m.GetBool("b").status(), {"a bool", "u32 7"});
  ExpectError(m.GetString("b").status(), {"a string", "u32 7"});
  ExpectError(m.GetStrings("e").status(), {"an array of strings", "[f32 x 2]"});
  ExpectError(m.GetInts("e").status(), {"an array of integers", "[f32 x 2]"});
  ExpectError(m.GetFloat("a").status(), {"a number"});
}

TEST(Metadata, IntegersFitOrFail) {
  Metadata m("m");
  m.SetU64("big", std::numeric_limits<uint64_t>::max());
  m.SetI8("small", -1);
  m.SetU16("short", 65535);
  EXPECT_EQ(*m.GetU64("big"), std::numeric_limits<uint64_t>::max());
  EXPECT_FALSE(m.GetI64("big").ok());
  EXPECT_FALSE(m.GetU32("big").ok());
  EXPECT_EQ(*m.GetI64("small"), -1);
  EXPECT_FALSE(m.GetU64("small").ok());
  EXPECT_EQ(*m.GetU32("short"), 65535u);
}

TEST(Metadata, PerLayerValues) {
  Metadata m("m");
  m.SetU32("one", 4);
  m.SetI32s("each", std::vector<int32_t>{1, 2, 3, 0});
  m.SetI32s("negative", std::vector<int32_t>{1, -2, 3});
  EXPECT_EQ(*m.GetU32PerLayer("one", 3), (std::vector<uint32_t>{4, 4, 4}));
  EXPECT_EQ(*m.GetU32PerLayer("each", 3), (std::vector<uint32_t>{1, 2, 3}));
  EXPECT_FALSE(m.GetU32PerLayer("each", 5).ok());
  EXPECT_FALSE(m.GetU32PerLayer("negative", 3).ok());
}

TEST(Metadata, SetReplacesAndEraseForgets) {
  Metadata m("m");
  m.SetU32("a", 1);
  m.SetU32("b", 2);
  m.SetU32("c", 3);
  m.SetString("a", "now text");
  m.Erase("b");
  m.Erase("absent");
  ASSERT_EQ(m.size(), 2u);
  EXPECT_EQ(m.entries()[0].key, "a");
  EXPECT_EQ(*m.GetString("a"), "now text");
  EXPECT_EQ(*m.GetU32("c"), 3u);
  EXPECT_FALSE(m.Has("b"));
  Metadata moved = std::move(m);
  EXPECT_EQ(*moved.GetString("a"), "now text");
  Metadata copy("copy");
  copy.SetU32("c", 1);
  copy.CopyFrom(moved);
  EXPECT_EQ(copy.entries()[0].key, "c");
  EXPECT_EQ(*copy.GetU32("c"), 3u);
}

TEST(GgufFile, TruncatedAnywhereIsAnError) {
  const std::string bytes = SmallFile();
  // The last tensor's own padding (30 bytes) may be missing; anything before may not.
  const size_t needed = bytes.size() - 30;
  for (size_t size = 0; size < bytes.size(); ++size) {
    // A copy of exactly this size, so that a sanitizer sees reads past its end.
    const std::string cut(bytes.data(), size);
    EXPECT_EQ(ErrorOf(cut).ok(), size >= needed) << size << " bytes: " << ErrorOf(cut).message();
    if (!ErrorOf(cut).ok()) ExpectError(ErrorOf(cut), {"file.gguf: ", "expected ", "found "});
  }
}

TEST(GgufFile, AnyChangedByteIsAnErrorOrAValidView) {
  const std::string bytes = SmallFile();
  const size_t header = bytes.find(std::string(3, '\0') + std::string("\0\0\x80\x3f", 4)) + 3;
  size_t errors = 0;
  for (size_t i = 0; i < header; ++i) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(value);
      AllocationMeter meter;
      Result<GgufFile> opened = GgufFile::FromBytes(AsBytes(changed), "file.gguf");
      EXPECT_LT(meter.bytes(), 64u << 10) << "byte " << i << " = " << value;
      if (!opened.ok()) {
        ++errors;
        EXPECT_NE(opened.status().message().find("expected"), std::string::npos)
            << opened.status().message();
        continue;
      }
      for (const Metadata::Entry& entry : opened->metadata().entries()) {
        EXPECT_FALSE(entry.value.ToString().empty());
      }
      size_t sum = 0;
      for (const GgufTensor& tensor : opened->tensors()) {
        for (std::byte b : tensor.data) sum += static_cast<size_t>(b);
      }
      EXPECT_GT(sum, 0u);
    }
  }
  EXPECT_GT(errors, 50000u);
}

TEST(GgufFile, RandomBytesNeverCrash) {
  Rng rng(7);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = SmallFile();
    const size_t changes = 1 + rng.Below(8);
    for (size_t i = 0; i < changes; ++i) bytes[rng.Below(400)] = static_cast<char>(rng.Below(256));
    bytes.resize(rng.Below(2) ? bytes.size() : rng.Below(bytes.size()));
    const std::string exact(bytes.data(), bytes.size());
    AllocationMeter meter;
    (void)GgufFile::FromBytes(AsBytes(exact), "file.gguf");
    EXPECT_LT(meter.bytes(), 64u << 10);
  }
}

TEST(GgufFile, LyingCountsAllocateNothing) {
  for (uint64_t count : {uint64_t{3}, uint64_t{1} << 20, uint64_t{1} << 40, ~uint64_t{0}}) {
    AllocationMeter meter;
    ExpectError(ErrorOf(Header(count, 0).out), {"tensor count", std::to_string(count)});
    ExpectError(ErrorOf(Header(0, count).out), {"metadata count", std::to_string(count)});
    ByteBuilder strings = Header(0, 1);
    strings.Str("k").U32(9).U32(8).U64(count);
    ExpectError(ErrorOf(strings.out), {"\"k\"", "element count", std::to_string(count)});
    ByteBuilder numbers = Header(0, 1);
    numbers.Str("k").U32(9).U32(10).U64(count);
    ExpectError(ErrorOf(numbers.out), {"\"k\"", "bytes"});
    ByteBuilder key = Header(0, 1);
    key.U64(count).Raw(std::string(20, 'k'));
    if (count > 20) ExpectError(ErrorOf(key.out), {"metadata key 0", std::to_string(count)});
    EXPECT_LT(meter.bytes(), 64u << 10);
  }
}

TEST(GgufFile, EachLieIsNamed) {
  auto with_tensor = [](std::vector<uint64_t> dims, uint32_t type, uint64_t offset,
                        size_t data = 4096) {
    ByteBuilder b = Header(1, 0);
    TensorInfo(b, "t", std::move(dims), type, offset).Pad(32);
    b.Raw(std::string(data, '\0'));
    return ErrorOf(b.out);
  };
  EXPECT_TRUE(with_tensor({32, 32}, 0, 0).ok());
  ExpectError(with_tensor({32, 0}, 0, 0), {"\"t\"", "dimension 1", "1 or more", "found 0"});
  ExpectError(with_tensor({}, 0, 0), {"dimension count", "1 to 4", "found 0"});
  ExpectError(with_tensor({1, 1, 1, 1, 1}, 0, 0), {"dimension count", "found 5"});
  ExpectError(with_tensor({~uint64_t{0}}, 0, 0), {"dimension 0", "18446744073709551615"});
  ExpectError(with_tensor({uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0),
              {"number of values", "[1099511627776, 1099511627776]"});
  ExpectError(with_tensor({uint64_t{1} << 60, 2}, 28, 0), {"bytes", "2^64"});
  ExpectError(with_tensor({33}, 8, 0), {"row length", "a multiple of 32", "q8_0", "found 33"});
  ExpectError(with_tensor({32, 32}, 16, 0), {"type", "ggml type 16", "iq2_xxs"});
  ExpectError(with_tensor({32, 32}, 1000, 0), {"type", "ggml type 1000"});
  ExpectError(with_tensor({32, 32}, 0, 16), {"offset", "a multiple of 32", "found 16"});
  ExpectError(with_tensor({32, 32}, 0, 32), {"4096 bytes at offset 32", "4096 bytes"});
  ExpectError(with_tensor({32, 32}, 0, ~uint64_t{31}), {"data section"});
  ExpectError(with_tensor({32, 32}, 0, 0, 4095), {"4096 bytes", "found a data section of 4095"});
  ExpectError(with_tensor({32, 32}, 0, 0, 4097), {"4096 bytes", "4097", "longer"});
  ExpectError(with_tensor({32, 31}, 0, 32, 4096), {"offset", "expected 0", "found 32", "gap"});

  ExpectError(ErrorOf("GGML" + SmallFile().substr(4)), {"magic", "\"GGUF\"", "\"GGML\""});
  ExpectError(ErrorOf(Header(0, 0, 1).out), {"version", "2 or 3", "found 1"});
  ExpectError(ErrorOf(Header(0, 0, 4).out), {"version", "found 4"});
  ExpectError(ErrorOf(Header(0, 0, 0x03000000).out), {"byte order", "big-endian"});
  EXPECT_TRUE(ErrorOf(Header(0, 0, 2).out).ok());

  ByteBuilder twice = Header(0, 2);
  twice.Str("k").U32(4).U32(1).Str("k").U32(4).U32(1);
  ExpectError(ErrorOf(twice.out), {"metadata key 1", "not used before", "\"k\""});
  ByteBuilder empty_key = Header(0, 1);
  empty_key.Str("").U32(4).U32(1);
  ExpectError(ErrorOf(empty_key.Pad(64).out), {"metadata key 0", "1 to 65535"});
  ByteBuilder nested = Header(0, 1);
  nested.Str("k").U32(9).U32(9).U64(1).U32(4).U64(1).U32(1);
  ExpectError(ErrorOf(nested.out), {"\"k\"", "array of arrays"});
  ByteBuilder type = Header(0, 1);
  type.Str("k").U32(13).U32(1);
  ExpectError(ErrorOf(type.out), {"\"k\"", "0 to 12", "found 13"});
  ByteBuilder truth = Header(0, 1);
  truth.Str("k").U32(7).Raw("\2");
  ExpectError(ErrorOf(truth.out), {"\"k\"", "0 or 1", "found 2"});
  for (uint32_t alignment : {0u, 24u}) {
    ByteBuilder b = Header(0, 1);
    b.Str("general.alignment").U32(4).U32(alignment);
    ExpectError(ErrorOf(b.out), {"general.alignment", "a power of two", std::to_string(alignment)});
  }
}

TEST(GgufFile, OverlapAndOrder) {
  auto two = [](uint64_t a, uint64_t b, std::string_view second = "b") {
    ByteBuilder out = Header(2, 0);
    TensorInfo(out, "a", {16}, 0, a);
    TensorInfo(out, second, {16}, 0, b).Pad(32).Raw(std::string(128, '\0'));
    return ErrorOf(out.out);
  };
  EXPECT_TRUE(two(0, 64).ok());
  EXPECT_TRUE(two(64, 0).ok()) << "any order of the data is fine";
  ExpectError(two(0, 32), {"\"b\"", "expected 64", "\"a\"", "found 32", "overlap"});
  ExpectError(two(0, 0), {"overlap"});
  ExpectError(two(0, 64, "a"), {"tensor name", "not used before", "\"a\""});
  EXPECT_FALSE(two(0, 64, "").ok());
  EXPECT_FALSE(two(0, 64, std::string(65, 'n')).ok());
}

TEST(GgufFile, AlignmentOfTheFileItself) {
  ByteBuilder b = Header(2, 1);
  b.Str("general.alignment").U32(4).U32(4);
  TensorInfo(b, "a", {3}, 1, 0);
  TensorInfo(b, "b", {1}, 0, 8).Pad(4);
  b.Raw("aaaaaa..").Raw("bbbb");
  Result<GgufFile> opened = GgufFile::FromBytes(AsBytes(b.out), "f");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(AsText(opened->Find("a")->data), "aaaaaa");
  EXPECT_EQ(AsText(opened->Find("b")->data), "bbbb");
}

TEST(GgufFile, MissingFileAndFolder) {
  EXPECT_EQ(GgufFile::Open("/nowhere/x.gguf").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(GgufFile::Open("/tmp").status().code(), StatusCode::kIo);
  TemporaryFolder folder;
  WriteText(folder / "empty.gguf", "");
  ExpectError(GgufFile::Open(folder / "empty.gguf").status(), {"magic", "4 bytes", "found 0"});
  EXPECT_FALSE(GgufFile::IsGguf(folder / "empty.gguf"));
  WriteText(folder / "x", "GGUF...");
  EXPECT_TRUE(GgufFile::IsGguf(folder / "x"));
}

// Numbers from an independent reader (Python) of the same files.
TEST(GgufFile, SharedModels) {
  INK_NEEDS_SHARED();
  Result<GgufFile> opened = GgufFile::Open(Shared("models/stories260K.gguf"));
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const Metadata& m = opened->metadata();
  EXPECT_EQ(opened->version(), 3u);
  EXPECT_EQ(opened->tensors().size(), 47u);
  EXPECT_EQ(m.size(), 22u);
  EXPECT_EQ(*m.GetString("general.architecture"), "llama");
  EXPECT_EQ(*m.GetU32("llama.feed_forward_length"), 172u);
  EXPECT_EQ(*m.GetFloat("llama.attention.layer_norm_rms_epsilon"), 1e-5f);
  EXPECT_TRUE(*m.GetBool("tokenizer.ggml.add_bos_token"));
  EXPECT_EQ(m.GetFloats("tokenizer.ggml.scores")->Float(511), -252.0);
  EXPECT_EQ(m.GetInts("tokenizer.ggml.token_type")->Int(0), 2);

  struct Expected {
    const char* name;
    const char* key;
    size_t count;
    uint32_t crc;
  };
  for (const Expected& e : {Expected{"llama-bpe", "tokenizer.ggml.tokens", 128256, 3592063068u},
                            Expected{"llama-bpe", "tokenizer.ggml.merges", 280147, 3780977496u},
                            Expected{"gpt-2", "tokenizer.ggml.merges", 50000, 3701513370u},
                            Expected{"deepseek-llm", "tokenizer.ggml.tokens", 102400, 1627161639u},
                            Expected{"llama-spm", "tokenizer.ggml.tokens", 32000, 469939168u}}) {
    Result<GgufFile> vocab =
        GgufFile::Open(Shared("goldens/tokenizers/" + std::string(e.name) + ".gguf"));
    ASSERT_TRUE(vocab.ok()) << vocab.status().message();
    EXPECT_TRUE(vocab->tensors().empty());
    Result<StringArray> strings = vocab->metadata().GetStrings(e.key);
    ASSERT_TRUE(strings.ok());
    EXPECT_EQ(strings->size(), e.count);
    uint32_t crc = 0;
    size_t count = 0;
    for (std::string_view text : *strings) {
      crc = Crc32(text, crc);
      ++count;
    }
    EXPECT_EQ(count, e.count);
    EXPECT_EQ(crc, e.crc) << e.name << " " << e.key;
  }
}

TEST(GgufFile, OpeningABigVocabularyAllocatesLittle) {
  INK_NEEDS_SHARED();
  AllocationMeter meter;
  Result<GgufFile> vocab = GgufFile::Open(Shared("goldens/tokenizers/llama-bpe.gguf"));
  ASSERT_TRUE(vocab.ok());
  EXPECT_LT(meter.bytes(), 64u << 10);
}

TEST(GgufFile, EveryGoldenModelOpensAndSurvivesTruncation) {
  INK_NEEDS_SHARED();
  for (const char* folder : {"goldens/logits", "goldens/quantized"}) {
    size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(Shared(folder))) {
      if (entry.path().extension() != ".gguf") continue;
      ++files;
      Result<GgufFile> opened = GgufFile::Open(entry.path());
      ASSERT_TRUE(opened.ok()) << opened.status().message();
      EXPECT_GT(opened->tensors().size(), 10u);
      EXPECT_NE(opened->Find("token_embd.weight"), nullptr);
      std::span<const std::byte> bytes = opened->files()[0].bytes();
      for (size_t size = 0; size < bytes.size(); size += 1 + size / 3) {
        EXPECT_FALSE(GgufFile::FromBytes(bytes.subspan(0, size), "cut").ok()) << size;
      }
    }
    EXPECT_GT(files, 4u);
  }
}

}  // namespace
}  // namespace ink
