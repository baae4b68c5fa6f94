// GBNF: parsed into expressions; what is regular becomes one automaton, the rest becomes rules.
#include <algorithm>
#include <map>

#include "sampling/constraint/grammar.h"

namespace ink::constraint {
namespace {

constexpr int kMaxNesting = 200;
constexpr int kMaxRepeat = 2000;
constexpr size_t kMaxTextBytes = size_t{1} << 20;
constexpr size_t kMaxRegexSize = 20000;
constexpr size_t kMaxCode = 500000;

struct Expression;
using ExpressionPtr = std::shared_ptr<const Expression>;
struct Expression {
  enum class Kind { kRegex, kRule, kConcat, kAlternate, kRepeat } kind = Kind::kConcat;
  RegexPtr regex;
  int32_t rule = 0;
  std::vector<ExpressionPtr> children;
  int min = 0, max = -1;
};

class GbnfParser {
 public:
  explicit GbnfParser(std::string_view text) : text_(text) {}

  Status Parse() {
    if (text_.size() > kMaxTextBytes) {
      return InvalidArgument("grammar of " + std::to_string(text_.size()) + " bytes, at most " +
                             std::to_string(kMaxTextBytes) + " are accepted");
    }
    RuleId("root");
    SkipSpace(true);
    while (pos_ < text_.size()) {
      const std::string name = ParseName();
      if (name.empty()) return Malformed("a rule name is expected");
      SkipSpace(false);
      if (text_.substr(pos_, 3) != "::=") return Malformed("'::=' is expected");
      pos_ += 3;
      SkipSpace(true);
      const int32_t id = RuleId(name);
      if (bodies_[id] != nullptr) return Malformed("rule '" + name + "' is defined twice");
      INK_ASSIGN_OR_RETURN(bodies_[id], ParseAlternatives(0));
      if (pos_ < text_.size() && text_[pos_] != '\n' && text_[pos_] != '\r') {
        return Malformed("a line end is expected after the rule");
      }
      SkipSpace(true);
    }
    for (size_t i = 0; i < bodies_.size(); ++i) {
      if (bodies_[i] == nullptr) {
        return InvalidArgument("grammar: rule '" + names_[i] + "' is not defined");
      }
    }
    return OkStatus();
  }

  std::vector<std::string> names_;
  std::vector<ExpressionPtr> bodies_;

 private:
  Status Malformed(const std::string& what) const {
    const auto line =
        1 + std::count(text_.begin(),
                       text_.begin() + static_cast<ptrdiff_t>(std::min(pos_, text_.size())), '\n');
    return InvalidArgument("grammar, line " + std::to_string(line) + ": " + what);
  }

  int32_t RuleId(const std::string& name) {
    const auto [it, inserted] = ids_.emplace(name, static_cast<int32_t>(names_.size()));
    if (inserted) {
      names_.push_back(name);
      bodies_.emplace_back();
    }
    return it->second;
  }

  void SkipSpace(bool lines) {
    while (pos_ < text_.size()) {
      const char c = text_[pos_];
      if (c == '#') {
        while (pos_ < text_.size() && text_[pos_] != '\n' && text_[pos_] != '\r') ++pos_;
      } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
        ++pos_;
      } else {
        break;
      }
    }
  }

  static bool IsNameChar(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  }

  std::string ParseName() {
    const size_t start = pos_;
    while (pos_ < text_.size() && IsNameChar(text_[pos_])) ++pos_;
    return std::string(text_.substr(start, pos_ - start));
  }

  Result<ExpressionPtr> ParseAlternatives(int depth) {
    if (depth > kMaxNesting) return Malformed("parentheses nested too deep");
    auto node = std::make_shared<Expression>();
    node->kind = Expression::Kind::kAlternate;
    while (true) {
      INK_ASSIGN_OR_RETURN(ExpressionPtr sequence, ParseSequence(depth));
      node->children.push_back(std::move(sequence));
      SkipSpace(depth > 0);
      if (pos_ >= text_.size() || text_[pos_] != '|') break;
      ++pos_;
      SkipSpace(true);
    }
    return ExpressionPtr(node->children.size() == 1 ? node->children[0] : node);
  }

