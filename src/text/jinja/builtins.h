// Filters, tests, methods and global functions, found by name.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace ink::jinja {

class Interpreter;

/// The arguments of one call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;
};

/// A builtin: `self` is the filtered or tested value, or the object a method belongs to.
using NativeFunction = Value (*)(Interpreter& interpreter, const Value& self, Arguments& arguments);

struct Native {
  std::string_view name;
  NativeFunction function;
};

/// Null if there is none of that name.
const Native* FindFilter(std::string_view name);
const Native* FindTest(std::string_view name);
const Native* FindMethod(const Value& self, std::string_view name);
const Native* FindGlobal(std::string_view name);

// The tables that these functions search, each sorted by name.
struct NativeTable {
  const Native* begin;
  const Native* end;
};
NativeTable TextFilters();
NativeTable SequenceFilters();
NativeTable StringMethods();
NativeTable ListMethods();
NativeTable TupleMethods();
NativeTable DictMethods();

/// Arguments matched to a builtin's parameters; fails on unknown, repeated or missing ones.
class Parameters {
 public:
  /// The first `required` of `names` must be given.
  Parameters(std::string_view function, const Arguments& arguments,
             std::initializer_list<std::string_view> names, size_t required = 0);

  bool Has(size_t index) const { return values_[index] != nullptr; }
  const Value& operator[](size_t index) const { return *values_[index]; }
  /// Given and not None.
  bool IsSet(size_t index) const { return Has(index) && !values_[index]->IsNone(); }
  // Conversions of parameter `index`; the default where it was not given.
  bool Bool(size_t index, bool otherwise) const;
  int64_t Integer(size_t index, int64_t otherwise) const;
  std::string Text(size_t index, std::string_view otherwise) const;  // needs a str

 private:
  std::string_view function_;
  std::vector<const Value*> values_;
  std::vector<std::string_view> names_;
};

/// `value` as an index or count. Fails unless it is an int or bool within 64 bits.
int64_t ToInt64(const Value& value, std::string_view what);

// Shared pieces ---------------------------------------------------------------------------------

/// `format % value`, Python's printf-style formatting.
std::string FormatPercent(Interpreter& interpreter, const Value& format, const Value& value);
/// str.format().
std::string FormatBraces(Interpreter& interpreter, const Value& format, const Arguments& arguments);
/// json.dumps as transformers' tojson filter calls it.
Value FilterToJson(Interpreter& interpreter, const Value& self, Arguments& arguments);
/// textwrap.wrap without replacing white space, as the wordwrap filter calls it. Width in code
/// points.
std::vector<std::u32string> WrapText(const std::u32string& text, int64_t width,
                                     bool break_long_words, bool break_on_hyphens);
/// int(text, base) and float(text); nothing where Python raises ValueError.
std::optional<Int> ParseInt(std::string_view text, int base);
std::optional<double> ParseFloat(std::string_view text);
/// round(value, digits) of a float, half to even on the exact binary value.
double RoundFloat(double value, int digits);

}  // namespace ink::jinja
