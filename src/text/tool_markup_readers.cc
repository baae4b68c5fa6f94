// Sections whose arguments are not JSON: kXml and kKeyValue, streamed; kPythonCalls, kLiteral and
// kElements, read as a whole.
#include <algorithm>

#include "text/tool_readers.h"

namespace ink::tool_calls {
namespace {

std::string_view TrimBlanks(std::string_view text) {
  text.remove_prefix(SkipBlanks(text));
  const size_t last = text.find_last_not_of(" \t\r\n");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

// One line end at either side belongs to the markup, not to the value.
std::string_view TrimLineEnds(std::string_view text) {
  if (text.starts_with("\n")) text.remove_prefix(1);
  if (text.ends_with("\n")) text.remove_suffix(1);
  return text;
}

// kXml: function_open name function_name_end (param_open key param_name_end value param_close)*
// function_close, repeated. kKeyValue: name (param_open key param_name_end value_open value
// param_close)* and the section's closer.
class XmlReader final : public Reader {
 public:
  XmlReader(const ChatOutputFormat& format, const ToolSchemas& schemas)
      : format_(format),
        schemas_(schemas),
        key_value_(format.style == ToolCallStyle::kKeyValue),
        state_(key_value_ ? State::kName : State::kBetween) {}

  Progress Read(std::string_view text, bool final, Emitter* out) override {
    size_t pos = 0;
    while (true) {
      const Step step = Take(text.substr(pos), final, out);
      pos += step.consumed;
      if (step.action == Action::kContinue) continue;
      if (step.action == Action::kWait) {
        if (!final) return {Outcome::kMore, pos};
        if (!committed_) return {Outcome::kNotACall, pos};
        CloseCall(out);
        return {Outcome::kDone, text.size()};
      }
      if (!committed_) return {Outcome::kNotACall, pos};
      CloseCall(out);
      return {Outcome::kDone, pos};
    }
  }

 private:
  enum class State { kBetween, kName, kBody, kKey, kValueOpen, kValue };
  enum class Action { kContinue, kWait, kEnd };
  struct Step {
    Action action = Action::kContinue;
    size_t consumed = 0;
  };

  Step Take(std::string_view text, bool final, Emitter* out) {
    switch (state_) {
      case State::kBetween:
        return TakeBetween(text, final);
      case State::kName:
        return TakeName(text, final, out);
      case State::kBody:
        return TakeBody(text, final, out);
      case State::kKey:
        return TakeKey(text, out);
      case State::kValueOpen:
        return TakeValueOpen(text, final);
      case State::kValue:
        break;
    }
    return TakeValue(text, final, out);
  }

  // Waits for whichever of `markers` comes first behind blanks: its index and what it took, or -1.
  int Expect(std::string_view text, bool final, std::initializer_list<std::string_view> markers,
             Step* step) {
    const size_t start = SkipBlanks(text);
    bool partial = start == text.size() && !final;
    int index = 0;
    for (const std::string_view marker : markers) {
      const Match match =
          marker.empty() ? Match::kNo : MatchFront(text.substr(start), marker, final);
      if (match == Match::kYes) {
        *step = {Action::kContinue, start + marker.size()};
        return index;
      }
      partial = partial || match == Match::kPartial;
      ++index;
    }
    *step = {partial ? Action::kWait : Action::kEnd, 0};
    return -1;
  }

  // Ends the section with one of its closers, if one is there.
  Step TakeClosers(std::string_view text, bool final) {
    Step step{Action::kEnd, 0};
    for (const std::string& closer : format_.closers) {
      Step candidate;
      if (Expect(text, final, {closer}, &candidate) == 0) return {Action::kEnd, candidate.consumed};
      if (candidate.action == Action::kWait) step = candidate;
    }
    return step;
  }

  Step TakeBetween(std::string_view text, bool final) {
    Step step;
    if (Expect(text, final, {format_.function_open}, &step) == 0) {
      state_ = State::kName;
      return step;
    }
    if (step.action == Action::kWait) {
      // A closer may be what is beginning here, or may be there already.
      const Step closed = TakeClosers(text, final);
      return closed.consumed > 0 ? closed : step;
    }
    return TakeClosers(text, final);
  }

  Step TakeName(std::string_view text, bool final, Emitter* out) {
    constexpr size_t kMaxName = 256;
    // A name ends at its marker, at the line's end, or (without arguments) at the section's end.
    size_t end = std::string_view::npos;
    size_t after = 0;
    const auto consider = [&](std::string_view marker, bool consume) {
      const size_t hit = marker.empty() ? std::string_view::npos : text.find(marker);
      if (hit >= end) return;
      end = hit;
      after = consume ? hit + marker.size() : hit;
    };
    consider(format_.function_name_end, true);
    if (key_value_) {
      consider("\n", true);
      consider(format_.param_open, false);
      for (const std::string& closer : format_.closers) consider(closer, false);
    }
    if (end == std::string_view::npos) {
      if (text.size() > kMaxName || final) return {Action::kEnd, 0};
      return {Action::kWait, 0};
    }
    std::string_view name = TrimBlanks(text.substr(0, end));
    // <invoke name="x" ...>: the name ends at its quote, whatever attributes follow.
    if (name.empty() || name.size() > kMaxName ||
        name.find_first_of("{}<>\" \n") != std::string_view::npos) {
      return {Action::kEnd, 0};
    }
    // "<tool_call>" before ordinary text, or before JSON, is no call.
    if (key_value_ && !schemas_.empty() && !schemas_.Has(name)) return {Action::kEnd, 0};
    name_ = std::string(name);
    out->Start(name_, "");
    committed_ = true;
    parameters_ = 0;
    state_ = State::kBody;
    return {Action::kContinue, after};
  }

  Step TakeBody(std::string_view text, bool final, Emitter* out) {
    Step step;
    const int found = Expect(text, final, {format_.param_open, format_.function_close}, &step);
    if (found == 0) {
      state_ = State::kKey;
      return step;
    }
    if (found == 1) {
      CloseCall(out);
      state_ = State::kBetween;
      return step;
    }
    if (key_value_) {
      if (!format_.function_name_end.empty()) {
        // The name's own marker, where a line end came before it.
        Step marker;
        if (Expect(text, final, {format_.function_name_end}, &marker) == 0) return marker;
        if (marker.action == Action::kWait) step = marker;
      }
      const Step closed = TakeClosers(text, final);
      if (closed.consumed > 0 || step.action != Action::kWait) return closed;
    }
    return step;
  }

  Step TakeKey(std::string_view text, Emitter* out) {
    const size_t end = text.find(format_.param_name_end);
    if (end == std::string_view::npos) {
      constexpr size_t kMaxKey = 512;
      return {text.size() > kMaxKey ? Action::kEnd : Action::kWait, 0};
    }
    std::string_view key = text.substr(0, end);
    // key" string="true: what follows the quote are attributes.
    const size_t quote = key.find('"');
    const std::string_view attributes = quote == std::string_view::npos ? "" : key.substr(quote);
    key = TrimBlanks(key.substr(0, quote));
    schema_ = schemas_.Parameter(name_, key);
    text_value_ = IsStringSchema(schema_);
    if (attributes.find("string=\"true\"") != std::string_view::npos) text_value_ = true;
    if (attributes.find("string=\"false\"") != std::string_view::npos) text_value_ = false;
    out->Arguments((parameters_ == 0 ? "{\"" : ", \"") + EscapeJson(key) + "\": ");
    ++parameters_;
    value_begun_ = false;
    held_line_end_ = false;
    state_ = format_.value_open.empty() ? State::kValue : State::kValueOpen;
    return {Action::kContinue, end + format_.param_name_end.size()};
  }

  Step TakeValueOpen(std::string_view text, bool final) {
    Step step;
    if (Expect(text, final, {format_.value_open}, &step) == 0) state_ = State::kValue;
    return step;
  }

  Step TakeValue(std::string_view text, bool final, Emitter* out) {
    bool whole = false;
    const size_t end = FindMarker(text, format_.param_close, final, &whole);
    if (!text_value_) {
      if (!whole && !final) return {Action::kWait, 0};
      out->Arguments(ValueToJson(TrimLineEnds(text.substr(0, end)), schema_));
    } else {
      std::string_view value = text.substr(0, end);
      if (!StreamText(value, whole || final, out)) return {Action::kWait, 0};
      if (whole) out->Arguments("\"");
    }
    if (!whole) return {Action::kWait, end};
    state_ = State::kBody;
    return {Action::kContinue, end + format_.param_close.size()};
  }

  // Reports a piece of a string value as it comes; a line end is held until more follows. False if
  // there is nothing to take yet.
  bool StreamText(std::string_view value, bool last, Emitter* out) {
    if (!value_begun_) {
      if (value.empty() && !last) return false;
      out->Arguments("\"");
      value_begun_ = true;
      if (value.starts_with("\n")) value.remove_prefix(1);
    }
    std::string text = held_line_end_ && !value.empty() ? "\n" : "";
    if (!value.empty()) held_line_end_ = value.ends_with("\n");
    if (held_line_end_ && !value.empty()) value.remove_suffix(1);
    text += value;
    out->Arguments(EscapeJson(text));
    return true;
  }

  void CloseCall(Emitter* out) {
    if (!out->open()) return;
    // A call that was cut off within a value stays as it is: its arguments are no JSON then.
    if (state_ != State::kValue && state_ != State::kKey && state_ != State::kValueOpen) {
      out->Arguments(parameters_ == 0 ? "{}" : "}");
    }
    out->End();
  }

  const ChatOutputFormat format_;
  const ToolSchemas& schemas_;
  const bool key_value_;
  State state_;
  bool committed_ = false;
  std::string name_;
  int parameters_ = 0;  // of the call under way
  const Json* schema_ = nullptr;
  bool text_value_ = false;
  bool value_begun_ = false;
  bool held_line_end_ = false;
};

struct ParsedCall {
  std::string name;
  Json arguments;
};

// [name(key='value'), ...], or one call without the list.
bool ParsePythonCalls(std::string_view text, std::vector<ParsedCall>* calls) {
  LiteralReader reader(text);
  reader.Blanks();
  const bool list = reader.Take("[");
  while (true) {
    ParsedCall call;
    if (!reader.Call(&call.name, &call.arguments)) return false;
    calls->push_back(std::move(call));
    reader.Blanks();
    if (list && reader.Take("]")) break;
    if (!reader.Take(",")) {
      if (list) return false;
      break;
    }
  }
  reader.Blanks();
  return reader.AtEnd();
}

// call:name{key:value, ...}
bool ParseLiteralCall(std::string_view text, std::vector<ParsedCall>* calls) {
  LiteralReader reader(text);
  reader.Blanks();
  ParsedCall call;
  if (!reader.Take("call:") || !reader.Name(&call.name)) return false;
  if (!reader.Value(&call.arguments) || !call.arguments.is_object()) return false;
  reader.Blanks();
  calls->push_back(std::move(call));
  return reader.AtEnd();
}

// <invoke name="x"><key>value</key>...</invoke>, values nested likewise, lists as <item> elements.
class ElementParser {
 public:
  ElementParser(std::string_view text, const ToolSchemas& schemas)
      : text_(text), schemas_(schemas) {}

  bool Calls(std::vector<ParsedCall>* calls) {
    while (true) {
      pos_ = SkipBlanks(text_, pos_);
      if (pos_ >= text_.size()) return !calls->empty();
      static constexpr std::string_view kInvoke = "<invoke name=\"";
      if (!text_.substr(pos_).starts_with(kInvoke)) return false;
      const size_t start = pos_ + kInvoke.size();
      const size_t end = text_.find("\">", start);
      if (end == std::string_view::npos) return false;
      ParsedCall call;
      call.name = std::string(text_.substr(start, end - start));
      pos_ = end + 2;
      call.arguments = Json::object();
      std::string tag;
      while (Open(&tag)) {
        const Json* schema = schemas_.Parameter(call.name, tag);
        Json value;
        if (!Content(tag, schema, 0, &value)) return false;
        call.arguments[tag] = std::move(value);
      }
      if (!Close("invoke")) return false;
      calls->push_back(std::move(call));
    }
  }

 private:
  // An opening tag behind blanks.
  bool Open(std::string* tag) {
    const size_t start = SkipBlanks(text_, pos_);
    const size_t end = text_.find('>', start);
    if (start >= text_.size() || text_[start] != '<' || end == std::string_view::npos) return false;
    const std::string_view name = text_.substr(start + 1, end - start - 1);
    if (name.empty() || name[0] == '/' || name.find_first_of(" <\n") != std::string_view::npos) {
      return false;
    }
    *tag = std::string(name);
    pos_ = end + 1;
    return true;
  }

  bool Close(std::string_view tag) {
    pos_ = SkipBlanks(text_, pos_);
    const std::string closing = "</" + std::string(tag) + ">";
    if (!text_.substr(pos_).starts_with(closing)) return false;
    pos_ += closing.size();
    return true;
  }

  static const Json* Child(const Json* schema, const char* where, const std::string& name) {
    if (schema == nullptr || !schema->is_object()) return nullptr;
    const auto inner = schema->find(where);
    if (inner == schema->end() || !inner->is_object()) return nullptr;
    if (name.empty()) return &*inner;
    const auto found = inner->find(name);
    return found == inner->end() ? nullptr : &*found;
  }

  // The value of element `tag`, up to and including its closing tag.
  bool Content(const std::string& tag, const Json* schema, int depth, Json* out) {
    if (depth > 50) return false;
    const std::string closing = "</" + tag + ">";
    const size_t value_start = pos_;
    std::string child;
    if (!IsStringSchema(schema) && Open(&child)) {
      const bool list = child == "item";
      *out = list ? Json::array() : Json::object();
      do {
        Json value;
        const Json* inner = list ? Child(schema, "items", "") : Child(schema, "properties", child);
        if (!Content(child, inner, depth + 1, &value)) return false;
        if (list) {
          out->push_back(std::move(value));
        } else {
          (*out)[child] = std::move(value);
        }
      } while (Open(&child));
      return Close(tag);
    }
    const size_t end = text_.find(closing, value_start);
    if (end == std::string_view::npos) return false;
    *out = Json::parse(ValueToJson(text_.substr(value_start, end - value_start), schema), nullptr,
                       /*allow_exceptions=*/false);
    pos_ = end + closing.size();
    return !out->is_discarded();
  }

  std::string_view text_;
  const ToolSchemas& schemas_;
  size_t pos_ = 0;
};

// Sections that are understood once they are complete.
class WholeReader final : public Reader {
 public:
  WholeReader(const ChatOutputFormat& format, const ToolSchemas& schemas)
      : format_(format), schemas_(schemas) {}

  Progress Read(std::string_view text, bool final, Emitter* out) override {
    size_t end = text.size();
    size_t after = text.size();
    bool closed = false;
    for (const std::string& closer : format_.closers) {
      const size_t from = scanned_ - std::min(scanned_, closer.size());
      const size_t hit = text.find(closer, from);
      if (hit == std::string_view::npos || (closed && hit >= end)) continue;
      closed = true;
      end = hit;
      after = hit + closer.size();
    }
    // The text is kept by the caller until it is consumed.
    scanned_ = text.size();
    if (!closed && !final) return {Outcome::kMore, 0};
    std::vector<ParsedCall> calls;
    if (!Parse(text.substr(0, end), &calls)) return {Outcome::kNotACall, 0};
    for (const ParsedCall& call : calls) {
      out->Start(call.name, "");
      out->Arguments(call.arguments.dump(-1, ' ', false, Json::error_handler_t::replace));
      out->End();
    }
    return {Outcome::kDone, after};
  }

 private:
  bool Parse(std::string_view text, std::vector<ParsedCall>* calls) const {
    switch (format_.style) {
      case ToolCallStyle::kPythonCalls:
        return ParsePythonCalls(text, calls);
      case ToolCallStyle::kLiteral:
        return ParseLiteralCall(text, calls);
      default:
        break;
    }
    // MiniMax M3 puts its name before every tag.
    static constexpr std::string_view kPrefix = "]<]minimax[>[";
    std::string plain;
    size_t pos = 0;
    for (size_t hit = 0; (hit = text.find(kPrefix, pos)) != std::string_view::npos;) {
      plain += text.substr(pos, hit - pos);
      pos = hit + kPrefix.size();
    }
    plain += text.substr(pos);
    return ElementParser(plain, schemas_).Calls(calls);
  }

  const ChatOutputFormat format_;
  const ToolSchemas& schemas_;
  size_t scanned_ = 0;  // no closer begins before here, but for its length
};

}  // namespace

std::unique_ptr<Reader> MakeXmlReader(const ChatOutputFormat& format, const ToolSchemas& schemas) {
  return std::make_unique<XmlReader>(format, schemas);
}

std::unique_ptr<Reader> MakeWholeReader(const ChatOutputFormat& format,
                                        const ToolSchemas& schemas) {
  return std::make_unique<WholeReader>(format, schemas);
}

std::unique_ptr<Reader> MakeReader(const ChatOutputFormat& format, const ToolSchemas& schemas,
                                   bool bare) {
  switch (format.style) {
    case ToolCallStyle::kNamedJson:
      return MakeNamedJsonReader(format);
    case ToolCallStyle::kXml:
    case ToolCallStyle::kKeyValue:
      return MakeXmlReader(format, schemas);
    case ToolCallStyle::kPythonCalls:
    case ToolCallStyle::kLiteral:
    case ToolCallStyle::kElements:
      return MakeWholeReader(format, schemas);
    default:
      return MakeJsonReader(format, schemas, bare);
  }
}

}  // namespace ink::tool_calls
