#include "cache/disk_store.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <numeric>
#include <thread>

namespace ink {
namespace {

namespace fs = std::filesystem;

class Disk : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "/ink_disk_" + std::to_string(getpid()) + "_" +
                 testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::unique_ptr<DiskStore> Open(int64_t max_bytes = 1 << 20) {
    auto store = DiskStore::Open(directory_, max_bytes, [this](const std::string& line) {
      std::lock_guard lock(mutex_);
      log_.push_back(line);
    });
    EXPECT_TRUE(store.ok()) << store.status().message();
    return std::move(store).value();
  }
  static std::vector<std::byte> Content(int seed, size_t bytes = 1000) {
    std::vector<std::byte> out(bytes);
    for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>(seed * 31 + i * 7);
    return out;
  }
  static std::vector<int32_t> Prefix(int seed, int blocks = 1) {
    std::vector<int32_t> out(blocks * 32);
    std::iota(out.begin(), out.end(), seed * 1000);
    return out;
  }
  static bool Holds(DiskStore& store, int seed, const CacheScope& scope, int32_t group = 0) {
    std::vector<std::byte> got(1000);
    if (!store.Get(scope, Prefix(seed), group, got)) return false;
    EXPECT_EQ(got, Content(seed));
    return true;
  }
  void Put(DiskStore& store, int seed) {
    store.Put(scope_, Prefix(seed), 0, Content(seed), false);
    store.Flush();
  }
  std::vector<fs::path> Files() const {
    std::vector<fs::path> out;
    for (const auto& entry : fs::directory_iterator(directory_)) {
      if (entry.path().extension() == ".inkkv") out.push_back(entry.path());
    }
    return out;
  }

