#include "sampling/constraint/regex.h"

#include <optional>

namespace ink::constraint {
namespace {

constexpr int kMaxNesting = 200;
constexpr int kMaxRepeat = 100000;

using Kind = RegexNode::Kind;
using Assertion = RegexNode::Assertion;

RegexPtr MakeAssert(Assertion assertion) {
  auto node = std::make_shared<RegexNode>();
  node->kind = Kind::kAssert;
  node->assertion = assertion;
  return node;
}

struct Flags {
  bool ignore_case = false;
  bool dot_all = false;
  bool multiline = false;
};

class Parser {
 public:
  explicit Parser(std::vector<uint32_t> text) : text_(std::move(text)) {}

  Result<RegexPtr> Parse() {
    Flags flags;
    INK_ASSIGN_OR_RETURN(RegexPtr node, ParseAlternatives(flags, 0));
    if (!AtEnd()) return Malformed("unmatched ')'");
    return node;
  }

 private:
  bool AtEnd() const { return pos_ >= text_.size(); }
  uint32_t Peek(size_t ahead = 0) const {
    return pos_ + ahead < text_.size() ? text_[pos_ + ahead] : 0xFFFFFFFF;
  }
  bool Take(uint32_t c) {
    if (Peek() != c) return false;
    ++pos_;
    return true;
  }
  Status Malformed(const std::string& what) const {
    return InvalidArgument("regular expression, character " + std::to_string(pos_) + ": " + what);
  }
  Status Refuse(const std::string& what) const {
    return Unsupported("regular expression, character " + std::to_string(pos_) + ": " + what +
                       " cannot be enforced");
  }

  Result<RegexPtr> ParseAlternatives(Flags& flags, int depth) {
    if (depth > kMaxNesting) return Malformed("groups nested too deep");
    std::vector<RegexPtr> alternatives;
    do {
      std::vector<RegexPtr> parts;
      while (!AtEnd() && Peek() != '|' && Peek() != ')') {
        const bool group = Peek() == '(';
        INK_ASSIGN_OR_RETURN(RegexPtr atom, ParseAtom(flags, depth));
        INK_ASSIGN_OR_RETURN(atom, ParseQuantifier(std::move(atom), group));
        parts.push_back(std::move(atom));
      }
      alternatives.push_back(MakeConcat(std::move(parts)));
    } while (Take('|'));
    return MakeAlternate(std::move(alternatives));
  }

  Result<RegexPtr> ParseQuantifier(RegexPtr atom, bool group) {
    int min = 0, max = -1;
    const size_t start = pos_;
    if (Take('*')) {
    } else if (Take('+')) {
      min = 1;
    } else if (Take('?')) {
      max = 1;
    } else if (Peek() == '{') {
      ++pos_;
      const std::optional<int> low = ParseNumber();
      bool closed = false;
      if (low) {
        min = max = *low;
        if (Take(',')) {
          const std::optional<int> high = ParseNumber();
          max = high ? *high : -1;
        }
        closed = Take('}');
      }
      if (!closed) {  // Python and the web take such a brace literally
        pos_ = start;
        return atom;
      }
      if (min > kMaxRepeat || max > kMaxRepeat) return Refuse("a repeat of more than 100000");
      if (max >= 0 && max < min) return Malformed("repeat bounds out of order");
    } else {
      return atom;
    }
    if (atom->kind == Kind::kAssert && !group) return Malformed("nothing to repeat");
    if (!Take('?') && Peek() == '+') return Refuse("a possessive quantifier");
    if (Peek() == '*' || Peek() == '+' || Peek() == '?') return Malformed("nothing to repeat");
    return MakeRepeat(std::move(atom), min, max);
  }

  std::optional<int> ParseNumber() {
    if (Peek() < '0' || Peek() > '9') return std::nullopt;
    int value = 0;
    while (Peek() >= '0' && Peek() <= '9') {
      value = std::min(value * 10 + static_cast<int>(text_[pos_++] - '0'), 1000000);
    }
    return value;
  }

