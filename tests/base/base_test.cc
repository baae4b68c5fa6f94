#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/mapped_file.h"
#include "base/rng.h"
#include "base/thread_pool.h"

namespace ink {
namespace {

TEST(ThreadPool, RunsEachThreadOnceManyTimes) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    std::vector<std::atomic<int>> counts(threads);
    for (int i = 0; i < 2000; ++i) pool.Run([&](int t) { counts[t]++; });
    for (auto& count : counts) EXPECT_EQ(count.load(), 2000);
  }
}

TEST(ThreadPool, ParallelForCoversTheRangeOnce) {
  ThreadPool pool(3);
  for (int64_t n : {0, 1, 2, 3, 100}) {
    std::vector<std::atomic<int>> hits(n);
    pool.ParallelFor(n, [&](int64_t i, int) { hits[i]++; });
    for (auto& hit : hits) EXPECT_EQ(hit.load(), 1);
  }
}

TEST(ThreadPool, WakesAfterSleeping) {
  ThreadPool pool(2);
  std::atomic<int> runs{0};
  for (int i = 0; i < 5; ++i) {
    usleep(3000);
    pool.Run([&](int) { runs++; });
  }
  EXPECT_EQ(runs.load(), 10);
}

// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
TEST(Rng, PhiloxKnownAnswers) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(AtomicFile, AbandonedWriteLeavesTheTarget) {
  std::string path = testing::TempDir() + "/ink_atomic";
  ASSERT_TRUE(WriteFileAtomic(path, "old").ok());
  {
    auto file = AtomicFile::Create(path);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->Write("half").ok());
  }
  EXPECT_EQ(*ReadFile(path), "old");
  ASSERT_TRUE(WriteFileAtomic(path, "new").ok());
  EXPECT_EQ(*ReadFile(path), "new");
  auto mapped = MappedFile::Open(path);
  ASSERT_TRUE(mapped.ok());
  EXPECT_EQ(mapped->bytes().size(), 3u);
  std::filesystem::remove(path);
  EXPECT_EQ(MappedFile::Open(path).status().code(), StatusCode::kNotFound);
}

TEST(AtomicFile, FullDiskIsAnError) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  auto file = AtomicFile::Create("/proc/inkstone-cannot-exist");
  EXPECT_EQ(file.status().code(), StatusCode::kIo);
}

}  // namespace
}  // namespace ink
