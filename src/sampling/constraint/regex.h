// Regular expressions as languages: what matters is which texts match, not how.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "sampling/constraint/charset.h"

namespace ink::constraint {

struct RegexNode;
using RegexPtr = std::shared_ptr<const RegexNode>;

struct RegexNode {
  enum class Kind {
    kSet,     // one character of `set`
    kConcat,  // children in order; none: the empty text
    kAlternate,
    kRepeat,  // child 0, min to max times; max -1: no limit
    kAssert,  // `assertion` holds here
  };
  enum class Assertion { kStart, kEnd, kLineStart, kLineEnd, kWordBoundary, kNotWordBoundary };

  Kind kind = Kind::kConcat;
  CharSet set;
  std::vector<RegexPtr> children;
  int min = 0;
  int max = -1;
  Assertion assertion = Assertion::kStart;
};

RegexPtr MakeSet(CharSet set);
RegexPtr MakeConcat(std::vector<RegexPtr> parts);
RegexPtr MakeAlternate(std::vector<RegexPtr> parts);
RegexPtr MakeRepeat(RegexPtr child, int min, int max);
/// Exactly this text (UTF-8).
RegexPtr MakeLiteral(std::string_view text);

/// Parses ECMA-262 syntax as with the u flag, and what Python adds: (?P<name>...), \A, \Z,
/// (?i), (?s), (?m) at the start or as (?i:...). Lazy quantifiers match the same language as greedy
/// ones. Errors: kInvalidArgument (malformed), kUnsupported (look-around, back-references, unknown
/// properties), with the offset.
Result<RegexPtr> ParseRegex(std::string_view pattern);

}  // namespace ink::constraint
