// Filters on text and numbers.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/string_util.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

template <std::string (*kMap)(std::string_view)>
Value MapText(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("filter", arguments, {});
  interpreter.heap().Step(self.IsString() ? self.Text().size() / 8 : 1);
  return interpreter.TextLike(self, kMap(Str(self)));
}

// Words begin at the start and after any of "-", white space, "(", "{", "[", "<".
std::string TitleWords(std::string_view text) {
  const auto separates = [](char32_t c) {
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || IsSpace(c);
  };
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    size_t end = pos;
    size_t next = pos;
    while (next < text.size() && !separates(NextCodePoint(text, &next))) end = next;
    if (end > pos) {
      size_t first = pos;
      NextCodePoint(text, &first);
      out += ToUpper(text.substr(pos, first - pos));
      out += ToLower(text.substr(first, end - first));
      pos = end;
    } else {
      out += text.substr(pos, next - pos);
      pos = next;
    }
  }
  return out;
}

Value FilterString(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("string", arguments, {});
  return self.IsString() ? self : interpreter.Text(Str(self));
}

Value FilterSafe(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("safe", arguments, {});
  return Value::Markup(interpreter.heap(), Str(self));
}

Value FilterEscape(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("escape", arguments, {});
  return self.IsMarkup() ? self : Value::Markup(interpreter.heap(), Escape(Str(self)));
}

Value FilterForceEscape(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("forceescape", arguments, {});
  return Value::Markup(interpreter.heap(), Escape(Str(self)));
}

Value FilterTrim(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("trim", arguments, {"chars"});
  const std::string text = Str(self);
  if (!parameters.IsSet(0)) return interpreter.TextLike(self, std::string(Strip(text)));
  return interpreter.TextLike(self,
                              std::string(StripSet(text, parameters.Text(0, ""), true, true)));
}

Value FilterReplace(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("replace", arguments, {"old", "new", "count"}, 2);
  const int64_t count = parameters.IsSet(2) ? parameters.Integer(2, -1) : -1;
  return interpreter.Text(
      ReplaceAll(interpreter, Str(self), Str(parameters[0]), Str(parameters[1]), count));
}

Value FilterCenter(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("center", arguments, {"width"});
  return interpreter.TextLike(self, Center(interpreter, Str(self), parameters.Integer(0, 80), " "));
}

Value FilterFormat(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.keywords.empty()) {
    Fail("format cannot take positional and keyword arguments at the same time");
  }
  Value values;
  if (!arguments.keywords.empty()) {
    const auto dict = Make<DictObject>(interpreter.heap());
    for (const auto& [name, value] : arguments.keywords) dict->Set(name, value);
    values = Value::Of(dict);
  } else {
    const Ref<ListObject> tuple = MakeTuple(interpreter.heap());
    for (const Value& value : arguments.positional) tuple->Append(value);
    values = Value::Of(tuple);
  }
  const Value format = self.IsString() ? self : interpreter.Text(Str(self));
  return interpreter.TextLike(self, FormatPercent(interpreter, format, values));
}

Value FilterIndent(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("indent", arguments, {"width", "first", "blank"});
  if (self.IsUndefined()) FailUndefined(self);
  if (!self.IsString()) Fail(std::string("indent needs a str, not ") + TypeName(self));
  std::string indention;
  if (parameters.Has(0) && parameters[0].IsString()) {
    indention = parameters[0].Text();
  } else {
    const int64_t width = std::max<int64_t>(0, parameters.Integer(0, 4));
    interpreter.heap().Check(static_cast<uint64_t>(width));
    indention.assign(static_cast<size_t>(width), ' ');
  }
  const bool blank = parameters.Bool(2, false);
  // A line end is added first, so that a text ending in one gets a last empty line.
  const std::vector<std::string> lines = SplitLines(interpreter.heap(), self.Text() + "\n", false);
  std::string out = parameters.Bool(1, false) ? indention : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) {
      out += '\n';
      if (blank || !lines[i].empty()) out += indention;
    }
    out += lines[i];
    interpreter.heap().Step();
    interpreter.heap().Check(out.size());
  }
  return interpreter.TextLike(self, std::move(out));
}

