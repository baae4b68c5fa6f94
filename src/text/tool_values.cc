// Events, schemas, values and markers that the readers share.
#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "text/tool_readers.h"

namespace ink::tool_calls {

void Emitter::Text(ChatEvent::Kind kind, std::string_view text, int index) {
  if (text.empty()) return;
  if (!events_.empty() && events_.back().kind == kind && events_.back().index == index) {
    events_.back().text += text;
    return;
  }
  events_.push_back({kind, std::string(text), index, ""});
}

void Emitter::Start(std::string_view name, std::string_view id) {
  End();
  events_.push_back(
      {ChatEvent::Kind::kToolCallStart, std::string(name), started_, std::string(id)});
  ++started_;
  open_ = true;
}

void Emitter::End() {
  if (!open_) return;
  events_.push_back({ChatEvent::Kind::kToolCallEnd, "", started_ - 1, ""});
  open_ = false;
}

ToolSchemas::ToolSchemas(const Json* tools) {
  if (tools == nullptr || !tools->is_array()) return;
  for (const Json& tool : *tools) {
    if (!tool.is_object()) continue;
    const Json& function =
        tool.contains("function") && tool["function"].is_object() ? tool["function"] : tool;
    const auto name = function.find("name");
    if (name == function.end() || !name->is_string()) continue;
    names_.push_back(name->get<std::string>());
    const auto parameters = function.find("parameters");
    parameters_.push_back(parameters != function.end() ? *parameters : Json());
  }
}

bool ToolSchemas::Has(std::string_view name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

const Json* ToolSchemas::Parameter(std::string_view tool, std::string_view parameter) const {
  const auto place = std::find(names_.begin(), names_.end(), tool);
  if (place == names_.end()) return nullptr;
  const Json& schema = parameters_[static_cast<size_t>(place - names_.begin())];
  if (!schema.is_object()) return nullptr;
  const auto properties = schema.find("properties");
  if (properties == schema.end() || !properties->is_object()) return nullptr;
  const auto found = properties->find(std::string(parameter));
  return found == properties->end() ? nullptr : &*found;
}

namespace {

// Whether the schema's "type" names `type`.
bool Admits(const Json& schema, std::string_view type) {
  const auto declared = schema.find("type");
  if (declared == schema.end()) return false;
  if (declared->is_string()) return declared->get_ref<const std::string&>() == type;
  if (!declared->is_array()) return false;
  return std::any_of(declared->begin(), declared->end(), [&](const Json& one) {
    return one.is_string() && one.get_ref<const std::string&>() == type;
  });
}

std::string Dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Whether a parsed value may stand for a parameter of this schema.
bool Fits(const Json& value, const Json* schema) {
  if (schema == nullptr || !schema->is_object() || !schema->contains("type")) return true;
  switch (value.type()) {
    case Json::value_t::null:
      return Admits(*schema, "null") || !Admits(*schema, "string");
    case Json::value_t::boolean:
      return Admits(*schema, "boolean");
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return Admits(*schema, "integer") || Admits(*schema, "number");
    case Json::value_t::number_float:
      return Admits(*schema, "number") || Admits(*schema, "integer");
    case Json::value_t::array:
      return Admits(*schema, "array");
    case Json::value_t::object:
      return Admits(*schema, "object");
    default:
      return Admits(*schema, "string");
  }
}

}  // namespace

bool IsStringSchema(const Json* schema) {
  if (schema == nullptr || !schema->is_object()) return false;
  const auto declared = schema->find("type");
  return declared != schema->end() && *declared == "string";
}

std::string EscapeJson(std::string_view text) {
  const std::string quoted = Dump(Json(text));
  return quoted.substr(1, quoted.size() - 2);
}

std::string ValueToJson(std::string_view text, const Json* schema) {
  if (!IsStringSchema(schema)) {
    const size_t start = SkipBlanks(text);
    const size_t last = text.find_last_not_of(" \t\r\n");
    const std::string_view trimmed =
        last == std::string_view::npos ? "" : text.substr(start, last + 1 - start);
    const Json parsed = Json::parse(trimmed, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_discarded() && Fits(parsed, schema)) return std::string(trimmed);
    // Some templates print lists and dicts as Python does, and models learn to.
    LiteralReader literal(trimmed);
    Json value;
    if (literal.Value(&value)) {
      literal.Blanks();
      if (literal.AtEnd() && Fits(value, schema)) return Dump(value);
    }
  }
  return Dump(Json(text));
}

Match MatchFront(std::string_view text, std::string_view marker, bool final) {
  if (text.starts_with(marker)) return Match::kYes;
  return !final && marker.starts_with(text) ? Match::kPartial : Match::kNo;
}

size_t FindMarker(std::string_view text, std::string_view marker, bool final, bool* whole) {
  const size_t hit = text.find(marker);
  *whole = hit != std::string_view::npos;
  if (*whole) return hit;
  if (final || marker.empty()) return text.size();
  for (size_t length = std::min(text.size(), marker.size() - 1); length > 0; --length) {
    if (marker.starts_with(text.substr(text.size() - length))) return text.size() - length;
  }
  return text.size();
}

size_t SkipBlanks(std::string_view text, size_t pos) {
  while (pos < text.size() &&
         (text[pos] == ' ' || text[pos] == '\n' || text[pos] == '\r' || text[pos] == '\t')) {
    ++pos;
  }
  return pos;
}

JsonSpan::State JsonSpan::Next(char c, bool* includes) {
  *includes = true;
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
      return open_.empty() ? State::kEnded : State::kInside;
    }
    return State::kInside;
  }
  if (word_ && open_.empty() &&
      (c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n' || c == '\r' || c == '\t')) {
    *includes = false;
    return State::kEnded;
  }
  // Nothing real nests deeper; a model in a loop does.
  constexpr size_t kMaxNesting = 1000;
  switch (c) {
    case '{':
    case '[':
      if (word_ && open_.empty()) return State::kBroken;
      if (open_.size() >= kMaxNesting) return State::kBroken;
      open_.push_back(c == '{' ? '}' : ']');
      break;
    case '}':
    case ']':
      if (open_.empty() || open_.back() != c) return State::kBroken;
      open_.pop_back();
      if (open_.empty()) return State::kEnded;
      break;
    case '"':
      if (word_ && open_.empty()) return State::kBroken;
      in_string_ = true;
      break;
    default:
      if (open_.empty()) {
        if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '+' && c != '.') {
          return State::kBroken;
        }
        word_ = true;
      }
  }
  started_ = true;
  return State::kInside;
}

