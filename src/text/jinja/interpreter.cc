// Statements, scopes and macros.
#include "text/jinja/interpreter.h"

#include <nlohmann/json.hpp>

namespace ink::jinja {
namespace {

constexpr int kMaxJsonDepth = 500;

// Redirects output while alive.
class Capture {
 public:
  explicit Capture(std::string** out) : out_(out), outer_(*out) { *out_ = &text_; }
  ~Capture() { *out_ = outer_; }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  std::string Take() { return std::move(text_); }

 private:
  std::string** out_;
  std::string* outer_;
  std::string text_;
};

// The items of a for statement that pass its "if".
struct ForFilterIterator final : IteratorObject {
  ForFilterIterator(Heap* heap, Ref<IteratorObject> s, const Stmt* f, Ref<ScopeObject> o)
      : IteratorObject(heap, s->depth), source(std::move(s)), statement(f), outer(std::move(o)) {}
  void Clear() override {
    source = Ref<IteratorObject>();
    outer = Ref<ScopeObject>();
  }
  bool Next(Interpreter& interpreter, Value* out) override {
    while (source->Next(interpreter, out)) {
      interpreter.heap().Step();
      const auto scope = Make<ScopeObject>(interpreter.heap(), outer);
      interpreter.Assign(*statement->target, *out, scope.get());
      if (Truthy(interpreter.Eval(*statement->exprs[1], scope.get()))) return true;
    }
    return false;
  }

