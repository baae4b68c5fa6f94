// Takes a model's text apart as it comes: reasoning, answer, tool calls.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "serve/json_text.h"

namespace ink {

struct ToolCall {
  std::string id;  // "call_..."
  std::string name;
  std::string arguments;  // JSON text of an object
};

/// A part of a call; `index` counts the calls of a choice. The first delta of a call has its name.
struct ToolCallDelta {
  int index = 0;
  std::string id;
  std::string name;
  std::string arguments;
};

struct ParsedText {
  std::string text;
  std::string reasoning;
  std::vector<ToolCallDelta> tool_calls;
  bool empty() const { return text.empty() && reasoning.empty() && tool_calls.empty(); }
};

struct OutputOptions {
  std::string reasoning_begin;  // e.g. "<think>"; empty: reasoning is not told apart
  std::string reasoning_end;
  bool starts_in_reasoning = false;  // the prompt has opened it already
  bool tools = false;                // calls are looked for
  std::string tool_begin;            // e.g. "<tool_call>"; empty: the whole text may be a call
  std::string tool_end;
  std::vector<std::string> tool_names;  // what counts as a call
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
  enum class Mode { kStart, kReasoning, kAnswer, kTool, kMaybeJson };

  void Advance(bool final, ParsedText* out);
  bool TakeCalls(std::string_view text, ParsedText* out);
  void AddCall(const Json& call, ParsedText* out);

  const OutputOptions options_;
  Mode mode_;
  std::string pending_;
  std::vector<ToolCall> calls_;
  bool skip_blank_ = false;  // white space after a mark is the mark's
};

/// The marks that a chat template uses; `prompt` is the rendered text.
OutputOptions DetectOutputOptions(std::string_view chat_template, std::string_view prompt,
                                  const Json& tools);

}  // namespace ink
