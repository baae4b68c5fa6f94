// Helpers that the subcommands share: error messages, reading text, progress, flags read alike.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace CLI {
class App;
}

namespace ink::cli {

/// Writes "inkstone <command>: <message>" to stderr.
void PrintError(std::string_view command, const Status& status);
void PrintError(std::string_view command, std::string_view message);
/// The same for something the user should know that does not stop the work.
void PrintWarning(std::string_view command, std::string_view message);

/// PrintError, then the exit status: kExitUsage for kInvalidArgument, else kExitFailure.
int Fail(std::string_view command, const Status& status);

/// The whole of a file; "-" is standard input. Errors: kNotFound, kIo.
Result<std::string> ReadTextFile(const std::string& path);

/// Calls `line(text, number)` for each line of a file ("-": standard input), numbers from 1, line
/// ends ("\n" or "\r\n") taken off, lines of only white space skipped. Stops at the first failure,
/// which it returns with "path:number" before the message.
Status ForEachLine(const std::string& path,
                   const std::function<Status(std::string_view line, int64_t number)>& line);

/// Writes to stdout; an error (disk full, closed pipe) is a Status. FlushOutput must be called
/// before a command reports success.
Status WriteOutput(std::string_view text);
Status FlushOutput();

/// A byte count as people write it: "4096", "512M", "1.5GiB", "2GB" (K, M, G, T and their iB forms
/// are powers of 1024; KB, MB, GB, TB are powers of 1000).
Result<uint64_t> ParseBytes(std::string_view text);

/// The value of INKSTONE_ISA, empty if unset: the only place where the environment is read.
std::string RequestedIsa();

/// The flags that plan, run, bench, serve and others read alike; values as given, checked by the
/// engine's configuration.
struct EngineFlags {
  std::string model;                  // empty: the embedded default model
  int threads = 0;                    // 0: one per core
  int64_t context = 0;                // 0: the model's own
  int64_t sequences = 0;              // 0: the command's default
  std::string cache_type;             // empty: f16
  uint64_t memory = 0;                // bytes, 0: no cap
  std::vector<std::string> adapters;  // FILE[:scale], in order; see AddAdapterFlag
};
void AddEngineFlags(CLI::App& app, EngineFlags& flags);
/// --adapter, for the commands that run the model.
void AddAdapterFlag(CLI::App& app, EngineFlags& flags);

/// A progress bar on stderr for work that takes over a second: nothing is drawn before that, in a
/// pipe, or after Finish. Not thread-safe.
class ProgressBar {
 public:
  /// `total` in any unit; 0 means unknown (a count is shown instead of a bar).
  ProgressBar(std::string label, uint64_t total);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Update(uint64_t done);
  /// Erases the bar, so that the next line of output starts clean.
  void Finish();

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_;
  uint64_t total_;
  bool on_terminal_;
  bool drawn_ = false;
  Clock::time_point start_;
  Clock::time_point last_draw_;
};

}  // namespace ink::cli
