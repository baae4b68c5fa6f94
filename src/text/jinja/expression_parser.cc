#include "text/jinja/expression_parser.h"

#include <algorithm>

#include "text/jinja/builtins.h"

namespace ink::jinja {

ExprPtr ExpressionParser::New(ExprKind kind, int line) {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line;
  return expr;
}

// Sets the height of a complete node: evaluation and destruction recurse that deep.
ExprPtr ExpressionParser::Finish(ExprPtr expr) const {
  int below = 0;
  const auto include = [&below](const ExprPtr& child) {
    if (child != nullptr) below = std::max(below, child->height);
  };
  for (const ExprPtr& item : expr->items) include(item);
  for (const auto& keyword : expr->keywords) include(keyword.second);
  include(expr->star);
  include(expr->star_star);
  expr->height = below + 1;
  if (expr->height > kMaxExprHeight) FailAt(expr->line, "an expression nests too deeply");
  return expr;
}

ExprPtr ExpressionParser::Unary(ExprKind kind, int line, ExprPtr operand) {
  ExprPtr expr = New(kind, line);
  expr->items.push_back(std::move(operand));
  return Finish(std::move(expr));
}

ExprPtr ExpressionParser::Binary(ExprKind kind, int line, ExprPtr left, ExprPtr right) {
  ExprPtr expr = New(kind, line);
  expr->items.push_back(std::move(left));
  expr->items.push_back(std::move(right));
  return Finish(std::move(expr));
}

ExprPtr ExpressionParser::NewLiteral(Literal value, int line) {
  ExprPtr expr = New(ExprKind::kLiteral, line);
  expr->id = static_cast<int>(out_->literals.size());
  out_->literals.push_back(std::move(value));
  return expr;
}

void ExpressionParser::NoteName(const std::string& name) {
  for (SpecialNames& names : macro_names_) {
    names.caller = names.caller || name == "caller";
    names.varargs = names.varargs || name == "varargs";
    names.kwargs = names.kwargs || name == "kwargs";
  }
}

ExprPtr ExpressionParser::ParseExpression(bool with_conditional) {
  return with_conditional ? ParseConditional() : ParseOr();
}

ExprPtr ExpressionParser::ParseConditional() {
  const Nested nested(this);
  int line = current().line;
  const size_t mark = UnknownMark();
  ExprPtr value = ParseOr();
  while (SkipName("if")) {
    ExprPtr expr = New(ExprKind::kConditional, line);
    ExprPtr condition = ParseOr();
    ExprPtr otherwise = SkipName("else") ? ParseConditional() : nullptr;
    expr->items.push_back(std::move(condition));
    expr->items.push_back(std::move(value));
    expr->items.push_back(std::move(otherwise));
    value = Finish(std::move(expr));
    ForgiveUnknown(mark);
    line = current().line;
  }
  return value;
}

ExprPtr ExpressionParser::ParseOr() {
  ExprPtr left = ParseAnd();
  while (AtName("or")) {
    const int line = Next().line;
    left = Binary(ExprKind::kOr, line, std::move(left), ParseAnd());
  }
  return left;
}

ExprPtr ExpressionParser::ParseAnd() {
  ExprPtr left = ParseNot();
  while (AtName("and")) {
    const int line = Next().line;
    left = Binary(ExprKind::kAnd, line, std::move(left), ParseNot());
  }
  return left;
}

ExprPtr ExpressionParser::ParseNot() {
  const Nested nested(this);
  if (!AtName("not")) return ParseCompare();
  const int line = Next().line;
  return Unary(ExprKind::kNot, line, ParseNot());
}

ExprPtr ExpressionParser::ParseCompare() {
  struct Row {
    std::string_view text;
    CompareOp op;
  };
  static constexpr Row kRows[] = {{"==", CompareOp::kEqual},     {"!=", CompareOp::kNotEqual},
                                  {"<", CompareOp::kLess},       {">", CompareOp::kGreater},
                                  {"<=", CompareOp::kLessEqual}, {">=", CompareOp::kGreaterEqual}};
  const int line = current().line;
  ExprPtr first = ParseSum();
  ExprPtr expr;
  while (true) {
    const Row* row = nullptr;
    for (const Row& candidate : kRows) {
      if (AtOperator(candidate.text)) row = &candidate;
    }
    CompareOp op = CompareOp::kIn;
    if (row != nullptr) {
      op = row->op;
      Next();
    } else if (AtName("in")) {
      Next();
    } else if (AtName("not") && ahead().kind == TokenKind::kName && ahead().text == "in") {
      op = CompareOp::kNotIn;
      Next();
      Next();
    } else {
      break;
    }
    if (expr == nullptr) {
      expr = New(ExprKind::kCompare, line);
      expr->items.push_back(std::move(first));
    }
    expr->ops.push_back(op);
    expr->items.push_back(ParseSum());
  }
  return expr == nullptr ? std::move(first) : Finish(std::move(expr));
}

ExprPtr ExpressionParser::ParseSum() {
  ExprPtr left = ParseConcat();
  while (AtOperator("+") || AtOperator("-")) {
    const Token& token = Next();
    const BinaryOp op = token.text == "+" ? BinaryOp::kAdd : BinaryOp::kSubtract;
    const int line = token.line;
    left = Binary(ExprKind::kBinary, line, std::move(left), ParseConcat());
    left->op = op;
  }
  return left;
}

ExprPtr ExpressionParser::ParseConcat() {
  const int line = current().line;
  ExprPtr first = ParseProduct();
  if (!AtOperator("~")) return first;
  ExprPtr expr = New(ExprKind::kConcat, line);
  expr->items.push_back(std::move(first));
  while (SkipOperator("~")) expr->items.push_back(ParseProduct());
  return Finish(std::move(expr));
}

ExprPtr ExpressionParser::ParseProduct() {
  ExprPtr left = ParsePower();
  while (AtOperator("*") || AtOperator("/") || AtOperator("//") || AtOperator("%")) {
    const Token& token = Next();
    const BinaryOp op = token.text == "*"    ? BinaryOp::kMultiply
                        : token.text == "/"  ? BinaryOp::kDivide
                        : token.text == "//" ? BinaryOp::kFloorDivide
                                             : BinaryOp::kModulo;
    const int line = token.line;
    left = Binary(ExprKind::kBinary, line, std::move(left), ParsePower());
    left->op = op;
  }
  return left;
}

// Jinja's power operator associates to the left, unlike Python's.
ExprPtr ExpressionParser::ParsePower() {
  ExprPtr left = ParseUnary();
  while (AtOperator("**")) {
    const int line = Next().line;
    left = Binary(ExprKind::kBinary, line, std::move(left), ParseUnary());
    left->op = BinaryOp::kPower;
  }
  return left;
}

ExprPtr ExpressionParser::ParseUnary(bool with_filter) {
  const Nested nested(this);
  ExprPtr expr;
  if (AtOperator("-") || AtOperator("+")) {
    const Token& token = Next();
    const ExprKind kind = token.text == "-" ? ExprKind::kNegate : ExprKind::kPlus;
    const int line = token.line;
    expr = Unary(kind, line, ParseUnary(false));
  } else {
    expr = ParsePrimary();
  }
  expr = ParsePostfix(std::move(expr));
  return with_filter ? ParseFilterOrTest(std::move(expr)) : std::move(expr);
}

ExprPtr ExpressionParser::ParsePrimary(bool as_target, bool with_namespace) {
  const Token& token = current();
  const int line = token.line;
  switch (token.kind) {
    case TokenKind::kName: {
      const std::string name = Next().text;
      if (name == "true" || name == "True") return NewLiteral(true, line);
      if (name == "false" || name == "False") return NewLiteral(false, line);
      if (name == "none" || name == "None") return NewLiteral(std::monostate(), line);
      if (with_namespace && AtOperator(".")) {
        Next();
        ExprPtr expr = New(ExprKind::kNamespace, line);
        expr->id = Intern(name);
        expr->name = ExpectName();
        return expr;
      }
      if (!as_target) NoteName(name);
      ExprPtr expr = New(ExprKind::kName, line);
      expr->id = Intern(name);
      expr->name = name;
      return expr;
    }
    case TokenKind::kString: {
      std::string text;
      while (At(TokenKind::kString)) text += Next().text;
      return NewLiteral(std::move(text), line);
    }
    case TokenKind::kInteger:
      return NewLiteral(Next().integer, line);
    case TokenKind::kFloat:
      return NewLiteral(Next().floating, line);
    default:
      break;
  }
  if (SkipOperator("(")) {
    ExprPtr expr = ParseTuple(true, "", true);
    ExpectOperator(")");
    return expr;
  }
  if (AtOperator("[")) return ParseList();
  if (AtOperator("{")) return ParseDict();
  FailHere("expected an expression, got " + Describe(token));
}

ExprPtr ExpressionParser::ParseTuple(bool with_conditional, std::string_view stop_name,
                                     bool in_parentheses) {
  const int line = current().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) ExpectOperator(",");
    if (At(TokenKind::kVariableEnd) || At(TokenKind::kBlockEnd) || AtOperator(")") ||
        (!stop_name.empty() && AtName(stop_name))) {
      break;
    }
    items.push_back(ParseExpression(with_conditional));
    if (!AtOperator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!items.empty()) {
      return std::move(items[0]);
    }
    if (!in_parentheses) FailHere("expected an expression, got " + Describe(current()));
  }
  ExprPtr expr = New(ExprKind::kTuple, line);
  expr->items = std::move(items);
  return Finish(std::move(expr));
}

