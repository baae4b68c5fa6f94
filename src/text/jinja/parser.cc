#include "text/jinja/parser.h"

#include "text/jinja/expression_parser.h"
#include "text/jinja/scopes.h"

namespace ink::jinja {
namespace {

using Names = std::initializer_list<std::string_view>;

class Parser : public ExpressionParser {
 public:
  Parser(std::vector<Token> tokens, Template* out) : ExpressionParser(std::move(tokens), out) {
    out_->loop = Intern("loop");
    out_->caller = Intern("caller");
    out_->varargs = Intern("varargs");
    out_->kwargs = Intern("kwargs");
  }

  void Run() {
    out_->body = ParseUntil({});
    CheckUnknown(0);
  }

 private:
  using StmtPtr = std::unique_ptr<Stmt>;

  StmtPtr New(StmtKind kind) const {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = current().line;
    return stmt;
  }

  bool AtAny(Names names) const {
    for (const std::string_view name : names) {
      if (AtName(name)) return true;
    }
    return false;
  }

  static std::string List(Names names) {
    std::string list;
    for (const std::string_view name : names) {
      if (!list.empty()) list += " or ";
      list += "'" + std::string(name) + "'";
    }
    return list;
  }

  // Statements up to a tag of one of `names`, whose name becomes the current token; up to the end
  // of the template without names.
  Body ParseUntil(Names names) {
    const Nested nested(this);
    Body body;
    while (true) {
      switch (current().kind) {
        case TokenKind::kData: {
          StmtPtr stmt = New(StmtKind::kData);
          stmt->text = Next().text;
          body.push_back(std::move(stmt));
          break;
        }
        case TokenKind::kVariableBegin: {
          StmtPtr stmt = New(StmtKind::kPrint);
          Next();
          stmt->exprs.push_back(ParseTuple());
          if (!At(TokenKind::kVariableEnd)) FailExpected("'}}'");
          Next();
          body.push_back(std::move(stmt));
          break;
        }
        case TokenKind::kBlockBegin: {
          Next();
          if (AtAny(names)) return body;
          body.push_back(ParseStatement(names));
          ExpectBlockEnd();
          break;
        }
        default:
          if (!At(TokenKind::kEnd)) FailHere("unexpected " + Describe(current()));
          if (names.size() > 0) {
            FailHere("the template ends, expected a tag " + List(names) +
                     (open_tags_.empty() ? "" : " for the open '" + open_tags_.back() + "'"));
          }
          return body;
      }
    }
  }

  void ExpectBlockEnd() {
    if (!At(TokenKind::kBlockEnd)) FailExpected("'%}'");
    Next();
  }

  // The body behind a tag's head: up to one of `names`.
  Body ParseBody(Names names) {
    SkipOperator(":");
    ExpectBlockEnd();
    return ParseUntil(names);
  }

  StmtPtr ParseStatement(Names awaited) {
    struct Row {
      std::string_view tag;
      StmtPtr (Parser::*parse)();
    };
    static constexpr Row kRows[] = {
        {"if", &Parser::ParseIf},
        {"for", &Parser::ParseFor},
        {"set", &Parser::ParseSet},
        {"macro", &Parser::ParseMacro},
        {"call", &Parser::ParseCallBlock},
        {"filter", &Parser::ParseFilterBlock},
        {"with", &Parser::ParseWith},
        {"print", &Parser::ParsePrint},
        {"block", &Parser::ParseBlock},
        {"generation", &Parser::ParseGeneration},
        {"autoescape", &Parser::ParseAutoescape},
        {"break", &Parser::ParseLoopControl},
        {"continue", &Parser::ParseLoopControl},
        {"include", &Parser::ParseUnsupported},
        {"import", &Parser::ParseUnsupported},
        {"from", &Parser::ParseUnsupported},
        {"extends", &Parser::ParseUnsupported},
    };
    if (!At(TokenKind::kName)) FailExpected("a tag name");
    for (const Row& row : kRows) {
      if (!AtName(row.tag)) continue;
      open_tags_.emplace_back(row.tag);
      StmtPtr stmt = (this->*row.parse)();
      open_tags_.pop_back();
      return stmt;
    }
    FailHere("unknown tag '" + current().text + "'" +
             (awaited.size() == 0 ? "" : ", expected " + List(awaited)));
  }