  Ref<IteratorObject> source;
  const Stmt* const statement;
  Ref<ScopeObject> outer;
};

}  // namespace

Value* ScopeObject::FindHere(Symbol symbol) {
  for (auto& variable : variables) {
    if (variable.first == symbol) return &variable.second;
  }
  return nullptr;
}

void ScopeObject::Set(Symbol symbol, Value value) {
  if (Value* place = FindHere(symbol)) {
    *place = std::move(value);
  } else {
    heap->Charge(this, sizeof(variables[0]));
    variables.emplace_back(symbol, std::move(value));
  }
}

void LoopObject::Clear() {
  scope = Ref<ScopeObject>();
  items = Ref<IteratorObject>();
  before.reset();
  current.reset();
  after.reset();
  last_changed.reset();
}

Interpreter::Interpreter(const Template& source, const ChatTemplateOptions& options)
    : source_(source),
      options_(options),
      heap_(options.limits.max_memory_bytes, options.limits.max_steps),
      literals_(source.literals.size()),
      globals_(source.symbols.size()) {}

std::string Interpreter::Render(const nlohmann::ordered_json& context) {
  std::string result;
  try {
    for (size_t i = 0; i < source_.symbols.size(); ++i) {
      const std::string& name = source_.symbols[i];
      if (const auto it = context.find(name); it != context.end()) {
        globals_[i] = FromJson(*it, 0);
      } else if (const Native* native = FindGlobal(name)) {
        globals_[i] = Value::Of(Make<NativeObject>(heap_, native, Value()));
      }
    }
    out_ = &result;
    top_ = Make<ScopeObject>(heap_, Ref<ScopeObject>());
    Hide(source_.hidden, top_.get());
    ExecBody(source_.body, top_.get());
  } catch (TemplateError& error) {
    if (error.line == 0) error.line = line_;
    throw;
  }
  return result;
}

Value Interpreter::FromJson(const nlohmann::ordered_json& json, int depth) {
  if (depth > kMaxJsonDepth) Fail("the context is nested too deeply");
  using Type = nlohmann::ordered_json::value_t;
  switch (json.type()) {
    case Type::null:
    case Type::discarded:
      return Value::None();
    case Type::boolean:
      return Value::Bool(json.get<bool>());
    case Type::number_integer:
      return Value::Integer(json.get<int64_t>());
    case Type::number_unsigned:
      return Value::Integer(json.get<uint64_t>());
    case Type::number_float:
      return Value::Float(json.get<double>());
    case Type::string:
      return Text(json.get_ref<const std::string&>());
    case Type::binary:
      Fail("the context holds binary data");
    case Type::array: {
      const Ref<ListObject> list = MakeList(heap_);
      list->items.reserve(json.size());
      for (const auto& item : json) list->Append(FromJson(item, depth + 1));
      return Value::Of(list);
    }
    case Type::object: {
      const auto dict = Make<DictObject>(heap_);
      for (const auto& [key, item] : json.items()) dict->Set(key, FromJson(item, depth + 1));
      return Value::Of(dict);
    }
  }
  return Value::None();
}

Value Interpreter::FromLiteral(const Literal& literal) {
  if (const bool* boolean = std::get_if<bool>(&literal)) return Value::Bool(*boolean);
  if (const Int* integer = std::get_if<Int>(&literal)) return Value::Integer(*integer);
  if (const double* floating = std::get_if<double>(&literal)) return Value::Float(*floating);
  if (const std::string* text = std::get_if<std::string>(&literal)) return Text(*text);
  return Value::None();
}

Value Interpreter::TextLike(const Value& like, std::string text) {
  return like.IsMarkup() ? Value::Markup(heap_, std::move(text)) : Text(std::move(text));
}

Value Interpreter::Lookup(Symbol symbol, ScopeObject* scope) {
  for (; scope != nullptr; scope = scope->parent.get()) {
    if (const Value* value = scope->FindHere(symbol)) return *value;
  }
  const auto index = static_cast<size_t>(symbol);
  if (globals_[index].has_value()) return *globals_[index];
  return Value::Undefined(heap_, "'" + source_.symbols[index] + "' is undefined");
}

Ref<ScopeObject> Interpreter::NewScope(ScopeObject* parent) {
  return Make<ScopeObject>(heap_, Ref<ScopeObject>(parent));
}

Ref<ScopeObject> Interpreter::NewScope(ScopeObject* parent, const std::vector<Symbol>& hidden) {
  Ref<ScopeObject> scope = NewScope(parent);
  Hide(hidden, scope.get());
  return scope;
}

void Interpreter::Hide(const std::vector<Symbol>& hidden, ScopeObject* scope) {
  for (const Symbol symbol : hidden) {
    // No block around mentions the name, so only the context can have it.
    const auto index = static_cast<size_t>(symbol);
    if (!globals_[index].has_value()) continue;
    scope->Set(symbol, Value::Undefined(heap_, "'" + source_.symbols[index] + "' is undefined"));
  }
}

// What a {% block %} sees of the top level: what has been assigned there, not what is only hidden.
Ref<ScopeObject> Interpreter::Exported() {
  Ref<ScopeObject> scope = NewScope(nullptr);
  for (const auto& [symbol, value] : top_->variables) {
    if (!value.IsUndefined()) scope->Set(symbol, value);
  }
  return scope;
}

void Interpreter::Write(std::string_view text) {
  heap_.Step(text.size() / 64);
  // What blocks capture counts too: it is output for as long as it is being captured.
  written_ += text.size();
  if (written_ > options_.limits.max_output_bytes) {
    throw TemplateError{StatusCode::kOutOfMemory,
                        "the template writes more than the " +
                            std::to_string(options_.limits.max_output_bytes) + " bytes allowed",
                        0};
  }
  out_->append(text);
}

// Statements -----------------------------------------------------------------------------------

Interpreter::Flow Interpreter::ExecBody(const Body& body, ScopeObject* scope) {
  for (const auto& stmt : body) {
    const Flow flow = Exec(*stmt, scope);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::Exec(const Stmt& stmt, ScopeObject* scope) {
  const Level level(this);
  heap_.Step();
  line_ = stmt.line;
  switch (stmt.kind) {
    case StmtKind::kData:
      Write(stmt.text);
      return Flow::kNormal;
    case StmtKind::kPrint:
      for (const ExprPtr& expr : stmt.exprs) {
        const Value value = Eval(*expr, scope);
        if (value.IsString()) {
          Write(value.Text());
        } else {
          Write(Str(value));
        }
      }
      return Flow::kNormal;
    case StmtKind::kIf:
      return ExecIf(stmt, scope);
    case StmtKind::kFor:
      return ExecFor(stmt, Eval(*stmt.exprs[0], scope), scope, 0);
    case StmtKind::kSet:
      Assign(*stmt.target, Eval(*stmt.exprs[0], scope), scope);
      return Flow::kNormal;
    case StmtKind::kSetBlock:
      return ExecSetBlock(stmt, scope);
    case StmtKind::kMacro:
      scope->Set(stmt.symbol,
                 Value::Of(Make<MacroObject>(heap_, stmt.macro.get(), Ref<ScopeObject>(scope))));
      return Flow::kNormal;
    case StmtKind::kCallBlock:
      ExecCallBlock(stmt, scope);
      return Flow::kNormal;
    case StmtKind::kFilterBlock:
      return ExecFilterBlock(stmt, scope);
    case StmtKind::kWith:
      return ExecWith(stmt, scope);
    case StmtKind::kScope:
      return ExecBody(stmt.bodies[0],
                      NewScope(stmt.isolated ? Exported().get() : scope, stmt.hidden[0]).get());
    case StmtKind::kTransparent:
      return ExecBody(stmt.bodies[0], scope);
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
    case StmtKind::kUnsupported:
      Fail("the tag '" + stmt.text +
           "' needs other templates, which a chat template does not have");
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::ExecIf(const Stmt& stmt, ScopeObject* scope) {
  for (size_t i = 0; i < stmt.exprs.size(); ++i) {
    if (Truthy(Eval(*stmt.exprs[i], scope))) return ExecBody(stmt.bodies[i], scope);
  }
  if (stmt.bodies.size() > stmt.exprs.size()) return ExecBody(stmt.bodies.back(), scope);
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::ExecFor(const Stmt& stmt, const Value& items, ScopeObject* scope,
                                       int depth0) {
  const auto loop = Make<LoopObject>(heap_);
  loop->items = Iterate(items);
  loop->depth0 = depth0;
  if (stmt.recursive) {
    loop->statement = &stmt;
    loop->scope = Ref<ScopeObject>(scope);
  }
  if (stmt.exprs[1] != nullptr) {
    loop->items = Ref<IteratorObject>(
        Make<ForFilterIterator>(heap_, loop->items, &stmt, Ref<ScopeObject>(scope)).get());
  } else if (!items.Is(Kind::kIterator)) {
    loop->length = Size(items);
  }

  // As in Jinja, the else body runs unless one round came to its end (a break or continue in every
  // round counts as none).
  bool completed = false;
  Ref<ScopeObject> inner;
  Value item;
  while (NextItem(loop.get(), &item)) {
    heap_.Step();
    if (inner && inner->references == 1) {
      inner->variables.clear();
    } else {
      inner = NewScope(scope);
    }
    Hide(stmt.hidden[0], inner.get());
    inner->Set(source_.loop, Value::Of(loop));
    Assign(*stmt.target, item, inner.get());
    const Flow flow = ExecBody(stmt.bodies[0], inner.get());
    if (flow == Flow::kBreak) break;
    completed = completed || flow == Flow::kNormal;
  }
  if (!completed && stmt.bodies.size() > 1) {
    return ExecBody(stmt.bodies[1], NewScope(scope, stmt.hidden[1]).get());
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::ExecSetBlock(const Stmt& stmt, ScopeObject* scope) {
  Capture capture(&out_);
  const Ref<ScopeObject> inner = NewScope(scope, stmt.hidden[0]);
  const Flow flow = ExecBody(stmt.bodies[0], inner.get());
  if (flow != Flow::kNormal) return flow;
  Value value = Text(capture.Take());
  if (stmt.exprs[0] != nullptr) value = EvalFilter(*stmt.exprs[0], value, inner.get());
  Assign(*stmt.target, value, scope);
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::ExecFilterBlock(const Stmt& stmt, ScopeObject* scope) {
  std::string text;
  const Ref<ScopeObject> inner = NewScope(scope, stmt.hidden[0]);
  {
    Capture capture(&out_);
    const Flow flow = ExecBody(stmt.bodies[0], inner.get());
    if (flow != Flow::kNormal) return flow;
    text = capture.Take();
  }
  Write(Str(EvalFilter(*stmt.exprs[0], Text(std::move(text)), inner.get())));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::ExecWith(const Stmt& stmt, ScopeObject* scope) {
  const Ref<ScopeObject> inner = NewScope(scope, stmt.hidden[0]);
  for (size_t i = 0; i < stmt.targets.size(); ++i) {
    Assign(*stmt.targets[i], Eval(*stmt.exprs[i], scope), inner.get());
  }
  return ExecBody(stmt.bodies[0], inner.get());
}

void Interpreter::ExecCallBlock(const Stmt& stmt, ScopeObject* scope) {
  const Value caller =
      Value::Of(Make<MacroObject>(heap_, stmt.macro.get(), Ref<ScopeObject>(scope)));
  Write(Str(EvalCall(*stmt.exprs[0], scope, &caller)));
}

void Interpreter::Assign(const Expr& target, const Value& value, ScopeObject* scope) {
  switch (target.kind) {
    case ExprKind::kName:
      scope->Set(target.id, value);
      return;
    case ExprKind::kNamespace: {
      const Value space = Lookup(target.id, scope);
      if (!space.Is(Kind::kNamespace)) {
        Fail("cannot assign attribute '" + target.name + "' on an object that is no namespace");
      }
      space.As<NamespaceObject>()->attributes->Set(target.name, value);
      return;
    }
    default:
      break;
  }
  const size_t expected = target.items.size();
  std::vector<Value> items;
  const Ref<IteratorObject> source = Iterate(value);
  Value item;
  while (items.size() <= expected && source->Next(*this, &item)) items.push_back(item);
  if (items.size() != expected) {
    Fail("cannot unpack " + std::string(items.size() > expected ? "more than " : "") +
         std::to_string(std::min(items.size(), expected)) + " value(s) into " +
         std::to_string(expected));
  }
  for (size_t i = 0; i < expected; ++i) Assign(*target.items[i], items[i], scope);
}

// Calls of macros and loops ---------------------------------------------------------------------

Value Interpreter::CallMacro(const MacroObject& macro, Arguments& arguments) {
  const Level level(this);
  const MacroDefinition& definition = *macro.definition;
  const size_t parameters = definition.parameters.size();
  const Ref<ScopeObject> scope = NewScope(macro.scope.get(), definition.hidden);

  // Positional arguments first, then keywords, then defaults, which may read earlier parameters.
  const auto take_keyword = [&arguments](std::string_view name) -> std::optional<Value> {
    for (auto it = arguments.keywords.begin(); it != arguments.keywords.end(); ++it) {
      if (it->first != name) continue;
      Value value = std::move(it->second);
      arguments.keywords.erase(it);
      return value;
    }
    return std::nullopt;
  };
  std::vector<std::optional<Value>> given(parameters);
  for (size_t i = 0; i < parameters; ++i) {
    if (i < arguments.positional.size()) {
      given[i] = arguments.positional[i];
    } else {
      given[i] = take_keyword(definition.parameters[i].name);
    }
  }
  if (definition.uses_caller && !definition.explicit_caller) {
    std::optional<Value> caller = take_keyword("caller");
    scope->Set(source_.caller, caller.has_value() && !caller->IsNone()
                                   ? *caller
                                   : Value::Undefined(heap_, "no caller defined"));
  }
  if (definition.uses_kwargs) {
    const auto dict = Make<DictObject>(heap_);
    for (const auto& [name, value] : arguments.keywords) dict->Set(name, value);
    scope->Set(source_.kwargs, Value::Of(dict));
  } else if (!arguments.keywords.empty()) {
    Fail("macro '" + definition.name + "' takes no keyword argument '" +
         arguments.keywords[0].first + "'");
  }
  if (definition.uses_varargs) {
    const Ref<ListObject> rest = MakeTuple(heap_);
    for (size_t i = parameters; i < arguments.positional.size(); ++i) {
      rest->Append(arguments.positional[i]);
    }
    scope->Set(source_.varargs, Value::Of(rest));
  } else if (arguments.positional.size() > parameters) {
    Fail("macro '" + definition.name + "' takes not more than " + std::to_string(parameters) +
         " argument(s), got " + std::to_string(arguments.positional.size()));
  }
  for (size_t i = 0; i < parameters; ++i) {
    const Parameter& parameter = definition.parameters[i];
    if (!given[i].has_value()) {
      given[i] =
          parameter.default_value != nullptr
              ? Eval(*parameter.default_value, scope.get())
              : Value::Undefined(heap_, "parameter '" + parameter.name + "' was not provided");
    }
    scope->Set(parameter.symbol, *given[i]);
  }

  Capture capture(&out_);
  ExecBody(definition.body, scope.get());
  return Text(capture.Take());
}

Value Interpreter::CallLoop(LoopObject* loop, Arguments& arguments) {
  if (loop->statement == nullptr) {
    Fail("a loop must be marked 'recursive' to be called");
  }
  if (arguments.positional.size() != 1 || !arguments.keywords.empty()) {
    Fail("loop() takes one argument, the items to loop over");
  }
  const Level level(this);
  Capture capture(&out_);
  ExecFor(*loop->statement, arguments.positional[0], loop->scope.get(), loop->depth0 + 1);
  return Text(capture.Take());
}

bool Interpreter::NextItem(LoopObject* loop, Value* out) {
  if (loop->after.has_value()) {
    *out = std::move(*loop->after);
    loop->after.reset();
  } else if (!loop->items->Next(*this, out)) {
    return false;
  }
  ++loop->index0;
  loop->before = std::move(loop->current);
  loop->current = *out;
  return true;
}

bool Interpreter::PeekNext(LoopObject* loop) {
  if (loop->after.has_value()) return true;
  Value next;
  if (!loop->items->Next(*this, &next)) return false;
  loop->after = std::move(next);
  return true;
}

int64_t Interpreter::LoopLength(LoopObject* loop) {
  if (!loop->length.has_value()) {
    // A generator: read it to its end, and go on from what was read.
    const Ref<ListObject> rest = MakeList(heap_);
    Value item;
    while (loop->items->Next(*this, &item)) rest->Append(item);
    loop->length = static_cast<int64_t>(rest->items.size()) + loop->index0 + 1 +
                   (loop->after.has_value() ? 1 : 0);
    loop->items = Iterate(Value::Of(rest));
  }
  return *loop->length;
}

}  // namespace ink::jinja