  Result<ExpressionPtr> ParseSequence(int depth) {
    auto node = std::make_shared<Expression>();
    while (true) {
      SkipSpace(depth > 0);
      if (pos_ >= text_.size()) break;
      const char c = text_[pos_];
      ExpressionPtr item;
      if (c == '"') {
        INK_ASSIGN_OR_RETURN(item, ParseString());
      } else if (c == '[') {
        INK_ASSIGN_OR_RETURN(item, ParseClass());
      } else if (c == '.') {
        ++pos_;
        item = MakeRegex(MakeSet(CharSet::All()));
      } else if (c == '(') {
        ++pos_;
        INK_ASSIGN_OR_RETURN(item, ParseAlternatives(depth + 1));
        SkipSpace(true);
        if (pos_ >= text_.size() || text_[pos_] != ')') return Malformed("')' is expected");
        ++pos_;
      } else if (c == '<' || c == '!') {
        return Unsupported("grammar: references to tokens (<...>) cannot be enforced on bytes");
      } else if (IsNameChar(c)) {
        auto rule = std::make_shared<Expression>();
        rule->kind = Expression::Kind::kRule;
        rule->rule = RuleId(ParseName());
        item = std::move(rule);
      } else {
        break;
      }
      while (pos_ < text_.size()) {
        INK_ASSIGN_OR_RETURN(ExpressionPtr repeated, ParseRepeat(item));
        if (repeated == item) break;
        item = std::move(repeated);
      }
      node->children.push_back(std::move(item));
    }
    return ExpressionPtr(node->children.size() == 1 ? node->children[0] : node);
  }

  Result<ExpressionPtr> ParseRepeat(const ExpressionPtr& item) {
    const size_t start = pos_;
    SkipSpace(false);
    int min = 0, max = -1;
    const char c = pos_ < text_.size() ? text_[pos_] : '\0';
    if (c == '*' || c == '+' || c == '?') {
      ++pos_;
      min = c == '+' ? 1 : 0;
      max = c == '?' ? 1 : -1;
    } else if (c == '{') {
      ++pos_;
      int* bound = &min;
      bool comma = false, digits[2] = {false, false};
      max = 0;
      for (; pos_ < text_.size() && text_[pos_] != '}'; ++pos_) {
        const char d = text_[pos_];
        if (d >= '0' && d <= '9') {
          *bound = std::min(*bound * 10 + (d - '0'), 1000000);
          digits[comma] = true;
        } else if (d == ',' && !comma) {
          comma = true;
          bound = &max;
        } else if (d != ' ' && d != '\t') {
          return Malformed("a repeat is {m}, {m,} or {m,n}");
        }
      }
      if (pos_ >= text_.size() || (!digits[0] && !digits[1])) {
        return Malformed("a repeat is {m}, {m,} or {m,n}");
      }
      ++pos_;
      if (!comma) {
        max = min;
      } else if (!digits[1]) {
        max = -1;
      }
      if (max >= 0 && max < min) return Malformed("repeat bounds out of order");
      if (min > kMaxRepeat || max > kMaxRepeat) {
        return Malformed("a repeat of more than " + std::to_string(kMaxRepeat));
      }
    } else {
      pos_ = start;
      return item;
    }
    auto node = std::make_shared<Expression>();
    node->kind = Expression::Kind::kRepeat;
    node->children.push_back(item);
    node->min = min;
    node->max = max;
    return ExpressionPtr(std::move(node));
  }

  static ExpressionPtr MakeRegex(RegexPtr regex) {
    auto node = std::make_shared<Expression>();
    node->kind = Expression::Kind::kRegex;
    node->regex = std::move(regex);
    return node;
  }

