#include "serve/keys.h"

#include <fcntl.h>
#include <sodium.h>
#include <sqlite3.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "serve/ids.h"
#include "serve/json_text.h"

namespace ink {
namespace {

constexpr int kSchemaVersion = 1;
constexpr const char* kSchema = R"sql(
CREATE TABLE IF NOT EXISTS keys (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, hash BLOB NOT NULL, policy TEXT NOT NULL,
  created INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS usage (
  id TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (id, day));
)sql";

int64_t Today() { return std::time(nullptr) / 86400; }

using Hash = std::array<unsigned char, crypto_generichash_BYTES>;

Hash HashSecret(std::string_view secret) {
  Hash hash;
  crypto_generichash(hash.data(), hash.size(),
                     reinterpret_cast<const unsigned char*>(secret.data()), secret.size(), nullptr,
                     0);
  return hash;
}

void AddPolicy(const KeyPolicy& p, Json& json) {
  json["models"] = p.models;
  json["adapters"] = p.adapters;
  json["requests_per_minute"] = p.requests_per_minute;
  json["tokens_per_minute"] = p.tokens_per_minute;
  json["tokens_per_day"] = p.tokens_per_day;
  json["max_concurrency"] = p.max_concurrency;
  json["priority"] = p.priority;
  json["weight"] = p.weight;
  json["admin"] = p.admin;
}

std::string PolicyText(const KeyPolicy& p) {
  Json json;
  AddPolicy(p, json);
  return DumpJson(json);
}

Result<KeyPolicy> ParsePolicy(const std::string& text) {
  INK_ASSIGN_OR_RETURN(Json json, ParseJsonBody(text));
  KeyPolicy p;
  try {
    p.models = json.value("models", p.models);
    p.adapters = json.value("adapters", p.adapters);
    p.requests_per_minute = json.value("requests_per_minute", p.requests_per_minute);
    p.tokens_per_minute = json.value("tokens_per_minute", p.tokens_per_minute);
    p.tokens_per_day = json.value("tokens_per_day", p.tokens_per_day);
    p.max_concurrency = json.value("max_concurrency", p.max_concurrency);
    p.priority = json.value("priority", p.priority);
    p.weight = json.value("weight", p.weight);
    p.admin = json.value("admin", p.admin);
  } catch (const Json::exception&) {
    return Corrupt("key database: a key's policy is not what this program writes");
  }
  return p;
}

}  // namespace

Json KeyJson(const KeyInfo& info) {
  Json json;
  json["id"] = info.id;
  json["name"] = info.name;
  json["created"] = info.created;
  json["revoked"] = info.revoked == 0 ? Json() : Json(info.revoked);
  AddPolicy(info.policy, json);
  json["tokens_today"] = info.tokens_today;
  return json;
}

// One statement at a time under the mutex: a check costs microseconds, and simplicity is worth more
// than concurrency here.
struct KeyStore::Impl {
  std::mutex mutex;
  sqlite3* db = nullptr;
  std::string path;

  ~Impl() { sqlite3_close_v2(db); }

