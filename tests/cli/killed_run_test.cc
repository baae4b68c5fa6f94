// Processes that are killed, or whose disk is full, while they train: what they leave goes on to
// the bits of a run that nothing stopped.
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <cerrno>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "tiny_run.h"
#include "train/checkpoint.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using namespace testing_support;

using Files = std::vector<std::string>;

// Names in a folder, sorted.
Files NamesIn(const std::string& folder) {
  Files names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) names.push_back(entry.path().lexically_relative(folder).string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool IsTemporary(const std::string& name) { return name.find(".tmp.") != std::string::npos; }

// The steps' losses and the validations of a log, without what depends on the clock.
std::string Numbers(const std::string& log) {
  std::stringstream lines(log);
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    auto json = nlohmann::ordered_json::parse(line, nullptr, false);
    EXPECT_TRUE(json.is_object()) << line;
    json.erase("tokens_per_second");
    out += json.dump() + "\n";
  }
  return out;
}

struct Kind {
  const char* name;
  bool adapter;
  Files results;  // beside the checkpoints
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class KilledRun : public ::testing::TestWithParam<Kind> {
 protected:
  KilledRun() : run_("killed") {}

  std::vector<std::string> Command(const std::string& out, bool resume) const {
    return GetParam().adapter ? run_.Finetune(out, resume) : run_.Train(out, resume);
  }
  std::string RunFolder(const std::string& out) const {
    return run_ / (GetParam().adapter ? out + ".run" : out);
  }
  void Forget(const std::string& out) const {
    fs::remove_all(RunFolder(out));
    fs::remove_all(run_ / out);
  }
  // Runs to the end; milliseconds that it took.
  double Complete(const std::vector<std::string>& command) {
    const auto begin = std::chrono::steady_clock::now();
    ChildProcess child(command, run_.log());
    EXPECT_EQ(child.Wait(), 0) << child.Output();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
        .count();
  }
  // The run that nothing stops, "plain"; and the base model of the adapters, "whole".
  double MakePlain() {
    if (GetParam().adapter) Complete(run_.Train("whole", false));
    return Complete(Command("plain", false));
  }
  void ExpectSameBits(const std::string& out) {
    for (const std::string& name : GetParam().results) {
      EXPECT_TRUE(Content(run_ / ("plain/" + name)) == Content(run_ / (out + "/" + name))) << name;
      EXPECT_FALSE(Content(run_ / (out + "/" + name)).empty()) << name;
    }
    const std::string a = RunFolder("plain"), b = RunFolder(out);
    EXPECT_EQ(NamesIn(a), NamesIn(b));
    for (const std::string& name : NamesIn(a + "/checkpoints")) {
      EXPECT_TRUE(Content(a + "/checkpoints/" + name) == Content(b + "/checkpoints/" + name))
          << name;
    }
    EXPECT_TRUE(Numbers(Content(a + "/log.jsonl")) == Numbers(Content(b + "/log.jsonl")))
        << Content(b + "/log.jsonl");
  }

  TinyRun run_;
};

TEST_P(KilledRun, AtAnyMomentGoesOnToTheSameBits) {
  double longest_ms = 0.5 * MakePlain();
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 lot(seed);
  int kills = 0;
  for (int attempt = 0;; ++attempt) {
    ASSERT_LT(attempt, 300);
    const bool resume = fs::exists(RunFolder("killed"));
    ChildProcess child(Command("killed", resume), run_.log());
    // Twelve kills at most: then it may finish.
    if (kills < 12) {
      SleepMilliseconds(std::uniform_real_distribution<>(1.0, longest_ms)(lot));
      child.Signal(SIGKILL);
    }
    const int end = child.Wait();
    if (end == 0 && kills > 2) break;
    if (end == 0) {
      // Other work on the machine made the first run slow, and this one was fast: once more.
      longest_ms = 1 + longest_ms / 2;
      kills = 0;
      Forget("killed");
      continue;
    }
    ASSERT_EQ(end, -SIGKILL) << child.Output();
    ++kills;
  }
  ExpectSameBits("killed");
}

TEST_P(KilledRun, InsideTheWriteOfACheckpointGoesOnToTheSameBits) {
  MakePlain();
  std::mt19937 lot(std::random_device{}());
  const std::string checkpoints = RunFolder("killed") + "/checkpoints";
  fs::create_directories(checkpoints);
  const int events = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  ASSERT_GE(inotify_add_watch(events, checkpoints.c_str(), IN_CREATE), 0);
  auto drain = [&] {
    char buffer[4096];
    bool any = false;
    while (read(events, buffer, sizeof(buffer)) > 0) any = true;
    return any;
  };
  int inside = 0;
  for (int attempt = 0;; ++attempt) {
    ASSERT_LT(attempt, 100);
    drain();
    ChildProcess child(Command("killed", true), run_.log());
    if (inside < 4) {
      // The first or a later checkpoint of this process, and anywhere within it.
      for (uint32_t skip = lot() % 2; child.Running();) {
        if (drain() && skip-- == 0) break;
        SleepMilliseconds(0.1);
      }
      SleepMilliseconds(std::uniform_real_distribution<>(0.0, 6.0)(lot));
      child.Signal(SIGKILL);
    }
    const int end = child.Wait();
    if (end == 0 && inside > 1) break;
    if (end == 0) {
      // The kills came too late, after the files were whole: once more from the start.
      Forget("killed");
      fs::create_directories(checkpoints);
      ASSERT_GE(inotify_add_watch(events, checkpoints.c_str(), IN_CREATE), 0);
      continue;
    }
    ASSERT_EQ(end, -SIGKILL) << child.Output();
    const Files names = NamesIn(checkpoints);
    inside += std::any_of(names.begin(), names.end(), IsTemporary) ? 1 : 0;
  }
  close(events);
  ExpectSameBits("killed");
}

// A write that the system refuses half way: RLIMIT_FSIZE stands for the full disk.
TEST_P(KilledRun, ARefusedWriteKeepsEarlierCheckpoints) {
  MakePlain();
  ChildProcess first(Command("refused", false), run_.log());
  const std::string checkpoints = RunFolder("refused") + "/checkpoints";
  while (first.Running() && NewestCheckpointPath(checkpoints).empty()) SleepMilliseconds(1);
  first.Signal(SIGKILL);
  ASSERT_EQ(first.Wait(), -SIGKILL) << first.Output();
  std::vector<std::pair<std::string, std::string>> before;
  for (const std::string& name : NamesIn(checkpoints)) {
    if (!IsTemporary(name)) before.emplace_back(name, Content(checkpoints + "/" + name));
  }
  ASSERT_FALSE(before.empty());
  const rlim_t limit = before.front().second.size() / 2;
  ChildProcess second(Command("refused", true), run_.log(), [limit] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit bytes{limit, limit};
    setrlimit(RLIMIT_FSIZE, &bytes);
  });
  EXPECT_EQ(second.Wait(), 1);
  const std::string said = second.Output();
  EXPECT_NE(said.find("cannot write at byte"), std::string::npos) << said;
  EXPECT_NE(said.find("File too large"), std::string::npos) << said;
  EXPECT_NE(said.find("the last good checkpoint is " + checkpoints + "/" + before.back().first),
            std::string::npos)
      << said;
  Files names;
  for (const auto& [name, content] : before) {
    names.push_back(name);
    EXPECT_TRUE(Content(checkpoints + "/" + name) == content) << name;
  }
  EXPECT_EQ(NamesIn(checkpoints), names);
  Complete(Command("refused", true));
  ExpectSameBits("refused");
}

