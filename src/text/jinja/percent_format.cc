// Python's printf-style formatting: "%-5s|%03d" % values.
#include <cmath>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/number_format.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

class PercentFormatter {
 public:
  PercentFormatter(Interpreter& interpreter, const Value& format, const Value& values)
      : interpreter_(interpreter),
        format_(format.Text()),
        escape_(format.IsMarkup()),
        values_(values) {}

  std::string Run() {
    while (pos_ < format_.size()) {
      const size_t percent = std::min(format_.find('%', pos_), format_.size());
      out_.append(format_, pos_, percent - pos_);
      pos_ = percent;
      if (pos_ < format_.size()) {
        ++pos_;
        Conversion();
      }
      interpreter_.heap().Step();
      interpreter_.heap().Check(out_.size());
    }
    const size_t given = values_.Is(Kind::kTuple) ? values_.AsList()->items.size() : 1;
    // What Python takes for a mapping need not be used up: all that can be indexed, but str.
    const bool mapping = values_.Is(Kind::kDict) || values_.Is(Kind::kList) ||
                         values_.Is(Kind::kRange) || values_.IsUndefined();
    if (next_ < given && !mapping) {
      Fail("not all arguments are converted by the format string");
    }
    return std::move(out_);
  }

 private:
  char Take() {
    if (pos_ >= format_.size()) Fail("the format string ends within a conversion");
    return format_[pos_++];
  }

  Value NextValue() {
    if (values_.Is(Kind::kTuple)) {
      const std::vector<Value>& items = values_.AsList()->items;
      if (next_ >= items.size()) Fail("not enough arguments for the format string");
      return items[next_++];
    }
    if (next_ > 0) Fail("not enough arguments for the format string");
    ++next_;
    return values_;
  }

  // A number, or "*" for the next argument; -1 if there is none.
  int64_t Number() {
    if (pos_ < format_.size() && format_[pos_] == '*') {
      ++pos_;
      return ToInt64(NextValue(), "a width or precision");
    }
    int64_t number = -1;
    while (pos_ < format_.size() && format_[pos_] >= '0' && format_[pos_] <= '9') {
      number = std::max<int64_t>(number, 0) * 10 + (format_[pos_++] - '0');
      if (number > (int64_t{1} << 40)) Fail("a width or precision is too large");
    }
    return number;
  }

  void Conversion() {
    FormatSpec spec;
    Value value;
    bool has_value = false;
    if (pos_ < format_.size() && format_[pos_] == '(') {
      if (!values_.Is(Kind::kDict)) Fail("the format string needs a mapping");
      int depth = 1;
      const size_t start = ++pos_;
      while (depth > 0) {
        const char c = Take();
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
      }
      const std::string key = format_.substr(start, pos_ - 1 - start);
      const Value* found = values_.AsDict()->Find(key);
      if (found == nullptr) Fail("the mapping has no key " + ReprString(key));
      value = *found;
      has_value = true;
    }
    bool zero = false;
    bool left = false;
    for (;; ++pos_) {
      const char flag = pos_ < format_.size() ? format_[pos_] : '\0';
      if (flag == '-') {
        left = true;
      } else if (flag == '0') {
        zero = true;
      } else if (flag == '+') {
        spec.sign = '+';
      } else if (flag == ' ') {
        if (spec.sign != '+') spec.sign = ' ';
      } else if (flag == '#') {
        spec.alternate = true;
      } else {
        break;
      }
    }
    spec.width = Number();
    if (spec.width < -1) {
      left = true;
      spec.width = -spec.width;
    }
    if (pos_ < format_.size() && format_[pos_] == '.') {
      ++pos_;
      spec.precision = std::max<int64_t>(0, Number());
    }
    while (pos_ < format_.size() &&
           (format_[pos_] == 'h' || format_[pos_] == 'l' || format_[pos_] == 'L')) {
      ++pos_;
    }
    spec.type = Take();
    if (spec.type == '%') {
      out_ += '%';
      return;
    }
    if (!has_value) value = NextValue();
    spec.align = left ? '<' : '>';
    Convert(spec, zero && !left, value);
  }

  void Convert(FormatSpec spec, bool zero, const Value& value) {
    switch (spec.type) {
      case 's':
      case 'r':
      case 'a': {
        std::string text = spec.type == 's' ? Str(value) : Repr(value);
        if (escape_ && !value.IsMarkup()) text = Escape(text);
        out_ += LayOutText(interpreter_, spec, text);
        return;
      }
      case 'c':
        out_ += LayOutText(interpreter_, spec, Character(value));
        return;
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        Integer(spec, zero, value);
        return;
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        if (!value.IsNumber()) FailType(value, "a real number");
        const double number = value.AsDouble();
        if (zero && std::isfinite(number)) {
          spec.fill = U'0';
          spec.align = '=';
        }
        out_ += LayOutNumber(interpreter_, spec, std::signbit(number) && !std::isnan(number), "",
                             FloatDigits(number, spec.type, spec.precision, spec.alternate));
        return;
      }
      default:
        Fail(std::string("unsupported format character '") + spec.type + "'");
    }
  }

  [[noreturn]] static void FailType(const Value& value, const char* wanted) {
    if (value.IsUndefined()) FailUndefined(value);
    Fail(std::string("the format needs ") + wanted + ", not " + TypeName(value));
  }

  static std::string Character(const Value& value) {
    if (value.IsString() && Size(value) == 1) return value.Text();
    if (!value.IsIntegral()) FailType(value, "an integer or a single character");
    const Int code = value.AsInt();
    if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      Fail("the number " + IntToString(code) + " is no character");
    }
    std::string out;
    AppendUtf8(static_cast<char32_t>(code), &out);
    return out;
  }

  void Integer(FormatSpec spec, bool zero, const Value& value) {
    const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
    Int number = 0;
    if (value.IsIntegral()) {
      number = value.AsInt();
    } else if (decimal && value.Is(Kind::kFloat) && std::abs(value.AsDouble()) < 1e38) {
      number = static_cast<Int>(value.AsDouble());
    } else {
      FailType(value, decimal ? "a real number" : "an integer");
    }
    const int base = decimal ? 10 : spec.type == 'o' ? 8 : 16;
    std::string digits = IntDigits(number, base, spec.type == 'X');
    if (spec.precision > kMaxPrecision) Fail("a precision is too large");
    while (static_cast<int64_t>(digits.size()) < spec.precision) digits.insert(0, 1, '0');
    std::string prefix;
    if (spec.alternate && !decimal) prefix = std::string("0") + spec.type;
    if (zero) {
      spec.fill = U'0';
      spec.align = '=';
    }
    out_ += LayOutNumber(interpreter_, spec, number < 0, prefix, std::move(digits));
  }

  Interpreter& interpreter_;
  const std::string& format_;
  const bool escape_;
  const Value& values_;
  size_t pos_ = 0;
  size_t next_ = 0;
  std::string out_;
};

}  // namespace

std::string FormatPercent(Interpreter& interpreter, const Value& format, const Value& value) {
  return PercentFormatter(interpreter, format, value).Run();
}

}  // namespace ink::jinja
