// Sections whose arguments are JSON: kJson and kBareJson, kNamedJson.
#include <algorithm>

#include "text/tool_readers.h"

namespace ink::tool_calls {
namespace {

bool IsBlank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

bool IsOneOf(std::string_view key, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), key) != names.end();
}

// The text of a JSON string literal, quotes included.
std::string Unquote(const std::string& literal) {
  const Json parsed = Json::parse(literal, nullptr, /*allow_exceptions=*/false);
  return parsed.is_string() ? parsed.get<std::string>() : std::string();
}

// What ends a section, blanks before it included; without one of the closers the section ends
// where it is.
Progress ReadClosers(std::string_view text, const std::vector<std::string>& closers, bool final) {
  const size_t start = SkipBlanks(text);
  bool partial = start == text.size() && !final && !closers.empty();
  for (const std::string& closer : closers) {
    switch (MatchFront(text.substr(start), closer, final)) {
      case Match::kYes:
        return {Outcome::kDone, start + closer.size()};
      case Match::kPartial:
        partial = true;
        break;
      case Match::kNo:
        break;
    }
  }
  return {partial ? Outcome::kMore : Outcome::kDone, 0};
}

// {"name": ..., "arguments": {...}}, one or several, in a list or not, possibly in a code fence.
class JsonReader final : public Reader {
 public:
  JsonReader(const ChatOutputFormat& format, const ToolSchemas& schemas, bool bare)
      : closers_(format.closers), keyed_(format.keyed), schemas_(schemas), bare_(bare) {}

  Progress Read(std::string_view text, bool final, Emitter* out) override {
    size_t pos = 0;
    while (pos < text.size() && state_ != State::kTrailer) {
      const Step step = Take(text.substr(pos), final, out);
      if (step.broken) return Broken(pos, out);
      if (step.wait) break;
      pos += step.consumed;
    }
    if (state_ == State::kTrailer) {
      const Progress trailer = ReadTrailer(text.substr(pos), final);
      return {trailer.outcome, pos + trailer.consumed};
    }
    if (!final) return {Outcome::kMore, pos};
    // The text was cut off within the call.
    if (!committed_) return {Outcome::kNotACall, pos};
    out->End();
    return {Outcome::kDone, pos};
  }

 private:
  enum class State {
    kStart,    // before the first bracket
    kBetween,  // in the list, before an object
    kKey,      // in an object, before a key or the end
    kColon,
    kValue,   // before a value
    kString,  // within a string that is taken whole: key, name, id
    kArguments,
    kSkipped,  // within a value of no interest
    kTrailer,
  };
  struct Step {
    size_t consumed = 1;
    bool broken = false;
    bool wait = false;
  };

  Progress Broken(size_t pos, Emitter* out) {
    if (!committed_) return {Outcome::kNotACall, pos};
    // A call has been reported: it ends here, and the rest is text again.
    out->End();
    return {Outcome::kDone, pos};
  }

  // One byte or token of everything but the trailer.
  Step Take(std::string_view text, bool final, Emitter* out) {
    const char c = text[0];
    switch (state_) {
      case State::kStart: {
        if (IsBlank(c)) return {};
        const Match fence = MatchFront(text, "```json", final);
        if (fence == Match::kPartial) return {.wait = true};
        if (fence == Match::kYes) return {.consumed = 7};
        if (c == '[' && !in_list_) {
          in_list_ = true;
          state_ = State::kBetween;
          return {};
        }
        return c == '{' ? BeginCall() : Step{.broken = true};
      }
      case State::kBetween:
        if (IsBlank(c) || c == ',') return {};
        if (c == ']') {
          if (!committed_) return {.broken = true};  // an empty list is no call
          state_ = State::kTrailer;
          return {};
        }
        return c == '{' ? BeginCall() : Step{.broken = true};
      case State::kKey:
        if (IsBlank(c) || c == ',') return {};
        if (c == '}') return EndObject(out);
        if (c != '"') return {.broken = true};
        state_ = State::kString;
        reading_key_ = true;
        literal_ = c;
        span_.Reset();
        return Advance(c);
      case State::kColon:
        if (IsBlank(c)) return {};
        if (c != ':') return {.broken = true};
        state_ = State::kValue;
        return {};
      case State::kValue:
        return IsBlank(c) ? Step{} : BeginValue(c, out);
      case State::kString:
        literal_ += c;
        return Advance(c, out);
      case State::kArguments:
      case State::kSkipped:
        return ContinueValue(text, out);
      case State::kTrailer:
        break;
    }
    return {.broken = true};
  }