  Status Error(const char* what) const {
    return IoError("key database '" + path + "': " + what + " failed: " + sqlite3_errmsg(db));
  }
};

namespace {

// A prepared statement that is finalized with the object.
class Statement {
 public:
  Statement(sqlite3* db, const char* sql) {
    ok_ = sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr) == SQLITE_OK;
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(std::string_view text) {
    ok_ = ok_ && sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()),
                                   SQLITE_TRANSIENT) == SQLITE_OK;
    return *this;
  }
  Statement& Bind(int64_t value) {
    ok_ = ok_ && sqlite3_bind_int64(statement_, ++bound_, value) == SQLITE_OK;
    return *this;
  }
  Statement& Bind(const Hash& hash) {
    ok_ = ok_ && sqlite3_bind_blob(statement_, ++bound_, hash.data(), static_cast<int>(hash.size()),
                                   SQLITE_TRANSIENT) == SQLITE_OK;
    return *this;
  }
  /// SQLITE_ROW, SQLITE_DONE or an error.
  int Step() { return ok_ ? sqlite3_step(statement_) : SQLITE_ERROR; }
  std::string Text(int column) {
    const auto* data = sqlite3_column_blob(statement_, column);
    return data == nullptr
               ? std::string()
               : std::string(static_cast<const char*>(data),
                             static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
  }
  int64_t Integer(int column) { return sqlite3_column_int64(statement_, column); }

 private:
  sqlite3_stmt* statement_ = nullptr;
  bool ok_ = false;
  int bound_ = 0;
};

constexpr const char* kColumns =
    "SELECT k.id, k.name, k.policy, k.created, k.revoked, k.hash, "
    "COALESCE((SELECT tokens FROM usage u WHERE u.id = k.id AND u.day = ?), 0) FROM keys k ";

Result<KeyInfo> ReadRow(Statement& row) {
  KeyInfo info;
  info.id = row.Text(0);
  info.name = row.Text(1);
  INK_ASSIGN_OR_RETURN(info.policy, ParsePolicy(row.Text(2)));
  info.created = row.Integer(3);
  info.revoked = row.Integer(4);
  info.tokens_today = row.Integer(6);
  return info;
}

}  // namespace

KeyStore::KeyStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
KeyStore::~KeyStore() = default;

Result<std::unique_ptr<KeyStore>> KeyStore::Open(const std::string& path) {
  if (sodium_init() < 0) return IoError("libsodium could not be initialized");
  // SQLite would create the file readable to all.
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) {
    return IoError("key database '" + path + "': cannot be opened: " + std::strerror(errno));
  }
  close(file);
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  if (sqlite3_open_v2(path.c_str(), &impl->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX,
                      nullptr) != SQLITE_OK) {
    return impl->Error("opening");
  }
  sqlite3_busy_timeout(impl->db, 5000);
  if (sqlite3_exec(impl->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;", nullptr,
                   nullptr, nullptr) != SQLITE_OK) {
    const bool not_database = sqlite3_errcode(impl->db) == SQLITE_NOTADB;
    return not_database ? Corrupt("'" + path + "' is not a key database") : impl->Error("opening");
  }
  int64_t version = 0;
  {
    Statement statement(impl->db, "PRAGMA user_version");
    if (statement.Step() != SQLITE_ROW) return impl->Error("reading its version");
    version = statement.Integer(0);
  }
  if (version > kSchemaVersion) {
    return Unsupported("key database '" + path + "': expected version " +
                       std::to_string(kSchemaVersion) + " at most, got " + std::to_string(version));
  }
  const std::string schema =
      std::string(kSchema) + "PRAGMA user_version=" + std::to_string(kSchemaVersion) + ";";
  if (version < kSchemaVersion &&
      sqlite3_exec(impl->db, schema.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    return impl->Error("creating its tables");
  }
  return std::unique_ptr<KeyStore>(new KeyStore(std::move(impl)));
}

Result<KeyStore::Created> KeyStore::Create(std::string name, const KeyPolicy& policy) {
  Created out;
  out.info.id = RandomHex(8);
  out.info.name = std::move(name);
  out.info.policy = policy;
  out.info.created = std::time(nullptr);
  out.secret = "ink_" + out.info.id + "_" + RandomHex(32);
  std::lock_guard lock(impl_->mutex);
  Statement insert(impl_->db,
                   "INSERT INTO keys (id, name, hash, policy, created) VALUES (?, ?, ?, ?, ?)");
  insert.Bind(out.info.id)
      .Bind(out.info.name)
      .Bind(HashSecret(out.secret))
      .Bind(PolicyText(policy))
      .Bind(out.info.created);
  if (insert.Step() != SQLITE_DONE) return impl_->Error("creating a key");
  return out;
}

