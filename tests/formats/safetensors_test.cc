#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "base/rng.h"
#include "formats/allocation_meter.h"
#include "formats/files.h"
#include "formats/safetensors_writer.h"

namespace ink {
namespace {

using namespace testing_support;

std::string File(std::string_view header, std::string_view data) {
  return ByteBuilder().U64(header.size()).Raw(header).Raw(data).out;
}

// Two tensors, metadata, trailing spaces, and the JSON out of data order.
std::string SmallFile() {
  return File(
      R"({"b":{"dtype":"F16","shape":[3],"data_offsets":[16,22]},"__metadata__":{"format":"pt"},)"
      R"("a":{"shape":[2,2],"data_offsets":[0,16],"dtype":"F32"},)"
      R"("s":{"dtype":"U8","shape":[],"data_offsets":[22,23]},)"
      R"("none":{"dtype":"I64","shape":[0,4],"data_offsets":[16,16]}}  )",
      "AAAAaaaaAAAAaaaabbBBbb!");
}

Status ErrorOf(std::string_view bytes) {
  return SafetensorsFile::FromBytes(AsBytes(bytes), "x.safetensors").status();
}

void ExpectError(const Status& status, std::vector<std::string> parts) {
  ASSERT_FALSE(status.ok()) << "expected an error with " << parts[0];
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos)
        << part << " is not in: " << status.message();
  }
}

TEST(SafetensorsFile, ReadsASmallFile) {
  const std::string bytes = SmallFile();
  Result<SafetensorsFile> file = SafetensorsFile::FromBytes(AsBytes(bytes), "x.safetensors");
  ASSERT_TRUE(file.ok()) << file.status().message();
  std::string order;
  for (const SafetensorsTensor& t : file->tensors()) order += t.name + " ";
  EXPECT_EQ(order, "a none b s ");
  EXPECT_EQ(file->Find("a")->shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(file->Find("a")->num_values(), 4);
  EXPECT_EQ(file->TypeOf(*file->Find("a")).value(), DType::kF32);
  EXPECT_EQ(AsText(file->Find("a")->data), "AAAAaaaaAAAAaaaa");
  EXPECT_EQ(AsText(file->Find("b")->data), "bbBBbb");
  EXPECT_EQ(file->Find("s")->num_values(), 1);
  EXPECT_EQ(AsText(file->Find("s")->data), "!");
  EXPECT_EQ(file->Find("none")->num_values(), 0);
  EXPECT_EQ(file->Find("none")->ShapeString(), "[0, 4]");
  ExpectError(file->TypeOf(*file->Find("s")).status(), {"\"s\"", "BF16", "\"U8\""});
  ExpectError(file->Get("q").status(), {"\"q\"", "no tensor"});
  ASSERT_EQ(file->metadata().size(), 1u);
  EXPECT_EQ(file->metadata()[0].second, "pt");
  EXPECT_EQ(file->tensor_bytes(), 23u);
}

TEST(SafetensorsFile, TruncatedAnywhereIsAnError) {
  const std::string bytes = SmallFile();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::string cut(bytes.data(), size);
    ExpectError(ErrorOf(cut), {"x.safetensors: ", "expected ", "found "});
  }
  ExpectError(ErrorOf(bytes + "x"), {"data section", "expected 23 bytes", "found 24"});
}

TEST(SafetensorsFile, AnyChangedByteIsAnErrorOrAValidView) {
  const std::string bytes = SmallFile();
  size_t errors = 0;
  for (size_t i = 0; i < bytes.size() - 23; ++i) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(value);
      AllocationMeter meter;
      Result<SafetensorsFile> file = SafetensorsFile::FromBytes(AsBytes(changed), "x.safetensors");
      EXPECT_LT(meter.bytes(), 64u << 10);
      if (!file.ok()) {
        ++errors;
        EXPECT_NE(file.status().message().find("expected"), std::string::npos)
            << file.status().message();
        continue;
      }
      size_t sum = 0;
      for (const SafetensorsTensor& t : file->tensors()) {
        for (std::byte b : t.data) sum += static_cast<size_t>(b);
      }
      EXPECT_GT(sum, 0u);
    }
  }
  EXPECT_GT(errors, 40000u);
}

