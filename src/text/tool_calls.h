// Reads what a chat model writes: answer, reasoning and tool calls told apart while the text
// streams in. Which markers a model uses is read from its own chat template.
//
// The text must contain the model's control tokens ("<|tool_call_begin|>") as text, except the one
// that ended it.
#pragma once

#include <cstddef>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template.h"

namespace ink {

enum class ToolCallStyle {
  kNone,         // the template knows no tools
  kJson,         // JSON object or list with name and arguments, between markers
  kBareJson,     // the same without markers, as the whole message (Llama 3)
  kNamedJson,    // markers around a name, then the arguments as JSON (Mistral, Kimi, DeepSeek)
  kXml,          // <function=name><parameter=key>value</parameter></function> and its kin
  kKeyValue,     // name<arg_key>key</arg_key><arg_value>value</arg_value> (GLM)
  kPythonCalls,  // [name(key='value')] (LFM2)
  kLiteral,      // call:name{key:<|"|>value<|"|>} (Gemma 4)
  kElements,     // every argument an element of its own name (MiniMax M3)
  kChannels,     // gpt-oss: channels and recipients
};

/// The markers of one model family. Fields that a style does not use are empty.
struct ChatOutputFormat {
  std::string name;  // of the family, for logs: "hermes", "mistral", ...
  ToolCallStyle style = ToolCallStyle::kNone;
  std::vector<std::string> openers;  // a tool section begins behind any of them
  std::vector<std::string> closers;  // and ends with one of them, or without
  bool bare_json = false;            // a message that begins as a JSON call is one
  bool keyed = false;                // kJson: {"name": {arguments}}

  // kNamedJson: [call_open] [id id_end] name name_end {json} [call_close]
  std::string call_open;
  std::string call_close;
  std::string id_end;
  std::vector<std::string> name_ends;  // any of them; with an empty one it may be missing

  // kXml: function_open name function_name_end, param_open key [attributes] param_name_end value
  // param_close, function_close. kKeyValue: param_open key param_name_end value_open value
  // param_close.
  std::string function_open;
  std::string function_name_end;
  std::string function_close;
  std::string param_open;
  std::string param_name_end;
  std::string value_open;
  std::string param_close;

  std::string reasoning_open;  // empty: no reasoning is told apart
  std::string reasoning_close;
  std::vector<std::string> dropped;  // markers around the answer that are no part of it
  std::string implied_start;         // text at the prompt's end that the first marker needs
};

/// Finds the format from the template's source, and from what it makes of a conversation with a
/// tool call and reasoning.
ChatOutputFormat DetectChatOutputFormat(const ChatTemplate& chat_template);

/// Whether the rendered prompt ends inside the reasoning, so that the model's text begins there.
bool PromptOpensReasoning(const ChatOutputFormat& format, std::string_view prompt);

struct ChatEvent {
  enum class Kind {
    kContent,        // text: a piece of the answer
    kReasoning,      // text: a piece of the reasoning
    kToolCallStart,  // index, name in text, id where the model gave one
    kToolArguments,  // index, text: a piece of the arguments' JSON
    kToolCallEnd,    // index
  };
  Kind kind = Kind::kContent;
  std::string text;
  int index = 0;  // of the tool call, from 0
  std::string id;
};

struct ChatOutputOptions {
  /// The request's tools, an OpenAI list; null or empty: tool markers are ordinary text. Names and
  /// parameter types are used: a value without quotes is a string where the schema says so, and a
  /// bare JSON object is a call only if it names a tool.
  const nlohmann::ordered_json* tools = nullptr;
  bool reasoning_open = false;  // see PromptOpensReasoning
  bool parse_reasoning = true;  // false: reasoning stays in the answer, markers and all
};

/// One generated message. Never fails: what looks like a call and is none is part of the answer.
/// No part of a marker is ever reported as text; events come as soon as that allows. Not
/// thread-safe.
class ChatOutputParser {
 public:
  ChatOutputParser(ChatOutputFormat format, const ChatOutputOptions& options);
  ~ChatOutputParser();
  ChatOutputParser(ChatOutputParser&&) noexcept;
  ChatOutputParser& operator=(ChatOutputParser&&) noexcept;

  /// The events that `piece`, the next part of the text, completes.
  std::vector<ChatEvent> Feed(std::string_view piece);
  /// The text has ended: what was held back, and the end of a call that was cut off.
  std::vector<ChatEvent> Finish();

  /// Calls started so far.
  int tool_calls() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ink
