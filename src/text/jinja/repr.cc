// str() and repr() of values as Python prints them.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "text/jinja/utf8.h"
#include "text/jinja/value.h"

namespace ink::jinja {
namespace {

// CPython's own recursion limit makes repr fail at about a thousand levels; nothing real nests so.
constexpr int kMaxReprDepth = 500;

void AppendHexEscape(char32_t c, std::string* out) {
  char buffer[12];
  if (c < 0x100) {
    std::snprintf(buffer, sizeof(buffer), "\\x%02x", static_cast<unsigned>(c));
  } else if (c < 0x10000) {
    std::snprintf(buffer, sizeof(buffer), "\\u%04x", static_cast<unsigned>(c));
  } else {
    std::snprintf(buffer, sizeof(buffer), "\\U%08x", static_cast<unsigned>(c));
  }
  out->append(buffer);
}

class ReprWriter {
 public:
  std::string Take() { return std::move(out_); }

  void Write(const Value& value, int depth) {
    if (depth > kMaxReprDepth) Fail("a printed value is nested too deeply");
    switch (value.kind()) {
      case Kind::kUndefined:
        out_ += "Undefined";
        break;
      case Kind::kNone:
        out_ += "None";
        break;
      case Kind::kBool:
        out_ += value.AsBool() ? "True" : "False";
        break;
      case Kind::kInt:
        out_ += IntToString(value.AsInt());
        break;
      case Kind::kFloat:
        out_ += ReprFloat(value.AsDouble());
        break;
      case Kind::kString:
        Bound(value);
        if (value.IsMarkup()) out_ += "Markup(";
        out_ += ReprString(value.Text());
        if (value.IsMarkup()) out_ += ")";
        break;
      case Kind::kList:
        WriteItems(value, '[', ']', depth);
        break;
      case Kind::kTuple:
        WriteItems(value, '(', ')', depth);
        break;
      case Kind::kDict:
        WriteDict(value, depth);
        break;
      case Kind::kView:
        WriteView(value, depth);
        break;
      case Kind::kRange: {
        const RangeObject& range = *value.As<RangeObject>();
        out_ += "range(" + std::to_string(range.start) + ", " + std::to_string(range.stop);
        if (range.step != 1) out_ += ", " + std::to_string(range.step);
        out_ += ")";
        break;
      }
      case Kind::kNamespace:
        out_ += "<Namespace ";
        Write(Value::Of(value.As<NamespaceObject>()->attributes), depth + 1);
        out_ += ">";
        break;
      default:
        out_ += "<";
        out_ += TypeName(value);
        out_ += " object>";
    }
  }

 private:
  // A value may hold one list many times over: the text is bounded, not only the values.
  void Bound(const Value& value) const {
    value.object()->heap->Step();
    value.object()->heap->Check(out_.size());
  }

  bool Enter(const Value& value, const char* placeholder) {
    Bound(value);
    if (std::find(open_.begin(), open_.end(), value.object()) != open_.end()) {
      out_ += placeholder;
      return false;
    }
    open_.push_back(value.object());
    return true;
  }

  void WriteItems(const Value& value, char left, char right, int depth) {
    if (!Enter(value, left == '[' ? "[...]" : "(...)")) return;
    out_ += left;
    const std::vector<Value>& items = value.AsList()->items;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += ", ";
      Write(items[i], depth + 1);
    }
    if (left == '(' && items.size() == 1) out_ += ",";
    out_ += right;
    open_.pop_back();
  }

  void WriteDict(const Value& value, int depth) {
    if (!Enter(value, "{...}")) return;
    out_ += "{";
    size_t position = 0;
    for (bool first = true; DictObject::Entry* entry = value.AsDict()->At(&position); ++position) {
      if (!first) out_ += ", ";
      first = false;
      Write(entry->key, depth + 1);
      out_ += ": ";
      Write(entry->value, depth + 1);
    }
    out_ += "}";
    open_.pop_back();
  }

  void WriteView(const Value& value, int depth) {
    if (!Enter(value, "...")) return;
    const ViewObject& view = *value.As<ViewObject>();
    out_ += TypeName(value);
    out_ += "([";
    size_t position = 0;
    for (bool first = true; DictObject::Entry* entry = view.dict->At(&position); ++position) {
      if (!first) out_ += ", ";
      first = false;
      if (view.part == ViewObject::Part::kItems) out_ += "(";
      if (view.part != ViewObject::Part::kValues) Write(entry->key, depth + 1);
      if (view.part == ViewObject::Part::kItems) out_ += ", ";
      if (view.part != ViewObject::Part::kKeys) Write(entry->value, depth + 1);
      if (view.part == ViewObject::Part::kItems) out_ += ")";
    }
    out_ += "])";
    open_.pop_back();
  }

  std::string out_;
  std::vector<const Object*> open_;  // containers being written
};

}  // namespace

std::string IntToString(Int value) {
  if (value == 0) return "0";
  const bool negative = value < 0;
  auto magnitude = static_cast<unsigned __int128>(value);
  if (negative) magnitude = ~magnitude + 1;
  std::string digits;
  for (; magnitude != 0; magnitude /= 10) {
    digits.push_back(static_cast<char>('0' + static_cast<int>(magnitude % 10)));
  }
  if (negative) digits.push_back('-');
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string ReprFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // The shortest digits that read back as the same number; Python writes them with an exponent
  // below 1e-4 and from 1e16 on.
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));
  const size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  if (exponent >= -4 && exponent < 16) {
    const auto fixed =
        std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed);
    std::string out(buffer, static_cast<size_t>(fixed.ptr - buffer));
    if (out.find('.') == std::string::npos) out += ".0";
    return out;
  }
  std::string out(text.substr(0, e));
  char suffix[8];
  std::snprintf(suffix, sizeof(suffix), "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
  return out + suffix;
}

std::string ReprString(std::string_view text) {
  const bool double_quotes =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string out(1, quote);
  for (size_t pos = 0; pos < text.size();) {
    const size_t start = pos;
    const char32_t c = NextCodePoint(text, &pos);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < 0x20 || c == 0x7F || (c >= 0x80 && !IsPrintable(c))) {
      AppendHexEscape(c, &out);
    } else {
      out.append(text.substr(start, pos - start));
    }
  }
  out += quote;
  return out;
}

std::string Repr(const Value& value) {
  ReprWriter writer;
  writer.Write(value, 0);
  return writer.Take();
}

std::string Str(const Value& value) {
  if (value.IsString()) return value.Text();
  if (value.IsUndefined()) return "";
  return Repr(value);
}

std::string Escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace ink::jinja
