// Expressions, by precedence: if-else, or, and, not, comparison, + -, ~, * / // %, **, unary,
// postfix, filter and test.
#pragma once

#include <string>
#include <vector>

#include "text/jinja/parser_base.h"

namespace ink::jinja {

class ExpressionParser : protected ParserBase {
 protected:
  using ParserBase::ParserBase;

  ExprPtr ParseExpression(bool with_conditional = true);
  /// One expression, or a tuple where commas follow. Ends before "in" (`stop_name`) if given.
  ExprPtr ParseTuple(bool with_conditional = true, std::string_view stop_name = "",
                     bool in_parentheses = false);
  /// A name, a tuple of targets, or (if `with_namespace`) namespace.attribute.
  ExprPtr ParseTarget(std::string_view stop_name, bool with_namespace);
  ExprPtr ParseNameTarget();
  /// Filters from here on applied to `value`; with `inline_start` the first has no "|" before it.
  ExprPtr ParseFilters(ExprPtr value, bool inline_start);
  ExprPtr ParseCall(ExprPtr callee);

  // A filter or test without implementation is an error when the template is parsed, unless an
  // if (statement or expression) directly around it may keep it from running: then only when run.
  struct Unknown {
    int line;
    std::string message;
  };
  size_t UnknownMark() const { return unknown_.size(); }
  void ForgiveUnknown(size_t mark) { unknown_.resize(mark); }
  void CheckUnknown(size_t mark) const {
    if (unknown_.size() > mark) FailAt(unknown_[mark].line, unknown_[mark].message);
  }

  // Special names read since the innermost macros began.
  struct SpecialNames {
    bool caller = false;
    bool varargs = false;
    bool kwargs = false;
  };
  std::vector<SpecialNames> macro_names_;
  int loops_around_ = 0;  // for blocks around the current position, macros included

 private:
  ExprPtr New(ExprKind kind, int line);
  ExprPtr Finish(ExprPtr expr) const;
  ExprPtr Unary(ExprKind kind, int line, ExprPtr operand);
  ExprPtr Binary(ExprKind kind, int line, ExprPtr left, ExprPtr right);
  ExprPtr NewLiteral(Literal value, int line);

  ExprPtr ParseConditional();
  ExprPtr ParseOr();
  ExprPtr ParseAnd();
  ExprPtr ParseNot();
  ExprPtr ParseCompare();
  ExprPtr ParseSum();
  ExprPtr ParseConcat();
  ExprPtr ParseProduct();
  ExprPtr ParsePower();
  ExprPtr ParseUnary(bool with_filter = true);
  ExprPtr ParsePrimary(bool as_target = false, bool with_namespace = false);
  ExprPtr ParseList();
  ExprPtr ParseDict();
  ExprPtr ParsePostfix(ExprPtr expr);
  ExprPtr ParseFilterOrTest(ExprPtr expr);
  ExprPtr ParseSubscript(ExprPtr expr);
  ExprPtr ParseSubscribed();
  ExprPtr ParseTest(ExprPtr expr);
  void ParseArguments(Expr* call);
  std::string ParseDottedName();
  void CheckAssignable(const Expr& target) const;
  void NoteName(const std::string& name);

  std::vector<Unknown> unknown_;
};

}  // namespace ink::jinja