  // One character of a literal or class, escapes resolved.
  Result<uint32_t> ParseChar() {
    if (text_[pos_] == '\\') {
      ++pos_;
      if (pos_ >= text_.size()) return Malformed("a backslash at the end");
      const char c = text_[pos_++];
      int digits = 0;
      switch (c) {
        case 'n':
          return uint32_t{'\n'};
        case 'r':
          return uint32_t{'\r'};
        case 't':
          return uint32_t{'\t'};
        case '\\':
        case '"':
        case '[':
        case ']':
        case '-':
        case '^':
        case '/':
          return static_cast<uint32_t>(c);
        case 'x':
          digits = 2;
          break;
        case 'u':
          digits = 4;
          break;
        case 'U':
          digits = 8;
          break;
        default:
          return Malformed(std::string("unknown escape '\\") + c + "'");
      }
      uint32_t value = 0;
      for (int i = 0; i < digits; ++i, ++pos_) {
        const char d = pos_ < text_.size() ? text_[pos_] : '\0';
        if (d >= '0' && d <= '9') {
          value = value * 16 + static_cast<uint32_t>(d - '0');
        } else if ((d | 32) >= 'a' && (d | 32) <= 'f') {
          value = value * 16 + static_cast<uint32_t>((d | 32) - 'a' + 10);
        } else {
          return Malformed("an escape lacks hexadecimal digits");
        }
      }
      if (value > kMaxCodePoint || (value >= 0xD800 && value <= 0xDFFF)) {
        return Malformed("an escape is no character");
      }
      return value;
    }
    size_t length = 1;
    const auto lead = static_cast<uint8_t>(text_[pos_]);
    if (lead >= 0xC0) length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    std::vector<uint32_t> decoded;
    if (!DecodeUtf8(text_.substr(pos_, length), &decoded) || decoded.size() != 1) {
      return Malformed("not UTF-8");
    }
    pos_ += length;
    return decoded[0];
  }

  Result<ExpressionPtr> ParseString() {
    ++pos_;
    std::vector<RegexPtr> parts;
    while (true) {
      if (pos_ >= text_.size()) return Malformed("a text without closing quote");
      if (text_[pos_] == '"') break;
      INK_ASSIGN_OR_RETURN(const uint32_t c, ParseChar());
      parts.push_back(MakeSet(CharSet::Range(c, c)));
    }
    ++pos_;
    return MakeRegex(MakeConcat(std::move(parts)));
  }

  Result<ExpressionPtr> ParseClass() {
    ++pos_;
    bool negated = false;
    if (pos_ < text_.size() && text_[pos_] == '^') {
      negated = true;
      ++pos_;
    }
    CharSet set;
    while (true) {
      if (pos_ >= text_.size()) return Malformed("a character class without ']'");
      if (text_[pos_] == ']') break;
      INK_ASSIGN_OR_RETURN(const uint32_t low, ParseChar());
      uint32_t high = low;
      if (pos_ + 1 < text_.size() && text_[pos_] == '-' && text_[pos_ + 1] != ']') {
        ++pos_;
        INK_ASSIGN_OR_RETURN(high, ParseChar());
        if (high < low) return Malformed("class range out of order");
      }
      set.Add(low, high);
    }
    ++pos_;
    return MakeRegex(MakeSet(negated ? set.Complement() : set));
  }

  std::string_view text_;
  size_t pos_ = 0;
  std::map<std::string, int32_t> ids_;
};

class GbnfCompiler {
 public:
  GbnfCompiler(const GbnfParser& parser, size_t max_states, Grammar* grammar)
      : parser_(parser), max_states_(std::min<size_t>(max_states, 4000)), grammar_(*grammar) {}

  Status Run() {
    const size_t n = parser_.bodies_.size();
    recursive_.assign(n, 0);
    for (size_t r = 0; r < n; ++r) recursive_[r] = Reaches(r);
    rule_regex_.resize(n);
    rule_done_.assign(n, 0);
    base_ = static_cast<int32_t>(grammar_.rules.size());
    for (size_t r = 0; r < n; ++r) grammar_.AddRule();
    for (size_t r = 0; r < n; ++r) {
      INK_RETURN_IF_ERROR(CompileRule(base_ + static_cast<int32_t>(r), parser_.bodies_[r]));
    }
    return OkStatus();
  }