TEST(SafetensorsFile, LyingHeaderLengthAllocatesNothing) {
  for (uint64_t size :
       {uint64_t{0}, uint64_t{1}, uint64_t{1} << 20, uint64_t{1} << 40, ~uint64_t{0}}) {
    AllocationMeter meter;
    ExpectError(ErrorOf(ByteBuilder().U64(size).Raw("{}").out),
                {"header length", std::to_string(size)});
    EXPECT_LT(meter.bytes(), 64u << 10);
  }
  EXPECT_TRUE(ErrorOf(File("{}", "")).ok());
}

// Documents of another structure are refused at their first foreign token: they cost no memory.
TEST(SafetensorsFile, ForeignJsonIsRefusedEarly) {
  std::string deep = "{\"a\":";
  deep += std::string(1 << 20, '[');
  std::string wide = "{\"a\":{\"dtype\":\"F32\",\"shape\":[";
  for (int i = 0; i < (1 << 18); ++i) wide += "1,";
  for (const std::string& header : {deep, wide}) {
    const std::string bytes = File(header, "");
    AllocationMeter meter;
    EXPECT_FALSE(ErrorOf(bytes).ok());
    EXPECT_LT(meter.bytes(), 64u << 10);
  }
}

TEST(SafetensorsFile, EachLieIsNamed) {
  auto tensor = [](std::string_view fields, std::string_view data = "12345678") {
    return ErrorOf(File("{\"t\":{" + std::string(fields) + "}}", data));
  };
  EXPECT_TRUE(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])").ok());
  ExpectError(tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"),
              {"\"t\"", "bytes", "expected 12 for F32 [3]", "found 8"});
  ExpectError(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,9])"),
              {"data_offsets", "8 bytes", "[0, 9]"});
  ExpectError(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), {"data_offsets"});
  ExpectError(tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"),
              {"start at 0", "found 4", "gap"});
  ExpectError(tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"),
              {"data section", "expected 4 bytes", "found 8"});
  ExpectError(tensor(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8])"),
              {"number of values", "[4294967296, 4294967296]"});
  ExpectError(tensor(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), {"shape", "-2"});
  ExpectError(tensor(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), {"shape", "2.0"});
  ExpectError(tensor(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"), {"shape", "2"});
  ExpectError(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,9])"), {"data_offsets", "9"});
  ExpectError(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0])"),
              {"data_offsets", "1 numbers"});
  ExpectError(tensor(R"("dtype":"F32","shape":[2])"), {"\"t\"", "no data_offsets"});
  ExpectError(tensor(R"("dtype":"F32","data_offsets":[0,8])"), {"\"t\"", "no shape"});
  ExpectError(tensor(R"("shape":[2],"data_offsets":[0,8])"), {"\"t\"", "no dtype"});
  ExpectError(tensor(R"("dtype":5,"shape":[2],"data_offsets":[0,8])"), {"dtype", "5"});
  ExpectError(tensor(R"("dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8])"),
              {"\"dtype\""});
  ExpectError(tensor(R"("dtype":"F32","more":1,"shape":[2],"data_offsets":[0,8])"), {"\"more\""});
  // A type that nobody knows is an error only where the tensor is used.
  const std::string strange =
      File(R"({"t":{"dtype":"X9","shape":[2],"data_offsets":[0,8]}})", "12345678");
  Result<SafetensorsFile> file = SafetensorsFile::FromBytes(AsBytes(strange), "x");
  ASSERT_TRUE(file.ok());
  ExpectError(file->TypeOf(*file->Find("t")).status(), {"\"t\"", "\"X9\""});

  ExpectError(ErrorOf(File(" {}", "")), {"first byte"});
  ExpectError(ErrorOf(File("{} x", "")), {"valid JSON"});
  ExpectError(ErrorOf(File("[]", "")), {"first byte"});
  ExpectError(ErrorOf(File(R"({"__metadata__":{"a":1}})", "")), {"__metadata__", "strings", "1"});
  ExpectError(ErrorOf(File(R"({"__metadata__":{},"__metadata__":{}})", "")), {"second"});
  ExpectError(ErrorOf(File(R"({"t":{"dtype":"U8","shape":[],"data_offsets":[0,1]},)"
                           R"("t":{"dtype":"U8","shape":[],"data_offsets":[1,2]}})",
                           "ab")),
              {"tensor name", "not used before", "\"t\""});
  ExpectError(ErrorOf(File(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                           R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                           "abc")),
              {"\"b\"", "start at 2", "found 1", "overlap"});
}

