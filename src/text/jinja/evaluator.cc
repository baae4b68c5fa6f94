// Expressions.
#include <algorithm>

#include "text/jinja/interpreter.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {

Value Interpreter::Eval(const Expr& expr, ScopeObject* scope) {
  const Level level(this);
  heap_.Step();
  line_ = expr.line;
  switch (expr.kind) {
    case ExprKind::kLiteral: {
      std::optional<Value>& literal = literals_[static_cast<size_t>(expr.id)];
      if (!literal.has_value()) {
        literal = FromLiteral(source_.literals[static_cast<size_t>(expr.id)]);
      }
      return *literal;
    }
    case ExprKind::kName:
      return Lookup(expr.id, scope);
    case ExprKind::kTuple:
    case ExprKind::kList: {
      const Ref<ListObject> list =
          expr.kind == ExprKind::kList ? MakeList(heap_) : MakeTuple(heap_);
      for (const ExprPtr& item : expr.items) list->Append(Eval(*item, scope));
      return Value::Of(list);
    }
    case ExprKind::kDict:
      return EvalDict(expr, scope);
    case ExprKind::kGetattr:
      return GetAttribute(Eval(*expr.items[0], scope), expr.name);
    case ExprKind::kGetitem: {
      const Value object = Eval(*expr.items[0], scope);
      if (expr.items[1]->kind == ExprKind::kSlice) {
        return EvalSlice(object, *expr.items[1], scope);
      }
      return GetItem(object, Eval(*expr.items[1], scope));
    }
    case ExprKind::kCall:
      return EvalCall(expr, scope, nullptr);
    case ExprKind::kFilter:
      return EvalFilter(expr, Value(), scope);
    case ExprKind::kTest:
      return EvalTest(expr, scope);
    case ExprKind::kNot:
    case ExprKind::kNegate:
    case ExprKind::kPlus:
      return EvalUnary(expr, scope);
    case ExprKind::kBinary: {
      const Value left = Eval(*expr.items[0], scope);
      const Value right = Eval(*expr.items[1], scope);
      return BinaryOperation(expr.op, left, right);
    }
    case ExprKind::kConcat:
      return EvalConcat(expr, scope);
    case ExprKind::kCompare:
      return EvalCompare(expr, scope);
    case ExprKind::kAnd: {
      Value left = Eval(*expr.items[0], scope);
      return Truthy(left) ? Eval(*expr.items[1], scope) : left;
    }
    case ExprKind::kOr: {
      Value left = Eval(*expr.items[0], scope);
      return Truthy(left) ? left : Eval(*expr.items[1], scope);
    }
    case ExprKind::kConditional:
      if (Truthy(Eval(*expr.items[0], scope))) return Eval(*expr.items[1], scope);
      if (expr.items[2] != nullptr) return Eval(*expr.items[2], scope);
      return Value::Undefined(heap_, "the inline if-expression was false and has no else part");
    case ExprKind::kNamespace:
    case ExprKind::kSlice:
      break;
  }
  Fail("an expression is in a place where it has no value");
}

Value Interpreter::EvalDict(const Expr& expr, ScopeObject* scope) {
  const auto dict = Make<DictObject>(heap_);
  for (size_t i = 0; i + 1 < expr.items.size(); i += 2) {
    const Value key = Eval(*expr.items[i], scope);
    dict->Set(key, Eval(*expr.items[i + 1], scope));
  }
  return Value::Of(dict);
}

Value Interpreter::EvalConcat(const Expr& expr, ScopeObject* scope) {
  std::string text;
  for (const ExprPtr& item : expr.items) {
    const Value value = Eval(*item, scope);
    if (value.IsString()) {
      text += value.Text();
    } else {
      text += Str(value);
    }
    heap_.Check(text.size());
  }
  return Text(std::move(text));
}

Value Interpreter::EvalUnary(const Expr& expr, ScopeObject* scope) {
  const Value value = Eval(*expr.items[0], scope);
  if (expr.kind == ExprKind::kNot) return Value::Bool(!Truthy(value));
  if (value.IsUndefined()) FailUndefined(value);
  const bool negate = expr.kind == ExprKind::kNegate;
  if (value.Is(Kind::kFloat)) return Value::Float(negate ? -value.AsDouble() : value.AsDouble());
  if (!value.IsIntegral()) {
    Fail(std::string("bad operand type for unary ") + (negate ? "-" : "+") + ": '" +
         TypeName(value) + "'");
  }
  Int result = value.AsInt();
  if (negate && __builtin_sub_overflow(Int{0}, result, &result)) Fail("an integer overflows");
  return Value::Integer(result);
}