Value FilterTruncate(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const int64_t length = parameters.Integer(0, 255);
  const std::u32string end = Decode(parameters.Text(2, "..."));
  const int64_t leeway = parameters.IsSet(3) ? parameters.Integer(3, 5) : 5;
  const auto end_length = static_cast<int64_t>(end.size());
  if (length < end_length) {
    Fail("truncate's length must be at least " + std::to_string(end_length) + ", got " +
         std::to_string(length));
  }
  if (leeway < 0) Fail("truncate's leeway must not be negative, got " + std::to_string(leeway));
  if (!self.IsString()) {
    // Whatever has a length that is short enough comes back as it is.
    if (Int{Size(self)} <= Int{length} + leeway) return self;
    Fail(std::string("truncate needs a str, not ") + TypeName(self));
  }
  const std::u32string text = Decode(Str(self));
  if (static_cast<Int>(text.size()) <= Int{length} + leeway) return self;
  std::u32string kept = text.substr(0, static_cast<size_t>(length - end_length));
  if (!parameters.Bool(1, false)) {
    const size_t blank = kept.rfind(U' ');
    if (blank != std::u32string::npos) kept.resize(blank);
  }
  return interpreter.TextLike(self, Encode(kept + end));
}

Value FilterWordwrap(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("wordwrap", arguments,
                              {"width", "break_long_words", "wrapstring", "break_on_hyphens"});
  const int64_t width = parameters.Integer(0, 79);
  if (width <= 0) Fail("wordwrap's width must be positive, got " + std::to_string(width));
  if (self.IsUndefined()) FailUndefined(self);
  if (!self.IsString()) Fail(std::string("wordwrap needs a str, not ") + TypeName(self));
  const std::string separator = parameters.IsSet(2) ? parameters.Text(2, "\n") : "\n";
  std::string out;
  bool first = true;
  interpreter.heap().Step(self.Text().size());
  for (const std::string& line : SplitLines(interpreter.heap(), self.Text(), false)) {
    const std::vector<std::u32string> wrapped =
        WrapText(Decode(line), width, parameters.Bool(1, true), parameters.Bool(3, true));
    if (!first) out += separator;
    first = false;
    for (size_t i = 0; i < wrapped.size(); ++i) {
      if (i > 0) out += separator;
      out += Encode(wrapped[i]);
      interpreter.heap().Check(out.size());
    }
  }
  return interpreter.Text(std::move(out));
}

Value FilterWordcount(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("wordcount", arguments, {});
  const std::string text = Str(self);
  int64_t words = 0;
  bool inside = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = NextCodePoint(text, &pos);
    const bool word = IsAlpha(c) || IsNumeric(c) || c == '_';
    if (word && !inside) ++words;
    inside = word;
  }
  return Value::Integer(words);
}

// URL quoting: unreserved characters and `safe` stay, the rest is %XX.
std::string Quote(std::string_view text, std::string_view safe, bool plus) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
                       (byte >= 'A' && byte <= 'Z') ||
                       std::string_view("_.-~").find(c) != std::string_view::npos ||
                       safe.find(c) != std::string_view::npos;
    if (plain) {
      out += c;
    } else if (plus && c == ' ') {
      out += '+';
    } else {
      char buffer[4];
      std::snprintf(buffer, sizeof(buffer), "%%%02X", byte);
      out += buffer;
    }
  }
  return out;
}

Value FilterUrlencode(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("urlencode", arguments, {});
  if (self.IsString() || !interpreter.IsIterable(self)) {
    return interpreter.Text(Quote(Str(self), "/", false));
  }
  const Value pairs =
      self.Is(Kind::kDict)
          ? Value::Of(Make<ViewObject>(interpreter.heap(), Ref<DictObject>(self.AsDict()),
                                       ViewObject::Part::kItems))
          : self;
  std::string out;
  for (const Value& pair : interpreter.Collect(pairs)) {
    const std::vector<Value> items = interpreter.Collect(pair);
    if (items.size() != 2) Fail("urlencode needs pairs, got " + std::to_string(items.size()));
    if (!out.empty()) out += '&';
    out += Quote(Str(items[0]), "", true) + "=" + Quote(Str(items[1]), "", true);
    interpreter.heap().Check(out.size());
  }
  return interpreter.Text(std::move(out));
}

