// Lookup of builtins, matching of arguments, tests and global functions.
#include "text/jinja/builtins.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "text/jinja/interpreter.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

const Native* FindIn(NativeTable table, std::string_view name) {
  const Native* row = std::lower_bound(
      table.begin, table.end, name,
      [](const Native& native, std::string_view wanted) { return native.name < wanted; });
  return row != table.end && row->name == name ? row : nullptr;
}

// Tests -----------------------------------------------------------------------------------------

template <Kind kKind>
Value TestKind(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("test", arguments, {});
  return Value::Bool(self.Is(kKind));
}

template <bool kWanted>
Value TestIsBool(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("test", arguments, {});
  return Value::Bool(self.Is(Kind::kBool) && self.AsBool() == kWanted);
}

Value TestDefined(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("defined", arguments, {});
  return Value::Bool(!self.IsUndefined());
}

Value TestNumber(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("number", arguments, {});
  return Value::Bool(self.IsNumber());
}

Value TestMapping(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("mapping", arguments, {});
  return Value::Bool(self.Is(Kind::kDict));
}

// What has a length and can be indexed.
Value TestSequence(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("sequence", arguments, {});
  return Value::Bool(self.IsSequence() || self.IsString() || self.Is(Kind::kDict) ||
                     self.Is(Kind::kRange) || self.IsUndefined());
}

Value TestIterable(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("iterable", arguments, {});
  return Value::Bool(interpreter.IsIterable(self));
}

Value TestCallable(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("callable", arguments, {});
  return Value::Bool(self.Is(Kind::kNative) || self.Is(Kind::kMacro) || self.Is(Kind::kLoop) ||
                     self.Is(Kind::kJoiner) || self.IsUndefined());
}

Value Remainder(Interpreter& interpreter, const Value& self, const Value& divisor) {
  return interpreter.BinaryOperation(BinaryOp::kModulo, self, divisor);
}

Value TestOdd(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("odd", arguments, {});
  return Value::Bool(Equals(Remainder(interpreter, self, Value::Integer(2)), Value::Integer(1)));
}

Value TestEven(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("even", arguments, {});
  return Value::Bool(Equals(Remainder(interpreter, self, Value::Integer(2)), Value::Integer(0)));
}

Value TestDivisibleBy(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("divisibleby", arguments, {"num"}, 1);
  return Value::Bool(Equals(Remainder(interpreter, self, parameters[0]), Value::Integer(0)));
}

// str.islower(), str.isupper(): at least one cased character, none of the other case.
template <bool kUpper>
Value TestCase(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("case", arguments, {});
  const std::string text = Str(self);
  bool found = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = NextCodePoint(text, &pos);
    if (IsTitle(c) || (kUpper ? IsLower(c) : IsUpper(c))) return Value::Bool(false);
    found = found || IsLower(c) || IsUpper(c);
  }
  return Value::Bool(found);
}

Value TestSameAs(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("sameas", arguments, {"other"}, 1);
  return Value::Bool(self.SameAs(parameters[0]));
}

Value TestEscaped(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("escaped", arguments, {});
  return Value::Bool(self.IsMarkup());
}

Value TestIn(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("in", arguments, {"seq"}, 1);
  return Value::Bool(interpreter.Contains(parameters[0], self));
}

Value TestFilter(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("filter", arguments, {});
  if (self.Is(Kind::kList) || self.Is(Kind::kDict)) Fail("a filter's name must be a str");
  return Value::Bool(self.IsString() && FindFilter(self.Text()) != nullptr);
}

Value TestTest(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("test", arguments, {});
  if (self.Is(Kind::kList) || self.Is(Kind::kDict)) Fail("a test's name must be a str");
  return Value::Bool(self.IsString() && FindTest(self.Text()) != nullptr);
}

Value TestEqual(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("eq", arguments, {"other"}, 1);
  return Value::Bool(Equals(self, parameters[0]));
}

Value TestNotEqual(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("ne", arguments, {"other"}, 1);
  return Value::Bool(!Equals(self, parameters[0]));
}

// Order tests: `kGreater` or less, with or without equality.
template <bool kGreater, bool kOrEqual>
Value TestOrder(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("comparison", arguments, {"other"}, 1);
  bool unordered = false;
  const int order = Compare(self, parameters[0], &unordered);
  if (unordered) return Value::Bool(false);
  return Value::Bool((kOrEqual && order == 0) || (kGreater ? order > 0 : order < 0));
}