  StmtPtr ParseIf() {
    StmtPtr stmt = New(StmtKind::kIf);
    const size_t mark = UnknownMark();
    Next();
    while (true) {
      stmt->exprs.push_back(ParseTuple(false));
      stmt->bodies.push_back(ParseBody({"elif", "else", "endif"}));
      if (SkipName("elif")) continue;
      if (SkipName("else")) stmt->bodies.push_back(ParseBody({"endif"}));
      Next();
      break;
    }
    ForgiveUnknown(mark);
    return stmt;
  }

  StmtPtr ParseFor() {
    StmtPtr stmt = New(StmtKind::kFor);
    Next();
    ++loops_around_;
    stmt->target = ParseTarget("in", false);
    if (!SkipName("in")) FailExpected("'in'");
    --loops_around_;
    stmt->exprs.push_back(ParseTuple(false, "recursive"));
    ++loops_around_;
    ++breakable_;
    const size_t mark = UnknownMark();
    stmt->exprs.push_back(SkipName("if") ? ParseExpression() : nullptr);
    stmt->recursive = SkipName("recursive");
    stmt->bodies.push_back(ParseBody({"endfor", "else"}));
    --breakable_;
    if (SkipName("else")) {
      stmt->bodies.push_back(ParseBody({"endfor"}));
    }
    Next();
    CheckUnknown(mark);
    --loops_around_;
    return stmt;
  }

  StmtPtr ParseSet() {
    StmtPtr stmt = New(StmtKind::kSet);
    Next();
    stmt->target = ParseTarget("", true);
    if (SkipOperator("=")) {
      stmt->exprs.push_back(ParseTuple());
      return stmt;
    }
    stmt->kind = StmtKind::kSetBlock;
    const size_t mark = UnknownMark();
    stmt->exprs.push_back(ParseFilters(nullptr, false));
    stmt->bodies.push_back(ParseBody({"endset"}));
    Next();
    CheckUnknown(mark);
    return stmt;
  }

  // Parameters, body and end tag of a macro or call block.
  void ParseMacroRest(MacroDefinition* macro, bool with_parameters, std::string_view end) {
    if (with_parameters) ParseSignature(macro);
    // The call expression of a call block lies between the two parts: see ParseCallBlock.
    macro_names_.emplace_back();
    const int breakable = std::exchange(breakable_, 0);
    macro->body = ParseBody({end});
    Next();
    breakable_ = breakable;
    const SpecialNames names = macro_names_.back();
    macro_names_.pop_back();
    const auto is_parameter = [macro](std::string_view name) {
      for (const Parameter& parameter : macro->parameters) {
        if (parameter.name == name) return true;
      }
      return false;
    };
    macro->explicit_caller = is_parameter("caller");
    macro->uses_caller = names.caller;
    macro->uses_varargs = names.varargs && !is_parameter("varargs");
    macro->uses_kwargs = names.kwargs && !is_parameter("kwargs");
    for (const Parameter& parameter : macro->parameters) {
      if (parameter.name == "caller" && names.caller && parameter.default_value == nullptr) {
        FailHere("the special argument 'caller' must be omitted or be given a default");
      }
    }
  }

  void ParseSignature(MacroDefinition* macro) {
    ExpectOperator("(");
    bool with_default = false;
    while (!AtOperator(")")) {
      if (!macro->parameters.empty()) ExpectOperator(",");
      Parameter parameter;
      ExprPtr name = ParseNameTarget();
      for (const Parameter& other : macro->parameters) {
        if (other.symbol == name->id) FailHere("parameter '" + name->name + "' is repeated");
      }
      parameter.symbol = name->id;
      parameter.name = name->name;
      if (SkipOperator("=")) {
        parameter.default_value = ParseExpression();
        with_default = true;
      } else if (with_default) {
        FailHere("parameter '" + parameter.name + "' without default follows one with a default");
      }
      macro->parameters.push_back(std::move(parameter));
    }
    Next();
  }

  StmtPtr ParseMacro() {
    StmtPtr stmt = New(StmtKind::kMacro);
    Next();
    const size_t mark = UnknownMark();
    ExprPtr name = ParseNameTarget();
    stmt->symbol = name->id;
    stmt->macro = std::make_unique<MacroDefinition>();
    stmt->macro->name = name->name;
    ParseMacroRest(stmt->macro.get(), true, "endmacro");
    CheckUnknown(mark);
    return stmt;
  }

