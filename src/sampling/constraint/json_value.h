// JSON values with exact numbers, for schemas and for the values that uniqueItems compares.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "sampling/constraint/decimal.h"

namespace ink::constraint {

struct JsonMember;

struct JsonValue {
  enum class Kind : uint8_t { kNull, kFalse, kTrue, kNumber, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  Decimal number;
  std::string text;
  std::vector<JsonValue> items;
  std::vector<JsonMember> members;  // in the order of the text

  bool IsObject() const { return kind == Kind::kObject; }
  bool IsArray() const { return kind == Kind::kArray; }
  bool IsString() const { return kind == Kind::kString; }
  bool IsNumber() const { return kind == Kind::kNumber; }
  bool IsBool() const { return kind == Kind::kTrue || kind == Kind::kFalse; }
  const JsonValue* Find(std::string_view key) const;
  /// Compact JSON text.
  std::string ToString() const;

  /// Member order does not matter.
  bool operator==(const JsonValue& other) const;
};

/// A key and its value.
struct JsonMember {
  JsonMember(std::string key, JsonValue value) : first(std::move(key)), second(std::move(value)) {}
  std::string first;
  JsonValue second;
};

/// Errors: kInvalidArgument with the byte offset; nesting deeper than `max_depth`; a duplicate key
/// (no two readers agree about what it means).
Result<JsonValue> ParseJson(std::string_view text, int max_depth = 256);

/// A JSON string literal, escapes only where needed.
std::string QuoteJson(std::string_view text);

}  // namespace ink::constraint