 private:
  void Calls(const ExpressionPtr& e, std::vector<int32_t>* out) const {
    if (e->kind == Expression::Kind::kRule) out->push_back(e->rule);
    for (const ExpressionPtr& child : e->children) Calls(child, out);
  }

  bool Reaches(size_t rule) const {
    std::vector<bool> seen(parser_.bodies_.size(), false);
    std::vector<int32_t> stack;
    Calls(parser_.bodies_[rule], &stack);
    while (!stack.empty()) {
      const int32_t x = stack.back();
      stack.pop_back();
      if (x == static_cast<int32_t>(rule)) return true;
      if (seen[x]) continue;
      seen[x] = true;
      Calls(parser_.bodies_[x], &stack);
    }
    return false;
  }

  struct Sized {
    RegexPtr regex;  // null: not regular, or too large
    size_t size = 0;
  };

  Sized RuleRegex(int32_t rule) {
    if (recursive_[rule]) return {};
    if (!rule_done_[rule]) {
      rule_done_[rule] = 1;
      rule_regex_[rule] = ToRegex(parser_.bodies_[rule]);
    }
    return rule_regex_[rule];
  }

  // Recursion is bounded by the depth of expressions and, through rules, by their number: only
  // rules that do not reach themselves are followed.
  Sized ToRegex(const ExpressionPtr& e) {
    Sized out;
    switch (e->kind) {
      case Expression::Kind::kRegex:
        out.regex = e->regex;
        out.size = 1 + e->regex->children.size();
        return out;
      case Expression::Kind::kRule:
        if (++depth_ > 500) {
          --depth_;
          return out;
        }
        out = RuleRegex(e->rule);
        --depth_;
        return out;
      case Expression::Kind::kRepeat: {
        const Sized child = ToRegex(e->children[0]);
        const size_t times = static_cast<size_t>(std::max({e->min, e->max, 1}));
        if (child.regex == nullptr || child.size > kMaxRegexSize / times) return out;
        out.regex = MakeRepeat(child.regex, e->min, e->max);
        out.size = child.size * times + 1;
        return out;
      }
      default: {
        std::vector<RegexPtr> parts;
        for (const ExpressionPtr& child : e->children) {
          const Sized part = ToRegex(child);
          out.size += part.size + 1;
          if (part.regex == nullptr || out.size > kMaxRegexSize) return {};
          parts.push_back(part.regex);
        }
        out.regex = e->kind == Expression::Kind::kConcat ? MakeConcat(std::move(parts))
                                                         : MakeAlternate(std::move(parts));
        return out;
      }
    }
  }

  // A symbol for a regular expression, or false where it is none (or needs too many states).
  bool TryText(const ExpressionPtr& e, Symbol* symbol) {
    const Sized sized = ToRegex(e);
    if (sized.regex == nullptr) return false;
    if (auto it = texts_.find(sized.regex); it != texts_.end()) {
      *symbol = it->second;
      return true;
    }
    const Result<Dfa> dfa = RegexDfa(sized.regex, false, max_states_);
    if (!dfa.ok()) return false;
    const Result<Symbol> text = grammar_.AddText(std::make_shared<Dfa>(*dfa));
    if (!text.ok()) return false;  // matches nothing: the parts say so
    *symbol = *text;
    texts_.emplace(sized.regex, *text);
    return true;
  }

  Status CompileRule(int32_t rule, const ExpressionPtr& body) {
    std::vector<ExpressionPtr> alternatives = {body};
    Symbol whole;
    if (TryText(body, &whole)) {
      grammar_.AddAlternative(rule, {whole});
      return OkStatus();
    }
    if (body->kind == Expression::Kind::kAlternate) alternatives = body->children;
    for (const ExpressionPtr& alternative : alternatives) {
      std::vector<Symbol> symbols;
      INK_RETURN_IF_ERROR(CompileInto(alternative, &symbols));
      grammar_.AddAlternative(rule, std::move(symbols));
      if (grammar_.code.size() > kMaxCode) {
        return Unsupported("grammar: it expands to more than " + std::to_string(kMaxCode) +
                           " symbols");
      }
    }
    return OkStatus();
  }

