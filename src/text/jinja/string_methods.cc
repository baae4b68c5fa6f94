// Methods of str.
#include <algorithm>
#include <iterator>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/string_util.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

template <std::string (*kMap)(std::string_view)>
Value Mapped(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("a str method", arguments, {});
  interpreter.heap().Step(self.Text().size() / 8);
  return interpreter.TextLike(self, kMap(self.Text()));
}

// isdigit() and the like: all code points, and at least one.
template <bool (*kClass)(char32_t)>
Value AllOf(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("a str method", arguments, {});
  const std::string& text = self.Text();
  interpreter.heap().Step(text.size() / 8);
  for (size_t pos = 0; pos < text.size();) {
    if (!kClass(NextCodePoint(text, &pos))) return Value::Bool(false);
  }
  return Value::Bool(!text.empty());
}

bool IsAlnum(char32_t c) { return IsAlpha(c) || IsNumeric(c); }

template <bool kUpper>
Value IsCase(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  return FindTest(kUpper ? "upper" : "lower")->function(interpreter, self, arguments);
}

Value IsAsciiMethod(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("isascii", arguments, {});
  return Value::Bool(self.AsString()->ascii);
}

Value IsIdentifier(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("isidentifier", arguments, {});
  const std::string& text = self.Text();
  for (size_t pos = 0; pos < text.size();) {
    const bool first = pos == 0;
    const char32_t c = NextCodePoint(text, &pos);
    if (first ? !IsIdentifierStart(c) : !IsIdentifierPart(c)) return Value::Bool(false);
  }
  return Value::Bool(!text.empty());
}

Value IsPrintableMethod(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  return self.Text().empty() ? Value::Bool(true) : AllOf<IsPrintable>(interpreter, self, arguments);
}

Value IsTitleMethod(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("istitle", arguments, {});
  const std::string& text = self.Text();
  bool cased = false;
  bool inside = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = NextCodePoint(text, &pos);
    if (IsUpper(c) || IsTitle(c)) {
      if (inside) return Value::Bool(false);
      cased = inside = true;
    } else if (IsLower(c)) {
      if (!inside) return Value::Bool(false);
      cased = true;
    } else {
      inside = false;
    }
  }
  return Value::Bool(cased);
}

template <bool kLeft, bool kRight>
Value StripMethod(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("strip", arguments, {"chars"});
  std::string_view text = self.Text();
  interpreter.heap().Step(text.size() / 64);
  if (parameters.IsSet(0)) {
    const std::string set = parameters.Text(0, "");
    return interpreter.TextLike(self, std::string(StripSet(text, set, kLeft, kRight)));
  }
  if (kLeft) text = StripLeft(text);
  if (kRight) text = StripRight(text);
  return interpreter.TextLike(self, std::string(text));
}

Value ListOfText(Interpreter& interpreter, const Value& self, std::vector<std::string> parts) {
  const Ref<ListObject> list = MakeList(interpreter.heap());
  for (std::string& part : parts) list->Append(interpreter.TextLike(self, std::move(part)));
  return Value::Of(list);
}

template <bool kFromRight>
Value Split(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("split", arguments, {"sep", "maxsplit"});
  const int64_t limit = parameters.Integer(1, -1);
  const std::string& text = self.Text();
  interpreter.heap().Step(text.size() / 8);
  if (!parameters.IsSet(0)) {
    return ListOfText(interpreter, self,
                      kFromRight ? SplitWordsFromRight(interpreter.heap(), text, limit)
                                 : SplitWords(interpreter.heap(), text, limit));
  }
  const std::string separator = parameters.Text(0, "");
  if (separator.empty()) Fail("split needs a separator that is not empty");
  return ListOfText(interpreter, self,
                    kFromRight ? SplitAtFromRight(interpreter.heap(), text, separator, limit)
                               : SplitAt(interpreter.heap(), text, separator, limit));
}

Value SplitLinesMethod(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("splitlines", arguments, {"keepends"});
  interpreter.heap().Step(self.Text().size() / 8);
  return ListOfText(interpreter, self,
                    SplitLines(interpreter.heap(), self.Text(), parameters.Bool(0, false)));
}

template <bool kFromRight>
Value Partition(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("partition", arguments, {"sep"}, 1);
  const std::string& text = self.Text();
  const std::string separator = parameters.Text(0, "");
  if (separator.empty()) Fail("partition needs a separator that is not empty");
  interpreter.heap().Step(text.size() / 64);
  const size_t hit = kFromRight ? FindLast(text, separator) : Find(text, separator);
  const Ref<ListObject> out = MakeTuple(interpreter.heap());
  if (hit == std::string::npos) {
    out->Append(kFromRight ? interpreter.Text("") : self);
    out->Append(interpreter.Text(""));
    out->Append(kFromRight ? self : interpreter.Text(""));
  } else {
    out->Append(interpreter.TextLike(self, text.substr(0, hit)));
    out->Append(interpreter.Text(separator));
    out->Append(interpreter.TextLike(self, text.substr(hit + separator.size())));
  }
  return Value::Of(out);
}

