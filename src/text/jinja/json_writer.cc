// The tojson filter: json.dumps(value, ensure_ascii=False, ...) of Python.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

constexpr int kMaxJsonDepth = 500;

class JsonWriter {
 public:
  JsonWriter(Interpreter& interpreter, const Parameters& parameters)
      : heap_(interpreter.heap()),
        ensure_ascii_(parameters.Bool(0, false)),
        sort_keys_(parameters.Bool(3, false)) {
    if (parameters.IsSet(1)) {
      indented_ = true;
      if (parameters[1].IsString()) {
        indent_ = parameters[1].Text();
      } else {
        const int64_t width = std::max<int64_t>(0, parameters.Integer(1, 0));
        heap_.Check(static_cast<uint64_t>(width));
        indent_.assign(static_cast<size_t>(width), ' ');
      }
      item_separator_ = ",";
    }
    if (parameters.IsSet(2)) {
      const std::vector<Value> separators = interpreter.Collect(parameters[2]);
      if (separators.size() != 2 || !separators[0].IsString() || !separators[1].IsString()) {
        Fail("tojson's separators must be two str, for items and for keys");
      }
      item_separator_ = separators[0].Text();
      key_separator_ = separators[1].Text();
    }
  }

  std::string Take() { return std::move(out_); }

  void Write(const Value& value, int depth) {
    if (depth > kMaxJsonDepth) Fail("a value is nested too deeply for tojson");
    heap_.Step();
    heap_.Check(out_.size());
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "null";
        return;
      case Kind::kBool:
        out_ += value.AsBool() ? "true" : "false";
        return;
      case Kind::kInt:
        out_ += IntToString(value.AsInt());
        return;
      case Kind::kFloat:
        out_ += FloatText(value.AsDouble());
        return;
      case Kind::kString:
        WriteString(value.Text());
        return;
      case Kind::kList:
      case Kind::kTuple:
        WriteList(value, depth);
        return;
      case Kind::kDict:
        WriteDict(value, depth);
        return;
      default:
        Fail(std::string("a value of type ") + TypeName(value) + " is not JSON serializable");
    }
  }

 private:
  static std::string FloatText(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return ReprFloat(value);
  }

  void Enter(const Value& value) {
    if (std::find(open_.begin(), open_.end(), value.object()) != open_.end()) {
      Fail("tojson cannot write a value that contains itself");
    }
    open_.push_back(value.object());
  }

  void BreakLine(int depth) {
    if (!indented_) return;
    out_ += '\n';
    for (int i = 0; i < depth; ++i) out_ += indent_;
  }

  void WriteList(const Value& value, int depth) {
    const std::vector<Value>& items = value.AsList()->items;
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    Enter(value);
    out_ += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += item_separator_;
      BreakLine(depth + 1);
      Write(items[i], depth + 1);
    }
    BreakLine(depth);
    out_ += ']';
    open_.pop_back();
  }

  void WriteDict(const Value& value, int depth) {
    std::vector<const DictObject::Entry*> entries;
    size_t position = 0;
    for (; const DictObject::Entry* entry = value.AsDict()->At(&position); ++position) {
      entries.push_back(entry);
    }
    if (entries.empty()) {
      out_ += "{}";
      return;
    }
    Enter(value);
    if (sort_keys_) {
      std::stable_sort(entries.begin(), entries.end(),
                       [this](const DictObject::Entry* a, const DictObject::Entry* b) {
                         heap_.Step();
                         return LessThan(a->key, b->key);
                       });
    }
    out_ += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += item_separator_;
      BreakLine(depth + 1);
      WriteKey(entries[i]->key);
      out_ += key_separator_;
      Write(entries[i]->value, depth + 1);
    }
    BreakLine(depth);
    out_ += '}';
    open_.pop_back();
  }

  void WriteKey(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        WriteString(key.Text());
        return;
      case Kind::kBool:
        out_ += key.AsBool() ? "\"true\"" : "\"false\"";
        return;
      case Kind::kNone:
        out_ += "\"null\"";
        return;
      case Kind::kInt:
        out_ += '"' + IntToString(key.AsInt()) + '"';
        return;
      case Kind::kFloat:
        out_ += '"' + FloatText(key.AsDouble()) + '"';
        return;
      default:
        Fail(std::string("a dict key of type ") + TypeName(key) + " is not JSON serializable");
    }
  }

  void AppendUnit(unsigned unit) {
    char buffer[8];
    std::snprintf(buffer, sizeof(buffer), "\\u%04x", unit);
    out_ += buffer;
  }

  void WriteString(std::string_view text) {
    heap_.Step(text.size() / 64);
    out_ += '"';
    for (size_t pos = 0; pos < text.size();) {
      const size_t start = pos;
      const char32_t c = NextCodePoint(text, &pos);
      static constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b";
      static constexpr std::string_view kLetters = "\"\\nrtfb";
      const size_t escape = c < 0x80 ? kEscaped.find(static_cast<char>(c)) : std::string_view::npos;
      if (escape != std::string_view::npos) {
        out_ += '\\';
        out_ += kLetters[escape];
      } else if (c < 0x20 || (ensure_ascii_ && c >= 0x7F && c < 0x10000)) {
        AppendUnit(static_cast<unsigned>(c));
      } else if (ensure_ascii_ && c >= 0x10000) {
        AppendUnit(0xD800 + static_cast<unsigned>((c - 0x10000) >> 10));
        AppendUnit(0xDC00 + static_cast<unsigned>((c - 0x10000) & 0x3FF));
      } else {
        out_ += text.substr(start, pos - start);
      }
    }
    out_ += '"';
  }

  Heap& heap_;
  const bool ensure_ascii_;
  const bool sort_keys_;
  bool indented_ = false;
  std::string indent_;
  std::string item_separator_ = ", ";
  std::string key_separator_ = ": ";
  std::string out_;
  std::vector<const Object*> open_;  // containers being written
};

}  // namespace

Value FilterToJson(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("tojson", arguments,
                              {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonWriter writer(interpreter, parameters);
  writer.Write(self, 0);
  return interpreter.Text(writer.Take());
}

}  // namespace ink::jinja