  Step BeginCall() {
    state_ = State::kKey;
    name_.clear();
    id_.clear();
    arguments_.clear();
    started_ = has_arguments_ = false;
    nested_ = 0;
    return {};
  }

  // Feeds a byte of a whole string; acts on its end.
  Step Advance(char c, Emitter* out = nullptr) {
    bool includes = false;
    const JsonSpan::State state = span_.Next(c, &includes);
    if (state == JsonSpan::State::kBroken) return {.broken = true};
    if (state != JsonSpan::State::kEnded) return {};
    const std::string text = Unquote(literal_);
    if (reading_key_) {
      key_ = text;
      // Before anything is reported, the keys decide whether this is a call at all.
      if (!committed_ && !keyed_ && !IsCallKey(key_)) return {.broken = true};
      state_ = State::kColon;
      reading_key_ = false;
      return {};
    }
    state_ = State::kKey;
    if (IsOneOf(key_, {"id", "tool_call_id"})) {
      id_ = text;
      return {};
    }
    name_ = text;
    return MaybeStart(out);
  }

  static bool IsCallKey(std::string_view key) {
    return IsOneOf(key, {"name", "tool_name", "function", "type", "id", "tool_call_id", "arguments",
                         "parameters", "args"});
  }

  Step BeginValue(char c, Emitter* out) {
    span_.Reset();
    if (keyed_ && nested_ == 0) {
      name_ = key_;
      return BeginArguments(c, out);
    }
    if (key_ == "function" && c == '{') {
      ++nested_;
      state_ = State::kKey;
      return {};
    }
    if (c == '"' && IsOneOf(key_, {"name", "tool_name", "function", "id", "tool_call_id"})) {
      state_ = State::kString;
      literal_ = c;
      return Advance(c, out);
    }
    if (IsOneOf(key_, {"arguments", "parameters", "args"})) return BeginArguments(c, out);
    state_ = State::kSkipped;
    return Skip(c);
  }

  Step BeginArguments(char c, Emitter* out) {
    state_ = State::kArguments;
    has_arguments_ = true;
    // Arguments in a string are JSON within JSON: decoded as a whole.
    quoted_ = c == '"';
    literal_.clear();
    const Step step = MaybeStart(out);
    if (step.broken) return step;
    return Argument(c, out);
  }

  // Reports the call once its name is known, and what was read of its arguments.
  Step MaybeStart(Emitter* out) {
    if (started_ || name_.empty()) return {};
    if (bare_ && !schemas_.Has(name_)) return {.broken = true};
    // The id may follow the arguments; it is reported only where it comes first, as all models do.
    if (!has_arguments_) return {};
    out->Start(name_, id_);
    committed_ = started_ = true;
    out->Arguments(arguments_);
    arguments_.clear();
    return {};
  }

  void Report(std::string_view text, Emitter* out) {
    if (started_) {
      out->Arguments(text);
    } else {
      arguments_ += text;
    }
  }

  Step Argument(char c, Emitter* out) {
    bool includes = false;
    const JsonSpan::State state = span_.Next(c, &includes);
    if (state == JsonSpan::State::kBroken) return {.broken = true};
    if (includes) {
      if (quoted_) {
        literal_ += c;
      } else {
        Report(std::string_view(&c, 1), out);
      }
    }
    if (state == JsonSpan::State::kEnded) {
      if (quoted_) Report(Unquote(literal_), out);
      state_ = State::kKey;
      if (keyed_) {
        // Every key of the object is a call.
        out->End();
        started_ = has_arguments_ = false;
      }
    }
    return {.consumed = includes ? size_t{1} : size_t{0}};
  }

  Step ContinueValue(std::string_view text, Emitter* out) {
    return state_ == State::kArguments ? Argument(text[0], out) : Skip(text[0]);
  }

  Step Skip(char c) {
    bool includes = false;
    const JsonSpan::State state = span_.Next(c, &includes);
    if (state == JsonSpan::State::kBroken) return {.broken = true};
    if (state == JsonSpan::State::kEnded) state_ = State::kKey;
    return {.consumed = includes ? size_t{1} : size_t{0}};
  }

  Step EndObject(Emitter* out) {
    if (nested_ > 0) {
      --nested_;
      return {};
    }
    if (!keyed_) {
      if (name_.empty()) return {.broken = true};
      if (!has_arguments_) {
        has_arguments_ = true;
        arguments_ = "{}";
      }
      const Step step = MaybeStart(out);
      if (step.broken) return step;
      out->End();
    } else if (!committed_) {
      return {.broken = true};
    }
    state_ = in_list_ ? State::kBetween : State::kTrailer;
    return {};
  }