constexpr Native kTests[] = {
    {"!=", TestNotEqual},
    {"<", TestOrder<false, false>},
    {"<=", TestOrder<false, true>},
    {"==", TestEqual},
    {">", TestOrder<true, false>},
    {">=", TestOrder<true, true>},
    {"boolean", TestKind<Kind::kBool>},
    {"callable", TestCallable},
    {"defined", TestDefined},
    {"divisibleby", TestDivisibleBy},
    {"eq", TestEqual},
    {"equalto", TestEqual},
    {"escaped", TestEscaped},
    {"even", TestEven},
    {"false", TestIsBool<false>},
    {"filter", TestFilter},
    {"float", TestKind<Kind::kFloat>},
    {"ge", TestOrder<true, true>},
    {"greaterthan", TestOrder<true, false>},
    {"gt", TestOrder<true, false>},
    {"in", TestIn},
    {"integer", TestKind<Kind::kInt>},
    {"iterable", TestIterable},
    {"le", TestOrder<false, true>},
    {"lessthan", TestOrder<false, false>},
    {"lower", TestCase<false>},
    {"lt", TestOrder<false, false>},
    {"mapping", TestMapping},
    {"ne", TestNotEqual},
    {"none", TestKind<Kind::kNone>},
    {"number", TestNumber},
    {"odd", TestOdd},
    {"sameas", TestSameAs},
    {"sequence", TestSequence},
    {"string", TestKind<Kind::kString>},
    {"test", TestTest},
    {"true", TestIsBool<true>},
    {"undefined", TestKind<Kind::kUndefined>},
    {"upper", TestCase<true>},
};

// Global functions --------------------------------------------------------------------------------

Value GlobalRange(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const std::vector<Value>& given = arguments.positional;
  if (given.empty() || given.size() > 3 || !arguments.keywords.empty()) {
    Fail("range takes 1 to 3 arguments without names, got " + std::to_string(given.size()));
  }
  const int64_t start = given.size() > 1 ? ToInt64(given[0], "range's start") : 0;
  const int64_t stop = ToInt64(given[given.size() > 1 ? 1 : 0], "range's end");
  const int64_t step = given.size() > 2 ? ToInt64(given[2], "range's step") : 1;
  if (step == 0) Fail("range's step must not be zero");
  constexpr int64_t kFar = int64_t{1} << 60;
  if (std::max({std::abs(start), std::abs(stop), std::abs(step)}) > kFar) {
    Fail("range's arguments are too large");
  }
  Ref<RangeObject> range = Make<RangeObject>(interpreter.heap(), start, stop, step);
  if (range->size() > interpreter.options().limits.max_range) {
    Fail("a range of " + std::to_string(range->size()) + " is over the limit of " +
         std::to_string(interpreter.options().limits.max_range));
  }
  return Value::Of(range);
}

// dict(mapping or pairs, **more)
Ref<DictObject> MakeDict(Interpreter& interpreter, const Arguments& arguments) {
  const auto dict = Make<DictObject>(interpreter.heap());
  if (arguments.positional.size() > 1) {
    Fail("dict takes at most 1 argument without a name, got " +
         std::to_string(arguments.positional.size()));
  }
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.Is(Kind::kDict)) {
      size_t position = 0;
      for (; DictObject::Entry* entry = source.AsDict()->At(&position); ++position) {
        dict->Set(entry->key, entry->value);
      }
    } else {
      for (const Value& pair : interpreter.Collect(source)) {
        const std::vector<Value> items = interpreter.Collect(pair);
        if (items.size() != 2) Fail("dict needs pairs, got " + std::to_string(items.size()));
        dict->Set(items[0], items[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.keywords) dict->Set(name, value);
  return dict;
}

Value GlobalDict(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  return Value::Of(MakeDict(interpreter, arguments));
}

Value GlobalNamespace(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  return Value::Of(Make<NamespaceObject>(interpreter.heap(), MakeDict(interpreter, arguments)));
}

Value GlobalJoiner(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("joiner", arguments, {"sep"});
  return Value::Of(Make<JoinerObject>(interpreter.heap(),
                                      parameters.Has(0) ? parameters[0] : interpreter.Text(", ")));
}

Value GlobalCycler(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  if (arguments.positional.empty()) Fail("cycler needs at least one item");
  return Value::Of(Make<CyclerObject>(interpreter.heap(), arguments.positional));
}

Value GlobalRaiseException(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("raise_exception", arguments, {"message"}, 1);
  Fail(Str(parameters[0]));
}

// Python's strftime of a time without zone: %f, %z and %Z are its own, the rest is C's.
std::string FormatTime(const std::tm& time, std::string_view format) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out += format[i];
      continue;
    }
    std::string directive = "%";
    directive += format[++i];
    // glibc's flags between the percent sign and the letter: "%-d".
    while (i + 1 < format.size() && directive.size() < 4 &&
           std::string_view("-_0^#").find(directive.back()) != std::string_view::npos) {
      directive += format[++i];
    }
    switch (directive.back()) {
      case 'f':
        out += "000000";
        break;
      case 'z':
      case 'Z':
        break;
      default: {
        char buffer[128];
        const size_t length = std::strftime(buffer, sizeof(buffer), directive.c_str(), &time);
        out.append(buffer, length);
      }
    }
  }
  return out;
}

