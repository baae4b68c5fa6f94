// Iteration, attributes, items and membership.
#include <algorithm>

#include "text/jinja/iterators.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

struct StringIterator final : IteratorObject {
  StringIterator(Heap* heap, Value t) : IteratorObject(heap), text(std::move(t)) {}
  void Clear() override { text = Value(); }
  bool Next(Interpreter& interpreter, Value* out) override {
    const std::string& source = text.Text();
    if (position >= source.size()) return false;
    const size_t length = SequenceLength(source[position]);
    *out = interpreter.Text(source.substr(position, length));
    position += length;
    return true;
  }
  Value text;
  size_t position = 0;
};

struct DictIterator final : IteratorObject {
  DictIterator(Heap* heap, Ref<DictObject> d, ViewObject::Part p)
      : IteratorObject(heap), dict(std::move(d)), part(p), size(dict->size()) {}
  void Clear() override { dict = Ref<DictObject>(); }
  bool Next(Interpreter& interpreter, Value* out) override {
    if (dict->size() != size) Fail("dictionary changed size during iteration");
    DictObject::Entry* entry = dict->At(&position);
    if (entry == nullptr) return false;
    ++position;
    switch (part) {
      case ViewObject::Part::kKeys:
        *out = entry->key;
        break;
      case ViewObject::Part::kValues:
        *out = entry->value;
        break;
      case ViewObject::Part::kItems:
        *out = MakePair(interpreter.heap(), entry->key, entry->value);
        break;
    }
    return true;
  }
  Ref<DictObject> dict;
  const ViewObject::Part part;
  const size_t size;
  size_t position = 0;
};

struct RangeIterator final : IteratorObject {
  RangeIterator(Heap* heap, Ref<RangeObject> r) : IteratorObject(heap), range(std::move(r)) {}
  void Clear() override { range = Ref<RangeObject>(); }
  bool Next(Interpreter& interpreter, Value* out) override {
    if (position >= range->size()) return false;
    *out = Value::Integer((*range)[position++]);
    return true;
  }
  Ref<RangeObject> range;
  int64_t position = 0;
};

template <typename T>
Ref<IteratorObject> AsIterator(Ref<T> iterator) {
  return Ref<IteratorObject>(iterator.get());
}

// What Jinja calls the object in messages: "'dict object' has no attribute 'x'".
std::string ObjectName(const Value& value) {
  if (value.IsNone()) return "None";
  return std::string(TypeName(value)) + " object";
}

Value CycleLoop(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  if (arguments.positional.empty()) Fail("no items for cycling given");
  const int64_t index = self.As<LoopObject>()->index0;
  return arguments.positional[static_cast<size_t>(index) % arguments.positional.size()];
}

Value LoopChanged(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  std::optional<std::vector<Value>>& last = self.As<LoopObject>()->last_changed;
  if (last.has_value() && last->size() == arguments.positional.size() &&
      std::equal(last->begin(), last->end(), arguments.positional.begin(), Equals)) {
    return Value::Bool(false);
  }
  last = arguments.positional;
  return Value::Bool(true);
}

Value CyclerNext(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  CyclerObject& cycler = *self.As<CyclerObject>();
  const Value value = cycler.items[cycler.position];
  cycler.position = (cycler.position + 1) % cycler.items.size();
  return value;
}

Value CyclerReset(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  self.As<CyclerObject>()->position = 0;
  return Value::None();
}

constexpr Native kLoopCycle{"cycle", CycleLoop};
constexpr Native kLoopChanged{"changed", LoopChanged};
constexpr Native kCyclerNext{"next", CyclerNext};
constexpr Native kCyclerReset{"reset", CyclerReset};

}  // namespace

bool ListIterator::Next(Interpreter& interpreter, Value* out) {
  if (position >= list->items.size()) return false;
  *out = list->items[position++];
  return true;
}

bool LazyIterator::Next(Interpreter& interpreter, Value* out) {
  const Interpreter::Level level(&interpreter);
  // Held here: the step may run template code that drops the last reference to this iterator.
  const Ref<LazyIterator> self(this);
  Value item;
  while (source && source->Next(interpreter, &item)) {
    interpreter.heap().Step();
    if (step(interpreter, kept, item, out)) return true;
  }
  return false;
}

Value MakeGenerator(Interpreter& interpreter, std::vector<Value> values) {
  const Ref<ListObject> list = MakeList(interpreter.heap());
  for (Value& value : values) list->Append(std::move(value));
  return Value::Of(Make<ListIterator>(interpreter.heap(), list));
}

bool Interpreter::IsIterable(const Value& value) const {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kView:
    case Kind::kRange:
    case Kind::kIterator:
      return true;
    default:
      return false;
  }
}

