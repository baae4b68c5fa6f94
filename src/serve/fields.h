// The fields of a request body: which there are, what becomes of each, and reading them with errors
// that name them. A route's table is also what openapi.json says about it.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serve/api_error.h"
#include "serve/json_text.h"

namespace ink {

enum class FieldUse {
  kHonoured,
  kNoEffect,     // accepted: has no effect on the text
  kUnsupported,  // known, and an error unless its value is `neutral`, which asks for nothing
};

struct Field {
  std::string_view name;
  FieldUse use = FieldUse::kHonoured;
  std::string_view schema;        // JSON Schema of the value, for openapi.json
  std::string_view neutral = {};  // kUnsupported: JSON of the value that changes nothing
};

using FieldTable = std::span<const Field>;

/// Unknown fields of `body` become a warning each ("unknown field 'x' was ignored"), or the error
/// where `strict`; unsupported ones with a value that is neither null nor neutral are errors.
ApiStatus CheckFields(const Json& body, FieldTable table, bool strict,
                      std::vector<std::string>* warnings);

/// Reads members of one object. A member that is absent or null leaves the output alone; the first
/// bad one is remembered, and later calls do nothing.
class FieldReader {
 public:
  /// `path` goes before names in errors: "" or "options.".
  explicit FieldReader(const Json& object, std::string path = "")
      : object_(object), path_(std::move(path)) {}

  /// Null where absent or null.
  const Json* Find(std::string_view name) const;

  // Each returns whether a good value was there.
  bool Bool(std::string_view name, bool* out);
  bool Number(std::string_view name, double* out,
              double low = -std::numeric_limits<double>::infinity(),
              double high = std::numeric_limits<double>::infinity());
  bool Integer(std::string_view name, int64_t* out,
               int64_t low = std::numeric_limits<int64_t>::min(),
               int64_t high = std::numeric_limits<int64_t>::max());
  bool Int32(std::string_view name, int32_t* out, int32_t low, int32_t high = INT32_MAX);
  bool String(std::string_view name, std::string* out);
  /// One of `allowed`.
  bool Choice(std::string_view name, std::span<const std::string_view> allowed, std::string* out);
  /// A string or a list of strings.
  bool Strings(std::string_view name, std::vector<std::string>* out, bool allow_single = true);
  bool Integers(std::string_view name, std::vector<int32_t>* out);
  const Json* Object(std::string_view name);
  const Json* List(std::string_view name);

  void Fail(std::string_view name, std::string message);
  ApiStatus error() const { return error_; }
  bool ok() const { return !error_.has_value(); }

 private:
  bool FailType(std::string_view name, std::string_view expected, const Json& value);

  const Json& object_;
  std::string path_;
  ApiStatus error_;
};

}  // namespace ink
