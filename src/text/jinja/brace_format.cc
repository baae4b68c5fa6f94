// str.format() and the format specification mini-language.
#include <cmath>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/number_format.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

bool IsAlign(char32_t c) { return c == '<' || c == '>' || c == '^' || c == '='; }

// [[fill]align][sign][z][#][0][width][grouping][.precision][type]
FormatSpec ParseSpec(std::string_view text) {
  const std::u32string s = Decode(text);
  FormatSpec spec;
  size_t i = 0;
  const auto at = [&](size_t k) { return k < s.size() ? s[k] : U'\0'; };
  const auto number = [&](int64_t otherwise) {
    int64_t value = otherwise;
    while (at(i) >= '0' && at(i) <= '9') {
      value = std::max<int64_t>(value, 0) * 10 + static_cast<int64_t>(s[i++] - '0');
      if (value > (int64_t{1} << 40)) Fail("a width or precision is too large");
    }
    return value;
  };
  if (s.size() > 1 && IsAlign(s[1])) {
    spec.fill = s[0];
    spec.align = static_cast<char>(s[1]);
    i = 2;
  } else if (IsAlign(at(0))) {
    spec.align = static_cast<char>(s[0]);
    i = 1;
  }
  if (at(i) == '+' || at(i) == '-' || at(i) == ' ') spec.sign = static_cast<char>(s[i++]);
  if (at(i) == 'z') ++i;
  if (at(i) == '#') {
    spec.alternate = true;
    ++i;
  }
  if (at(i) == '0') {
    if (spec.align == '\0') {
      spec.fill = U'0';
      spec.align = '=';
    }
    ++i;
  }
  spec.width = number(0);
  if (at(i) == ',' || at(i) == '_') spec.grouping = static_cast<char>(s[i++]);
  if (at(i) == '.') {
    ++i;
    spec.precision = number(-1);
    if (spec.precision < 0) Fail("a format specification lacks its precision");
  }
  if (i < s.size()) {
    if (s[i] > 0x7F) Fail("invalid format specification " + ReprString(text));
    spec.type = static_cast<char>(s[i++]);
  }
  if (i < s.size()) Fail("invalid format specification " + ReprString(text));
  return spec;
}

[[noreturn]] void FailType(const FormatSpec& spec, const Value& value) {
  Fail(std::string("unknown format code '") + spec.type + "' for an object of type '" +
       TypeName(value) + "'");
}

std::string FormatFloat(Interpreter& interpreter, const FormatSpec& spec, const Value& value) {
  const double number = value.AsDouble();
  std::string digits;
  if (spec.type == '\0') {
    if (spec.precision < 0) {
      digits = ReprFloat(std::abs(number));
    } else {
      digits = FloatDigits(number, 'g', std::max<int64_t>(1, spec.precision), spec.alternate);
      // Unlike 'g' the default form always shows that it is a float.
      if (std::isfinite(number) && digits.find_first_of(".e") == std::string::npos) digits += ".0";
    }
  } else if (std::string_view("eEfFgG%n").find(spec.type) != std::string_view::npos) {
    digits =
        FloatDigits(number, spec.type == 'n' ? 'g' : spec.type, spec.precision, spec.alternate);
  } else {
    FailType(spec, value);
  }
  return LayOutNumber(interpreter, spec, std::signbit(number) && !std::isnan(number), "", digits);
}

std::string FormatInt(Interpreter& interpreter, const FormatSpec& spec, const Value& value) {
  if (spec.type != '\0' && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos) {
    return FormatFloat(interpreter, spec, value);
  }
  if (spec.precision >= 0) Fail("precision is not allowed in an integer format specification");
  const Int number = value.AsInt();
  if (spec.type == 'c') {
    if (number < 0 || number > 0x10FFFF || (number >= 0xD800 && number < 0xE000)) {
      Fail("the number " + IntToString(number) + " is no character");
    }
    std::string character;
    AppendUtf8(static_cast<char32_t>(number), &character);
    return LayOutText(interpreter, spec, character);
  }
  int base = 10;
  std::string prefix;
  switch (spec.type) {
    case '\0':
    case 'd':
    case 'n':
      break;
    case 'b':
      base = 2;
      break;
    case 'o':
      base = 8;
      break;
    case 'x':
    case 'X':
      base = 16;
      break;
    default:
      FailType(spec, value);
  }
  if (spec.alternate && base != 10) prefix = std::string("0") + spec.type;
  return LayOutNumber(interpreter, spec, number < 0, prefix,
                      IntDigits(number, base, spec.type == 'X'));
}

std::string FormatValue(Interpreter& interpreter, const Value& value, std::string_view text) {
  if (text.empty()) return Str(value);
  const FormatSpec spec = ParseSpec(text);
  switch (value.kind()) {
    case Kind::kString:
      if (spec.type != '\0' && spec.type != 's') FailType(spec, value);
      if (spec.align == '=' && spec.fill != U'0') Fail("'=' alignment is not allowed for a str");
      if (spec.align == '=') {
        // "05" of a str pads with zeros behind it.
        FormatSpec left = spec;
        left.align = '<';
        return LayOutText(interpreter, left, value.Text());
      }
      return LayOutText(interpreter, spec, value.Text());
    case Kind::kBool:
    case Kind::kInt:
      return FormatInt(interpreter, spec, value);
    case Kind::kFloat:
      return FormatFloat(interpreter, spec, value);
    default:
      Fail(std::string("a ") + TypeName(value) + " takes no format specification");
  }
}

