// Methods of lists, tuples and dicts.
#include <algorithm>
#include <iterator>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"

namespace ink::jinja {
namespace {

std::vector<Value>& Items(const Value& self) { return self.AsList()->items; }

Value ListAppend(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("append", arguments, {"item"}, 1);
  self.AsList()->Append(parameters[0]);
  return Value::None();
}

Value ListExtend(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("extend", arguments, {"items"}, 1);
  for (Value& item : interpreter.Collect(parameters[0])) self.AsList()->Append(std::move(item));
  return Value::None();
}

Value ListInsert(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("insert", arguments, {"index", "item"}, 2);
  const auto size = static_cast<int64_t>(Items(self).size());
  int64_t index = parameters.Integer(0, 0);
  if (index < 0) index = std::max<int64_t>(0, index + size);
  index = std::min(index, size);
  interpreter.heap().Step(1 + static_cast<uint64_t>(size) / 16);
  self.AsList()->heap->Charge(self.AsList(), sizeof(Value));
  Items(self).insert(Items(self).begin() + index, parameters[1]);
  return Value::None();
}

Value ListPop(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("pop", arguments, {"index"});
  std::vector<Value>& items = Items(self);
  if (items.empty()) Fail("pop from an empty list");
  const auto size = static_cast<int64_t>(items.size());
  int64_t index = parameters.Integer(0, -1);
  if (index < 0) index += size;
  if (index < 0 || index >= size) {
    Fail("pop index " + std::to_string(parameters.Integer(0, -1)) + " is out of range for " +
         std::to_string(size) + " items");
  }
  interpreter.heap().Step(1 + static_cast<uint64_t>(size - index) / 16);
  Value item = std::move(items[static_cast<size_t>(index)]);
  items.erase(items.begin() + index);
  return item;
}

// The index of an item equal to `wanted`, or -1.
int64_t IndexOf(Interpreter& interpreter, const Value& self, const Value& wanted, int64_t start,
                int64_t stop) {
  const auto size = static_cast<int64_t>(Items(self).size());
  if (start < 0) start = std::max<int64_t>(0, start + size);
  if (stop < 0) stop += size;
  for (int64_t i = start; i < std::min(stop, size); ++i) {
    interpreter.heap().Step();
    if (Equals(Items(self)[static_cast<size_t>(i)], wanted)) return i;
  }
  return -1;
}

Value ListIndex(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("index", arguments, {"item", "start", "stop"}, 1);
  const int64_t index = IndexOf(interpreter, self, parameters[0], parameters.Integer(1, 0),
                                parameters.Integer(2, static_cast<int64_t>(Items(self).size())));
  if (index < 0) Fail(Repr(parameters[0]) + " is not in the " + TypeName(self));
  return Value::Integer(index);
}

Value ListCount(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("count", arguments, {"item"}, 1);
  int64_t count = 0;
  for (const Value& item : Items(self)) {
    interpreter.heap().Step();
    count += Equals(item, parameters[0]) ? 1 : 0;
  }
  return Value::Integer(count);
}

Value ListRemove(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("remove", arguments, {"item"}, 1);
  std::vector<Value>& items = Items(self);
  const int64_t index =
      IndexOf(interpreter, self, parameters[0], 0, static_cast<int64_t>(items.size()));
  if (index < 0) Fail(Repr(parameters[0]) + " is not in the list");
  // Its destruction must find the list whole.
  const Value removed = std::move(items[static_cast<size_t>(index)]);
  items.erase(items.begin() + index);
  return Value::None();
}

Value ListClear(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("clear", arguments, {});
  const std::vector<Value> items = std::move(Items(self));
  Items(self).clear();
  return Value::None();
}

Value ListReverse(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("reverse", arguments, {});
  interpreter.heap().Step(Items(self).size() / 16);
  std::reverse(Items(self).begin(), Items(self).end());
  return Value::None();
}

Value ListCopy(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("copy", arguments, {});
  const Ref<ListObject> copy = MakeList(interpreter.heap());
  for (const Value& item : Items(self)) copy->Append(item);
  interpreter.heap().Step(copy->items.size() / 16);
  return Value::Of(copy);
}

// list.sort(): as the filter, but case-sensitive and in place.
Value ListSort(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("sort", arguments, {"key", "reverse"});
  if (parameters.IsSet(0)) Fail("list.sort with a key function is not supported, use the filter");
  Arguments options;
  options.keywords.emplace_back("case_sensitive", Value::Bool(true));
  options.keywords.emplace_back("reverse", Value::Bool(parameters.Bool(1, false)));
  const Value sorted = interpreter.CallFilter("sort", self, options);
  std::swap(Items(self), Items(sorted));
  return Value::None();
}

constexpr Native kListMethods[] = {
    {"append", ListAppend}, {"clear", ListClear},     {"copy", ListCopy},     {"count", ListCount},
    {"extend", ListExtend}, {"index", ListIndex},     {"insert", ListInsert}, {"pop", ListPop},
    {"remove", ListRemove}, {"reverse", ListReverse}, {"sort", ListSort},
};

constexpr Native kTupleMethods[] = {
    {"count", ListCount},
    {"index", ListIndex},
};

// Dicts
// ---------------------------------------------------------------------------------------------

template <ViewObject::Part kPart>
Value DictView(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("a dict's view", arguments, {});
  return Value::Of(Make<ViewObject>(interpreter.heap(), Ref<DictObject>(self.AsDict()), kPart));
}

Value DictGet(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  if (!arguments.keywords.empty()) Fail("get takes no keyword arguments");
  const Parameters parameters("get", arguments, {"key", "default"}, 1);
  if (const Value* value = self.AsDict()->Find(parameters[0])) return *value;
  return parameters.Has(1) ? parameters[1] : Value::None();
}

Value DictPop(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("pop", arguments, {"key", "default"}, 1);
  if (const Value* value = self.AsDict()->Find(parameters[0])) {
    Value taken = *value;
    self.AsDict()->Remove(parameters[0]);
    return taken;
  }
  if (!parameters.Has(1)) Fail("the dict has no key " + Repr(parameters[0]));
  return parameters[1];
}

Value DictPopitem(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("popitem", arguments, {});
  DictObject* dict = self.AsDict();
  if (dict->size() == 0) Fail("popitem from an empty dict");
  interpreter.heap().Step(dict->size());
  Value pair;
  size_t position = 0;
  for (; DictObject::Entry* entry = dict->At(&position); ++position) {
    pair = MakePair(interpreter.heap(), entry->key, entry->value);
  }
  dict->Remove(pair.AsList()->items[0]);
  return pair;
}

Value DictSetdefault(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("setdefault", arguments, {"key", "default"}, 1);
  if (const Value* value = self.AsDict()->Find(parameters[0])) return *value;
  Value value = parameters.Has(1) ? parameters[1] : Value::None();
  self.AsDict()->Set(parameters[0], value);
  return value;
}

void CopyEntries(Interpreter& interpreter, const Value& source, DictObject* target) {
  if (source.AsDict() == target) return;
  size_t position = 0;
  for (; DictObject::Entry* entry = source.AsDict()->At(&position); ++position) {
    interpreter.heap().Step();
    target->Set(entry->key, entry->value);
  }
}

Value DictUpdate(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  DictObject* dict = self.AsDict();
  if (arguments.positional.size() > 1) Fail("update takes at most 1 argument without a name");
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.Is(Kind::kDict)) {
      CopyEntries(interpreter, source, dict);
    } else {
      for (const Value& pair : interpreter.Collect(source)) {
        const std::vector<Value> items = interpreter.Collect(pair);
        if (items.size() != 2) Fail("update needs pairs, got " + std::to_string(items.size()));
        dict->Set(items[0], items[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.keywords) dict->Set(name, value);
  return Value::None();
}

Value DictCopy(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("copy", arguments, {});
  const auto copy = Make<DictObject>(interpreter.heap());
  CopyEntries(interpreter, self, copy.get());
  return Value::Of(copy);
}

Value DictClear(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("clear", arguments, {});
  self.AsDict()->Clear();
  return Value::None();
}

constexpr Native kDictMethods[] = {
    {"clear", DictClear},
    {"copy", DictCopy},
    {"get", DictGet},
    {"items", DictView<ViewObject::Part::kItems>},
    {"keys", DictView<ViewObject::Part::kKeys>},
    {"pop", DictPop},
    {"popitem", DictPopitem},
    {"setdefault", DictSetdefault},
    {"update", DictUpdate},
    {"values", DictView<ViewObject::Part::kValues>},
};

}  // namespace

NativeTable ListMethods() { return {std::begin(kListMethods), std::end(kListMethods)}; }
NativeTable TupleMethods() { return {std::begin(kTupleMethods), std::end(kTupleMethods)}; }
NativeTable DictMethods() { return {std::begin(kDictMethods), std::end(kDictMethods)}; }

}  // namespace ink::jinja