  RegexPtr Char(uint32_t c, const Flags& flags) {
    CharSet set = CharSet::Range(c, c);
    return MakeSet(flags.ignore_case ? FoldCase(set) : set);
  }

  Result<RegexPtr> ParseAtom(Flags& flags, int depth) {
    const uint32_t c = text_[pos_];
    switch (c) {
      case '^':
        ++pos_;
        return MakeAssert(flags.multiline ? Assertion::kLineStart : Assertion::kStart);
      case '$':
        ++pos_;
        return MakeAssert(flags.multiline ? Assertion::kLineEnd : Assertion::kEnd);
      case '.':
        ++pos_;
        return MakeSet(flags.dot_all ? CharSet::All() : LineTerminators().Complement());
      case '(':
        return ParseGroup(flags, depth);
      case '[':
        ++pos_;
        return ParseClass(flags);
      case '\\':
        ++pos_;
        return ParseEscape(flags);
      case '*':
      case '+':
      case '?':
        return Malformed("nothing to repeat");
      default:
        ++pos_;
        return Char(c, flags);
    }
  }

  Result<RegexPtr> ParseGroup(Flags& flags, int depth) {
    ++pos_;
    Flags inner = flags;
    if (Take('?')) {
      if (Peek() == '=' || Peek() == '!') return Refuse("look-ahead");
      if (Peek() == '<' && (Peek(1) == '=' || Peek(1) == '!')) return Refuse("look-behind");
      if (Peek() == '>') return Refuse("an atomic group");
      if (Peek() == '(') return Refuse("a conditional group");
      if (Peek() == 'P' && Peek(1) == '=') return Refuse("a back-reference");
      if (Take(':')) {
      } else if (Peek() == '<' || (Peek() == 'P' && Peek(1) == '<')) {
        while (!AtEnd() && Peek() != '>') ++pos_;
        if (!Take('>')) return Malformed("group name without '>'");
      } else {
        bool on = true;
        for (; !AtEnd() && Peek() != ':' && Peek() != ')'; ++pos_) {
          switch (Peek()) {
            case '-':
              on = false;
              break;
            case 'i':
              inner.ignore_case = on;
              break;
            case 's':
              inner.dot_all = on;
              break;
            case 'm':
              inner.multiline = on;
              break;
            case 'u':
              break;
            default:
              return Refuse("this group flag");
          }
        }
        if (Take(')')) {
          flags = inner;
          return MakeConcat({});
        }
        if (!Take(':')) return Malformed("group without ')'");
      }
    }
    INK_ASSIGN_OR_RETURN(RegexPtr node, ParseAlternatives(inner, depth + 1));
    if (!Take(')')) return Malformed("group without ')'");
    return node;
  }

  // After the backslash. A set of characters, or nothing where the escape is no class.
  Result<std::optional<CharSet>> ParseClassEscape() {
    const uint32_t c = Peek();
    std::optional<CharSet> set;
    switch (c) {
      case 'd':
        set = DigitChars();
        break;
      case 'D':
        set = DigitChars().Complement();
        break;
      case 'w':
        set = WordChars();
        break;
      case 'W':
        set = WordChars().Complement();
        break;
      case 's':
        set = SpaceChars();
        break;
      case 'S':
        set = SpaceChars().Complement();
        break;
      case 'p':
      case 'P': {
        std::string name;
        size_t end = pos_ + 1;
        if (end < text_.size() && text_[end] == '{') {
          for (++end; end < text_.size() && text_[end] != '}' && name.size() < 64; ++end) {
            AppendUtf8Char(text_[end], &name);
          }
          if (end >= text_.size() || text_[end] != '}') return Malformed("\\p without '}'");
        } else if (end < text_.size()) {
          AppendUtf8Char(text_[end], &name);
        }
        set = PropertyChars(name);
        if (!set) return Refuse("the character property '" + name + "'");
        if (c == 'P') set = set->Complement();
        pos_ = end;
        break;
      }
      default:
        return set;
    }
    ++pos_;
    return set;
  }

