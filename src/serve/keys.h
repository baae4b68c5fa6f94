// API keys: kept as hashes in SQLite, with what each may do and what it has used.
//
// A key is "ink_" + 16 hexadecimal digits that name it + "_" + 64 that are the secret. The secret
// is 256 random bits, so one BLAKE2b hash keeps it as safe as a slow password hash would, and a
// request is checked in a microsecond; hashes are compared in constant time.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "serve/json_text.h"

namespace ink {

/// Limits of a key; 0 and empty lists mean unlimited.
struct KeyPolicy {
  std::vector<std::string> models;
  std::vector<std::string> adapters;
  int64_t requests_per_minute = 0;
  int64_t tokens_per_minute = 0;
  int64_t tokens_per_day = 0;
  int32_t max_concurrency = 0;
  int32_t priority = 0;  // higher is served first
  uint32_t weight = 1;   // fair share
  bool admin = false;    // may manage keys
};

struct KeyInfo {
  std::string id;    // 16 hexadecimal digits
  std::string name;  // for people
  KeyPolicy policy;
  int64_t created = 0;  // Unix seconds
  int64_t revoked = 0;  // 0: in force
  int64_t tokens_today = 0;
};

/// What lists show of a key: the same for people's tools and the admin API.
Json KeyJson(const KeyInfo& info);

/// Thread-safe. Other processes may change the file at the same time.
class KeyStore {
 public:
  /// Creates the file (mode 0600) where absent. Errors: kIo, kCorrupt.
  static Result<std::unique_ptr<KeyStore>> Open(const std::string& path);
  ~KeyStore();

  struct Created {
    KeyInfo info;
    std::string secret;  // the whole key; shown once, never stored
  };
  Result<Created> Create(std::string name, const KeyPolicy& policy);
  /// A new secret for the same key; the old one stops working. Errors: kNotFound.
  Result<Created> Rotate(const std::string& id);
  /// Errors: kNotFound.
  Status Revoke(const std::string& id);
  Result<std::vector<KeyInfo>> List();

  /// Whether any key is in force: every route but /health then needs one.
  Result<bool> HasKeys();
  /// The key's facts, or null where it is unknown, wrong or revoked.
  Result<std::optional<KeyInfo>> Check(std::string_view key);
  /// Adds to the key's tokens of the day (UTC).
  Status AddUsage(const std::string& id, int64_t tokens);

 private:
  struct Impl;
  explicit KeyStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ink