TEST(SafetensorsFile, IndexLiesAreNamed) {
  TemporaryFolder folder;
  const std::string index = folder / "model.safetensors.index.json";
  WriteText(folder / "1.safetensors",
            File(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "a"));
  WriteText(folder / "2.safetensors",
            File(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "b"));
  auto error = [&](std::string_view text) {
    WriteText(index, text);
    return SafetensorsFile::Open(folder.path()).status();
  };
  EXPECT_TRUE(error(R"({"metadata":{"total_size":2,"x":[[1]]},"weight_map":)"
                    R"({"a":"1.safetensors","b":"2.safetensors"}})")
                  .ok());
  ExpectError(error(R"({"weight_map":{"a":"2.safetensors","b":"2.safetensors"}})"),
              {"\"a\"", "\"2.safetensors\"", "no such tensor"});
  ExpectError(
      error(R"({"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"}})"),
      {"\"b\"", "\"1.safetensors\"", "another shard"});
  ExpectError(error(R"({"weight_map":{"a":"3.safetensors"}})"), {"3.safetensors", "cannot open"});
  ExpectError(error(R"({"weight_map":{"a":"../1.safetensors"}})"), {"same folder", "../1"});
  ExpectError(error(R"({"weight_map":{"a":".."}})"), {"same folder"});
  ExpectError(error(R"({"weight_map":{"a":1}})"), {"weight_map", "file names", "a number"});
  ExpectError(error(R"({"weight_map":[]})"), {"weight_map", "file names"});
  ExpectError(error(R"({"weight_map":{"a":{}}})"), {"weight_map", "an object"});
  ExpectError(error(R"({"metadata":{}})"), {"weight_map", "none"});
  ExpectError(error("[1]"), {"weight_map"});
  ExpectError(error("{"), {"valid JSON"});
  ExpectError(error("{\"x\":" + std::string(100000, '[')), {"weight_map"});
  std::filesystem::remove(index);
  ExpectError(SafetensorsFile::Open(folder.path()).status(),
              {"model.safetensors", "index.json", "neither"});
}

struct Written {
  std::string name;
  DType type;
  std::vector<int64_t> shape;
  std::string data;
};

std::vector<Written> RandomTensors(Rng& rng) {
  constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64,
                              DType::kI8,  DType::kI16, DType::kI32,  DType::kI64};
  std::vector<Written> tensors(rng.Below(20));
  for (size_t i = 0; i < tensors.size(); ++i) {
    Written& t = tensors[i];
    t.name = "model.layers." + std::to_string(i) + ".\"quoted\" \xc3\xa9";
    t.type = kTypes[rng.Below(8)];
    const size_t dims = rng.Below(4);
    for (size_t d = 0; d < dims; ++d) t.shape.push_back(static_cast<int64_t>(rng.Below(6)));
    t.data.resize(*SafetensorsBytes(t.shape, t.type));
    for (char& c : t.data) c = static_cast<char>(rng.Below(256));
  }
  return tensors;
}