void ExpressionParser::CheckAssignable(const Expr& target) const {
  switch (target.kind) {
    case ExprKind::kName:
      if (loops_around_ > 0 && target.name == "loop") {
        FailAt(target.line, "cannot assign to the special variable 'loop' in a for block");
      }
      return;
    case ExprKind::kNamespace:
      return;
    case ExprKind::kTuple:
      for (const ExprPtr& item : target.items) CheckAssignable(*item);
      return;
    default:
      FailAt(target.line, "cannot assign to a value that is no name");
  }
}

ExprPtr ExpressionParser::ParseTarget(std::string_view stop_name, bool with_namespace) {
  const Nested nested(this);
  const int line = current().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) ExpectOperator(",");
    if (At(TokenKind::kVariableEnd) || At(TokenKind::kBlockEnd) || AtOperator(")") ||
        (!stop_name.empty() && AtName(stop_name))) {
      break;
    }
    if (AtOperator("(")) {
      Next();
      items.push_back(ParseTarget("", with_namespace));
      ExpectOperator(")");
    } else {
      items.push_back(ParsePrimary(true, with_namespace));
    }
    if (!AtOperator(",")) break;
    is_tuple = true;
  }
  if (items.empty()) FailHere("expected a name to assign to, got " + Describe(current()));
  ExprPtr target;
  if (is_tuple) {
    target = New(ExprKind::kTuple, line);
    target->items = std::move(items);
    target = Finish(std::move(target));
  } else {
    target = std::move(items[0]);
  }
  CheckAssignable(*target);
  return target;
}