// The character a simple entity stands for, or an empty string.
std::string EntityText(std::string_view name) {
  if (name == "amp") return "&";
  if (name == "lt") return "<";
  if (name == "gt") return ">";
  if (name == "quot") return "\"";
  if (name == "apos") return "'";
  if (name == "nbsp") return "\xC2\xA0";
  if (name.size() < 2 || name[0] != '#') return "";
  const bool hex = name[1] == 'x' || name[1] == 'X';
  const std::optional<Int> code = ParseInt(name.substr(hex ? 2 : 1), hex ? 16 : 10);
  if (!code.has_value() || *code <= 0 || *code > 0x10FFFF || (*code >= 0xD800 && *code < 0xE000)) {
    return "";
  }
  std::string out;
  AppendUtf8(static_cast<char32_t>(*code), &out);
  return out;
}

std::string UnescapeHtml(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '&') {
      const size_t end = text.substr(0, std::min(text.size(), i + 32)).find(';', i);
      if (end != std::string_view::npos) {
        const std::string character = EntityText(text.substr(i + 1, end - i - 1));
        if (!character.empty()) {
          out += character;
          i = end;
          continue;
        }
      }
    }
    out += text[i];
  }
  return out;
}

// Without `<...>`: everything from each `left` to the next `right`.
std::string RemoveBetween(std::string_view text, std::string_view left, std::string_view right) {
  std::string out;
  size_t pos = 0;
  while (true) {
    const size_t start = text.find(left, pos);
    const size_t end = start == std::string_view::npos ? start : text.find(right, start);
    if (end == std::string_view::npos) break;
    out += text.substr(pos, start - pos);
    pos = end + right.size();
  }
  out += text.substr(pos);
  return out;
}

Value FilterStriptags(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("striptags", arguments, {});
  const std::string text = RemoveBetween(RemoveBetween(Str(self), "<!--", "-->"), "<", ">");
  std::string out;
  for (const std::string& word : SplitWords(interpreter.heap(), text, -1)) {
    if (!out.empty()) out += ' ';
    out += word;
  }
  return interpreter.Text(UnescapeHtml(out));
}

Value FilterXmlattr(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("xmlattr", arguments, {"autospace"});
  if (!self.Is(Kind::kDict)) Fail(std::string("xmlattr needs a dict, not ") + TypeName(self));
  std::string out;
  size_t position = 0;
  for (; DictObject::Entry* entry = self.AsDict()->At(&position); ++position) {
    if (entry->value.IsNone() || entry->value.IsUndefined()) continue;
    const std::string key = Str(entry->key);
    if (key.find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      Fail("invalid character in attribute name " + ReprString(key));
    }
    if (!out.empty()) out += ' ';
    out += Escape(key) + "=\"" +
           (entry->value.IsMarkup() ? entry->value.Text() : Escape(Str(entry->value))) + "\"";
    interpreter.heap().Check(out.size());
  }
  if (!out.empty() && parameters.Bool(0, true)) out.insert(0, " ");
  return interpreter.Text(std::move(out));
}

// Numbers
// -------------------------------------------------------------------------------------------

Int TruncateToInt(double value) {
  if (std::isnan(value)) Fail("cannot convert float NaN to integer");
  if (std::abs(value) >= 1e38) Fail("cannot convert a float this large to an integer");
  return static_cast<Int>(value);
}

Value FilterInt(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("int", arguments, {"default", "base"});
  const Value otherwise = parameters.Has(0) ? parameters[0] : Value::Integer(0);
  if (self.IsUndefined()) FailUndefined(self);
  if (self.IsIntegral()) return Value::Integer(self.AsInt());
  std::optional<double> floating;
  if (self.IsString()) {
    const int64_t base = parameters.Integer(1, 10);
    if (base == 0 || (base >= 2 && base <= 36)) {
      const auto integer = ParseInt(self.Text(), static_cast<int>(base));
      if (integer.has_value()) return Value::Integer(*integer);
    }
    floating = ParseFloat(self.Text());
    if (floating.has_value() && std::isinf(*floating)) return otherwise;
  } else if (self.Is(Kind::kFloat)) {
    floating = self.AsDouble();
  }
  if (!floating.has_value() || std::isnan(*floating)) return otherwise;
  return Value::Integer(TruncateToInt(*floating));
}

Value FilterFloat(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("float", arguments, {"default"});
  if (self.IsUndefined()) FailUndefined(self);
  if (self.IsNumber()) return Value::Float(self.AsDouble());
  if (self.IsString()) {
    const auto number = ParseFloat(self.Text());
    if (number.has_value()) return Value::Float(*number);
  }
  return parameters.Has(0) ? parameters[0] : Value::Float(0);
}

