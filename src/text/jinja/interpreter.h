// Evaluates a template's syntax tree.
#pragma once

#include <ctime>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template.h"
#include "text/jinja/ast.h"
#include "text/jinja/builtins.h"
#include "text/jinja/value.h"

namespace ink::jinja {

/// Variables of one block; looked up through the parents. A macro keeps the scope it was defined
/// in, and sees later changes to it.
struct ScopeObject final : Object {
  ScopeObject(Heap* heap, Ref<ScopeObject> outer)
      : Object(heap, Kind::kScope), parent(std::move(outer)) {}
  void Clear() override {
    variables.clear();
    parent = Ref<ScopeObject>();
  }
  Value* FindHere(Symbol symbol);
  void Set(Symbol symbol, Value value);

  std::vector<std::pair<Symbol, Value>> variables;
  Ref<ScopeObject> parent;
};

struct MacroObject final : Object {
  MacroObject(Heap* heap, const MacroDefinition* d, Ref<ScopeObject> s)
      : Object(heap, Kind::kMacro), definition(d), scope(std::move(s)) {}
  void Clear() override { scope = Ref<ScopeObject>(); }
  const MacroDefinition* const definition;
  Ref<ScopeObject> scope;
};

/// A builtin, bound to `self` where it is a method.
struct NativeObject final : Object {
  NativeObject(Heap* heap, const Native* n, Value s)
      : Object(heap, Kind::kNative), native(n), self(std::move(s)) {}
  void Clear() override { self = Value(); }
  const Native* const native;
  Value self;
};

/// The variable `loop`.
struct LoopObject final : Object {
  explicit LoopObject(Heap* heap) : Object(heap, Kind::kLoop) {}
  void Clear() override;

  const Stmt* statement = nullptr;  // set if the loop may be called recursively
  Ref<ScopeObject> scope;           // where the loop stands
  Ref<IteratorObject> items;
  int64_t index0 = -1;
  int depth0 = 0;
  std::optional<int64_t> length;  // once known
  std::optional<Value> before, current, after;
  std::optional<std::vector<Value>> last_changed;
};

class Interpreter {
 public:
  Interpreter(const Template& source, const ChatTemplateOptions& options);

  /// The whole template's output. Throws TemplateError, with the line.
  std::string Render(const nlohmann::ordered_json& context);

  // For builtins ------------------------------------------------------------------------------

  Heap& heap() { return heap_; }
  const ChatTemplateOptions& options() const { return options_; }

  Value Text(std::string text) { return Value::String(heap_, std::move(text)); }
  /// Text that keeps the mark of `like`, as methods of a marked string do.
  Value TextLike(const Value& like, std::string text);

  /// iter(value); fails where Python's does.
  Ref<IteratorObject> Iterate(const Value& value);
  bool IsIterable(const Value& value) const;
  /// list(value).
  std::vector<Value> Collect(const Value& value);

  Value GetAttribute(const Value& object, std::string_view name);
  Value GetItem(const Value& object, const Value& key);
  /// The item or attribute at a dotted path, as filters take it ("a.0.b").
  Value GetPath(const Value& object, const Value& path);
  Value Call(const Value& callee, Arguments& arguments);
  Value CallFilter(std::string_view name, const Value& value, Arguments& arguments);
  bool CallTest(std::string_view name, const Value& value, Arguments& arguments);
  bool Contains(const Value& container, const Value& item);
  Value BinaryOperation(BinaryOp op, const Value& a, const Value& b);

  /// Counts one level of recursion while alive.
  class Level {
   public:
    explicit Level(Interpreter* interpreter) : interpreter_(interpreter) {
      if (++interpreter_->depth_ > interpreter_->options_.limits.max_recursion) {
        --interpreter_->depth_;
        Fail("the template recurses too deeply");
      }
    }
    ~Level() { --interpreter_->depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Interpreter* interpreter_;
  };

  // For the filtering iterator of a for statement.
  void Assign(const Expr& target, const Value& value, ScopeObject* scope);
  Value Eval(const Expr& expr, ScopeObject* scope);

 private:
  enum class Flow { kNormal, kBreak, kContinue };

  Value FromJson(const nlohmann::ordered_json& json, int depth);
  Value FromLiteral(const Literal& literal);
  Value Lookup(Symbol symbol, ScopeObject* scope);
  Ref<ScopeObject> NewScope(ScopeObject* parent);
  /// A scope for a body that hides `hidden` (see scopes.h).
  Ref<ScopeObject> NewScope(ScopeObject* parent, const std::vector<Symbol>& hidden);
  void Hide(const std::vector<Symbol>& hidden, ScopeObject* scope);
  Ref<ScopeObject> Exported();

  Flow ExecBody(const Body& body, ScopeObject* scope);
  Flow Exec(const Stmt& stmt, ScopeObject* scope);
  Flow ExecIf(const Stmt& stmt, ScopeObject* scope);
  Flow ExecFor(const Stmt& stmt, const Value& items, ScopeObject* scope, int depth0);
  Flow ExecSetBlock(const Stmt& stmt, ScopeObject* scope);
  Flow ExecFilterBlock(const Stmt& stmt, ScopeObject* scope);
  Flow ExecWith(const Stmt& stmt, ScopeObject* scope);
  void ExecCallBlock(const Stmt& stmt, ScopeObject* scope);
  void Write(std::string_view text);

  Value EvalCall(const Expr& expr, ScopeObject* scope, const Value* caller);
  Value EvalFilter(const Expr& expr, const Value& input, ScopeObject* scope);
  Value EvalTest(const Expr& expr, ScopeObject* scope);
  Value EvalCompare(const Expr& expr, ScopeObject* scope);
  Value EvalConcat(const Expr& expr, ScopeObject* scope);
  Value EvalDict(const Expr& expr, ScopeObject* scope);
  Value EvalSlice(const Value& object, const Expr& slice, ScopeObject* scope);
  Value EvalUnary(const Expr& expr, ScopeObject* scope);
  void EvalArguments(const Expr& call, ScopeObject* scope, Arguments* arguments);

  Value CallMacro(const MacroObject& macro, Arguments& arguments);
  Value CallLoop(LoopObject* loop, Arguments& arguments);
  bool NextItem(LoopObject* loop, Value* out);
  int64_t LoopLength(LoopObject* loop);
  bool PeekNext(LoopObject* loop);
  std::optional<Value> LoopAttribute(LoopObject* loop, std::string_view name);
  std::optional<Value> FindAttribute(const Value& object, std::string_view name);
  std::optional<Value> FindItem(const Value& object, const Value& key);
  bool CompareValues(CompareOp op, const Value& a, const Value& b);

  const Template& source_;
  const ChatTemplateOptions options_;
  Heap heap_;  // before every member that holds values
  std::vector<std::optional<Value>> literals_;
  std::vector<std::optional<Value>> globals_;  // by symbol: the context, then builtin functions
  Ref<ScopeObject> top_;
  std::string* out_ = nullptr;  // where output goes: the result, or what a block captures
  uint64_t written_ = 0;
  int depth_ = 0;
  int line_ = 0;
};

}  // namespace ink::jinja