Value GlobalStrftimeNow(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("strftime_now", arguments, {"format"}, 1);
  const std::string format = parameters.Text(0, "");
  std::tm now{};
  if (interpreter.options().now.has_value()) {
    now = *interpreter.options().now;
  } else {
    const std::time_t seconds = std::time(nullptr);
    localtime_r(&seconds, &now);
  }
  std::string text = FormatTime(now, format);
  if (!IsValidUtf8(text)) Fail("strftime_now's format gives no valid UTF-8");
  return interpreter.Text(std::move(text));
}

constexpr Native kGlobals[] = {
    {"cycler", GlobalCycler},
    {"dict", GlobalDict},
    {"joiner", GlobalJoiner},
    {"namespace", GlobalNamespace},
    {"raise_exception", GlobalRaiseException},
    {"range", GlobalRange},
    {"strftime_now", GlobalStrftimeNow},
};

}  // namespace

const Native* FindFilter(std::string_view name) {
  const Native* row = FindIn(TextFilters(), name);
  return row != nullptr ? row : FindIn(SequenceFilters(), name);
}

const Native* FindTest(std::string_view name) {
  return FindIn({std::begin(kTests), std::end(kTests)}, name);
}

const Native* FindGlobal(std::string_view name) {
  return FindIn({std::begin(kGlobals), std::end(kGlobals)}, name);
}

const Native* FindMethod(const Value& self, std::string_view name) {
  switch (self.kind()) {
    case Kind::kString:
      return FindIn(StringMethods(), name);
    case Kind::kList:
      return FindIn(ListMethods(), name);
    case Kind::kTuple:
      return FindIn(TupleMethods(), name);
    case Kind::kDict:
      return FindIn(DictMethods(), name);
    default:
      return nullptr;
  }
}

int64_t ToInt64(const Value& value, std::string_view what) {
  if (value.IsUndefined()) FailUndefined(value);
  if (!value.IsIntegral()) {
    Fail(std::string(what) + " must be an integer, not " + TypeName(value));
  }
  const Int integer = value.AsInt();
  if (integer != static_cast<int64_t>(integer)) Fail(std::string(what) + " is too large");
  return static_cast<int64_t>(integer);
}

Parameters::Parameters(std::string_view function, const Arguments& arguments,
                       std::initializer_list<std::string_view> names, size_t required)
    : function_(function), values_(names.size(), nullptr), names_(names) {
  if (arguments.positional.size() > names.size()) {
    Fail(std::string(function) + " takes at most " + std::to_string(names.size()) +
         " argument(s), got " + std::to_string(arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.keywords) {
    const auto place = std::find(names_.begin(), names_.end(), name);
    if (place == names_.end()) {
      Fail(std::string(function) + " has no argument '" + name + "'");
    }
    const Value*& slot = values_[static_cast<size_t>(place - names_.begin())];
    if (slot != nullptr) Fail(std::string(function) + " got argument '" + name + "' twice");
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) {
      Fail(std::string(function) + " needs the argument '" + std::string(names_[i]) + "'");
    }
  }
}

bool Parameters::Bool(size_t index, bool otherwise) const {
  return Has(index) ? Truthy(*values_[index]) : otherwise;
}

int64_t Parameters::Integer(size_t index, int64_t otherwise) const {
  if (!Has(index)) return otherwise;
  return ToInt64(*values_[index],
                 std::string(function_) + "'s argument '" + std::string(names_[index]) + "'");
}

std::string Parameters::Text(size_t index, std::string_view otherwise) const {
  if (!Has(index)) return std::string(otherwise);
  const Value& value = *values_[index];
  if (value.IsUndefined()) FailUndefined(value);
  if (!value.IsString()) {
    Fail(std::string(function_) + "'s argument '" + std::string(names_[index]) +
         "' must be a str, not " + TypeName(value));
  }
  return value.Text();
}

}  // namespace ink::jinja