  std::optional<uint32_t> ParseHex(size_t digits) {
    uint32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const uint32_t c = Peek(i);
      uint32_t d = 0;
      if (c >= '0' && c <= '9') {
        d = c - '0';
      } else if ((c | 32) >= 'a' && (c | 32) <= 'f' && c < 128) {
        d = (c | 32) - 'a' + 10;
      } else {
        return std::nullopt;
      }
      value = value * 16 + d;
    }
    pos_ += digits;
    return value;
  }

  // After the backslash: an escape that stands for one character.
  Result<uint32_t> ParseCharEscape(bool in_class) {
    if (AtEnd()) return Malformed("a backslash at the end");
    const uint32_t c = text_[pos_++];
    switch (c) {
      case 't':
        return uint32_t{'\t'};
      case 'n':
        return uint32_t{'\n'};
      case 'r':
        return uint32_t{'\r'};
      case 'f':
        return uint32_t{'\f'};
      case 'v':
        return uint32_t{'\v'};
      case 'a':
        return uint32_t{'\a'};
      case 'e':
        return uint32_t{0x1B};
      case '0':
        if (Peek() >= '0' && Peek() <= '9') return Refuse("an octal escape");
        return uint32_t{0};
      case 'b':
        if (in_class) return uint32_t{'\b'};
        break;
      case 'c': {
        const uint32_t letter = Peek();
        if ((letter | 32) < 'a' || (letter | 32) > 'z' || letter > 127) {
          return Malformed("\\c without a letter");
        }
        ++pos_;
        return letter & 31;
      }
      case 'x': {
        const auto value = ParseHex(2);
        if (!value) return Malformed("\\x without two hexadecimal digits");
        return *value;
      }
      case 'u':
      case 'U': {
        std::optional<uint32_t> value;
        if (c == 'u' && Take('{')) {
          uint32_t v = 0;
          int digits = 0;
          while (auto d = ParseHex(1)) {
            v = v * 16 + *d;
            if (++digits > 6) break;
          }
          if (digits == 0 || !Take('}') || v > kMaxCodePoint) return Malformed("bad \\u{...}");
          value = v;
        } else {
          value = ParseHex(c == 'u' ? 4 : 8);
          if (!value) return Malformed("\\u without four hexadecimal digits");
          if (*value >= 0xD800 && *value < 0xDC00 && Peek() == '\\' && Peek(1) == 'u') {
            const size_t back = pos_;
            pos_ += 2;
            const auto low = ParseHex(4);
            if (low && *low >= 0xDC00 && *low <= 0xDFFF) {
              value = 0x10000 + ((*value - 0xD800) << 10) + (*low - 0xDC00);
            } else {
              pos_ = back;
            }
          }
        }
        if (*value > kMaxCodePoint) return Malformed("code point beyond U+10FFFF");
        if (*value >= 0xD800 && *value <= 0xDFFF) return Refuse("a lone surrogate");
        return *value;
      }
      default:
        break;
    }
    if (c >= '1' && c <= '9') return Refuse("a back-reference");
    if (c == 'k') return Refuse("a back-reference");
    const bool letter = (c | 32) >= 'a' && (c | 32) <= 'z' && c < 128;
    if (letter) {
      --pos_;
      return Malformed(std::string("unknown escape '\\") + static_cast<char>(c) + "'");
    }
    return c;  // an identity escape
  }