class BraceFormatter {
 public:
  BraceFormatter(Interpreter& interpreter, const Arguments& arguments, bool escape)
      : interpreter_(interpreter), arguments_(arguments), escape_(escape) {}

  std::string Run(std::string_view format, int depth) {
    if (depth > 2) Fail("replacement fields are nested too deeply");
    std::string out;
    for (size_t i = 0; i < format.size(); ++i) {
      const char c = format[i];
      if (c != '{' && c != '}') {
        out += c;
        continue;
      }
      if (i + 1 < format.size() && format[i + 1] == c) {
        out += c;
        ++i;
        continue;
      }
      if (c == '}') Fail("single '}' in a format string");
      const size_t end = FieldEnd(format, i + 1);
      out += Field(format.substr(i + 1, end - i - 1), depth);
      i = end;
      interpreter_.heap().Step();
      interpreter_.heap().Check(out.size());
    }
    return out;
  }

 private:
  static size_t FieldEnd(std::string_view format, size_t start) {
    int depth = 1;
    for (size_t i = start; i < format.size(); ++i) {
      if (format[i] == '{') ++depth;
      if (format[i] == '}' && --depth == 0) return i;
    }
    Fail("expected '}' before the end of the format string");
  }

  // name[!conversion][:specification]
  std::string Field(std::string_view field, int depth) {
    size_t name_end = 0;
    bool in_brackets = false;
    while (name_end < field.size()) {
      const char c = field[name_end];
      if (c == '[') in_brackets = true;
      if (c == ']') in_brackets = false;
      if (!in_brackets && (c == '!' || c == ':')) break;
      ++name_end;
    }
    Value value = Lookup(field.substr(0, name_end));
    std::string_view rest = field.substr(name_end);
    if (rest.starts_with("!")) {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':')) {
        Fail("a conversion in a format string must be one character");
      }
      switch (rest[1]) {
        case 's':
          value = interpreter_.Text(Str(value));
          break;
        case 'r':
        case 'a':
          value = interpreter_.Text(Repr(value));
          break;
        default:
          Fail("unknown conversion in a format string: expected s, r or a");
      }
      rest.remove_prefix(2);
    }
    const std::string spec = rest.starts_with(":") ? Run(rest.substr(1), depth + 1) : "";
    std::string text = FormatValue(interpreter_, value, spec);
    return escape_ && !value.IsMarkup() ? Escape(text) : text;
  }

  Value Lookup(std::string_view name) {
    const size_t first_end = std::min(name.find_first_of(".["), name.size());
    Value value = First(name.substr(0, first_end));
    size_t pos = first_end;
    while (pos < name.size()) {
      if (name[pos] == '.') {
        const size_t end = std::min(name.find_first_of(".[", pos + 1), name.size());
        if (end == pos + 1) Fail("empty attribute in a format string");
        value = interpreter_.GetAttribute(value, name.substr(pos + 1, end - pos - 1));
        pos = end;
      } else {
        const size_t end = name.find(']', pos);
        if (name[pos] != '[' || end == std::string_view::npos || end == pos + 1) {
          Fail("invalid index in a format string");
        }
        const std::string_view key = name.substr(pos + 1, end - pos - 1);
        const auto index = Digits(key) ? ParseInt(key, 10) : std::nullopt;
        value =
            interpreter_.GetItem(value, index.has_value() ? Value::Integer(*index)
                                                          : interpreter_.Text(std::string(key)));
        pos = end + 1;
      }
    }
    return value;
  }

  static bool Digits(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  }

  Value First(std::string_view name) {
    if (name.empty() || Digits(name)) {
      if (manual_.has_value() && *manual_ == name.empty()) {
        Fail("a format string cannot mix numbered and unnumbered fields");
      }
      manual_ = !name.empty();
      const auto parsed = name.empty() ? std::optional<Int>(next_++) : ParseInt(name, 10);
      if (!parsed.has_value() || *parsed >= static_cast<Int>(arguments_.positional.size())) {
        Fail("a replacement index is out of range for " +
             std::to_string(arguments_.positional.size()) + " positional arguments");
      }
      return arguments_.positional[static_cast<size_t>(*parsed)];
    }
    for (const auto& [keyword, value] : arguments_.keywords) {
      if (keyword == name) return value;
    }
    Fail("the format string needs the argument " + ReprString(name));
  }

  Interpreter& interpreter_;
  const Arguments& arguments_;
  const bool escape_;
  std::optional<bool> manual_;  // fields carry numbers
  int next_ = 0;
};

}  // namespace

std::string FormatBraces(Interpreter& interpreter, const Value& format,
                         const Arguments& arguments) {
  return BraceFormatter(interpreter, arguments, format.IsMarkup()).Run(format.Text(), 0);
}

}  // namespace ink::jinja
