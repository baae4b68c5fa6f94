// What a tool call looks like in a model's own format, as a constraint: read from what the chat
// template makes of a conversation with one, so that a call that is asked for is written just as
// the model was trained to write it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "sampling/constraint/constraint.h"
#include "serve/json_text.h"
#include "text/chat_template.h"
#include "text/tool_calls.h"

namespace ink {

/// The id of the call in the conversation that templates are shown; Mistral's want nine characters.
inline constexpr std::string_view kProbeCallId = "callzq123";

struct ToolCallShape {
  enum class Arguments { kNone, kJson, kTagged };
  Arguments arguments = Arguments::kNone;  // kNone: calls cannot be constrained
  // A call is begin, arguments, end; kProbeName stands for the name in both.
  std::string begin;
  std::string end;
  std::string trigger;   // the opening mark that `begin` starts with; empty: the bare form
  bool repeats = false;  // calls may follow each other
  // kTagged: each parameter is param_open key (value_open | string_open) value param_close.
  std::string param_open;
  std::string value_open;   // before anything but a string
  std::string string_open;  // before a string
  std::string param_close;

  /// The call of a tool of this name whose arguments satisfy `parameters`. Errors: kUnsupported
  /// where the form or the schema cannot be enforced, with the reason.
  Result<ConstraintSpec::Tag> Tag(std::string_view name, const Json& parameters) const;
};

/// `end_texts`: the texts of the tokens that end generation. A shape is given only if the parser
/// reads a call in it back.
ToolCallShape FindToolCallShape(const ChatTemplate& chat_template, const ChatOutputFormat& format,
                                std::string_view bos, std::string_view eos,
                                const std::vector<std::string>& end_texts);

}  // namespace ink
