// Chat templates: the Jinja language that model files carry, rendered by a sandboxed interpreter.
//
// The language is Jinja2 3.1 as the published templates use it: trim_blocks and lstrip_blocks on,
// autoescape off, loop controls, a transparent {% generation %} block, the functions
// raise_exception(message) and strftime_now(format), and a tojson filter equal to
// json.dumps(value, ensure_ascii=False) with the arguments ensure_ascii, indent, separators and
// sort_keys. A template reads no file, no clock but the one given, and cannot run without end:
// steps, memory, output and recursion are bounded.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace ink {

namespace jinja {
struct Template;
}

/// What one rendering may cost. Over a limit it fails with kOutOfMemory (bytes) or
/// kInvalidArgument (steps, recursion).
struct ChatTemplateLimits {
  uint64_t max_output_bytes = 32u << 20;
  uint64_t max_memory_bytes = 128u << 20;  // all values alive at once
  uint64_t max_steps = 20'000'000;         // evaluated nodes, plus one per 64 bytes copied
  int max_recursion = 1500;                // nested evaluations; a macro call takes a few
  int64_t max_range = 100'000;             // the sandbox's own bound on range()
};

struct ChatTemplateOptions {
  /// The wall clock of strftime_now (tm_year to tm_sec are read); the local time if absent.
  std::optional<std::tm> now;
  ChatTemplateLimits limits;
};

/// A parsed template: immutable, cheap to copy, safe to render from many threads at once.
class ChatTemplate {
 public:
  /// Errors: kInvalidArgument with "line N: ..." where the source is not a template.
  static Result<ChatTemplate> Parse(std::string_view source);

  /// Renders with the variables of `context`, a JSON object: messages, tools, documents,
  /// add_generation_prompt, bos_token, eos_token and whatever else the template reads; key order is
  /// kept. Errors: kInvalidArgument with "line N: ..." (an undefined value used, a call of
  /// raise_exception, whose message is kept), kOutOfMemory.
  Result<std::string> Render(const nlohmann::ordered_json& context,
                             const ChatTemplateOptions& options = {}) const;

  /// The text that was parsed.
  const std::string& source() const;

 private:
  explicit ChatTemplate(std::shared_ptr<const jinja::Template> parsed);

  std::shared_ptr<const jinja::Template> parsed_;
};

/// "2026-01-02T03:04:05" (or a blank for the T) as broken-down time, weekday and day of the year
/// filled in. Errors: kInvalidArgument.
Result<std::tm> ParseLocalTime(std::string_view text);

}  // namespace ink
