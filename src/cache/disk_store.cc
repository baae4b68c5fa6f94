#include "cache/disk_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace ink {
namespace {

constexpr char kMagic[8] = {'I', 'N', 'K', 'K', 'V', 'B', 'L', 'K'};
constexpr uint32_t kVersion = 1;
constexpr const char* kExtension = ".inkkv";
constexpr const char* kUnfinished = ".inkkv-new";
// What may wait for the disk: a burst of evictions, and little beside the cache itself.
constexpr int64_t kMaxQueuedBytes = int64_t{64} << 20;

// Little-endian, as this machine is.
struct Header {
  char magic[8];
  uint32_t version;
  int32_t group;
  uint32_t scope_bytes;
  uint32_t num_tokens;
  uint64_t content_bytes;
  uint64_t reserved[2];
  uint64_t checksum[2];  // XXH3, 128 bits, of the file with this field zero
};
static_assert(sizeof(Header) == 64);

// Lengths before the texts keep them apart.
std::string ScopeText(const CacheScope& scope) {
  std::string text;
  for (const std::string* part :
       {&scope.model, &scope.adapter, &scope.tenant, &scope.cache_dtype}) {
    text += std::to_string(part->size()) + ":" + *part;
  }
  return text;
}

// Bytes of a whole file, or -1 where the header cannot be one.
int64_t FileBytes(const Header& header) {
  constexpr uint64_t kMaxContent = uint64_t{1} << 40;
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0 || header.version != kVersion ||
      header.content_bytes > kMaxContent) {
    return -1;
  }
  return static_cast<int64_t>(sizeof(Header) + header.scope_bytes +
                              uint64_t{header.num_tokens} * sizeof(int32_t) + header.content_bytes);
}

