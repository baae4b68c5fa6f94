// TranslateRegex: from Oniguruma's Ruby syntax to PCRE2's.
#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <utility>

#include "text/split_regex.h"
#include "text/unicode.h"

namespace ink {
namespace {

constexpr int kMaxClassDepth = 16;
constexpr size_t kMaxPatternBytes = 1 << 16;

// Bodies of character classes.
constexpr std::string_view kSpace =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpace = R"(\P{White_Space})";
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kHex = "0-9A-Fa-f";

// Long names of general categories, lower case without separators.
constexpr std::array<std::pair<std::string_view, std::string_view>, 38> kCategoryNames = {{
    {"letter", "L"},
    {"casedletter", "L&"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"combiningmark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"privateuse", "Co"},
    {"unassigned", "Cn"},
}};

// POSIX names, as [[:name:]] and \p{name}: bodies of character classes.
constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kPosixNames = {{
    {"alpha", R"(\p{Alphabetic})"},
    {"digit", R"(\p{Nd})"},
    {"alnum", R"(\p{Alphabetic}\p{Nd})"},
    {"upper", R"(\p{Uppercase})"},
    {"lower", R"(\p{Lowercase})"},
    {"space", kSpace},
    {"whitespace", kSpace},
    {"blank", R"(\t\p{Zs})"},
    {"cntrl", R"(\p{Cc})"},
    {"punct", R"(\p{P}$+<=>^`|~)"},
    {"xdigit", kHex},
    {"word", kWord},
    {"ascii", R"(\x00-\x7F)"},
    {"any", R"(\x{0}-\x{10FFFF})"},
}};

std::string Negated(std::string_view body) { return "[^" + std::string(body) + "]"; }
std::string Class(std::string_view body) { return "[" + std::string(body) + "]"; }

class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  Result<std::string> Run() {
    if (in_.size() > kMaxPatternBytes) {
      return Unsupported("a regex of " + std::to_string(in_.size()) + " bytes, at most " +
                         std::to_string(kMaxPatternBytes) + " are allowed");
    }
    if (!IsValidUtf8(in_)) return Unsupported("a regex that is not valid UTF-8");
    while (pos_ < in_.size()) INK_RETURN_IF_ERROR(Step());
    return std::move(out_);
  }

 private:
  // The value of a character class being parsed: a union of PCRE2 class bodies and of alternatives
  // that cannot be written inside one class.
  struct Set {
    std::string body;
    std::vector<std::string> alternatives;

    std::string Expression() const {
      if (alternatives.empty()) return body.empty() ? "(?!)" : Class(body);
      std::string out = "(?:";
      if (!body.empty()) out += Class(body) + "|";
      for (size_t i = 0; i < alternatives.size(); ++i) out += (i ? "|" : "") + alternatives[i];
      return out + ")";
    }
    std::string Complement() const {
      if (alternatives.empty()) return body.empty() ? R"([\x{0}-\x{10FFFF}])" : Negated(body);
      return "(?:(?!" + Expression() + R"()[\x{0}-\x{10FFFF}]))";
    }
  };

  bool At(std::string_view what) const { return in_.substr(pos_, what.size()) == what; }

  void Atom(std::string_view text) {
    atom_ = out_.size();
    out_ += text;
  }

  Status Step() {
    const char c = in_[pos_];
    switch (c) {
      case '\\':
        return Escape();
      case '[': {
        INK_ASSIGN_OR_RETURN(const std::string set, ParseClass(0));
        Atom(set);
        return OkStatus();
      }
      case '(':
        return Group();
      case ')':
        if (groups_.empty()) return Unsupported("unmatched ) in a regex");
        atom_ = groups_.back();
        groups_.pop_back();
        out_ += ')';
        ++pos_;
        return OkStatus();
      case '{':
        return Interval();
      case '*':
      case '+':
      case '?':
      case '|':
        out_ += c;
        ++pos_;
        return OkStatus();
      default: {
        const int length = Utf8Length(in_.substr(pos_));
        Atom(in_.substr(pos_, length));
        pos_ += length;
        return OkStatus();
      }
    }
  }

  Status Group() {
    groups_.push_back(out_.size());
    ++pos_;
    out_ += '(';
    if (!At("?")) return OkStatus();
    // (?imx-imx) and (?imx-imx: ): Ruby's m is PCRE2's s.
    size_t i = pos_ + 1;
    while (i < in_.size() && std::string_view("imx-").find(in_[i]) != std::string_view::npos) ++i;
    if (i > pos_ + 1 && i < in_.size() && (in_[i] == ':' || in_[i] == ')')) {
      for (size_t j = pos_; j < i; ++j) out_ += in_[j] == 'm' ? 's' : in_[j];
      pos_ = i;
      if (in_[i] == ':') {
        out_ += ':';
        ++pos_;
      }
      return OkStatus();
    }
    for (const std::string_view form : {"?:", "?=", "?!", "?>", "?<=", "?<!", "?#"}) {
      if (At(form)) {
        if (form == "?#") return Unsupported("a comment in a regex");
        out_ += form;
        pos_ += form.size();
        return OkStatus();
      }
    }
    if (At("?<")) {
      out_ += "?<";
      pos_ += 2;
      return OkStatus();
    }
    return Unsupported("the group (" + std::string(in_.substr(pos_, 3)) + " in a regex");
  }

  // {n}, {n,}, {n,m}, {,m}; anything else is a literal brace in both syntaxes.
  Status Interval() {
    size_t i = pos_ + 1;
    const auto digits = [&] {
      const size_t start = i;
      while (i < in_.size() && std::isdigit(static_cast<unsigned char>(in_[i]))) ++i;
      return in_.substr(start, i - start);
    };
    const std::string_view low = digits();
    const bool comma = i < in_.size() && in_[i] == ',';
    if (comma) ++i;
    const std::string_view high = comma ? digits() : std::string_view();
    if (i >= in_.size() || in_[i] != '}' || (low.empty() && high.empty())) {
      Atom("\\{");
      ++pos_;
      return OkStatus();
    }
    out_ += "{" + (low.empty() ? std::string("0") : std::string(low));
    if (comma) out_ += "," + std::string(high);
    out_ += "}";
    pos_ = i + 1;
    if (At("+")) {
      // In Ruby's syntax an interval has no possessive form: the + repeats it.
      out_.insert(atom_, "(?:");
      out_ += ")";
    }
    return OkStatus();
  }

  // \p{..}, \P{..}, \p{^..} at pos_ (behind the backslash): a class body, and whether negated.
  Result<std::pair<std::string, bool>> Property() {
    bool negated = in_[pos_] == 'P';
    ++pos_;
    std::string_view name;
    if (At("{")) {
      const size_t close = in_.find('}', pos_);
      if (close == std::string_view::npos) return Unsupported("\\p without } in a regex");
      name = in_.substr(pos_ + 1, close - pos_ - 1);
      pos_ = close + 1;
    } else {
      if (pos_ >= in_.size()) return Unsupported("\\p at the end of a regex");
      name = in_.substr(pos_, 1);
      ++pos_;
    }
    if (!name.empty() && name[0] == '^') {
      negated = !negated;
      name.remove_prefix(1);
    }
    std::string key;
    for (const char c : name) {
      if (c == ' ' || c == '_' || c == '-') continue;
      if (!std::isalnum(static_cast<unsigned char>(c)) && c != '&') {
        return Unsupported("the property \\p{" + std::string(name) + "} in a regex");
      }
      key += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    if (key.empty()) return Unsupported("an empty property name in a regex");
    for (const auto& [posix, body] : kPosixNames) {
      if (key == posix) return std::pair(std::string(body), negated);
    }
    for (const auto& [long_name, short_name] : kCategoryNames) {
      if (key == long_name) return std::pair("\\p{" + std::string(short_name) + "}", negated);
    }
    static constexpr std::string_view kCategories =
        " l l& lu ll lt lm lo m mn mc me n nd nl no p pc pd ps pe pi pf po s sm sc sk so z zs zl "
        "zp c cc cf cs co cn alphabetic uppercase lowercase ideographic ";
    if (kCategories.find(" " + key + " ") != std::string_view::npos) {
      key[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(key[0])));
      return std::pair("\\p{" + key + "}", negated);
    }
    if (key.starts_with("script=")) key = key.substr(7);
    return std::pair("\\p{sc:" + key + "}", negated);
  }

  // A code point escape at pos_ (behind the backslash), as \x{..}; nullopt if it is none.
  Result<std::optional<std::string>> CodePoint() {
    const char c = in_[pos_];
    const auto hex = [&](size_t start, size_t most) {
      size_t n = 0;
      while (n < most && start + n < in_.size() &&
             std::isxdigit(static_cast<unsigned char>(in_[start + n]))) {
        ++n;
      }
      return n;
    };
    const auto done = [&](std::string_view digits, size_t next) {
      pos_ = next;
      return std::optional<std::string>("\\x{" + std::string(digits) + "}");
    };
    if (c == 'u') {
      if (hex(pos_ + 1, 4) != 4) return Unsupported("\\u without four digits in a regex");
      return done(in_.substr(pos_ + 1, 4), pos_ + 5);
    }
    if (c == 'x') {
      if (pos_ + 1 < in_.size() && in_[pos_ + 1] == '{') {
        const size_t n = hex(pos_ + 2, 8);
        if (n == 0 || pos_ + 2 + n >= in_.size() || in_[pos_ + 2 + n] != '}') {
          return Unsupported("\\x{ without digits and } in a regex");
        }
        return done(in_.substr(pos_ + 2, n), pos_ + 3 + n);
      }
      const size_t n = hex(pos_ + 1, 2);
      if (n == 0) return Unsupported("\\x without digits in a regex");
      return done(in_.substr(pos_ + 1, n), pos_ + 1 + n);
    }
    static constexpr std::string_view kLetters = "tnrfaev0";
    static constexpr std::array<std::string_view, 8> kCodes = {"9", "A",  "D", "C",
                                                               "7", "1B", "B", "0"};
    const size_t i = kLetters.find(c);
    if (i != std::string_view::npos) return done(kCodes[i], pos_ + 1);
    return std::optional<std::string>();
  }

  // A class shorthand at pos_ (behind the backslash): body and whether negated.
  Result<std::optional<std::pair<std::string, bool>>> Shorthand() {
    using Found = std::optional<std::pair<std::string, bool>>;
    const char c = in_[pos_];
    const auto found = [&](std::string_view body, bool negated) {
      ++pos_;
      return Found(std::pair(std::string(body), negated));
    };
    switch (c) {
      case 's':
        return found(kSpace, false);
      case 'S':
        return found(kNotSpace, false);
      case 'w':
        return found(kWord, false);
      case 'W':
        return found(kWord, true);
      case 'd':
        return found(R"(\p{Nd})", false);
      case 'D':
        return found(R"(\P{Nd})", false);
      case 'h':
        return found(kHex, false);
      case 'H':
        return found(kHex, true);
      case 'p':
      case 'P': {
        INK_ASSIGN_OR_RETURN(auto property, Property());
        return Found(std::move(property));
      }
      default:
        return Found();
    }
  }

  Status Escape() {
    ++pos_;
    if (pos_ >= in_.size()) return Unsupported("a regex that ends in a backslash");
    INK_ASSIGN_OR_RETURN(const auto shorthand, Shorthand());
    if (shorthand) {
      Atom(shorthand->second ? Negated(shorthand->first) : Class(shorthand->first));
      return OkStatus();
    }
    const char c = in_[pos_];
    if (c == 'b' || c == 'B') {
      const std::string w = Class(kWord);
      Atom(c == 'b' ? "(?:(?<=" + w + ")(?!" + w + ")|(?<!" + w + ")(?=" + w + "))"
                    : "(?:(?<=" + w + ")(?=" + w + ")|(?<!" + w + ")(?!" + w + "))");
      ++pos_;
      return OkStatus();
    }
    if (std::string_view("AzZGRX").find(c) != std::string_view::npos || (c >= '1' && c <= '9')) {
      Atom(std::string("\\") + c);
      ++pos_;
      return OkStatus();
    }
    INK_ASSIGN_OR_RETURN(const auto code, CodePoint());
    if (code) {
      Atom(*code);
      return OkStatus();
    }
    if (std::isalnum(static_cast<unsigned char>(c))) {
      return Unsupported(std::string("the escape \\") + c + " in a regex");
    }
    const int length = Utf8Length(in_.substr(pos_));
    Atom((length == 1 ? "\\" : "") + std::string(in_.substr(pos_, length)));
    pos_ += length;
    return OkStatus();
  }

  // One character of a class as it is written in a PCRE2 class; nullopt for a shorthand, which then
  // has been added to `set`.
  Result<std::optional<std::string>> ClassAtom(Set* set) {
    if (in_[pos_] == '\\') {
      ++pos_;
      if (pos_ >= in_.size()) return Unsupported("a regex that ends in a backslash");
      INK_ASSIGN_OR_RETURN(const auto shorthand, Shorthand());
      if (shorthand) {
        const auto& [body, negated] = *shorthand;
        if (!negated) {
          set->body += body;
        } else if (body.starts_with("\\p{") && body.find('\\', 1) == std::string::npos) {
          set->body += "\\P" + body.substr(2);
        } else {
          set->alternatives.push_back(Negated(body));
        }
        return std::optional<std::string>();
      }
      INK_ASSIGN_OR_RETURN(auto code, CodePoint());
      if (code) return code;
      if (in_[pos_] == 'b') {
        ++pos_;
        return std::optional<std::string>("\\x{8}");
      }
      if (std::isalnum(static_cast<unsigned char>(in_[pos_]))) {
        return Unsupported(std::string("the escape \\") + in_[pos_] + " in a regex class");
      }
    }
    const int length = Utf8Length(in_.substr(pos_));
    std::string text(in_.substr(pos_, length));
    pos_ += length;
    if (length == 1 && !std::isalnum(static_cast<unsigned char>(text[0]))) text = "\\" + text;
    return std::optional<std::string>(std::move(text));
  }

  // A class from its [ to its ].
  Result<std::string> ParseClass(int depth) {
    if (depth >= kMaxClassDepth) return Unsupported("character classes nested too deeply");
    ++pos_;
    const bool negated = At("^");
    if (negated) ++pos_;
    Set set;
    std::vector<std::string> intersected;  // the sides before each &&
    bool first = true;
    for (;; first = false) {
      if (pos_ >= in_.size()) return Unsupported("a character class without ] in a regex");
      if (in_[pos_] == ']' && !first) break;
      if (At("[:")) {
        const size_t close = in_.find(":]", pos_);
        if (close != std::string_view::npos) {
          INK_RETURN_IF_ERROR(Posix(in_.substr(pos_ + 2, close - pos_ - 2), &set));
          pos_ = close + 2;
          continue;
        }
      }
      if (in_[pos_] == '[') {
        INK_ASSIGN_OR_RETURN(std::string inner, ParseClass(depth + 1));
        set.alternatives.push_back(std::move(inner));
        continue;
      }
      if (At("&&")) {
        pos_ += 2;
        intersected.push_back(set.Expression());
        set = Set();
        continue;
      }
      INK_ASSIGN_OR_RETURN(const auto low, ClassAtom(&set));
      if (!low) continue;
      set.body += *low;
      if (At("-") && pos_ + 1 < in_.size() && in_[pos_ + 1] != ']' && in_[pos_ + 1] != '[') {
        ++pos_;
        Set rest;
        INK_ASSIGN_OR_RETURN(const auto high, ClassAtom(&rest));
        if (high) {
          set.body += "-" + *high;
        } else {  // [a-\s]: the - is itself
          set.body += "\\-" + rest.body;
          set.alternatives.insert(set.alternatives.end(), rest.alternatives.begin(),
                                  rest.alternatives.end());
        }
      }
    }
    ++pos_;
    if (intersected.empty()) return negated ? set.Complement() : set.Expression();
    std::string all = "(?:";
    for (const std::string& side : intersected) all += "(?=" + side + ")";
    all += set.Expression() + ")";
    if (!negated) return all;
    return "(?:(?!" + all + R"()[\x{0}-\x{10FFFF}]))";
  }

  static Status Posix(std::string_view name, Set* set) {
    const bool negated = name.starts_with("^");
    if (negated) name.remove_prefix(1);
    for (const auto& [posix, body] : kPosixNames) {
      if (name != posix) continue;
      if (negated) {
        set->alternatives.push_back(Negated(body));
      } else {
        set->body += body;
      }
      return OkStatus();
    }
    return Unsupported("the class [:" + std::string(name) + ":] in a regex");
  }

  std::string_view in_;
  size_t pos_ = 0;
  std::string out_;
  size_t atom_ = 0;  // where the last atom starts in out_
  std::vector<size_t> groups_;
};

}  // namespace

Result<std::string> TranslateRegex(std::string_view pattern) { return Translator(pattern).Run(); }

}  // namespace ink