INSTANTIATE_TEST_SUITE_P(
    All, KilledRun,
    ::testing::Values(Kind{"train", false, {"model.gguf", "best.gguf", "tokenizer.gguf"}},
                      Kind{
                          "finetune", true, {"adapter_model.safetensors", "adapter_config.json"}}));

// A file system that is truly full, where this process may mount one.
TEST(FullDisk, KeepsEarlierCheckpointsAndGoesOnWhenThereIsRoom) {
  TinyRun run("full");
  const std::string disk = run / "disk";
  fs::create_directories(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=28m") != 0) {
    GTEST_SKIP() << "no permission to mount a tmpfs here";
  }
  struct Unmount {
    std::string path;
    ~Unmount() { umount2(path.c_str(), MNT_DETACH); }
  } unmount{disk};
  ChildProcess plain(run.Train("plain", false), run.log());
  ASSERT_EQ(plain.Wait(), 0) << plain.Output();
  ChildProcess full(run.Train("disk/out", false), run.log());
  EXPECT_EQ(full.Wait(), 1);
  const std::string said = full.Output();
  EXPECT_NE(said.find("No space left on device"), std::string::npos) << said;
  EXPECT_NE(said.find("the last good checkpoint is"), std::string::npos) << said;
  const Files kept = NamesIn(disk + "/out/checkpoints");
  EXPECT_EQ(kept.size(), 2u);
  EXPECT_TRUE(std::none_of(kept.begin(), kept.end(), IsTemporary));
  auto newest = ReadNewestCheckpoint(disk + "/out/checkpoints");
  ASSERT_TRUE(newest.ok()) << newest.status().message();
  EXPECT_EQ(newest->file.path(), NewestCheckpointPath(disk + "/out/checkpoints"));
  *newest = {};
  ASSERT_EQ(mount("tmpfs", disk.c_str(), "tmpfs", MS_REMOUNT, "size=100m"), 0);
  ChildProcess rest(run.Train("disk/out", true), run.log());
  ASSERT_EQ(rest.Wait(), 0) << rest.Output();
  EXPECT_TRUE(Content(run / "plain/model.gguf") == Content(disk + "/out/model.gguf"));
}

// The plan printed first is checked against what the system counted.
TEST(MemoryPlan, HoldsForTheWholeRun) {
  if (INK_SANITIZED) GTEST_SKIP() << "sanitizers need memory of their own";
  TinyRun run("plan");
  ChildProcess train(run.Train("whole", false), run.log());
  ASSERT_EQ(train.Wait(), 0) << train.Output();
  auto check = [](const std::string& said) {
    double planned = 0, peak = 0;
    const size_t at = said.find("memory planned ");
    ASSERT_NE(at, std::string::npos) << said;
    ASSERT_EQ(std::sscanf(said.c_str() + at, "memory planned %lf MiB, peak of the process %lf MiB",
                          &planned, &peak),
              2);
    EXPECT_LE(std::abs(peak - planned), std::max(16.0, 0.03 * planned)) << said;
    EXPECT_EQ(said.find("more than planned"), std::string::npos) << said;
    // Printed before the first step, with its parts.
    for (const char* part : {"gradients: ", "optimizer: ", "activations: ", "loss: ", "total: "}) {
      EXPECT_LT(said.find(part), said.find("peak arithmetic")) << part;
    }
  };
  check(train.Output());
  ChildProcess finetune(run.Finetune("tuned", false), run.log());
  ASSERT_EQ(finetune.Wait(), 0) << finetune.Output();
  check(finetune.Output());
}

}  // namespace
}  // namespace ink