  Result<RegexPtr> ParseEscape(const Flags& flags) {
    switch (Peek()) {
      case 'b':
        ++pos_;
        return MakeAssert(Assertion::kWordBoundary);
      case 'B':
        ++pos_;
        return MakeAssert(Assertion::kNotWordBoundary);
      case 'A':
        ++pos_;
        return MakeAssert(Assertion::kStart);
      case 'Z':
      case 'z':
        ++pos_;
        return MakeAssert(Assertion::kEnd);
      default:
        break;
    }
    INK_ASSIGN_OR_RETURN(std::optional<CharSet> set, ParseClassEscape());
    if (set) return MakeSet(flags.ignore_case ? FoldCase(*set) : *set);
    INK_ASSIGN_OR_RETURN(const uint32_t c, ParseCharEscape(false));
    return Char(c, flags);
  }

  // After '['.
  Result<RegexPtr> ParseClass(const Flags& flags) {
    const bool negated = Take('^');
    CharSet set;
    while (true) {
      if (AtEnd()) return Malformed("character class without ']'");
      if (Take(']')) break;
      std::optional<uint32_t> low;
      INK_ASSIGN_OR_RETURN(low, ParseClassMember(&set));
      if (!low) continue;
      if (Peek() == '-' && Peek(1) != ']' && Peek(1) != 0xFFFFFFFF) {
        ++pos_;
        CharSet other;
        std::optional<uint32_t> high;
        INK_ASSIGN_OR_RETURN(high, ParseClassMember(&other));
        if (!high) return Malformed("a range that ends in a class");
        if (*high < *low) return Malformed("class range out of order");
        set.Add(*low, *high);
      } else {
        set.Add(*low, *low);
      }
    }
    if (flags.ignore_case) set = FoldCase(set);
    return MakeSet(negated ? set.Complement() : set);
  }

  // A single character, or nothing where a whole class was added to `set`.
  Result<std::optional<uint32_t>> ParseClassMember(CharSet* set) {
    if (!Take('\\')) return std::optional<uint32_t>(text_[pos_++]);
    INK_ASSIGN_OR_RETURN(const std::optional<CharSet> escaped, ParseClassEscape());
    if (escaped) {
      set->Add(*escaped);
      return std::optional<uint32_t>();
    }
    INK_ASSIGN_OR_RETURN(const uint32_t c, ParseCharEscape(true));
    return std::optional<uint32_t>(c);
  }

  std::vector<uint32_t> text_;
  size_t pos_ = 0;
};

}  // namespace

RegexPtr MakeSet(CharSet set) {
  auto node = std::make_shared<RegexNode>();
  node->kind = Kind::kSet;
  node->set = std::move(set);
  return node;
}

RegexPtr MakeConcat(std::vector<RegexPtr> parts) {
  if (parts.size() == 1) return parts[0];
  auto node = std::make_shared<RegexNode>();
  node->kind = Kind::kConcat;
  node->children = std::move(parts);
  return node;
}

RegexPtr MakeAlternate(std::vector<RegexPtr> parts) {
  if (parts.size() == 1) return parts[0];
  auto node = std::make_shared<RegexNode>();
  node->kind = Kind::kAlternate;
  node->children = std::move(parts);
  return node;
}

RegexPtr MakeRepeat(RegexPtr child, int min, int max) {
  auto node = std::make_shared<RegexNode>();
  node->kind = Kind::kRepeat;
  node->children.push_back(std::move(child));
  node->min = min;
  node->max = max;
  return node;
}

RegexPtr MakeLiteral(std::string_view text) {
  std::vector<uint32_t> characters;
  std::vector<RegexPtr> parts;
  DecodeUtf8(text, &characters);
  for (uint32_t c : characters) parts.push_back(MakeSet(CharSet::Range(c, c)));
  return MakeConcat(std::move(parts));
}

Result<RegexPtr> ParseRegex(std::string_view pattern) {
  if (pattern.size() > 65536) {
    return InvalidArgument("regular expression of " + std::to_string(pattern.size()) +
                           " bytes, at most 65536 are accepted");
  }
  std::vector<uint32_t> text;
  if (!DecodeUtf8(pattern, &text)) return InvalidArgument("regular expression is not UTF-8");
  return Parser(std::move(text)).Parse();
}

}  // namespace ink::constraint
