// JSON from clients and to them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace ink {

using Json = nlohmann::ordered_json;

/// A JSON object out of a request body. Refused before any of it is built: more than kMaxJsonDepth
/// nested values, or more than kMaxJsonMembers members in one object (a lookup is linear in them).
/// Errors: kInvalidArgument with the byte offset.
Result<Json> ParseJsonBody(std::string_view body);

inline constexpr int kMaxJsonDepth = 128;
inline constexpr int kMaxJsonMembers = 2048;

/// One line of text; what is not UTF-8 becomes U+FFFD.
std::string DumpJson(const Json& value);
/// `text` as a JSON string, quotes included, appended to `out`.
void AppendJsonString(std::string_view text, std::string* out);

}  // namespace ink
