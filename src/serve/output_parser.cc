#include "serve/output_parser.h"

#include <utility>

#include "serve/ids.h"
#include "serve/tool_constraint.h"

namespace ink {

OutputParser::OutputParser(const OutputOptions& options) {
  if (options.format == nullptr) return;
  ChatOutputOptions parse;
  parse.tools = options.tools.get();
  parse.reasoning_open = options.starts_in_reasoning;
  parser_.emplace(*options.format, parse);
}

ParsedText OutputParser::Add(std::string_view text) {
  if (parser_) return Take(parser_->Feed(text));
  ParsedText out;
  out.text = text;
  return out;
}

ParsedText OutputParser::Flush() { return parser_ ? Take(parser_->Finish()) : ParsedText(); }

ParsedText OutputParser::Take(std::vector<ChatEvent> events) {
  ParsedText out;
  // The delta of a call that this piece has already touched, or a new one.
  auto delta = [&](int index) -> ToolCallDelta& {
    if (out.tool_calls.empty() || out.tool_calls.back().index != index) {
      out.tool_calls.emplace_back().index = index;
    }
    return out.tool_calls.back();
  };
  for (ChatEvent& event : events) {
    switch (event.kind) {
      case ChatEvent::Kind::kContent:
        out.text += event.text;
        break;
      case ChatEvent::Kind::kReasoning:
        out.reasoning += event.text;
        break;
      case ChatEvent::Kind::kToolCallStart: {
        ToolCallDelta& call = delta(event.index);
        // The id that a constraint had to write down is nobody's.
        const bool own = !event.id.empty() && event.id != kProbeCallId;
        call.id = own ? event.id : "call_" + RandomHex(12);
        call.name = std::move(event.text);
        calls_.push_back({call.id, call.name, ""});
        break;
      }
      case ChatEvent::Kind::kToolArguments:
        delta(event.index).arguments += event.text;
        calls_.back().arguments += event.text;
        break;
      case ChatEvent::Kind::kToolCallEnd: {
        ToolCallDelta& call = delta(event.index);
        call.done = true;
        if (calls_.back().arguments.empty()) {
          call.arguments = calls_.back().arguments = "{}";
        }
        break;
      }
    }
  }
  return out;
}

}  // namespace ink
