// Checked access to parsed JSON: every message names the place. Internal to src/text.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace ink {

/// A JSON value and where it stands. A view; the document must outlive it.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string path)
      : value_(&value), path_(std::move(path)) {}

  /// Parses without exceptions. Errors: kCorrupt with `name`.
  static Result<nlohmann::json> Parse(std::string_view text, std::string_view name);

  const nlohmann::json& value() const { return *value_; }
  const std::string& path() const { return path_; }
  bool is_null() const { return value_->is_null(); }

  /// A member; nullopt if it is absent or null. This must be an object.
  Result<std::optional<JsonNode>> Find(const char* key) const;
  /// A member that must be there and not null.
  Result<JsonNode> Get(const char* key) const;

  Result<std::string> String() const;
  Result<int64_t> Integer() const;
  Result<double> Number() const;
  Status ExpectObject() const;
  Status ExpectArray() const;
  /// Element `i` of an array.
  JsonNode At(size_t i) const {
    return JsonNode((*value_)[i], path_ + "[" + std::to_string(i) + "]");
  }

  // A member, or `fallback` where it is absent or null.
  Result<std::string> String(const char* key, std::string fallback) const;
  Result<bool> Bool(const char* key, bool fallback) const;
  Result<int64_t> Integer(const char* key, int64_t fallback) const;

  Status Wrong(std::string_view expected) const;

 private:
  const nlohmann::json* value_;
  std::string path_;
};

}  // namespace ink