  StmtPtr ParseCallBlock() {
    StmtPtr stmt = New(StmtKind::kCallBlock);
    Next();
    stmt->macro = std::make_unique<MacroDefinition>();
    stmt->macro->name = "caller";
    const size_t signature_mark = UnknownMark();
    if (AtOperator("(")) ParseSignature(stmt->macro.get());
    CheckUnknown(signature_mark);
    ExprPtr call = ParseExpression();
    if (call->kind != ExprKind::kCall) FailAt(stmt->line, "a call block needs a call");
    stmt->exprs.push_back(std::move(call));
    const size_t mark = UnknownMark();
    ParseMacroRest(stmt->macro.get(), false, "endcall");
    CheckUnknown(mark);
    return stmt;
  }

  StmtPtr ParseFilterBlock() {
    StmtPtr stmt = New(StmtKind::kFilterBlock);
    Next();
    const size_t mark = UnknownMark();
    stmt->exprs.push_back(ParseFilters(nullptr, true));
    stmt->bodies.push_back(ParseBody({"endfilter"}));
    Next();
    CheckUnknown(mark);
    return stmt;
  }

  StmtPtr ParseWith() {
    StmtPtr stmt = New(StmtKind::kWith);
    Next();
    while (!At(TokenKind::kBlockEnd)) {
      if (!stmt->targets.empty()) ExpectOperator(",");
      stmt->targets.push_back(ParseTarget("", false));
      ExpectOperator("=");
      stmt->exprs.push_back(ParseExpression());
    }
    const size_t mark = UnknownMark();
    stmt->bodies.push_back(ParseBody({"endwith"}));
    Next();
    CheckUnknown(mark);
    return stmt;
  }

  StmtPtr ParsePrint() {
    StmtPtr stmt = New(StmtKind::kPrint);
    Next();
    while (!At(TokenKind::kBlockEnd)) {
      if (!stmt->exprs.empty()) ExpectOperator(",");
      stmt->exprs.push_back(ParseExpression());
    }
    return stmt;
  }

  // Without inheritance a block is its content in a scope that sees the top level's variables only,
  // unless it is scoped.
  StmtPtr ParseBlock() {
    StmtPtr stmt = New(StmtKind::kScope);
    Next();
    const std::string name = ExpectName();
    for (const std::string& other : blocks_) {
      if (other == name) FailHere("block '" + name + "' is defined twice");
    }
    blocks_.push_back(name);
    stmt->isolated = !SkipName("scoped");
    SkipName("required");
    const size_t mark = UnknownMark();
    const int breakable = std::exchange(breakable_, 0);
    stmt->bodies.push_back(ParseBody({"endblock"}));
    Next();
    breakable_ = breakable;
    SkipName(name);
    CheckUnknown(mark);
    return stmt;
  }

  StmtPtr ParseGeneration() {
    StmtPtr stmt = New(StmtKind::kTransparent);
    Next();
    stmt->bodies.push_back(ParseBody({"endgeneration"}));
    Next();
    return stmt;
  }

  // Only "autoescape false" is what this interpreter does anyway.
  StmtPtr ParseAutoescape() {
    StmtPtr stmt = New(StmtKind::kScope);
    Next();
    if (!SkipName("false") && !SkipName("False")) {
      FailHere("autoescape is not supported: output is text, not HTML");
    }
    stmt->bodies.push_back(ParseBody({"endautoescape"}));
    Next();
    return stmt;
  }

  StmtPtr ParseLoopControl() {
    StmtPtr stmt = New(AtName("break") ? StmtKind::kBreak : StmtKind::kContinue);
    if (breakable_ == 0) FailHere("'" + current().text + "' outside of a loop");
    Next();
    return stmt;
  }

  StmtPtr ParseUnsupported() {
    StmtPtr stmt = New(StmtKind::kUnsupported);
    stmt->text = Next().text;
    while (!At(TokenKind::kBlockEnd) && !At(TokenKind::kEnd)) Next();
    return stmt;
  }

  int breakable_ = 0;  // for bodies that a break would leave
  std::vector<std::string> open_tags_;
  std::vector<std::string> blocks_;
};

}  // namespace

std::unique_ptr<Template> Parse(std::string_view source) {
  auto out = std::make_unique<Template>();
  out->source = std::string(source);
  Parser parser(Tokenize(source), out.get());
  parser.Run();
  FindHiddenNames(out.get());
  return out;
}

}  // namespace ink::jinja