ExprPtr ExpressionParser::ParseNameTarget() {
  if (!At(TokenKind::kName)) FailExpected("a name");
  ExprPtr target = ParsePrimary(true);
  CheckAssignable(*target);
  return target;
}

ExprPtr ExpressionParser::ParseList() {
  ExprPtr expr = New(ExprKind::kList, Next().line);
  while (!AtOperator("]")) {
    if (!expr->items.empty()) {
      ExpectOperator(",");
      if (AtOperator("]")) break;
    }
    expr->items.push_back(ParseExpression());
  }
  Next();
  return Finish(std::move(expr));
}

ExprPtr ExpressionParser::ParseDict() {
  ExprPtr expr = New(ExprKind::kDict, Next().line);
  while (!AtOperator("}")) {
    if (!expr->items.empty()) {
      ExpectOperator(",");
      if (AtOperator("}")) break;
    }
    expr->items.push_back(ParseExpression());
    ExpectOperator(":");
    expr->items.push_back(ParseExpression());
  }
  Next();
  return Finish(std::move(expr));
}

ExprPtr ExpressionParser::ParsePostfix(ExprPtr expr) {
  while (true) {
    if (AtOperator(".") || AtOperator("[")) {
      expr = ParseSubscript(std::move(expr));
    } else if (AtOperator("(")) {
      expr = ParseCall(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::ParseFilterOrTest(ExprPtr expr) {
  while (true) {
    if (AtOperator("|")) {
      expr = ParseFilters(std::move(expr), false);
    } else if (AtName("is")) {
      expr = ParseTest(std::move(expr));
    } else if (AtOperator("(")) {
      expr = ParseCall(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::ParseSubscript(ExprPtr expr) {
  const Token& opening = Next();
  const int line = opening.line;
  if (opening.text == ".") {
    if (At(TokenKind::kName)) {
      expr = Unary(ExprKind::kGetattr, line, std::move(expr));
      expr->name = Next().text;
      return expr;
    }
    if (!At(TokenKind::kInteger)) FailExpected("a name or a number after '.'");
    ExprPtr index = NewLiteral(Next().integer, line);
    return Binary(ExprKind::kGetitem, line, std::move(expr), std::move(index));
  }
  std::vector<ExprPtr> items;
  while (!AtOperator("]")) {
    if (!items.empty()) ExpectOperator(",");
    items.push_back(ParseSubscribed());
  }
  Next();
  ExprPtr index;
  if (items.size() == 1) {
    index = std::move(items[0]);
  } else {
    for (const ExprPtr& item : items) {
      if (item->kind == ExprKind::kSlice) FailAt(line, "a slice cannot be part of a tuple index");
    }
    index = New(ExprKind::kTuple, line);
    index->items = std::move(items);
    index = Finish(std::move(index));
  }
  return Binary(ExprKind::kGetitem, line, std::move(expr), std::move(index));
}

ExprPtr ExpressionParser::ParseSubscribed() {
  const int line = current().line;
  ExprPtr start;
  if (!AtOperator(":")) {
    start = ParseExpression();
    if (!AtOperator(":")) return start;
  }
  Next();
  const auto at_end = [this] { return AtOperator("]") || AtOperator(","); };
  ExprPtr stop;
  if (!AtOperator(":") && !at_end()) stop = ParseExpression();
  ExprPtr step;
  if (SkipOperator(":") && !at_end()) step = ParseExpression();
  ExprPtr slice = New(ExprKind::kSlice, line);
  slice->items.push_back(std::move(start));
  slice->items.push_back(std::move(stop));
  slice->items.push_back(std::move(step));
  return Finish(std::move(slice));
}

void ExpressionParser::ParseArguments(Expr* call) {
  const int line = Next().line;  // the opening parenthesis
  const auto ensure = [&](bool valid) {
    if (!valid) FailAt(line, "an argument is in a place where a call cannot have it");
  };
  for (bool first = true; !AtOperator(")"); first = false) {
    if (!first) {
      ExpectOperator(",");
      if (AtOperator(")")) break;
    }
    if (SkipOperator("*")) {
      ensure(call->star == nullptr && call->star_star == nullptr);
      call->star = ParseExpression();
    } else if (SkipOperator("**")) {
      ensure(call->star_star == nullptr);
      call->star_star = ParseExpression();
    } else if (At(TokenKind::kName) && ahead().kind == TokenKind::kOperator &&
               ahead().text == "=") {
      ensure(call->star_star == nullptr);
      std::string name = Next().text;
      Next();
      for (const auto& keyword : call->keywords) {
        if (keyword.first == name) FailAt(line, "keyword argument '" + name + "' is repeated");
      }
      call->keywords.emplace_back(std::move(name), ParseExpression());
    } else {
      ensure(call->star == nullptr && call->star_star == nullptr && call->keywords.empty());
      call->items.push_back(ParseExpression());
    }
  }
  Next();
}

ExprPtr ExpressionParser::ParseCall(ExprPtr callee) {
  ExprPtr call = New(ExprKind::kCall, current().line);
  call->items.push_back(std::move(callee));
  ParseArguments(call.get());
  return Finish(std::move(call));
}

std::string ExpressionParser::ParseDottedName() {
  std::string name = ExpectName();
  while (SkipOperator(".")) name += "." + ExpectName();
  return name;
}

ExprPtr ExpressionParser::ParseFilters(ExprPtr value, bool inline_start) {
  while (inline_start || AtOperator("|")) {
    if (!inline_start) Next();
    inline_start = false;
    ExprPtr filter = New(ExprKind::kFilter, current().line);
    filter->name = ParseDottedName();
    if (FindFilter(filter->name) == nullptr) {
      unknown_.push_back({filter->line, "no filter named '" + filter->name + "'"});
    }
    filter->items.push_back(std::move(value));
    if (AtOperator("(")) ParseArguments(filter.get());
    value = Finish(std::move(filter));
  }
  return value;
}

ExprPtr ExpressionParser::ParseTest(ExprPtr expr) {
  ExprPtr test = New(ExprKind::kTest, Next().line);
  const bool negated = SkipName("not");
  test->name = ParseDottedName();
  if (FindTest(test->name) == nullptr) {
    unknown_.push_back({test->line, "no test named '" + test->name + "'"});
  }
  test->items.push_back(std::move(expr));
  if (AtOperator("(")) {
    ParseArguments(test.get());
  } else if ((At(TokenKind::kName) && !AtName("else") && !AtName("or") && !AtName("and")) ||
             At(TokenKind::kString) || At(TokenKind::kInteger) || At(TokenKind::kFloat) ||
             AtOperator("[") || AtOperator("{")) {
    if (AtName("is")) FailHere("tests cannot be chained with 'is'");
    test->items.push_back(ParsePostfix(ParsePrimary()));
  }
  const int line = test->line;
  ExprPtr done = Finish(std::move(test));
  return negated ? Unary(ExprKind::kNot, line, std::move(done)) : std::move(done);
}

}  // namespace ink::jinja
