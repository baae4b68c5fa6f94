#include "serve/json_text.h"

#include <cstdio>
#include <vector>

namespace ink {
namespace {

Status CheckLimits(std::string_view body) {
  std::vector<int> members;  // per open value: members so far, -1 for a list
  bool in_string = false;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    switch (c) {
      case '"':
        in_string = true;
        break;
      case '{':
      case '[':
        members.push_back(c == '{' ? 1 : -1);
        if (members.size() > kMaxJsonDepth) {
          return InvalidArgument("request body: expected at most " + std::to_string(kMaxJsonDepth) +
                                 " nested values, got more at byte " + std::to_string(i));
        }
        break;
      case '}':
      case ']':
        if (!members.empty()) members.pop_back();
        break;
      case ',':
        if (!members.empty() && members.back() > 0 && ++members.back() > kMaxJsonMembers) {
          return InvalidArgument("request body: expected at most " +
                                 std::to_string(kMaxJsonMembers) +
                                 " members in an object, got more at byte " + std::to_string(i));
        }
        break;
      default:
        break;
    }
  }
  return OkStatus();
}

}  // namespace

Result<Json> ParseJsonBody(std::string_view body) {
  INK_RETURN_IF_ERROR(CheckLimits(body));
  try {
    Json value = Json::parse(body);
    if (!value.is_object()) {
      return InvalidArgument(std::string("request body: expected a JSON object, got ") +
                             value.type_name());
    }
    return value;
  } catch (const Json::parse_error& e) {
    return InvalidArgument("request body: not JSON at byte " + std::to_string(e.byte));
  } catch (const Json::exception& e) {
    return InvalidArgument("request body: a number out of the range of a double");
  }
}

std::string DumpJson(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void AppendJsonString(std::string_view text, std::string* out) {
  out->push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          char escape[8];
          std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
          *out += escape;
        } else {
          out->push_back(c);
        }
    }
  }
  out->push_back('"');
}

}  // namespace ink