bool Interpreter::CompareValues(CompareOp op, const Value& a, const Value& b) {
  if (op == CompareOp::kEqual) return Equals(a, b);
  if (op == CompareOp::kNotEqual) return !Equals(a, b);
  if (op == CompareOp::kIn) return Contains(b, a);
  if (op == CompareOp::kNotIn) return !Contains(b, a);
  bool unordered = false;
  const int order = Compare(a, b, &unordered);
  if (unordered) return false;
  switch (op) {
    case CompareOp::kLess:
      return order < 0;
    case CompareOp::kLessEqual:
      return order <= 0;
    case CompareOp::kGreater:
      return order > 0;
    default:
      return order >= 0;
  }
}

// "a < b < c" is "a < b and b < c" with b evaluated once.
Value Interpreter::EvalCompare(const Expr& expr, ScopeObject* scope) {
  Value left = Eval(*expr.items[0], scope);
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    Value right = Eval(*expr.items[i + 1], scope);
    if (!CompareValues(expr.ops[i], left, right)) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

// Calls ------------------------------------------------------------------------------------------

void Interpreter::EvalArguments(const Expr& call, ScopeObject* scope, Arguments* arguments) {
  for (size_t i = 1; i < call.items.size(); ++i) {
    arguments->positional.push_back(Eval(*call.items[i], scope));
  }
  for (const auto& [name, expr] : call.keywords) {
    arguments->keywords.emplace_back(name, Eval(*expr, scope));
  }
  if (call.star != nullptr) {
    for (Value& value : Collect(Eval(*call.star, scope))) {
      arguments->positional.push_back(std::move(value));
    }
  }
  if (call.star_star == nullptr) return;
  const Value extra = Eval(*call.star_star, scope);
  if (!extra.Is(Kind::kDict)) {
    Fail(std::string("the argument after ** must be a mapping, not ") + TypeName(extra));
  }
  size_t position = 0;
  for (; DictObject::Entry* entry = extra.AsDict()->At(&position); ++position) {
    heap_.Step();
    if (!entry->key.IsString()) Fail("keywords must be strings");
    for (const auto& keyword : call.keywords) {
      if (keyword.first == entry->key.Text()) {
        Fail("keyword argument '" + keyword.first + "' is given twice");
      }
    }
    arguments->keywords.emplace_back(entry->key.Text(), entry->value);
  }
}

Value Interpreter::EvalCall(const Expr& expr, ScopeObject* scope, const Value* caller) {
  const Expr& function = *expr.items[0];
  // A method that is called at once needs no object that binds it.
  const Native* method = nullptr;
  Value callee;
  if (function.kind == ExprKind::kGetattr) {
    callee = Eval(*function.items[0], scope);
    method = FindMethod(callee, function.name);
    if (method == nullptr) callee = GetAttribute(callee, function.name);
  } else {
    callee = Eval(function, scope);
  }
  Arguments arguments;
  EvalArguments(expr, scope, &arguments);
  if (caller != nullptr) {
    for (const auto& keyword : arguments.keywords) {
      if (keyword.first == "caller") Fail("a call block passes 'caller' itself");
    }
    arguments.keywords.emplace_back("caller", *caller);
  }
  line_ = expr.line;
  return method != nullptr ? method->function(*this, callee, arguments) : Call(callee, arguments);
}

Value Interpreter::Call(const Value& callee, Arguments& arguments) {
  switch (callee.kind()) {
    case Kind::kNative: {
      const NativeObject& native = *callee.As<NativeObject>();
      return native.native->function(*this, native.self, arguments);
    }
    case Kind::kMacro:
      return CallMacro(*callee.As<MacroObject>(), arguments);
    case Kind::kLoop:
      return CallLoop(callee.As<LoopObject>(), arguments);
    case Kind::kJoiner: {
      JoinerObject& joiner = *callee.As<JoinerObject>();
      if (joiner.used) return joiner.separator;
      joiner.used = true;
      return Text("");
    }
    case Kind::kUndefined:
      FailUndefined(callee);
    default:
      Fail(std::string("'") + TypeName(callee) + "' object is not callable");
  }
}

Value Interpreter::EvalFilter(const Expr& expr, const Value& input, ScopeObject* scope) {
  const Level level(this);
  // The head of a filter block or a set block has no expression in front: it takes `input`.
  Value value = input;
  if (expr.items[0] != nullptr) {
    value = expr.items[0]->kind == ExprKind::kFilter ? EvalFilter(*expr.items[0], input, scope)
                                                     : Eval(*expr.items[0], scope);
  }
  Arguments arguments;
  EvalArguments(expr, scope, &arguments);
  line_ = expr.line;
  heap_.Step();
  return CallFilter(expr.name, value, arguments);
}

Value Interpreter::CallFilter(std::string_view name, const Value& value, Arguments& arguments) {
  const Native* filter = FindFilter(name);
  if (filter == nullptr) Fail("no filter named '" + std::string(name) + "'");
  return filter->function(*this, value, arguments);
}

bool Interpreter::CallTest(std::string_view name, const Value& value, Arguments& arguments) {
  const Native* test = FindTest(name);
  if (test == nullptr) Fail("no test named '" + std::string(name) + "'");
  return Truthy(test->function(*this, value, arguments));
}

Value Interpreter::EvalTest(const Expr& expr, ScopeObject* scope) {
  const Value value = Eval(*expr.items[0], scope);
  Arguments arguments;
  EvalArguments(expr, scope, &arguments);
  line_ = expr.line;
  return Value::Bool(CallTest(expr.name, value, arguments));
}

// Slices -----------------------------------------------------------------------------------------

namespace {

struct SliceRange {
  int64_t start;
  int64_t step;
  int64_t count;
};

// Python's rules for a sequence of `size`: bounds from the end where negative, then clipped.
SliceRange ResolveSlice(const Value& start, const Value& stop, const Value& step_value,
                        int64_t size) {
  const auto bound = [](const Value& value, int64_t otherwise) {
    if (value.IsNone()) return otherwise;
    if (!value.IsIntegral()) {
      if (value.IsUndefined()) FailUndefined(value);
      Fail("slice indices must be integers or None, not " + std::string(TypeName(value)));
    }
    // Beyond 64 bits every bound is clipped alike.
    constexpr Int kFar = Int{1} << 62;
    return static_cast<int64_t>(std::clamp(value.AsInt(), -kFar, kFar));
  };
  const int64_t step = bound(step_value, 1);
  if (step == 0) Fail("a slice's step cannot be zero");
  const auto clip = [size, step](int64_t index) {
    if (index < 0) index += size;
    return std::clamp<int64_t>(index, step > 0 ? 0 : -1, step > 0 ? size : size - 1);
  };
  const int64_t first = start.IsNone() ? (step > 0 ? 0 : size - 1) : clip(bound(start, 0));
  const int64_t last = stop.IsNone() ? (step > 0 ? size : -1) : clip(bound(stop, 0));
  int64_t count = 0;
  if (step > 0 && first < last) count = (last - first - 1) / step + 1;
  if (step < 0 && first > last) count = (first - last - 1) / -step + 1;
  return {first, step, count};
}

}  // namespace

Value Interpreter::EvalSlice(const Value& object, const Expr& slice, ScopeObject* scope) {
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    bounds[i] = slice.items[i] != nullptr ? Eval(*slice.items[i], scope) : Value::None();
  }
  if (object.IsUndefined()) FailUndefined(object);
  if (object.IsString()) {
    const std::string& text = object.Text();
    heap_.Step(text.size() / 64);
    const SliceRange range = ResolveSlice(bounds[0], bounds[1], bounds[2], Size(object));
    if (range.step == 1 && object.AsString()->ascii) {
      return TextLike(object, text.substr(static_cast<size_t>(range.count > 0 ? range.start : 0),
                                          static_cast<size_t>(range.count)));
    }
    const std::u32string points = Decode(text);
    std::u32string out;
    for (int64_t i = 0; i < range.count; ++i) {
      out.push_back(points[static_cast<size_t>(range.start + i * range.step)]);
    }
    return TextLike(object, Encode(out));
  }
  if (object.IsSequence()) {
    const SliceRange range = ResolveSlice(bounds[0], bounds[1], bounds[2], Size(object));
    const Ref<ListObject> out = object.Is(Kind::kList) ? MakeList(heap_) : MakeTuple(heap_);
    heap_.Step(static_cast<uint64_t>(range.count) / 16);
    for (int64_t i = 0; i < range.count; ++i) {
      out->Append(object.AsList()->items[static_cast<size_t>(range.start + i * range.step)]);
    }
    return Value::Of(out);
  }
  if (object.Is(Kind::kRange)) {
    const RangeObject& source = *object.As<RangeObject>();
    const SliceRange range = ResolveSlice(bounds[0], bounds[1], bounds[2], source.size());
    const Int start = source.start + Int{range.start} * source.step;
    const Int step = range.count > 1 ? Int{source.step} * range.step : 1;
    const Int stop = start + range.count * step;
    constexpr Int kLimit = Int{1} << 62;
    if (start < -kLimit || start > kLimit || stop < -kLimit || stop > kLimit) {
      Fail("a range's bound overflows");
    }
    return Value::Of(Make<RangeObject>(heap_, static_cast<int64_t>(start),
                                       static_cast<int64_t>(stop), static_cast<int64_t>(step)));
  }
  Fail(std::string("'") + TypeName(object) + "' object cannot be sliced");
}

}  // namespace ink::jinja