// The bytes of text[start:stop], indices in code points as Python's; false if start > length.
bool Window(const Value& self, const Parameters& parameters, size_t first, size_t* begin,
            size_t* end) {
  const int64_t size = Size(self);
  const auto bound = [&](size_t index, int64_t otherwise) {
    int64_t value = parameters.IsSet(index) ? parameters.Integer(index, otherwise) : otherwise;
    if (value < 0) value = std::max<int64_t>(0, value + size);
    return value;
  };
  const int64_t start = bound(first, 0);
  const int64_t stop = std::min(bound(first + 1, size), size);
  if (start > size) return false;
  *begin = ByteOffset(self.Text(), static_cast<size_t>(start));
  *end = std::max(*begin, ByteOffset(self.Text(), static_cast<size_t>(stop)));
  return stop >= start;
}

// find, rfind, index, rindex: a code point index, -1 if absent.
int64_t Locate(Interpreter& interpreter, const Value& self, Arguments& arguments, bool from_right) {
  const Parameters parameters("find", arguments, {"sub", "start", "end"}, 1);
  const std::string wanted = parameters.Text(0, "");
  interpreter.heap().Step(1 + self.Text().size() / 64);
  size_t begin = 0;
  size_t end = 0;
  if (!Window(self, parameters, 1, &begin, &end)) return -1;
  const std::string_view window = std::string_view(self.Text()).substr(begin, end - begin);
  const size_t hit = from_right ? FindLast(window, wanted) : Find(window, wanted);
  if (hit == std::string_view::npos) return -1;
  return static_cast<int64_t>(Length(std::string_view(self.Text()).substr(0, begin + hit)));
}

template <bool kFromRight, bool kMustFind>
Value FindMethodOf(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const int64_t index = Locate(interpreter, self, arguments, kFromRight);
  if (kMustFind && index < 0) Fail("substring not found");
  return Value::Integer(index);
}

Value Count(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("count", arguments, {"sub", "start", "end"}, 1);
  const std::string wanted = parameters.Text(0, "");
  interpreter.heap().Step(1 + self.Text().size() / 16);
  size_t begin = 0;
  size_t end = 0;
  if (!Window(self, parameters, 1, &begin, &end)) return Value::Integer(0);
  const std::string_view window = std::string_view(self.Text()).substr(begin, end - begin);
  if (wanted.empty()) return Value::Integer(static_cast<int64_t>(Length(window)) + 1);
  int64_t count = 0;
  for (size_t at = 0; (at = Find(window, wanted, at)) != std::string_view::npos;) {
    ++count;
    at += wanted.size();
  }
  return Value::Integer(count);
}

template <bool kStart>
Value HasAffix(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters(kStart ? "startswith" : "endswith", arguments,
                              {"affix", "start", "end"}, 1);
  size_t begin = 0;
  size_t end = 0;
  const bool valid = Window(self, parameters, 1, &begin, &end);
  const std::string_view window = std::string_view(self.Text()).substr(begin, end - begin);
  const auto matches = [&](const Value& affix) {
    if (affix.IsUndefined()) FailUndefined(affix);
    if (!affix.IsString()) {
      Fail(std::string(kStart ? "startswith" : "endswith") +
           " needs a str or a tuple of str, not " + TypeName(affix));
    }
    return valid && (kStart ? window.starts_with(affix.Text()) : window.ends_with(affix.Text()));
  };
  if (!parameters[0].Is(Kind::kTuple)) return Value::Bool(matches(parameters[0]));
  bool any = false;
  for (const Value& affix : parameters[0].AsList()->items) any = matches(affix) || any;
  return Value::Bool(any);
}

template <bool kStart>
Value RemoveAffix(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("removeprefix", arguments, {"affix"}, 1);
  const std::string affix = parameters.Text(0, "");
  std::string_view text = self.Text();
  if (kStart && text.starts_with(affix)) text.remove_prefix(affix.size());
  if (!kStart && text.ends_with(affix)) text.remove_suffix(affix.size());
  return interpreter.TextLike(self, std::string(text));
}

Value Replace(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("replace", arguments, {"old", "new", "count"}, 2);
  std::string replacement = parameters.Text(1, "");
  if (self.IsMarkup() && !parameters[1].IsMarkup()) replacement = Escape(replacement);
  return interpreter.TextLike(
      self, ReplaceAll(interpreter, self.Text(), parameters.Text(0, ""), replacement,
                       parameters.IsSet(2) ? parameters.Integer(2, -1) : -1));
}