// Literals ----------------------------------------------------------------------------------------

bool LiteralReader::Take(std::string_view token) {
  if (!text_.substr(pos_).starts_with(token)) return false;
  pos_ += token.size();
  return true;
}

bool LiteralReader::Name(std::string* out) {
  const size_t start = pos_;
  while (pos_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[pos_])) != 0 ||
                                 text_[pos_] == '_' || text_[pos_] == '.' || text_[pos_] == '-' ||
                                 static_cast<unsigned char>(text_[pos_]) >= 0x80)) {
    ++pos_;
  }
  *out = std::string(text_.substr(start, pos_ - start));
  return pos_ > start;
}

bool LiteralReader::String(std::string* out) {
  static constexpr std::string_view kGemmaQuote = "<|\"|>";
  if (Take(kGemmaQuote)) {
    const size_t end = text_.find(kGemmaQuote, pos_);
    if (end == std::string_view::npos) return false;
    *out = std::string(text_.substr(pos_, end - pos_));
    pos_ = end + kGemmaQuote.size();
    return true;
  }
  const char quote = text_[pos_++];
  for (; pos_ < text_.size() && text_[pos_] != quote; ++pos_) {
    char c = text_[pos_];
    if (c == '\\' && pos_ + 1 < text_.size()) {
      c = text_[++pos_];
      if (c == 'u' || c == 'x') {
        // As JSON reads it, so that surrogate pairs become one character.
        size_t end = pos_ + (c == 'u' ? 5 : 3);
        std::string escape = c == 'u' ? "\\u" : "\\u00";
        escape += text_.substr(pos_ + 1, end - pos_ - 1);
        if (c == 'u' && text_.substr(end).starts_with("\\u")) {
          escape += text_.substr(end, 6);
          end += 6;
        }
        const Json parsed = Json::parse("\"" + escape + "\"", nullptr, false);
        if (!parsed.is_string()) return false;
        *out += parsed.get_ref<const std::string&>();
        pos_ = end - 1;
        continue;
      }
      static constexpr std::string_view kLetters = "nrtbf";
      static constexpr std::string_view kMeanings = "\n\r\t\b\f";
      const size_t letter = kLetters.find(c);
      if (letter != std::string_view::npos) {
        c = kMeanings[letter];
      } else if (c != quote && c != '\\' && c != '/' && c != '"' && c != '\'') {
        *out += '\\';
      }
    }
    *out += c;
  }
  if (pos_ >= text_.size()) return false;
  ++pos_;
  return true;
}

