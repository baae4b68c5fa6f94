// Blocks of the prefix cache in files, so that they outlive their memory and the process.
//
// A file holds one block of one layer group with everything that decides what it is: the scope
// (model, adapter, tenant, cache type), the group, and the token ids of the whole prefix up to the
// block's end. It is found by a hash of these, and used only after all of them were compared and
// the checksum was right. Files are hostile input.
//
// A file is 64 bytes of header (disk_store.cc), the scope's four texts, the token ids, the content.
// The directory belongs to one process at a time (a lock file); only names of the store's own form
// are read or removed in it. Files hold what people wrote: they are readable by their owner alone.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "cache/types.h"

namespace ink {

struct DiskStoreStats {
  int64_t files = 0;
  int64_t bytes = 0;  // of all files
  int64_t max_bytes = 0;
  int64_t hits = 0;        // blocks read and used
  int64_t read_bytes = 0;  // of their contents
  int64_t written = 0;     // blocks
  int64_t written_bytes = 0;
  int64_t dropped = 0;     // not written: the queue was full, or the disk
  int64_t rejected = 0;    // files removed since they were damaged
  int64_t host_bytes = 0;  // queue and index
  bool writable = true;
};

/// Thread-safe. Files are written by a thread of its own and read by the caller.
class DiskStore {
 public:
  /// One line for people; called from any thread.
  using LogFn = std::function<void(const std::string& line)>;

  /// Makes the directory where absent and reads the headers of what is there; files that are
  /// damaged are removed, with a line each. Errors: kIo, kUnavailable (another process has it),
  /// kInvalidArgument (max_bytes < 1).
  static Result<std::unique_ptr<DiskStore>> Open(const std::string& directory, int64_t max_bytes,
                                                 LogFn log);
  /// Writes what is queued.
  ~DiskStore();
  DiskStore(const DiskStore&) = delete;
  DiskStore& operator=(const DiskStore&) = delete;

  /// Whether a file with this hash is there. O(prefix).
  bool Has(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group) const;
  /// Queues the block for writing, unless it is there already. Where 64 MiB wait, or writing was
  /// given up, it is dropped; with `wait` it waits for the queue instead. Least recently used files
  /// go to keep the bound.
  void Put(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group,
           std::span<const std::byte> content, bool wait);
  /// Reads a block whose scope, group, prefix, size and checksum are right; false, and undefined
  /// `content`, where there is none. A damaged file is removed.
  bool Get(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group,
           std::span<std::byte> content);
  /// Waits until what was queued is written.
  void Flush();

  DiskStoreStats stats() const;

 private:
  struct Key {
    uint64_t high = 0, low = 0;
    auto operator<=>(const Key&) const = default;
  };
  struct Entry {
    int64_t bytes = 0;
    std::list<Key>::iterator used;  // in lru_
  };
  struct Job {
    Key key;
    std::vector<std::byte> file;
    int64_t content_bytes = 0;
  };

  DiskStore(std::string directory, int64_t max_bytes, LogFn log)
      : directory_(std::move(directory)), max_bytes_(max_bytes), log_(std::move(log)) {}
  Status Scan();
  void WriterLoop();
  void Write(Job job);
  void Erase(Key key);  // under mutex_; a copy, since what it is called with may be in the list
  void Reject(const Key& key, const std::string& why);
  std::string PathOf(const Key& key) const;
  static Key KeyOf(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group);

  const std::string directory_;
  const int64_t max_bytes_;
  const LogFn log_;
  int lock_file_ = -1;

  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::map<Key, Entry> entries_;
  std::list<Key> lru_;  // least recently used first
  std::deque<Job> queue_;
  std::set<Key> queued_;  // of queue_ and the one being written
  int64_t queued_bytes_ = 0;
  bool stop_ = false;
  DiskStoreStats stats_;
  std::thread writer_;
};

}  // namespace ink
