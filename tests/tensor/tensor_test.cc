#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tensor/align.h"
#include "tensor/dtype.h"
#include "tensor/ledger.h"
#include "tensor/tensor.h"

namespace ink {
namespace {

TEST(DType, NamesAndIdsFindTheirType) {
  std::set<std::string> names;
  for (const DTypeInfo& info : AllDTypes()) {
    EXPECT_EQ(Info(info.type).name, info.name);
    EXPECT_TRUE(names.insert(std::string(info.name)).second) << info.name << " twice";
    EXPECT_EQ(DTypeFromName(info.name), info.type);
    std::string upper(info.name);
    for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    EXPECT_EQ(DTypeFromName(upper), info.type);
    EXPECT_GT(info.block_values, 0);
    EXPECT_GT(info.block_bytes, 0);
    EXPECT_EQ(RowBytes(info.type, 3 * info.block_values), 3 * info.block_bytes) << info.name;
  }
  EXPECT_EQ(DTypeFromName("q9_9"), std::nullopt);
  EXPECT_EQ(DTypeFromName(""), std::nullopt);
  EXPECT_EQ(DTypeFromId(0xffffffffu), std::nullopt);
}

// Bits per weight as the GGUF format fixes them.
TEST(DType, BlocksHaveTheFormatsSizes) {
  const auto bits = [](DType type) {
    return 8.0 * Info(type).block_bytes / Info(type).block_values;
  };
  EXPECT_EQ(bits(DType::kF32), 32);
  EXPECT_EQ(bits(DType::kBF16), 16);
  EXPECT_EQ(bits(DType::kQ8_0), 8.5);
  EXPECT_EQ(bits(DType::kQ4_0), 4.5);
  EXPECT_EQ(bits(DType::kQ4_1), 5);
  EXPECT_EQ(bits(DType::kQ5_0), 5.5);
  EXPECT_EQ(bits(DType::kQ5_1), 6);
  EXPECT_EQ(bits(DType::kQ2_K), 2.625);
  EXPECT_EQ(bits(DType::kQ3_K), 3.4375);
  EXPECT_EQ(bits(DType::kQ4_K), 4.5);
  EXPECT_EQ(bits(DType::kQ5_K), 5.5);
  EXPECT_EQ(bits(DType::kQ6_K), 6.5625);
  EXPECT_EQ(bits(DType::kIQ4_NL), 4.5);
  EXPECT_EQ(bits(DType::kIQ4_XS), 4.25);
  EXPECT_EQ(bits(DType::kMXFP4), 4.25);
}

TEST(Align, RoundsUpToCacheLines) {
  EXPECT_EQ(AlignBytes(0), 0);
  EXPECT_EQ(AlignBytes(1), 64);
  EXPECT_EQ(AlignBytes(64), 64);
  EXPECT_EQ(AlignBytes(65), 128);
}

TEST(Tensor, ViewsKeepTheStride) {
  std::vector<float> data(4 * 6);
  const Tensor whole{data.data(), 4, 6, 6};
  EXPECT_TRUE(whole.contiguous());
  EXPECT_TRUE(Tensor{}.empty());
  const Tensor part = whole.Rows(1, 2).Columns(2, 3);
  EXPECT_EQ(part.data, data.data() + 8);
  EXPECT_EQ(part.rows, 2);
  EXPECT_EQ(part.cols, 3);
  EXPECT_EQ(part.stride, 6);
  EXPECT_FALSE(part.contiguous());
  EXPECT_EQ(part.size(), 6);
}

TEST(Ledger, CountsWhatIsHeldAndItsPeak) {
  Ledger ledger;
  ledger.Add(LedgerEntry::kWeights, 100);
  ledger.Add(LedgerEntry::kKvCache, 30);
  ledger.Remove(LedgerEntry::kWeights, 60);
  EXPECT_EQ(ledger.bytes(LedgerEntry::kWeights), 40);
  EXPECT_EQ(ledger.peak(LedgerEntry::kWeights), 100);
  EXPECT_EQ(ledger.total(), 70);
  ledger.Set(LedgerEntry::kWeights, 7);
  EXPECT_EQ(ledger.bytes(LedgerEntry::kWeights), 7);
  EXPECT_EQ(ledger.peak(LedgerEntry::kWeights), 100);
}

TEST(Ledger, ThreadsLoseNothing) {
  Ledger ledger;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&ledger] {
      for (int i = 0; i < 10000; ++i) {
        ledger.Add(LedgerEntry::kInputs, 3);
        ledger.Remove(LedgerEntry::kInputs, 2);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(ledger.total(), 4 * 10000);
  EXPECT_GE(ledger.peak(LedgerEntry::kInputs), 4 * 10000);
}

TEST(Ledger, EveryEntryHasAName) {
  std::set<std::string_view> names;
  for (int e = 0; e < static_cast<int>(LedgerEntry::kCount); ++e) {
    const std::string_view name = LedgerEntryName(static_cast<LedgerEntry>(e));
    EXPECT_NE(name, "unknown");
    EXPECT_TRUE(names.insert(name).second) << name << " twice";
  }
}

}  // namespace
}  // namespace ink