  // Behind the last bracket: a fence's end, a further object, or the section's end.
  Progress ReadTrailer(std::string_view text, bool final) {
    const size_t start = SkipBlanks(text);
    const std::string_view rest = text.substr(start);
    if (rest.empty() && !final) return {Outcome::kMore, 0};
    if (!in_list_ && !rest.empty() && (rest[0] == '{' || rest[0] == ';' || rest[0] == ',')) {
      // Several calls one after the other.
      const size_t next = SkipBlanks(rest, rest[0] == '{' ? 0 : 1);
      if (next >= rest.size() && !final) return {Outcome::kMore, 0};
      if (next < rest.size() && rest[next] == '{') {
        state_ = State::kStart;
        return {Outcome::kMore, start + next};
      }
    }
    std::vector<std::string> closers = closers_;
    closers.emplace_back("```");
    return ReadClosers(text, closers, final);
  }

  const std::vector<std::string> closers_;
  const bool keyed_;
  const ToolSchemas& schemas_;
  const bool bare_;

  State state_ = State::kStart;
  JsonSpan span_;
  bool in_list_ = false;
  bool committed_ = false;  // something has been reported
  bool reading_key_ = false;
  bool quoted_ = false;
  int nested_ = 0;  // inside of "function": {...}
  std::string literal_;
  std::string key_;
  // The call under way.
  std::string name_;
  std::string id_;
  std::string arguments_;  // read before the name
  bool started_ = false;
  bool has_arguments_ = false;
};

// [call_open] [id id_end] name name_end {arguments} [call_close]
class NamedJsonReader final : public Reader {
 public:
  explicit NamedJsonReader(const ChatOutputFormat& format) : format_(format) {
    if (format_.call_open.empty()) state_ = State::kHead;
  }

  Progress Read(std::string_view text, bool final, Emitter* out) override {
    size_t pos = 0;
    while (true) {
      const std::string_view rest = text.substr(pos);
      const Progress step = Take(rest, final, out);
      pos += step.consumed;
      if (step.outcome == Outcome::kMore && step.consumed == 0) {
        if (!final) return {Outcome::kMore, pos};
        out->End();
        return {committed_ ? Outcome::kDone : Outcome::kNotACall, committed_ ? text.size() : pos};
      }
      if (step.outcome != Outcome::kMore) {
        out->End();
        const bool done = committed_ || step.outcome == Outcome::kDone;
        return {done ? Outcome::kDone : Outcome::kNotACall, pos};
      }
    }
  }

 private:
  enum class State { kBetween, kHead, kArguments, kAfter };

  // Progress with kMore and nothing consumed: more text is needed.
  Progress Take(std::string_view text, bool final, Emitter* out) {
    switch (state_) {
      case State::kBetween:
        return TakeBetween(text, final);
      case State::kHead:
        return TakeHead(text, final, out);
      case State::kArguments:
        return TakeArguments(text, out);
      case State::kAfter:
        break;
    }
    return TakeAfter(text, final);
  }

  // Before a call within the section: the next call's marker, or the section's end.
  Progress TakeBetween(std::string_view text, bool final) {
    const size_t start = SkipBlanks(text);
    const std::string_view rest = text.substr(start);
    if (rest.empty() && !final) return {Outcome::kMore, 0};
    const Match open = MatchFront(rest, format_.call_open, final);
    if (open == Match::kYes) {
      state_ = State::kHead;
      return {Outcome::kMore, start + format_.call_open.size()};
    }
    for (const std::string& closer : format_.closers) {
      const Match close = MatchFront(rest, closer, final);
      if (close == Match::kYes) return {Outcome::kDone, start + closer.size()};
      if (close == Match::kPartial) return {Outcome::kMore, 0};
    }
    return {open == Match::kPartial ? Outcome::kMore : Outcome::kDone, 0};
  }