  const CacheScope scope_{"model", "adapter", "tenant", "f16:f16"};
  std::string directory_;
  std::mutex mutex_;
  std::vector<std::string> log_;
};

TEST_F(Disk, IsFoundAgainAfterARestart) {
  {
    auto store = Open();
    store->Put(scope_, Prefix(1), 0, Content(1), false);
    store->Put(scope_, Prefix(2), 0, Content(2), false);
    // Written by the destructor at the latest.
  }
  auto store = Open();
  EXPECT_TRUE(store->Has(scope_, Prefix(1), 0));
  EXPECT_TRUE(Holds(*store, 1, scope_));
  EXPECT_TRUE(Holds(*store, 2, scope_));
  EXPECT_FALSE(Holds(*store, 3, scope_));
  EXPECT_EQ(store->stats().hits, 2);
  EXPECT_EQ(store->stats().read_bytes, 2000);
  EXPECT_TRUE(log_.empty());
  // Others cannot read what people wrote.
  EXPECT_EQ(
      fs::status(Files().at(0)).permissions() & (fs::perms::group_all | fs::perms::others_all),
      fs::perms::none);
}

TEST_F(Disk, EverythingOfTheScopeSeparates) {
  auto store = Open();
  Put(*store, 1);
  for (int field = 0; field < 4; ++field) {
    CacheScope other = scope_;
    (field == 0   ? other.model
     : field == 1 ? other.adapter
     : field == 2 ? other.tenant
                  : other.cache_dtype) += "x";
    EXPECT_FALSE(Holds(*store, 1, other)) << field;
  }
  EXPECT_FALSE(Holds(*store, 1, scope_, 1));
  std::vector<std::byte> other_size(999);
  EXPECT_FALSE(store->Get(scope_, Prefix(1), 0, other_size));
  EXPECT_TRUE(Holds(*store, 1, scope_));
}

// A file under another's name is what a collision of hashes would be.
TEST_F(Disk, ContentIsComparedNotJustItsHash) {
  auto store = Open();
  Put(*store, 1);
  const fs::path first = Files().at(0);
  Put(*store, 2);
  auto files = Files();
  const fs::path second = files[0] == first ? files[1] : files[0];
  fs::copy_file(first, second, fs::copy_options::overwrite_existing);
  EXPECT_FALSE(Holds(*store, 2, scope_));
  EXPECT_TRUE(Holds(*store, 1, scope_));
}

TEST_F(Disk, AnyChangedByteIsNoticed) {
  Put(*Open(), 1);
  const fs::path path = Files().at(0);
  std::string good;
  {
    std::ifstream in(path, std::ios::binary);
    good.assign(std::istreambuf_iterator<char>(in), {});
  }
  int removed = 0;
  for (size_t at = 0; at < good.size(); at += at < 400 ? 1 : 37) {
    std::string bad = good;
    bad[at] ^= 0x10;
    std::ofstream(path, std::ios::binary) << bad;
    auto store = Open();
    EXPECT_FALSE(Holds(*store, 1, scope_)) << at;
    removed += !fs::exists(path);
  }
  // Most are removed and named; what looks like another block (its sizes, its group) is a miss.
  EXPECT_GT(removed, 300);
  EXPECT_GE(log_.size(), 300u);
  std::ofstream(path, std::ios::binary) << good;
  EXPECT_TRUE(Holds(*Open(), 1, scope_));
}

TEST_F(Disk, DamagedFilesAreRemovedAtStartAndForeignOnesLeft) {
  {
    auto store = Open();
    Put(*store, 1);
    Put(*store, 2);
  }
  const auto files = Files();
  fs::resize_file(files[0], fs::file_size(files[0]) - 1);
  std::ofstream(files[1]) << "x";
  const std::string hex(32, 'a');
  std::ofstream(directory_ + "/" + hex + ".inkkv-new") << "half";
  std::ofstream(directory_ + "/notes.txt") << "mine";
  std::ofstream(directory_ + "/short.inkkv") << "mine too";
  auto store = Open();
  EXPECT_EQ(store->stats().files, 0);
  EXPECT_EQ(store->stats().bytes, 0);
  EXPECT_EQ(store->stats().rejected, 2);
  EXPECT_EQ(log_.size(), 2u);
  EXPECT_FALSE(fs::exists(files[0]) || fs::exists(files[1]));
  EXPECT_FALSE(fs::exists(directory_ + "/" + hex + ".inkkv-new"));
  EXPECT_TRUE(fs::exists(directory_ + "/notes.txt") && fs::exists(directory_ + "/short.inkkv"));
  Put(*store, 1);
  EXPECT_TRUE(Holds(*store, 1, scope_));
}

TEST_F(Disk, TheBoundHoldsAndTheLeastRecentlyUsedGo) {
  const int64_t one = [&] {
    auto store = Open();
    Put(*store, 1);
    return store->stats().bytes;
  }();
  {
    auto store = Open(3 * one);
    Put(*store, 2);
    Put(*store, 3);
    EXPECT_TRUE(Holds(*store, 1, scope_));  // used now: 2 is the oldest
    Put(*store, 4);
    EXPECT_LE(store->stats().bytes, 3 * one);
    EXPECT_EQ(Files().size(), 3u);
    EXPECT_TRUE(Holds(*store, 1, scope_));
    EXPECT_FALSE(Holds(*store, 2, scope_));
    EXPECT_TRUE(Holds(*store, 3, scope_));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the clock of files is coarse
    EXPECT_TRUE(Holds(*store, 4, scope_));
  }
  auto smaller = Open(one);
  EXPECT_EQ(Files().size(), 1u);
  EXPECT_TRUE(Holds(*smaller, 4, scope_));
  // Nothing larger than the bound is written, nor everything else thrown away for it.
  smaller->Put(scope_, Prefix(9, 4), 0, Content(9, static_cast<size_t>(one)), false);
  smaller->Flush();
  EXPECT_EQ(smaller->stats().dropped, 1);
  EXPECT_TRUE(Holds(*smaller, 4, scope_));
}

TEST_F(Disk, AFullDiskEndsWritingAndNothingElse) {
  auto store = Open();
  Put(*store, 1);
  // Files may not grow past this: what a full disk does to a write.
  signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 500;
  setrlimit(RLIMIT_FSIZE, &small);
  Put(*store, 2);
  Put(*store, 3);
  setrlimit(RLIMIT_FSIZE, &before);
  Put(*store, 4);
  const DiskStoreStats stats = store->stats();
  EXPECT_FALSE(stats.writable);
  EXPECT_EQ(stats.dropped, 3);
  EXPECT_EQ(log_.size(), 1u);
  EXPECT_EQ(Files().size(), 1u);
  EXPECT_TRUE(Holds(*store, 1, scope_));
  EXPECT_FALSE(Holds(*store, 2, scope_));
}

TEST_F(Disk, OneProcessAtATime) {
  auto store = Open();
  auto second = DiskStore::Open(directory_, 1000, {});
  EXPECT_EQ(second.status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(DiskStore::Open(directory_ + "x", 0, {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(DiskStore::Open("/dev/null/x", 1, {}).status().code(), StatusCode::kIo);
}

}  // namespace
}  // namespace ink