Ref<IteratorObject> Interpreter::Iterate(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return AsIterator(Make<ListIterator>(heap_, MakeList(heap_)));
    case Kind::kString:
      return AsIterator(Make<StringIterator>(heap_, value));
    case Kind::kList:
    case Kind::kTuple:
      return AsIterator(Make<ListIterator>(heap_, Ref<ListObject>(value.AsList())));
    case Kind::kDict:
      return AsIterator(
          Make<DictIterator>(heap_, Ref<DictObject>(value.AsDict()), ViewObject::Part::kKeys));
    case Kind::kView:
      return AsIterator(
          Make<DictIterator>(heap_, value.As<ViewObject>()->dict, value.As<ViewObject>()->part));
    case Kind::kRange:
      return AsIterator(Make<RangeIterator>(heap_, Ref<RangeObject>(value.As<RangeObject>())));
    case Kind::kIterator:
      return Ref<IteratorObject>(value.As<IteratorObject>());
    default:
      Fail(std::string("'") + TypeName(value) + "' object is not iterable");
  }
}

std::vector<Value> Interpreter::Collect(const Value& value) {
  std::vector<Value> items;
  const Ref<IteratorObject> source = Iterate(value);
  Value item;
  while (source->Next(*this, &item)) {
    heap_.Step();
    // The vector is not on the heap yet: what it will cost there bounds it here.
    if (items.size() % 1024 == 1023) heap_.Check(items.size() * sizeof(Value));
    items.push_back(std::move(item));
  }
  return items;
}

std::optional<Value> Interpreter::LoopAttribute(LoopObject* loop, std::string_view name) {
  const auto integer = [](int64_t value) { return Value::Integer(value); };
  if (name == "index") return integer(loop->index0 + 1);
  if (name == "index0") return integer(loop->index0);
  if (name == "first") return Value::Bool(loop->index0 == 0);
  if (name == "last") return Value::Bool(!PeekNext(loop));
  if (name == "length") return integer(LoopLength(loop));
  if (name == "revindex") return integer(LoopLength(loop) - loop->index0);
  if (name == "revindex0") return integer(LoopLength(loop) - loop->index0 - 1);
  if (name == "depth") return integer(loop->depth0 + 1);
  if (name == "depth0") return integer(loop->depth0);
  if (name == "previtem") {
    return loop->before.has_value() ? *loop->before
                                    : Value::Undefined(heap_, "there is no previous item");
  }
  if (name == "nextitem") {
    return PeekNext(loop) ? *loop->after : Value::Undefined(heap_, "there is no next item");
  }
  if (name == "cycle") return Value::Of(Make<NativeObject>(heap_, &kLoopCycle, Value::Of(loop)));
  if (name == "changed") {
    return Value::Of(Make<NativeObject>(heap_, &kLoopChanged, Value::Of(loop)));
  }
  return std::nullopt;
}

std::optional<Value> Interpreter::FindAttribute(const Value& object, std::string_view name) {
  switch (object.kind()) {
    case Kind::kNamespace:
      if (const Value* value = object.As<NamespaceObject>()->attributes->Find(name)) return *value;
      return std::nullopt;
    case Kind::kLoop:
      return LoopAttribute(object.As<LoopObject>(), name);
    case Kind::kMacro: {
      const MacroDefinition& macro = *object.As<MacroObject>()->definition;
      if (name == "name") return Text(macro.name);
      if (name == "caller") return Value::Bool(macro.uses_caller);
      if (name == "catch_kwargs") return Value::Bool(macro.uses_kwargs);
      if (name == "catch_varargs") return Value::Bool(macro.uses_varargs);
      if (name == "arguments") {
        const Ref<ListObject> names = MakeTuple(heap_);
        for (const Parameter& parameter : macro.parameters) names->Append(Text(parameter.name));
        return Value::Of(names);
      }
      return std::nullopt;
    }
    case Kind::kCycler: {
      const CyclerObject& cycler = *object.As<CyclerObject>();
      if (name == "current") return cycler.items[cycler.position];
      if (name == "next") return Value::Of(Make<NativeObject>(heap_, &kCyclerNext, object));
      if (name == "reset") return Value::Of(Make<NativeObject>(heap_, &kCyclerReset, object));
      return std::nullopt;
    }
    case Kind::kTuple:
      if (const char* const* fields = object.AsList()->field_names) {
        for (size_t i = 0; i < object.AsList()->items.size(); ++i) {
          if (name == fields[i]) return object.AsList()->items[i];
        }
      }
      break;
    default:
      break;
  }
  if (const Native* method = FindMethod(object, name)) {
    return Value::Of(Make<NativeObject>(heap_, method, object));
  }
  return std::nullopt;
}

