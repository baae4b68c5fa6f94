#include "text/chat_template.h"

#include <cstdio>
#include <new>
#include <nlohmann/json.hpp>

#include "text/jinja/ast.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"
#include "text/jinja/utf8.h"

namespace ink {
namespace {

Status ToStatus(const jinja::TemplateError& error) {
  return Status(error.code, "line " + std::to_string(error.line) + ": " + error.message);
}

}  // namespace

ChatTemplate::ChatTemplate(std::shared_ptr<const jinja::Template> parsed)
    : parsed_(std::move(parsed)) {}

Result<ChatTemplate> ChatTemplate::Parse(std::string_view source) {
  if (!jinja::IsValidUtf8(source)) {
    return InvalidArgument("the chat template is not valid UTF-8");
  }
  try {
    return ChatTemplate(std::shared_ptr<const jinja::Template>(jinja::Parse(source)));
  } catch (const jinja::TemplateError& error) {
    return ToStatus(error);
  } catch (const std::bad_alloc&) {
    return OutOfMemory("no memory left while parsing a chat template of " +
                       std::to_string(source.size()) + " bytes");
  }
}

Result<std::string> ChatTemplate::Render(const nlohmann::ordered_json& context,
                                         const ChatTemplateOptions& options) const {
  if (!context.is_object()) {
    return InvalidArgument(std::string("a chat template's context must be an object, not ") +
                           context.type_name());
  }
  try {
    jinja::Interpreter interpreter(*parsed_, options);
    return interpreter.Render(context);
  } catch (const jinja::TemplateError& error) {
    return ToStatus(error);
  } catch (const std::bad_alloc&) {
    return OutOfMemory("no memory left while rendering a chat template");
  }
}

const std::string& ChatTemplate::source() const { return parsed_->source; }

Result<std::tm> ParseLocalTime(std::string_view text) {
  std::tm time{};
  int end = 0;
  const std::string copy(text);
  const int fields =
      std::sscanf(copy.c_str(), "%4d-%2d-%2d%*1[T ]%2d:%2d:%2d%n", &time.tm_year, &time.tm_mon,
                  &time.tm_mday, &time.tm_hour, &time.tm_min, &time.tm_sec, &end);
  const Status bad =
      InvalidArgument("'" + copy + "' is not a time of the form 2026-01-02T03:04:05");
  if (fields != 6 || static_cast<size_t>(end) != copy.size()) return bad;
  const std::tm wanted = time;
  time.tm_year -= 1900;
  time.tm_mon -= 1;
  // timegm fills in the weekday, and moves a date that does not exist to one that does.
  if (timegm(&time) == -1 && wanted.tm_year != 1969) return bad;
  if (time.tm_year + 1900 != wanted.tm_year || time.tm_mon + 1 != wanted.tm_mon ||
      time.tm_mday != wanted.tm_mday || time.tm_hour != wanted.tm_hour ||
      time.tm_min != wanted.tm_min || time.tm_sec != wanted.tm_sec) {
    return bad;
  }
  return time;
}

}  // namespace ink