void NeedNumber(const char* filter, const Value& value) {
  if (value.IsUndefined()) FailUndefined(value);
  if (!value.IsNumber()) Fail(std::string(filter) + " needs a number, not " + TypeName(value));
}

Value FilterAbs(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("abs", arguments, {});
  NeedNumber("abs", self);
  if (self.Is(Kind::kFloat)) return Value::Float(std::abs(self.AsDouble()));
  Int value = self.AsInt();
  if (value < 0 && __builtin_sub_overflow(Int{0}, value, &value)) Fail("an integer overflows");
  return Value::Integer(value);
}

Value RoundInt(Int value, int64_t digits) {
  if (digits >= 0) return Value::Integer(value);
  if (digits < -37) return Value::Integer(0);
  Int unit = 1;
  for (int64_t i = digits; i < 0; ++i) unit *= 10;
  Int rest = value % unit;
  if (rest < 0) rest += unit;
  Int rounded = value - rest;
  const bool odd = (rounded / unit) % 2 != 0;
  if (rest > unit - rest || (rest == unit - rest && odd)) rounded += unit;
  return Value::Integer(rounded);
}

Value FilterRound(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("round", arguments, {"precision", "method"});
  const std::string method = parameters.Text(1, "common");
  if (method != "common" && method != "ceil" && method != "floor") {
    Fail("round's method must be common, ceil or floor, not " + ReprString(method));
  }
  NeedNumber("round", self);
  const int64_t precision = parameters.Integer(0, 0);
  if (method == "common") {
    if (self.IsIntegral()) return RoundInt(self.AsInt(), precision);
    return Value::Float(
        RoundFloat(self.AsDouble(), static_cast<int>(std::clamp<int64_t>(precision, -400, 400))));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = self.AsDouble() * scale;
  if (!std::isfinite(scaled)) Fail("round cannot convert the number to an integer");
  // Python rounds to an integer here, which has no negative zero.
  const double rounded = method == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  return Value::Float((rounded + 0.0) / scale);
}

Value FilterFilesizeformat(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("filesizeformat", arguments, {"binary"});
  const bool binary = parameters.Bool(0, false);
  double bytes = 0;
  if (self.IsString()) {
    const auto parsed = ParseFloat(self.Text());
    if (!parsed.has_value()) Fail("filesizeformat needs a number, not " + Repr(self));
    bytes = *parsed;
  } else {
    NeedNumber("filesizeformat", self);
    bytes = self.AsDouble();
  }
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return interpreter.Text("1 Byte");
  if (bytes < base) return interpreter.Text(IntToString(TruncateToInt(bytes)) + " Bytes");
  double unit = base * base;
  size_t prefix = 0;
  for (; prefix < 7 && !(bytes < unit); ++prefix) unit *= base;
  char buffer[400];
  std::snprintf(buffer, sizeof(buffer), "%.1f %c%s", base * bytes / unit,
                (binary ? "KMGTPEZY" : "kMGTPEZY")[prefix], binary ? "iB" : "B");
  return interpreter.Text(buffer);
}

constexpr Native kTextFilters[] = {
    {"abs", FilterAbs},
    {"capitalize", MapText<Capitalize>},
    {"center", FilterCenter},
    {"e", FilterEscape},
    {"escape", FilterEscape},
    {"filesizeformat", FilterFilesizeformat},
    {"float", FilterFloat},
    {"forceescape", FilterForceEscape},
    {"format", FilterFormat},
    {"indent", FilterIndent},
    {"int", FilterInt},
    {"lower", MapText<ToLower>},
    {"replace", FilterReplace},
    {"round", FilterRound},
    {"safe", FilterSafe},
    {"string", FilterString},
    {"striptags", FilterStriptags},
    {"title", MapText<TitleWords>},
    {"tojson", FilterToJson},
    {"trim", FilterTrim},
    {"truncate", FilterTruncate},
    {"upper", MapText<ToUpper>},
    {"urlencode", FilterUrlencode},
    {"wordcount", FilterWordcount},
    {"wordwrap", FilterWordwrap},
    {"xmlattr", FilterXmlattr},
};

}  // namespace

NativeTable TextFilters() { return {std::begin(kTextFilters), std::end(kTextFilters)}; }

}  // namespace ink::jinja
