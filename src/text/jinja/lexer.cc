#include "text/jinja/lexer.h"

#include <charconv>
#include <cstdlib>

#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                           "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                           ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

[[noreturn]] void FailAt(int line, std::string message) {
  throw TemplateError{StatusCode::kInvalidArgument, std::move(message), line};
}

// "\r\n" and "\r" become "\n"; one line end at the very end is no part of the template.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      out += '\n';
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool IsDigitByte(char c) { return c >= '0' && c <= '9'; }

int HexValue(char c) {
  if (IsDigitByte(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The escapes of a Python string literal.
std::string Unescape(std::string_view text, int line) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char c = text[++i];
    static constexpr std::string_view kLetters = "abfnrtv\\'\"";
    static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    if (const size_t letter = kLetters.find(c); letter != std::string_view::npos) {
      out += kMeanings[letter];
    } else if (c == '\n') {
      // A backslash at a line's end joins the lines.
    } else if (c >= '0' && c <= '7') {
      char32_t code = 0;
      size_t digits = 0;
      while (digits < 3 && i + digits < text.size() && text[i + digits] >= '0' &&
             text[i + digits] <= '7') {
        code = code * 8 + static_cast<char32_t>(text[i + digits] - '0');
        ++digits;
      }
      i += digits - 1;
      AppendUtf8(code, &out);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      char32_t code = 0;
      for (size_t k = 1; k <= digits; ++k) {
        const int value = i + k < text.size() ? HexValue(text[i + k]) : -1;
        if (value < 0) FailAt(line, std::string("truncated \\") + c + " escape in a string");
        code = code << 4 | static_cast<char32_t>(value);
      }
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
        FailAt(line, std::string("a \\") + c + " escape in a string names no character");
      }
      i += digits;
      AppendUtf8(code, &out);
    } else if (c == 'N') {
      FailAt(line, "\\N{name} escapes are not supported in strings");
    } else {
      out += '\\';
      out += c;
    }
  }
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(NormalizeNewlines(source)) {}

  std::vector<Token> Run() {
    while (pos_ < source_.size()) {
      LexData();
    }
    Emit(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  bool LooksAt(std::string_view text, size_t at) const {
    return source_.compare(at, text.size(), text) == 0;
  }

  size_t SkipSpace(size_t at) const {
    while (at < source_.size()) {
      size_t next = at;
      if (!IsSpace(NextCodePoint(source_, &next))) break;
      at = next;
    }
    return at;
  }

  void Advance(size_t to) {
    for (size_t i = pos_; i < to; ++i) line_ += source_[i] == '\n' ? 1 : 0;
    pos_ = to;
  }

  Token& Emit(TokenKind kind, std::string text) {
    Token token;
    token.kind = kind;
    token.line = line_;
    token.text = std::move(text);
    tokens_.push_back(std::move(token));
    return tokens_.back();
  }

  // The sign after an opening delimiter: '-', '+' or none.
  char SignAt(size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }

  // Text from pos_ to `end` in front of a tag: "-" strips all white space, otherwise the blanks of
  // a line that holds nothing else before a block or comment go (lstrip_blocks).
  void EmitData(size_t end, char sign, bool variable) {
    std::string_view text = std::string_view(source_).substr(pos_, end - pos_);
    if (sign == '-') {
      text = StripRight(text);
    } else if (sign != '+' && !variable) {
      const size_t newline = text.rfind('\n');
      const size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
      if ((line_start > 0 || line_starting_) && Strip(text.substr(line_start)).empty()) {
        text = text.substr(0, line_start);
      }
    }
    if (!text.empty()) Emit(TokenKind::kData, std::string(text));
    Advance(end);
  }

  // After a closing delimiter that ends at `at`: "-" eats white space, otherwise blocks and
  // comments eat one line end (trim_blocks).
  void FinishTag(size_t at, char sign, bool trim) {
    size_t end = at;
    if (sign == '-') {
      end = SkipSpace(at);
    } else if (sign != '+' && trim && end < source_.size() && source_[end] == '\n') {
      ++end;
    }
    line_starting_ = end > 0 && source_[end - 1] == '\n';
    Advance(end);
  }

  // "{% raw %}" at `at`, which begins a block: the position behind it, or 0. The closing may carry
  // a "-" but no line end is trimmed.
  size_t RawBegin(size_t at) const {
    size_t p = at + 2;
    if (SignAt(p) != '\0') ++p;
    p = SkipSpace(p);
    if (!LooksAt("raw", p)) return 0;
    p = SkipSpace(p + 3);
    if (LooksAt("-%}", p)) return SkipSpace(p + 3);
    return LooksAt("%}", p) ? p + 2 : 0;
  }

  void LexData() {
    size_t tag = pos_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        EmitData(source_.size(), '+', true);
        return;
      }
      const char c = source_[tag + 1];
      if (c == '{' || c == '%' || c == '#') break;
      ++tag;
    }
    const char c = source_[tag + 1];
    const char sign = SignAt(tag + 2);
    EmitData(tag, sign, c == '{');
    if (c == '#') {
      LexComment();
    } else if (const size_t raw = c == '%' ? RawBegin(tag) : 0; raw != 0) {
      line_starting_ = source_[raw - 1] == '\n';
      Advance(raw);
      LexRaw();
    } else {
      Emit(c == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, "");
      Advance(tag + 2 + (sign != '\0' ? 1 : 0));
      LexTag(c == '{');
    }
  }

  void LexComment() {
    const size_t start = pos_ + 2 + (SignAt(pos_ + 2) != '\0' ? 1 : 0);
    const size_t end = source_.find("#}", start);
    if (end == std::string::npos) FailAt(line_, "a comment is not closed with #}");
    const char sign = end > start ? source_[end - 1] : '\0';
    FinishTag(end + 2, sign == '-' || sign == '+' ? sign : '\0', true);
  }

  void LexRaw() {
    for (size_t at = pos_; (at = source_.find("{%", at)) != std::string::npos; ++at) {
      const char sign = SignAt(at + 2);
      size_t p = SkipSpace(at + 2 + (sign != '\0' ? 1 : 0));
      if (!LooksAt("endraw", p)) continue;
      p = SkipSpace(p + 6);
      char end_sign = SignAt(p);
      if (end_sign != '\0') ++p;
      if (!LooksAt("%}", p)) continue;
      EmitData(at, sign, false);
      FinishTag(p + 2, end_sign, true);
      return;
    }
    FailAt(line_, "a raw block is not closed with {% endraw %}");
  }

  // Tokens up to and including the closing delimiter, which counts only outside of brackets.
  void LexTag(bool variable) {
    std::string brackets;
    const std::string_view closing = variable ? "}}" : "%}";
    while (true) {
      Advance(SkipSpace(pos_));
      if (pos_ >= source_.size()) {
        return;  // the parser says what is missing
      }
      if (brackets.empty()) {
        const char sign = SignAt(pos_);
        const bool signed_end = sign != '\0' && (sign == '-' || !variable);
        if ((signed_end && LooksAt(closing, pos_ + 1)) || LooksAt(closing, pos_)) {
          const bool with_sign = !LooksAt(closing, pos_);
          Emit(variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, "");
          FinishTag(pos_ + 2 + (with_sign ? 1 : 0), with_sign ? sign : '\0', !variable);
          return;
        }
      }
      LexToken(&brackets);
    }
  }

  void LexToken(std::string* brackets) {
    const char c = source_[pos_];
    if (IsDigitByte(c)) {
      LexNumber();
      return;
    }
    if (c == '"' || c == '\'') {
      LexString(c);
      return;
    }
    size_t end = pos_;
    if (IsIdentifierStart(NextCodePoint(source_, &end))) {
      while (end < source_.size()) {
        size_t next = end;
        if (!IsIdentifierPart(NextCodePoint(source_, &next))) break;
        end = next;
      }
      Emit(TokenKind::kName, source_.substr(pos_, end - pos_));
      Advance(end);
      return;
    }
    for (const std::string_view op : kOperators) {
      if (!LooksAt(op, pos_)) continue;
      if (op == "(" || op == "[" || op == "{") {
        if (brackets->size() > 200) FailAt(line_, "brackets are nested too deeply");
        brackets->push_back(op == "(" ? ')' : op == "[" ? ']' : '}');
      } else if (op == ")" || op == "]" || op == "}") {
        if (brackets->empty()) FailAt(line_, "unexpected '" + std::string(op) + "'");
        if (brackets->back() != op[0]) {
          FailAt(line_,
                 "unexpected '" + std::string(op) + "', expected '" + brackets->back() + "'");
        }
        brackets->pop_back();
      }
      Emit(TokenKind::kOperator, std::string(op));
      Advance(pos_ + op.size());
      return;
    }
    FailAt(line_, "unexpected character " + ReprString(source_.substr(pos_, end - pos_)));
  }

  void LexString(char quote) {
    size_t end = pos_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) FailAt(line_, "a string is not closed");
    Emit(TokenKind::kString,
         Unescape(std::string_view(source_).substr(pos_ + 1, end - pos_ - 1), line_));
    Advance(end + 1);
  }

  // Digits with single underscores between them; the position behind them.
  template <typename IsOne>
  size_t Digits(size_t at, IsOne is_one) const {
    while (at < source_.size() &&
           (is_one(source_[at]) ||
            (source_[at] == '_' && at + 1 < source_.size() && is_one(source_[at + 1])))) {
      ++at;
    }
    return at;
  }

  void LexNumber() {
    // After a dot ("list.0.name") the number is an index, never the start of a float.
    const bool after_dot = pos_ > 0 && source_[pos_ - 1] == '.';
    size_t end = Digits(pos_, IsDigitByte);
    bool is_float = false;
    if (!after_dot) {
      size_t fraction = end;
      if (fraction + 1 < source_.size() && source_[fraction] == '.' &&
          IsDigitByte(source_[fraction + 1])) {
        fraction = Digits(fraction + 1, IsDigitByte);
        is_float = true;
      }
      size_t exponent = fraction;
      if (exponent < source_.size() && (source_[exponent] == 'e' || source_[exponent] == 'E')) {
        ++exponent;
        if (SignAt(exponent) != '\0') ++exponent;
        if (exponent < source_.size() && IsDigitByte(source_[exponent])) {
          fraction = Digits(exponent, IsDigitByte);
          is_float = true;
        }
      }
      if (is_float) end = fraction;
    }
    if (is_float) {
      std::string digits;
      for (size_t i = pos_; i < end; ++i) {
        if (source_[i] != '_') digits += source_[i];
      }
      Emit(TokenKind::kFloat, source_.substr(pos_, end - pos_)).floating =
          std::strtod(digits.c_str(), nullptr);
      Advance(end);
      return;
    }
    LexInteger();
  }

  void LexInteger() {
    int base = 10;
    size_t at = pos_;
    size_t end = 0;
    if (source_[at] == '0' && at + 1 < source_.size()) {
      const char mark = static_cast<char>(source_[at + 1] | 0x20);
      base = mark == 'b' ? 2 : mark == 'o' ? 8 : mark == 'x' ? 16 : 10;
    }
    const auto is_digit = [base](char c) { return HexValue(c) >= 0 && HexValue(c) < base; };
    if (base != 10) {
      end = Digits(at + 2, is_digit);
      if (end == at + 2) base = 10;
      at += base == 10 ? 0 : 2;
    }
    if (base == 10) {
      // "012" is the integer 0 followed by the integer 12, which no rule of the grammar accepts.
      end = source_[at] == '0' ? Digits(at, [](char c) { return c == '0'; })
                               : Digits(at, IsDigitByte);
    }
    Int value = 0;
    for (size_t i = at; i < end; ++i) {
      if (source_[i] == '_') continue;
      if (__builtin_mul_overflow(value, Int{base}, &value) ||
          __builtin_add_overflow(value, Int{HexValue(source_[i])}, &value)) {
        FailAt(line_, "an integer is too large");
      }
    }
    Emit(TokenKind::kInteger, source_.substr(pos_, end - pos_)).integer = value;
    Advance(end);
  }

  const std::string source_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // the last tag ended with a line end, or nothing came before
  std::vector<Token> tokens_;
};

}  // namespace

std::string Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "template text";
    case TokenKind::kVariableBegin:
      return "begin of print statement";
    case TokenKind::kVariableEnd:
      return "end of print statement";
    case TokenKind::kBlockBegin:
      return "begin of statement block";
    case TokenKind::kBlockEnd:
      return "end of statement block";
    case TokenKind::kEnd:
      return "end of template";
    case TokenKind::kString:
      return "string";
    default:
      return "'" + token.text + "'";
  }
}

std::vector<Token> Tokenize(std::string_view source) { return Lexer(source).Run(); }

}  // namespace ink::jinja
