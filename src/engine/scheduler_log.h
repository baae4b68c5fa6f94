// Records what a scheduler was asked and what it answered, as JSON lines, and replays it. A log
// holds token ids and keys: treat it like the prompts themselves.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "engine/scheduler.h"

namespace ink {

/// One line per input ("op": config, add, cancel, finish, schedule, update, drafts, append,
/// truncate, fork, release_unused, release_cached, clear_prefix_cache), one per output ("out":
/// step), and one per refused input ("error"). Bytes of strings outside of ASCII are written as
/// \u0080..\u00ff, so that any bytes survive. Engine thread only.
class SchedulerLog {
 public:
  /// Receives each line without its newline; must not call the scheduler.
  using Sink = std::function<void(std::string_view line)>;
  explicit SchedulerLog(Sink sink);

  void Config(const SchedulerConfig& config);
  void Add(const SequenceRequest& request);
  void Id(std::string_view op, SequenceId id);
  void Number(std::string_view op, SequenceId id, int64_t n);
  void Tokens(std::string_view op, SequenceId id, std::span<const int32_t> tokens);
  void Fork(SequenceId parent, SequenceId child);
  void Output(const SchedulerOutput& output);
  void Failure(const Status& status);

 private:
  Sink sink_;
  std::string line_;  // reused
};

/// Feeds the inputs of a log (lines separated by '\n', the first is the config) to a new scheduler
/// and returns the log that it writes: equal to `log`, byte for byte, unless the code has changed.
/// Corrupt, naming the line, when a line is not an input of the form above.
Result<std::string> ReplaySchedulerLog(std::string_view log);

}  // namespace ink