  Status CompileInto(const ExpressionPtr& e, std::vector<Symbol>* out) {
    Symbol text;
    if (TryText(e, &text)) {
      out->push_back(text);
      return OkStatus();
    }
    switch (e->kind) {
      case Expression::Kind::kRegex: {
        // Only a set that holds nothing, or a literal with one, gets here.
        const int32_t never = grammar_.AddRule();
        out->push_back({Symbol::Kind::kRule, never});
        return OkStatus();
      }
      case Expression::Kind::kRule:
        out->push_back({Symbol::Kind::kRule, base_ + e->rule});
        return OkStatus();
      case Expression::Kind::kConcat:
        return CompileConcat(*e, out);
      case Expression::Kind::kAlternate: {
        const int32_t rule = grammar_.AddRule();
        INK_RETURN_IF_ERROR(CompileRule(rule, e));
        out->push_back({Symbol::Kind::kRule, rule});
        return OkStatus();
      }
      case Expression::Kind::kRepeat: {
        const int32_t item = grammar_.AddRule();
        INK_RETURN_IF_ERROR(CompileRule(item, e->children[0]));
        const Symbol one = {Symbol::Kind::kRule, item};
        for (int i = 0; i < e->min; ++i) out->push_back(one);
        if (e->max < 0) {
          const int32_t loop = grammar_.AddRule();
          grammar_.AddAlternative(loop, {});
          grammar_.AddAlternative(loop, {one, {Symbol::Kind::kRule, loop}});
          out->push_back({Symbol::Kind::kRule, loop});
          return OkStatus();
        }
        // Nested: each further one is optional only after the one before.
        int32_t rest = -1;
        for (int i = e->min; i < e->max; ++i) {
          const int32_t rule = grammar_.AddRule();
          grammar_.AddAlternative(rule, {});
          std::vector<Symbol> more = {one};
          if (rest >= 0) more.push_back({Symbol::Kind::kRule, rest});
          grammar_.AddAlternative(rule, std::move(more));
          rest = rule;
        }
        if (rest >= 0) out->push_back({Symbol::Kind::kRule, rest});
        return OkStatus();
      }
    }
    return OkStatus();
  }

  // Neighbours that are regular together become one text.
  Status CompileConcat(const Expression& e, std::vector<Symbol>* out) {
    for (size_t i = 0; i < e.children.size();) {
      size_t end = i;
      while (end < e.children.size() && ToRegex(e.children[end]).regex != nullptr) ++end;
      bool joined = false;
      for (size_t stop = end; stop > i + 1 && !joined; stop = i + (stop - i) / 2) {
        auto run = std::make_shared<Expression>();
        run->children.assign(e.children.begin() + static_cast<ptrdiff_t>(i),
                             e.children.begin() + static_cast<ptrdiff_t>(stop));
        Symbol text;
        if (!TryText(run, &text)) continue;
        out->push_back(text);
        i = stop;
        joined = true;
      }
      if (joined) continue;
      INK_RETURN_IF_ERROR(CompileInto(e.children[i], out));
      ++i;
    }
    return OkStatus();
  }

  const GbnfParser& parser_;
  size_t max_states_;
  Grammar& grammar_;
  std::vector<uint8_t> recursive_, rule_done_;
  std::vector<Sized> rule_regex_;
  std::map<RegexPtr, Symbol> texts_;
  int32_t base_ = 0;  // the grammar's number of the first rule
  int depth_ = 0;
};

}  // namespace

Result<int32_t> ParseGbnf(std::string_view text, size_t max_states, Grammar* grammar) {
  GbnfParser parser(text);
  INK_RETURN_IF_ERROR(parser.Parse());
  const auto first = static_cast<int32_t>(grammar->rules.size());
  INK_RETURN_IF_ERROR(GbnfCompiler(parser, max_states, grammar).Run());
  grammar->rule_names.resize(static_cast<size_t>(first));
  grammar->rule_names.insert(grammar->rule_names.end(), parser.names_.begin(), parser.names_.end());
  return first;
}

}  // namespace ink::constraint