Value Join(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("join", arguments, {"iterable"}, 1);
  std::string out;
  bool first = true;
  for (const Value& item : interpreter.Collect(parameters[0])) {
    if (!item.IsString()) {
      Fail(std::string("join needs str items, found ") + TypeName(item));
    }
    if (!first) out += self.Text();
    first = false;
    out += self.IsMarkup() && !item.IsMarkup() ? Escape(item.Text()) : item.Text();
    interpreter.heap().Check(out.size());
  }
  return interpreter.TextLike(self, std::move(out));
}

Value Format(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  return interpreter.TextLike(self, FormatBraces(interpreter, self, arguments));
}

template <std::string (*kPad)(Interpreter&, std::string_view, int64_t, std::string_view)>
Value Pad(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("a padding method", arguments, {"width", "fillchar"}, 1);
  const std::string fill = parameters.Text(1, " ");
  if (Length(fill) != 1) Fail("the fill character must be exactly one character long");
  return interpreter.TextLike(self, kPad(interpreter, self.Text(), parameters.Integer(0, 0), fill));
}

Value Zfill(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("zfill", arguments, {"width"}, 1);
  const std::string& text = self.Text();
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const int64_t width = std::max<int64_t>(0, parameters.Integer(0, 0));
  return interpreter.TextLike(
      self, text.substr(0, sign) +
                PadLeft(interpreter, text.substr(sign), width - static_cast<int64_t>(sign), "0"));
}

Value ExpandTabs(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("expandtabs", arguments, {"tabsize"});
  const int64_t size = parameters.Integer(0, 8);
  std::string out;
  int64_t column = 0;
  const std::string& text = self.Text();
  for (size_t pos = 0; pos < text.size();) {
    const size_t start = pos;
    const char32_t c = NextCodePoint(text, &pos);
    if (c == '\t') {
      if (size > 0) {
        const int64_t blanks = size - column % size;
        interpreter.heap().Step(1 + static_cast<uint64_t>(blanks) / 64);
        interpreter.heap().Check(out.size() + static_cast<uint64_t>(blanks));
        out.append(static_cast<size_t>(blanks), ' ');
        column += blanks;
      }
      continue;
    }
    column = c == '\n' || c == '\r' ? 0 : column + 1;
    out.append(text, start, pos - start);
  }
  return interpreter.TextLike(self, std::move(out));
}

constexpr Native kStringMethods[] = {
    {"capitalize", Mapped<Capitalize>},
    {"casefold", Mapped<CaseFold>},
    {"center", Pad<Center>},
    {"count", Count},
    {"endswith", HasAffix<false>},
    {"expandtabs", ExpandTabs},
    {"find", FindMethodOf<false, false>},
    {"format", Format},
    {"index", FindMethodOf<false, true>},
    {"isalnum", AllOf<IsAlnum>},
    {"isalpha", AllOf<IsAlpha>},
    {"isascii", IsAsciiMethod},
    {"isdecimal", AllOf<IsDecimal>},
    {"isdigit", AllOf<IsDigit>},
    {"isidentifier", IsIdentifier},
    {"islower", IsCase<false>},
    {"isnumeric", AllOf<IsNumeric>},
    {"isprintable", IsPrintableMethod},
    {"isspace", AllOf<IsSpace>},
    {"istitle", IsTitleMethod},
    {"isupper", IsCase<true>},
    {"join", Join},
    {"ljust", Pad<PadRight>},
    {"lower", Mapped<ToLower>},
    {"lstrip", StripMethod<true, false>},
    {"partition", Partition<false>},
    {"removeprefix", RemoveAffix<true>},
    {"removesuffix", RemoveAffix<false>},
    {"replace", Replace},
    {"rfind", FindMethodOf<true, false>},
    {"rindex", FindMethodOf<true, true>},
    {"rjust", Pad<PadLeft>},
    {"rpartition", Partition<true>},
    {"rsplit", Split<true>},
    {"rstrip", StripMethod<false, true>},
    {"split", Split<false>},
    {"splitlines", SplitLinesMethod},
    {"startswith", HasAffix<true>},
    {"strip", StripMethod<true, true>},
    {"swapcase", Mapped<SwapCase>},
    {"title", Mapped<ToTitle>},
    {"upper", Mapped<ToUpper>},
    {"zfill", Zfill},
};

}  // namespace

NativeTable StringMethods() { return {std::begin(kStringMethods), std::end(kStringMethods)}; }

}  // namespace ink::jinja
