// Readers of one tool section each, started behind its opening marker. Internal to
// ChatOutputParser.
#pragma once

#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "text/tool_calls.h"

namespace ink::tool_calls {

using Json = nlohmann::ordered_json;

/// Collects events; neighbouring pieces of one kind are joined.
class Emitter {
 public:
  void Content(std::string_view text) { Text(ChatEvent::Kind::kContent, text, 0); }
  void Reasoning(std::string_view text) { Text(ChatEvent::Kind::kReasoning, text, 0); }
  void Start(std::string_view name, std::string_view id);
  void Arguments(std::string_view text) {
    Text(ChatEvent::Kind::kToolArguments, text, started_ - 1);
  }
  void End();

  bool open() const { return open_; }  // a call was started and not ended
  int started() const { return started_; }
  std::vector<ChatEvent> Take() { return std::exchange(events_, {}); }

 private:
  void Text(ChatEvent::Kind kind, std::string_view text, int index);

  std::vector<ChatEvent> events_;
  int started_ = 0;
  bool open_ = false;
};

/// The request's tools by name.
class ToolSchemas {
 public:
  explicit ToolSchemas(const Json* tools);
  bool empty() const { return names_.empty(); }
  bool Has(std::string_view name) const;
  /// The schema of a parameter, null if unknown.
  const Json* Parameter(std::string_view tool, std::string_view parameter) const;

 private:
  std::vector<std::string> names_;
  std::vector<Json> parameters_;  // the "parameters" schema of each
};

/// A value that a model wrote without JSON quoting, as JSON text: by the schema's type, else JSON
/// if it is JSON (or a Python literal), else a string.
std::string ValueToJson(std::string_view text, const Json* schema);
/// True if the schema admits strings and nothing else.
bool IsStringSchema(const Json* schema);
/// The inside of a JSON string literal.
std::string EscapeJson(std::string_view text);

enum class Outcome {
  kMore,      // everything usable is consumed: more text is needed
  kDone,      // the section is over
  kNotACall,  // it was no tool section; nothing has been emitted
};

struct Progress {
  Outcome outcome;
  size_t consumed;
};

class Reader {
 public:
  virtual ~Reader() = default;
  /// Reads from the front of `text`; with `final` no more follows, and kMore must not be returned.
  virtual Progress Read(std::string_view text, bool final, Emitter* out) = 0;
};

/// The reader for the format's style. `bare`: started without an opening marker.
std::unique_ptr<Reader> MakeReader(const ChatOutputFormat& format, const ToolSchemas& schemas,
                                   bool bare);
std::unique_ptr<Reader> MakeJsonReader(const ChatOutputFormat& format, const ToolSchemas& schemas,
                                       bool bare);
std::unique_ptr<Reader> MakeNamedJsonReader(const ChatOutputFormat& format);
std::unique_ptr<Reader> MakeXmlReader(const ChatOutputFormat& format, const ToolSchemas& schemas);
std::unique_ptr<Reader> MakeWholeReader(const ChatOutputFormat& format, const ToolSchemas& schemas);

// Matching of markers that may be cut off at the end of the text
// ------------------------------------

enum class Match { kNo, kPartial, kYes };
/// Whether `text` begins with `marker`; kPartial if it is too short to tell and more may follow.
Match MatchFront(std::string_view text, std::string_view marker, bool final);
/// Where `marker` may begin: its first occurrence, or the start of a partial one at the end of the
/// text (not if `final`), or text.size(). `*whole` tells which.
size_t FindMarker(std::string_view text, std::string_view marker, bool final, bool* whole);
size_t SkipBlanks(std::string_view text, size_t pos = 0);

/// Follows one JSON value byte by byte, checking no more than its brackets and quotes.
class JsonSpan {
 public:
  enum class State { kInside, kEnded, kBroken };
  /// The state after `c`. kEnded: `c` was the last byte of an object, list or string. A number or
  /// word ends before a delimiter: kEnded with `*includes` false.
  State Next(char c, bool* includes);
  void Reset() { *this = JsonSpan(); }

 private:
  std::string open_;  // closing brackets to come
  bool started_ = false;
  bool in_string_ = false;
  bool escaped_ = false;
  bool word_ = false;
};

/// Python or JSON literals, with bare words as keys and <|"|> as a further quote.
class LiteralReader {
 public:
  explicit LiteralReader(std::string_view text) : text_(text) {}
  /// name(key=value, ...): false if it is none.
  bool Call(std::string* name, Json* arguments);
  bool Value(Json* out, int depth = 0);
  bool Name(std::string* out);  // letters, digits, "_", ".", "-"
  void Blanks() { pos_ = SkipBlanks(text_, pos_); }
  bool Take(std::string_view token);
  bool AtEnd() const { return pos_ >= text_.size(); }

 private:
  bool String(std::string* out);
  bool List(char close, Json* out, int depth);
  bool Dict(Json* out, int depth);
  bool Word(Json* out);

  std::string_view text_;
  size_t pos_ = 0;
};

}  // namespace ink::tool_calls