  // Everything up to the "{" of the arguments.
  Progress TakeHead(std::string_view text, bool final, Emitter* out) {
    // A name is short; a model that has lost the thread is not.
    constexpr size_t kMaxHead = 512;
    const size_t brace = text.find('{');
    if (brace == std::string_view::npos) {
      return {text.size() > kMaxHead || final ? Outcome::kNotACall : Outcome::kMore, 0};
    }
    std::string name(text.substr(0, brace));
    if (name.size() > kMaxHead) return {Outcome::kNotACall, 0};
    std::string id;
    if (!format_.id_end.empty()) {
      const size_t end = name.find(format_.id_end);
      if (end != std::string::npos) {
        id = Trimmed(name.substr(0, end));
        name.erase(0, end + format_.id_end.size());
      }
    }
    bool ended = format_.name_ends.empty();
    size_t name_end = name.size();
    for (const std::string& marker : format_.name_ends) {
      const size_t hit = marker.empty() ? name.size() : name.find(marker);
      if (hit != std::string::npos) {
        ended = true;
        if (marker == "[CALL_ID]") {
          const size_t id_start = hit + marker.size();
          id = Trimmed(name.substr(id_start, name.find("[ARGS]", id_start) - id_start));
        }
        name_end = std::min(name_end, hit);
      }
    }
    if (!ended) return {Outcome::kNotACall, 0};
    std::string tail = name.substr(name_end);
    name = Trimmed(name.substr(0, name_end));
    if (name == "function" && !tail.empty()) {
      // DeepSeek R1 writes the kind of tool where later models have the name:
      // function<sep>name, a fence, the arguments.
      for (const std::string& marker : format_.name_ends) {
        if (tail.starts_with(marker)) tail.erase(0, marker.size());
      }
      const std::string second = Trimmed(tail.substr(0, tail.find("```")));
      if (!second.empty()) name = second;
    }
    if (name.empty() || name.find_first_of(" \n<[{") != std::string::npos) {
      return {Outcome::kNotACall, 0};
    }
    // Kimi's names carry a prefix and a number, which together are the call's id.
    if (name.starts_with("functions.")) {
      id = name;
      name.erase(0, 10);
      name.erase(std::min(name.size(), name.rfind(':')));
    }
    out->Start(name, id);
    committed_ = true;
    state_ = State::kArguments;
    span_.Reset();
    return {Outcome::kMore, brace};
  }

  static std::string Trimmed(std::string text) {
    text.erase(0, SkipBlanks(text));
    text.erase(text.find_last_not_of(" \t\r\n") + 1);
    return text;
  }

  Progress TakeArguments(std::string_view text, Emitter* out) {
    for (size_t i = 0; i < text.size(); ++i) {
      bool includes = false;
      const JsonSpan::State state = span_.Next(text[i], &includes);
      if (state == JsonSpan::State::kInside) continue;
      const size_t end = state == JsonSpan::State::kEnded && includes ? i + 1 : i;
      out->Arguments(text.substr(0, end));
      if (state == JsonSpan::State::kBroken) return {Outcome::kDone, end};
      out->End();
      state_ = State::kAfter;
      return {Outcome::kMore, end};
    }
    out->Arguments(text);
    return {Outcome::kMore, text.size()};
  }

  // Behind the arguments: a fence's end and the call's closing marker.
  Progress TakeAfter(std::string_view text, bool final) {
    size_t start = SkipBlanks(text);
    const Match fence = MatchFront(text.substr(start), "```", final);
    if (fence == Match::kPartial) return {Outcome::kMore, 0};
    if (fence == Match::kYes) start = SkipBlanks(text, start + 3);
    if (format_.call_open.empty()) {
      // Each call is a section of its own.
      if (format_.call_close.empty()) return {Outcome::kDone, 0};
      const Match close = MatchFront(text.substr(start), format_.call_close, final);
      if (close == Match::kPartial) return {Outcome::kMore, 0};
      return {Outcome::kDone, close == Match::kYes ? start + format_.call_close.size() : 0};
    }
    const Match close = MatchFront(text.substr(start), format_.call_close, final);
    if (close == Match::kPartial) return {Outcome::kMore, 0};
    state_ = State::kBetween;
    if (close == Match::kYes) start += format_.call_close.size();
    // Something must be consumed, or the state must have changed, for the loop to go on.
    if (start == 0) return TakeBetween(text, final);
    return {Outcome::kMore, start};
  }

  const ChatOutputFormat format_;
  State state_ = State::kBetween;
  JsonSpan span_;
  bool committed_ = false;
};

}  // namespace

std::unique_ptr<Reader> MakeJsonReader(const ChatOutputFormat& format, const ToolSchemas& schemas,
                                       bool bare) {
  return std::make_unique<JsonReader>(format, schemas, bare);
}

std::unique_ptr<Reader> MakeNamedJsonReader(const ChatOutputFormat& format) {
  return std::make_unique<NamedJsonReader>(format);
}

}  // namespace ink::tool_calls
