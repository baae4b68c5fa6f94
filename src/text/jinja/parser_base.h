// What the statement parser and the expression parser share: the token stream, symbols, errors.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace ink::jinja {

/// Nesting of the parser's own calls: about three per bracket or operator level.
inline constexpr int kMaxParseDepth = 600;
/// Levels of one expression. "a + b + c + ..." nests to the left, one level per term.
inline constexpr int kMaxExprHeight = 500;

class ParserBase {
 protected:
  ParserBase(std::vector<Token> tokens, Template* out) : tokens_(std::move(tokens)), out_(out) {}

  // Counts nested calls while alive.
  class Nested {
   public:
    explicit Nested(ParserBase* parser) : parser_(parser) {
      if (++parser_->depth_ > kMaxParseDepth) parser_->FailHere("the template nests too deeply");
    }
    ~Nested() { --parser_->depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    ParserBase* parser_;
  };

  const Token& current() const { return tokens_[position_]; }
  const Token& ahead() const {
    return tokens_[position_ + 1 < tokens_.size() ? position_ + 1 : position_];
  }
  const Token& Next() {
    const Token& token = tokens_[position_];
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }
  bool At(TokenKind kind) const { return current().kind == kind; }
  bool AtOperator(std::string_view text) const {
    return At(TokenKind::kOperator) && current().text == text;
  }
  bool AtName(std::string_view text) const {
    return At(TokenKind::kName) && current().text == text;
  }
  bool SkipOperator(std::string_view text) {
    const bool here = AtOperator(text);
    if (here) Next();
    return here;
  }
  bool SkipName(std::string_view text) {
    const bool here = AtName(text);
    if (here) Next();
    return here;
  }
  void ExpectOperator(std::string_view text) {
    if (!SkipOperator(text)) FailExpected("'" + std::string(text) + "'");
  }
  std::string ExpectName() {
    if (!At(TokenKind::kName)) FailExpected("a name");
    return Next().text;
  }

  [[noreturn]] void FailAt(int line, std::string message) const {
    throw TemplateError{StatusCode::kInvalidArgument, std::move(message), line};
  }
  [[noreturn]] void FailHere(std::string message) const {
    FailAt(current().line, std::move(message));
  }
  [[noreturn]] void FailExpected(const std::string& what) const {
    FailHere("expected " + what + ", got " + Describe(current()));
  }

  Symbol Intern(const std::string& name) {
    const auto [place, added] = symbols_.emplace(name, static_cast<Symbol>(symbols_.size()));
    if (added) out_->symbols.push_back(name);
    return place->second;
  }

  std::vector<Token> tokens_;
  size_t position_ = 0;
  int depth_ = 0;
  Template* out_;
  std::unordered_map<std::string, Symbol> symbols_;
};

}  // namespace ink::jinja