bool LiteralReader::List(char close, Json* out, int depth) {
  *out = Json::array();
  while (true) {
    Blanks();
    if (Take(std::string_view(&close, 1))) return true;
    if (!out->empty()) {
      if (!Take(",")) return false;
      Blanks();
      if (Take(std::string_view(&close, 1))) return true;
    }
    Json item;
    if (!Value(&item, depth + 1)) return false;
    out->push_back(std::move(item));
  }
}

bool LiteralReader::Dict(Json* out, int depth) {
  *out = Json::object();
  for (bool first = true;; first = false) {
    Blanks();
    if (Take("}")) return true;
    if (!first) {
      if (!Take(",")) return false;
      Blanks();
      if (Take("}")) return true;
    }
    std::string key;
    const std::string_view rest = text_.substr(pos_);
    const bool quoted =
        rest.starts_with("\"") || rest.starts_with("'") || rest.starts_with("<|\"|>");
    if (quoted ? !String(&key) : !Name(&key)) return false;
    Blanks();
    if (!Take(":")) return false;
    Json value;
    if (!Value(&value, depth + 1)) return false;
    (*out)[key] = std::move(value);
  }
}

bool LiteralReader::Word(Json* out) {
  std::string word;
  const bool plus = Take("+");
  if (!Name(&word)) return false;
  // "1e+5": the sign is no letter of a name.
  if ((word.back() == 'e' || word.back() == 'E') && Take("+")) {
    std::string exponent;
    if (!Name(&exponent)) return false;
    word += "+" + exponent;
  }
  if (word == "True" || word == "true") {
    *out = true;
  } else if (word == "False" || word == "false") {
    *out = false;
  } else if (word == "None" || word == "null") {
    *out = nullptr;
  } else {
    *out = Json::parse(word, nullptr, /*allow_exceptions=*/false);
    if (!out->is_number()) return false;
  }
  return !plus || out->is_number();
}

bool LiteralReader::Value(Json* out, int depth) {
  if (depth > 100) return false;
  Blanks();
  const std::string_view rest = text_.substr(pos_);
  if (rest.empty()) return false;
  if (rest[0] == '"' || rest[0] == '\'' || rest.starts_with("<|\"|>")) {
    std::string text;
    if (!String(&text)) return false;
    *out = std::move(text);
    return true;
  }
  if (Take("[")) return List(']', out, depth);
  if (Take("(")) return List(')', out, depth);
  if (Take("{")) return Dict(out, depth);
  return Word(out);
}

bool LiteralReader::Call(std::string* name, Json* arguments) {
  Blanks();
  if (!Name(name)) return false;
  Blanks();
  if (!Take("(")) return false;
  *arguments = Json::object();
  for (bool first = true;; first = false) {
    Blanks();
    if (Take(")")) return true;
    if (!first) {
      if (!Take(",")) return false;
      Blanks();
      if (Take(")")) return true;
    }
    std::string key;
    if (!Name(&key)) return false;
    Blanks();
    if (!Take("=")) return false;
    Json value;
    if (!Value(&value)) return false;
    (*arguments)[key] = std::move(value);
  }
}

}  // namespace ink::tool_calls