TEST(SafetensorsWriter, RoundTripsWholeAndSharded) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Rng rng(seed);
    const std::vector<Written> tensors = RandomTensors(rng);
    TemporaryFolder folder;
    std::string first;
    for (int round = 0; round < 2; ++round) {
      SafetensorsWriter writer(folder / "model.safetensors",
                               {.max_shard_bytes = seed % 2 == 0 ? 0u : 300u});
      writer.AddMetadata("format", "pt");
      for (const Written& t : tensors) {
        ASSERT_TRUE(writer.AddTensor(t.name, t.type, t.shape).ok());
      }
      ASSERT_TRUE(writer.Begin().ok());
      std::string all;
      for (size_t i : writer.WriteOrder()) all += tensors[i].data;
      for (size_t at = 0; at < all.size();) {
        const size_t n = std::min<size_t>(all.size() - at, 1 + rng.Below(200));
        ASSERT_TRUE(writer.Write(AsBytes(std::string_view(all).substr(at, n))).ok());
        at += n;
      }
      EXPECT_EQ(writer.written_bytes(), writer.total_bytes());
      EXPECT_FALSE(writer.Write(AsBytes("x")).ok());
      ASSERT_TRUE(writer.Finish().ok());
      EXPECT_EQ(folder.NumFiles(), writer.paths().size());
      std::string bytes;
      for (const std::string& path : writer.paths()) bytes += ReadText(path);
      if (round == 0) first = bytes;
      EXPECT_EQ(bytes, first);
    }
    Result<SafetensorsFile> file = SafetensorsFile::Open(folder.path());
    ASSERT_TRUE(file.ok()) << file.status().message();
    ASSERT_EQ(file->tensors().size(), tensors.size());
    EXPECT_EQ(file->metadata().size(), 1u);
    for (const Written& t : tensors) {
      Result<const SafetensorsTensor*> found = file->Get(t.name);
      ASSERT_TRUE(found.ok()) << found.status().message();
      EXPECT_EQ((*found)->shape, t.shape);
      EXPECT_EQ(file->TypeOf(**found).value(), t.type);
      EXPECT_EQ(AsText((*found)->data), t.data);
      EXPECT_EQ((*found)->offset % static_cast<uint64_t>(Info(t.type).block_bytes), 0u);
    }
  }
}

TEST(SafetensorsWriter, RefusesBadTensorsAndLeavesTheTargetAlone) {
  TemporaryFolder folder;
  WriteText(folder / "model.safetensors", "before");
  {
    SafetensorsWriter writer(folder / "model.safetensors");
    const int64_t shape[] = {4}, negative[] = {-1};
    const int64_t huge[] = {int64_t{1} << 40, int64_t{1} << 40};
    EXPECT_TRUE(writer.AddTensor("t", DType::kF32, shape).ok());
    EXPECT_FALSE(writer.AddTensor("t", DType::kF32, shape).ok());
    EXPECT_FALSE(writer.AddTensor("", DType::kF32, shape).ok());
    EXPECT_FALSE(writer.AddTensor("__metadata__", DType::kF32, shape).ok());
    EXPECT_FALSE(writer.AddTensor("\xff", DType::kF32, shape).ok());
    EXPECT_FALSE(writer.AddTensor("q", DType::kQ8_0, shape).ok());
    EXPECT_FALSE(writer.AddTensor("n", DType::kF32, negative).ok());
    EXPECT_FALSE(writer.AddTensor("h", DType::kF32, huge).ok());
    ASSERT_TRUE(writer.Begin().ok());
    ASSERT_TRUE(writer.Write(AsBytes("short")).ok());
    ExpectError(writer.Finish(), {"\"t\"", "16 bytes", "found 5"});
  }
  EXPECT_EQ(ReadText(folder / "model.safetensors"), "before");
  EXPECT_EQ(folder.NumFiles(), 1u);
}

}  // namespace
}  // namespace ink
