// Takes a model's text apart as it comes (reasoning, answer, tool calls) in the form that the
// responses are made of.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serve/json_text.h"
#include "text/tool_calls.h"

namespace ink {

struct ToolCall {
  std::string id;  // the model's own, else "call_..."
  std::string name;
  std::string arguments;  // JSON text of an object
};

/// A part of a call; `index` counts the calls of a choice. The first delta of a call has its id and
/// name, the last one `done`; the pieces of the arguments are between them.
struct ToolCallDelta {
  int index = 0;
  std::string id;
  std::string name;
  std::string arguments;
  bool done = false;
};

struct ParsedText {
  std::string text;
  std::string reasoning;
  std::vector<ToolCallDelta> tool_calls;
  bool empty() const { return text.empty() && reasoning.empty() && tool_calls.empty(); }
};

struct OutputOptions {
  std::shared_ptr<const ChatOutputFormat> format;  // null: the text is the answer
  std::shared_ptr<const Json> tools;               // null: no calls are looked for
  bool starts_in_reasoning = false;                // the prompt has opened it already
};

/// One choice's parser. Text that may still become a mark is held back.
class OutputParser {
 public:
  explicit OutputParser(const OutputOptions& options);

  ParsedText Add(std::string_view text);
  /// The rest; nothing follows.
  ParsedText Flush();
  const std::vector<ToolCall>& tool_calls() const { return calls_; }

 private:
  ParsedText Take(std::vector<ChatEvent> events);

  std::optional<ChatOutputParser> parser_;
  std::vector<ToolCall> calls_;
};

}  // namespace ink
