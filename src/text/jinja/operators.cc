// Arithmetic with Python's rules.
#include <algorithm>
#include <cmath>

#include "text/jinja/interpreter.h"

namespace ink::jinja {
namespace {

[[noreturn]] void FailOperands(const char* op, const Value& a, const Value& b) {
  if (a.IsUndefined()) FailUndefined(a);
  if (b.IsUndefined()) FailUndefined(b);
  Fail(std::string("unsupported operand types for ") + op + ": '" + TypeName(a) + "' and '" +
       TypeName(b) + "'");
}

[[noreturn]] void FailOverflow() { Fail("an integer overflows"); }

const char* OpName(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd:
      return "+";
    case BinaryOp::kSubtract:
      return "-";
    case BinaryOp::kMultiply:
      return "*";
    case BinaryOp::kDivide:
      return "/";
    case BinaryOp::kFloorDivide:
      return "//";
    case BinaryOp::kModulo:
      return "%";
    case BinaryOp::kPower:
      return "**";
  }
  return "?";
}

// Quotient rounded down, and the remainder with the divisor's sign.
Int FloorDivide(Int a, Int b) {
  if (b == -1) {
    Int negated = 0;
    if (__builtin_sub_overflow(Int{0}, a, &negated)) FailOverflow();
    return negated;
  }
  const Int quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Int FloorModulo(Int a, Int b) {
  if (b == -1) return 0;
  const Int remainder = a % b;
  return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

double FloorModulo(double a, double b) {
  double remainder = std::fmod(a, b);
  if (remainder != 0) {
    if ((remainder < 0) != (b < 0)) remainder += b;
  } else {
    remainder = std::copysign(0.0, b);
  }
  return remainder;
}

double FloorDivide(double a, double b) {
  // As CPython: from the remainder, so that quotient * b + remainder is a.
  const double remainder = FloorModulo(a, b);
  const double quotient = (a - remainder) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1 : floored;
}

Value PowerOfInts(Int base, Int exponent) {
  if (exponent < 0) {
    if (base == 0) Fail("0 cannot be raised to a negative power");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  Int result = 1;
  Int factor = base;
  bool factor_valid = true;
  for (Int left = exponent; left != 0; left >>= 1) {
    if ((left & 1) != 0 && (!factor_valid || __builtin_mul_overflow(result, factor, &result))) {
      FailOverflow();
    }
    if (left > 1 && factor_valid) {
      // 0, 1 and -1 never overflow, so a large exponent of anything else ends soon.
      factor_valid = !__builtin_mul_overflow(factor, factor, &factor);
    }
  }
  return Value::Integer(result);
}

Value IntOperation(BinaryOp op, Int a, Int b) {
  Int result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      if (__builtin_add_overflow(a, b, &result)) FailOverflow();
      return Value::Integer(result);
    case BinaryOp::kSubtract:
      if (__builtin_sub_overflow(a, b, &result)) FailOverflow();
      return Value::Integer(result);
    case BinaryOp::kMultiply:
      if (__builtin_mul_overflow(a, b, &result)) FailOverflow();
      return Value::Integer(result);
    case BinaryOp::kDivide:
      if (b == 0) Fail("division by zero");
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case BinaryOp::kFloorDivide:
      if (b == 0) Fail("integer division or modulo by zero");
      return Value::Integer(FloorDivide(a, b));
    case BinaryOp::kModulo:
      if (b == 0) Fail("integer division or modulo by zero");
      return Value::Integer(FloorModulo(a, b));
    case BinaryOp::kPower:
      return PowerOfInts(a, b);
  }
  return Value();
}

Value FloatOperation(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return Value::Float(a + b);
    case BinaryOp::kSubtract:
      return Value::Float(a - b);
    case BinaryOp::kMultiply:
      return Value::Float(a * b);
    case BinaryOp::kDivide:
      if (b == 0) Fail("float division by zero");
      return Value::Float(a / b);
    case BinaryOp::kFloorDivide:
      if (b == 0) Fail("float floor division by zero");
      return Value::Float(FloorDivide(a, b));
    case BinaryOp::kModulo:
      if (b == 0) Fail("float modulo by zero");
      return Value::Float(FloorModulo(a, b));
    case BinaryOp::kPower: {
      if (a == 0 && b < 0) Fail("0.0 cannot be raised to a negative power");
      if (a < 0 && std::isfinite(b) && b != std::floor(b)) {
        Fail("a negative number to a fractional power is no real number");
      }
      const double result = std::pow(a, b);
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
        Fail("the result of ** is too large");
      }
      return Value::Float(result);
    }
  }
  return Value();
}

// Text or a list, `count` times.
Value Repeat(Interpreter& interpreter, const Value& value, const Value& count_value) {
  Heap& heap = interpreter.heap();
  // More than the byte limit is over it, however much more.
  constexpr Int kMany = Int{1} << 40;
  const Int wanted = count_value.AsInt();
  const auto count = static_cast<uint64_t>(std::clamp(wanted, Int{0}, kMany));
  if (value.IsString()) {
    const std::string& text = value.Text();
    // Both factors are at most 2^40, or the byte limit stops at the first of them.
    heap.Check(text.size());
    heap.Check(static_cast<uint64_t>(std::min(Int{count} * Int{text.size()}, Int{1} << 62)));
    std::string out;
    out.reserve(text.size() * (text.empty() ? 0 : count));
    for (uint64_t i = 0; !text.empty() && i < count; ++i) out += text;
    return interpreter.TextLike(value, std::move(out));
  }
  const Ref<ListObject> list = value.Is(Kind::kList) ? MakeList(heap) : MakeTuple(heap);
  const std::vector<Value>& items = value.AsList()->items;
  for (uint64_t i = 0; !items.empty() && i < count; ++i) {
    heap.Step(1 + items.size() / 16);
    for (const Value& item : items) list->Append(item);
  }
  return Value::Of(list);
}

Value Add(Interpreter& interpreter, const Value& a, const Value& b) {
  Heap& heap = interpreter.heap();
  if (a.IsString() && b.IsString()) {
    heap.Check(a.Text().size() + b.Text().size());
    if (!a.IsMarkup() && !b.IsMarkup()) return interpreter.Text(a.Text() + b.Text());
    // Text marked safe stays so: what is added to it is escaped.
    return Value::Markup(heap, (a.IsMarkup() ? a.Text() : Escape(a.Text())) +
                                   (b.IsMarkup() ? b.Text() : Escape(b.Text())));
  }
  if (a.IsSequence() && a.kind() == b.kind()) {
    const Ref<ListObject> list = a.Is(Kind::kList) ? MakeList(heap) : MakeTuple(heap);
    heap.Step((a.AsList()->items.size() + b.AsList()->items.size()) / 16);
    for (const Value& item : a.AsList()->items) list->Append(item);
    for (const Value& item : b.AsList()->items) list->Append(item);
    return Value::Of(list);
  }
  FailOperands("+", a, b);
}

}  // namespace

Value Interpreter::BinaryOperation(BinaryOp op, const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsIntegral() && b.IsIntegral()) return IntOperation(op, a.AsInt(), b.AsInt());
    return FloatOperation(op, a.AsDouble(), b.AsDouble());
  }
  if (op == BinaryOp::kAdd) return Add(*this, a, b);
  if (op == BinaryOp::kMultiply) {
    if ((a.IsString() || a.IsSequence()) && b.IsIntegral()) return Repeat(*this, a, b);
    if ((b.IsString() || b.IsSequence()) && a.IsIntegral()) return Repeat(*this, b, a);
  }
  if (op == BinaryOp::kModulo && a.IsString()) return TextLike(a, FormatPercent(*this, a, b));
  FailOperands(OpName(op), a, b);
}

}  // namespace ink::jinja