bool ReadAll(int file, void* out, size_t bytes) {
  auto* at = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = read(file, at, bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

bool WriteAll(int file, const void* from, size_t bytes) {
  const auto* at = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t put = write(file, at, bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    at += put;
    bytes -= static_cast<size_t>(put);
  }
  return true;
}

class OpenFile {
 public:
  OpenFile(const std::string& path, int flags)
      : file_(open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  ~OpenFile() { Close(); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  bool ok() const { return file_ >= 0; }
  int get() const { return file_; }
  bool Close() { return file_ < 0 || close(std::exchange(file_, -1)) == 0; }

 private:
  int file_;
};

}  // namespace

DiskStore::Key DiskStore::KeyOf(const CacheScope& scope, std::span<const int32_t> prefix,
                                int32_t group) {
  const std::string text = ScopeText(scope);
  const uint64_t seed = XXH3_64bits(text.data(), text.size()) + static_cast<uint64_t>(group);
  const XXH128_hash_t hash = XXH3_128bits_withSeed(prefix.data(), prefix.size_bytes(), seed);
  return {hash.high64, hash.low64};
}

std::string DiskStore::PathOf(const Key& key) const {
  char name[40];
  std::snprintf(name, sizeof(name), "%016llx%016llx", static_cast<unsigned long long>(key.high),
                static_cast<unsigned long long>(key.low));
  return directory_ + "/" + name + kExtension;
}

Result<std::unique_ptr<DiskStore>> DiskStore::Open(const std::string& directory, int64_t max_bytes,
                                                   LogFn log) {
  if (max_bytes < 1) {
    return InvalidArgument("KV directory '" + directory +
                           "': expected a bound of 1 byte or more, got " +
                           std::to_string(max_bytes));
  }
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return IoError("KV directory '" + directory + "': cannot be made: " + error.message());
  }
  std::unique_ptr<DiskStore> store(new DiskStore(directory, max_bytes, std::move(log)));
  const std::string lock = directory + "/inkkv.lock";
  store->lock_file_ = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (store->lock_file_ < 0) {
    return IoError("'" + lock + "': cannot be opened: " + std::strerror(errno));
  }
  if (flock(store->lock_file_, LOCK_EX | LOCK_NB) != 0) {
    return Unavailable("KV directory '" + directory + "': another process is using it");
  }
  INK_RETURN_IF_ERROR(store->Scan());
  store->writer_ = std::thread([s = store.get()] { s->WriterLoop(); });
  return store;
}

DiskStore::~DiskStore() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (writer_.joinable()) writer_.join();
  if (lock_file_ >= 0) close(lock_file_);
}

Status DiskStore::Scan() {
  struct Found {
    Key key;
    int64_t bytes;
    std::filesystem::file_time_type used;
  };
  std::vector<Found> found;
  std::error_code error;
  std::filesystem::directory_iterator it(directory_, error), end;
  std::vector<std::filesystem::path> paths;
  for (; !error && it != end; it.increment(error)) paths.push_back(it->path());
  if (error) return IoError("KV directory '" + directory_ + "': " + error.message());
  for (const std::filesystem::path& path : paths) {
    const std::string name = path.filename().string();
    if (name.ends_with(kUnfinished) && name.size() == 32 + std::strlen(kUnfinished)) {
      std::filesystem::remove(path, error);  // of a process that was killed
      continue;
    }
    Key key;
    unsigned long long high = 0, low = 0;
    if (!name.ends_with(kExtension) || name.size() != 32 + std::strlen(kExtension) ||
        std::sscanf(name.c_str(), "%16llx%16llx", &high, &low) != 2) {
      continue;  // not ours
    }
    key = {high, low};
    if (PathOf(key) != directory_ + "/" + name) continue;
    Header header;
    bool good = false;
    int64_t bytes = 0;
    {
      OpenFile file(path.string(), O_RDONLY | O_NOFOLLOW);
      struct stat info {};
      good = file.ok() && fstat(file.get(), &info) == 0 && S_ISREG(info.st_mode) &&
             ReadAll(file.get(), &header, sizeof(header)) && FileBytes(header) == info.st_size;
      bytes = info.st_size;
    }
    if (!good) {
      Reject(key, "not a block of this version, or cut short");
      continue;
    }
    found.push_back({key, bytes, std::filesystem::last_write_time(path, error)});
  }
  std::sort(found.begin(), found.end(),
            [](const Found& a, const Found& b) { return a.used < b.used; });
  std::lock_guard lock(mutex_);
  for (const Found& f : found) {
    entries_[f.key] = {f.bytes, lru_.insert(lru_.end(), f.key)};
    stats_.bytes += f.bytes;
  }
  while (stats_.bytes > max_bytes_) Erase(lru_.front());
  return OkStatus();
}

void DiskStore::Erase(Key key) {
  auto found = entries_.find(key);
  if (found == entries_.end()) return;
  stats_.bytes -= found->second.bytes;
  lru_.erase(found->second.used);
  const std::string path = PathOf(key);
  entries_.erase(found);
  unlink(path.c_str());
}

void DiskStore::Reject(const Key& key, const std::string& why) {
  const std::string path = PathOf(key);
  {
    std::lock_guard lock(mutex_);
    ++stats_.rejected;
    Erase(key);
  }
  unlink(path.c_str());
  if (log_) log_("KV file '" + path + "' was removed: " + why);
}

bool DiskStore::Has(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group) const {
  const Key key = KeyOf(scope, prefix, group);
  std::lock_guard lock(mutex_);
  return entries_.contains(key);
}

void DiskStore::Put(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group,
                    std::span<const std::byte> content, bool wait) {
  Job job;
  job.key = KeyOf(scope, prefix, group);
  const std::string text = ScopeText(scope);
  const size_t size = sizeof(Header) + text.size() + prefix.size_bytes() + content.size();
  {
    std::unique_lock lock(mutex_);
    auto room = [&] {
      return !stats_.writable || queued_bytes_ == 0 ||
             queued_bytes_ + static_cast<int64_t>(size) <= kMaxQueuedBytes;
    };
    if (wait) idle_.wait(lock, room);
    if (auto found = entries_.find(job.key); found != entries_.end()) {
      lru_.splice(lru_.end(), lru_, found->second.used);
      return;
    }
    if (queued_.contains(job.key)) return;
    if (!stats_.writable || !room() || static_cast<int64_t>(size) > max_bytes_) {
      ++stats_.dropped;
      return;
    }
    queued_.insert(job.key);
    queued_bytes_ += static_cast<int64_t>(size);
  }
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kVersion;
  header.group = group;
  header.scope_bytes = static_cast<uint32_t>(text.size());
  header.num_tokens = static_cast<uint32_t>(prefix.size());
  header.content_bytes = content.size();
  job.content_bytes = static_cast<int64_t>(content.size());
  job.file.resize(size);
  std::byte* at = job.file.data();
  auto add = [&](const void* from, size_t bytes) {
    std::memcpy(at, from, bytes);
    at += bytes;
  };
  add(&header, sizeof(header));
  add(text.data(), text.size());
  add(prefix.data(), prefix.size_bytes());
  add(content.data(), content.size());
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void DiskStore::WriterLoop() {
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    Write(std::move(job));
  }
}

void DiskStore::Write(Job job) {
  const auto size = static_cast<int64_t>(job.file.size());
  bool writable = true;
  {
    std::lock_guard lock(mutex_);
    writable = stats_.writable;
    while (writable && !lru_.empty() && stats_.bytes + size > max_bytes_) Erase(lru_.front());
  }
  int problem = 0;
  if (writable) {
    // Here, not in Put, so that the engine's thread does not pay for it.
    Header header;
    std::memcpy(&header, job.file.data(), sizeof(header));
    const XXH128_hash_t hash = XXH3_128bits(job.file.data(), job.file.size());
    header.checksum[0] = hash.low64;
    header.checksum[1] = hash.high64;
    std::memcpy(job.file.data(), &header, sizeof(header));
    const std::string path = PathOf(job.key);
    const std::string unfinished =
        path.substr(0, path.size() - std::strlen(kExtension)) + kUnfinished;
    OpenFile file(unfinished, O_WRONLY | O_CREAT | O_TRUNC);
    // No fsync: what a power failure leaves half-written fails its checksum.
    if (!file.ok() || !WriteAll(file.get(), job.file.data(), job.file.size()) || !file.Close() ||
        rename(unfinished.c_str(), path.c_str()) != 0) {
      problem = errno;
      unlink(unfinished.c_str());
    }
  }
  // Said before the block leaves the queue: whoever flushes may count on it.
  if (problem != 0 && log_) {
    log_("KV directory '" + directory_ + "': " + std::strerror(problem) +
         "; no further block is written, those in it are still read");
  }
  {
    std::lock_guard lock(mutex_);
    queued_.erase(job.key);
    queued_bytes_ -= size;
    if (!writable || problem != 0) {
      ++stats_.dropped;
      stats_.writable = false;
    } else {
      entries_[job.key] = {size, lru_.insert(lru_.end(), job.key)};
      stats_.bytes += size;
      ++stats_.written;
      stats_.written_bytes += job.content_bytes;
    }
  }
  idle_.notify_all();
}

bool DiskStore::Get(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group,
                    std::span<std::byte> content) {
  const Key key = KeyOf(scope, prefix, group);
  {
    std::lock_guard lock(mutex_);
    auto found = entries_.find(key);
    if (found == entries_.end()) return false;
    lru_.splice(lru_.end(), lru_, found->second.used);
  }
  const std::string text = ScopeText(scope);
  Header header;
  std::string stored_text(text.size(), 0);
  std::vector<int32_t> stored_tokens(prefix.size());
  {
    OpenFile file(PathOf(key), O_RDWR | O_NOFOLLOW);
    if (!file.ok() || !ReadAll(file.get(), &header, sizeof(header)) || FileBytes(header) < 0) {
      Reject(key, "its header cannot be read");
      return false;
    }
    if (header.group != group || header.scope_bytes != text.size() ||
        header.num_tokens != prefix.size() || header.content_bytes != content.size()) {
      // Something else with the same hash, or made with other block sizes.
      return false;
    }
    if (!ReadAll(file.get(), stored_text.data(), stored_text.size()) ||
        !ReadAll(file.get(), stored_tokens.data(), prefix.size_bytes()) ||
        !ReadAll(file.get(), content.data(), content.size())) {
      Reject(key, "it is cut short");
      return false;
    }
    (void)futimens(file.get(), nullptr);  // the order of use survives a restart
  }
  const uint64_t low = std::exchange(header.checksum[0], 0);
  const uint64_t high = std::exchange(header.checksum[1], 0);
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  XXH3_128bits_update(&state, &header, sizeof(header));
  XXH3_128bits_update(&state, stored_text.data(), stored_text.size());
  XXH3_128bits_update(&state, stored_tokens.data(), prefix.size_bytes());
  XXH3_128bits_update(&state, content.data(), content.size());
  const XXH128_hash_t hash = XXH3_128bits_digest(&state);
  if (hash.low64 != low || hash.high64 != high) {
    Reject(key, "its checksum is wrong");
    return false;
  }
  if (stored_text != text || !std::equal(prefix.begin(), prefix.end(), stored_tokens.begin())) {
    return false;
  }
  std::lock_guard lock(mutex_);
  ++stats_.hits;
  stats_.read_bytes += static_cast<int64_t>(content.size());
  return true;
}

void DiskStore::Flush() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return queued_.empty(); });
}

DiskStoreStats DiskStore::stats() const {
  std::lock_guard lock(mutex_);
  DiskStoreStats out = stats_;
  out.files = static_cast<int64_t>(entries_.size());
  out.max_bytes = max_bytes_;
  // A node of a tree and one of a list for each file.
  out.host_bytes = queued_bytes_ + out.files * 128;
  return out;
}

}  // namespace ink