Result<KeyStore::Created> KeyStore::Rotate(const std::string& id) {
  Created out;
  out.secret = "ink_" + id + "_" + RandomHex(32);
  std::lock_guard lock(impl_->mutex);
  {
    Statement update(impl_->db, "UPDATE keys SET hash = ? WHERE id = ? AND revoked = 0");
    update.Bind(HashSecret(out.secret)).Bind(id);
    if (update.Step() != SQLITE_DONE) return impl_->Error("rotating a key");
  }
  if (sqlite3_changes(impl_->db) == 0) return NotFound("no key '" + id + "' is in force");
  Statement select(impl_->db, (std::string(kColumns) + "WHERE k.id = ?").c_str());
  select.Bind(Today()).Bind(id);
  if (select.Step() != SQLITE_ROW) return impl_->Error("reading a key");
  INK_ASSIGN_OR_RETURN(out.info, ReadRow(select));
  return out;
}

Status KeyStore::Revoke(const std::string& id) {
  std::lock_guard lock(impl_->mutex);
  Statement update(impl_->db, "UPDATE keys SET revoked = ? WHERE id = ? AND revoked = 0");
  update.Bind(static_cast<int64_t>(std::time(nullptr))).Bind(id);
  if (update.Step() != SQLITE_DONE) return impl_->Error("revoking a key");
  if (sqlite3_changes(impl_->db) == 0) return NotFound("no key '" + id + "' is in force");
  return OkStatus();
}

Result<std::vector<KeyInfo>> KeyStore::List() {
  std::lock_guard lock(impl_->mutex);
  Statement select(impl_->db, (std::string(kColumns) + "ORDER BY k.created, k.id").c_str());
  select.Bind(Today());
  std::vector<KeyInfo> keys;
  int state = 0;
  while ((state = select.Step()) == SQLITE_ROW) {
    INK_ASSIGN_OR_RETURN(KeyInfo info, ReadRow(select));
    keys.push_back(std::move(info));
  }
  if (state != SQLITE_DONE) return impl_->Error("listing keys");
  return keys;
}

Result<bool> KeyStore::HasKeys() {
  std::lock_guard lock(impl_->mutex);
  Statement select(impl_->db, "SELECT EXISTS (SELECT 1 FROM keys)");
  if (select.Step() != SQLITE_ROW) return impl_->Error("reading keys");
  return select.Integer(0) != 0;
}

Result<std::optional<KeyInfo>> KeyStore::Check(std::string_view key) {
  constexpr size_t kIdDigits = 16, kSecretDigits = 64;
  const Hash hash = HashSecret(key.substr(0, 256));
  if (key.size() != 4 + kIdDigits + 1 + kSecretDigits || !key.starts_with("ink_")) {
    return std::optional<KeyInfo>();
  }
  std::lock_guard lock(impl_->mutex);
  Statement select(impl_->db, (std::string(kColumns) + "WHERE k.id = ?").c_str());
  select.Bind(Today()).Bind(key.substr(4, kIdDigits));
  const int state = select.Step();
  if (state == SQLITE_DONE) return std::optional<KeyInfo>();
  if (state != SQLITE_ROW) return impl_->Error("reading a key");
  const std::string stored = select.Text(5);
  if (stored.size() != hash.size() || sodium_memcmp(stored.data(), hash.data(), hash.size()) != 0) {
    return std::optional<KeyInfo>();
  }
  INK_ASSIGN_OR_RETURN(KeyInfo info, ReadRow(select));
  if (info.revoked != 0) return std::optional<KeyInfo>();
  return std::optional<KeyInfo>(std::move(info));
}

Status KeyStore::AddUsage(const std::string& id, int64_t tokens) {
  std::lock_guard lock(impl_->mutex);
  Statement add(impl_->db,
                "INSERT INTO usage (id, day, tokens) VALUES (?, ?, ?) "
                "ON CONFLICT (id, day) DO UPDATE SET tokens = tokens + excluded.tokens");
  add.Bind(id).Bind(Today()).Bind(tokens);
  if (add.Step() != SQLITE_DONE) return impl_->Error("counting tokens");
  return OkStatus();
}

}  // namespace ink
