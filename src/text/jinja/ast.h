// The syntax tree of a template: built by the parser, walked by the interpreter, never changed, and
// therefore shared by all renderings.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/value.h"

namespace ink::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Body = std::vector<std::unique_ptr<Stmt>>;

/// A variable's name as an index into Template::symbols.
using Symbol = int;

enum class ExprKind {
  kLiteral,    // id: index into Template::literals
  kName,       // id: symbol
  kNamespace,  // assignment target ns.attribute; id: symbol of ns, name: attribute
  kTuple,      // items
  kList,       // items
  kDict,       // items: key, value, key, value, ...
  kGetattr,    // items[0].name
  kGetitem,    // items[0][items[1]]
  kSlice,      // items: start, stop, step, each may be null; only as items[1] of kGetitem
  kCall,       // items[0](items[1], ...), keywords, star, star_star
  kFilter,     // items[0] | name(items[1], ...); items[0] is null at the head of a filter block
  kTest,       // items[0] is name(items[1], ...)
  kNot,
  kNegate,
  kPlus,
  kBinary,   // items[0] op items[1]
  kConcat,   // items[0] ~ items[1] ~ ...
  kCompare,  // items[0] ops[0] items[1] ops[1] ...
  kAnd,
  kOr,
  kConditional,  // items: condition, value, else (may be null)
};

enum class BinaryOp { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
enum class CompareOp { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

struct Expr {
  ExprKind kind;
  int line = 0;
  int height = 1;  // levels of expressions from here down
  int id = 0;
  BinaryOp op = BinaryOp::kAdd;
  std::string name;
  std::vector<ExprPtr> items;
  std::vector<CompareOp> ops;
  std::vector<std::pair<std::string, ExprPtr>> keywords;
  ExprPtr star;       // *args
  ExprPtr star_star;  // **kwargs
};

struct Parameter {
  Symbol symbol = 0;
  std::string name;
  ExprPtr default_value;  // may be null
};

/// A macro, or the body of a call block.
struct MacroDefinition {
  std::string name;
  std::vector<Parameter> parameters;
  Body body;
  std::vector<Symbol> hidden;  // see scopes.h
  // Whether the body reads the special names, which decides what a call may pass.
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  bool explicit_caller = false;  // "caller" is a parameter
};

enum class StmtKind {
  kData,         // text
  kPrint,        // exprs
  kIf,           // exprs[i] -> bodies[i]; one more body is the else
  kFor,          // target, exprs[0] in; exprs[1] filter or null; bodies: loop, else
  kSet,          // target = exprs[0]
  kSetBlock,     // target = bodies[0] through the filter exprs[0] (may be null)
  kMacro,        // macro, symbol
  kCallBlock,    // exprs[0] is the call, macro the body
  kFilterBlock,  // exprs[0] is the filter, bodies[0]
  kWith,         // targets[i] = exprs[i], bodies[0]
  kScope,        // bodies[0] in a scope of its own: {% block %}
  kTransparent,  // bodies[0] as if the tag were not there: {% generation %}
  kBreak,
  kContinue,
  kUnsupported,  // a tag that needs other templates; text names it
};

struct Stmt {
  StmtKind kind;
  int line = 0;
  std::string text;
  Symbol symbol = 0;
  bool recursive = false;  // for
  bool isolated = false;   // scope: sees the top level's variables only
  ExprPtr target;
  std::vector<ExprPtr> targets;
  std::vector<ExprPtr> exprs;
  std::vector<Body> bodies;
  std::vector<std::vector<Symbol>> hidden;  // of each body that is a scope, see scopes.h
  std::unique_ptr<MacroDefinition> macro;
};

using Literal = std::variant<std::monostate, bool, Int, double, std::string>;  // monostate: None

struct Template {
  std::string source;
  std::vector<std::string> symbols;
  std::vector<Literal> literals;
  Body body;
  std::vector<Symbol> hidden;  // see scopes.h
  // Symbols with a meaning of their own.
  Symbol loop = 0;
  Symbol caller = 0;
  Symbol varargs = 0;
  Symbol kwargs = 0;
};

}  // namespace ink::jinja