std::optional<Value> Interpreter::FindItem(const Value& object, const Value& key) {
  // An index from the end where negative; -1 if out of range.
  const auto index_within = [&key](int64_t size) {
    Int index = key.AsInt();
    if (index < 0) index += size;
    return index >= 0 && index < size ? static_cast<int64_t>(index) : int64_t{-1};
  };
  switch (object.kind()) {
    case Kind::kDict: {
      // A key that cannot be hashed is not there; a lookup of one is no error to Jinja.
      if (key.Is(Kind::kList) || key.Is(Kind::kDict)) return std::nullopt;
      const Value* value = object.AsDict()->Find(key);
      return value == nullptr ? std::nullopt : std::optional<Value>(*value);
    }
    case Kind::kList:
    case Kind::kTuple: {
      if (!key.IsIntegral()) return std::nullopt;
      const int64_t index = index_within(Size(object));
      if (index < 0) return std::nullopt;
      return object.AsList()->items[static_cast<size_t>(index)];
    }
    case Kind::kString: {
      if (!key.IsIntegral()) return std::nullopt;
      const int64_t index = index_within(Size(object));
      if (index < 0) return std::nullopt;
      const std::string& text = object.Text();
      if (object.AsString()->ascii) {
        return TextLike(object, text.substr(static_cast<size_t>(index), 1));
      }
      heap_.Step(text.size() / 64);
      const size_t at = ByteOffset(text, static_cast<size_t>(index));
      return TextLike(object, text.substr(at, SequenceLength(text[at])));
    }
    case Kind::kRange: {
      if (!key.IsIntegral()) return std::nullopt;
      const RangeObject& range = *object.As<RangeObject>();
      const int64_t index = index_within(range.size());
      if (index < 0) return std::nullopt;
      return Value::Integer(range[index]);
    }
    default:
      return std::nullopt;
  }
}

Value Interpreter::GetAttribute(const Value& object, std::string_view name) {
  if (object.IsUndefined()) FailUndefined(object);
  if (std::optional<Value> value = FindAttribute(object, name)) return *std::move(value);
  if (object.Is(Kind::kDict)) {
    if (const Value* value = object.AsDict()->Find(name)) return *value;
  }
  return Value::Undefined(
      heap_, "'" + ObjectName(object) + "' has no attribute '" + std::string(name) + "'");
}

Value Interpreter::GetItem(const Value& object, const Value& key) {
  if (object.IsUndefined()) FailUndefined(object);
  if (std::optional<Value> value = FindItem(object, key)) return *std::move(value);
  if (key.IsString()) {
    if (std::optional<Value> value = FindAttribute(object, key.Text())) return *std::move(value);
    return Value::Undefined(heap_,
                            "'" + ObjectName(object) + "' has no attribute '" + key.Text() + "'");
  }
  return Value::Undefined(heap_, ObjectName(object) + " has no element " + Repr(key));
}

Value Interpreter::GetPath(const Value& object, const Value& path) {
  if (!path.IsString()) return GetItem(object, path);
  Value value = object;
  const std::string_view text = path.Text();
  for (size_t start = 0; start <= text.size();) {
    const size_t dot = std::min(text.find('.', start), text.size());
    const std::string_view part = text.substr(start, dot - start);
    const bool is_index = !part.empty() && std::all_of(part.begin(), part.end(),
                                                       [](char c) { return c >= '0' && c <= '9'; });
    const std::optional<Int> index = is_index ? ParseInt(part, 10) : std::nullopt;
    value = GetItem(value, index.has_value() ? Value::Integer(*index) : Text(std::string(part)));
    start = dot + 1;
  }
  return value;
}

bool Interpreter::Contains(const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString:
      if (!item.IsString()) {
        Fail(std::string("'in <string>' requires string as left operand, not ") + TypeName(item));
      }
      heap_.Step(container.Text().size() / 64);
      return Find(container.Text(), item.Text()) != std::string::npos;
    case Kind::kDict:
      return container.AsDict()->Find(item) != nullptr;
    case Kind::kView:
      if (container.As<ViewObject>()->part == ViewObject::Part::kKeys) {
        return container.As<ViewObject>()->dict->Find(item) != nullptr;
      }
      break;
    case Kind::kList:
    case Kind::kTuple:
      for (const Value& candidate : container.AsList()->items) {
        heap_.Step();
        if (Equals(candidate, item)) return true;
      }
      return false;
    case Kind::kUndefined:
    case Kind::kRange:
    case Kind::kIterator:
      break;
    default:
      Fail(std::string("argument of type '") + TypeName(container) + "' is not iterable");
  }
  const Ref<IteratorObject> source = Iterate(container);
  Value candidate;
  while (source->Next(*this, &candidate)) {
    heap_.Step();
    if (Equals(candidate, item)) return true;
  }
  return false;
}

}  // namespace ink::jinja
