// Filters on sequences and mappings.
#include <algorithm>
#include <iterator>

#include "text/jinja/interpreter.h"
#include "text/jinja/iterators.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

// The key that sort, unique, min, max and groupby compare by: the item or its attribute, in lower
// case unless the filter is case-sensitive.
class KeyGetter {
 public:
  KeyGetter(Interpreter& interpreter, const Value* attribute, bool case_sensitive,
            const Value* otherwise = nullptr)
      : interpreter_(interpreter), case_sensitive_(case_sensitive), otherwise_(otherwise) {
    if (attribute != nullptr && !attribute->IsNone()) attribute_ = *attribute;
  }

  Value Get(const Value& item) const {
    return Fold(attribute_.has_value() ? GetAttribute(item) : item);
  }
  Value GetAttribute(const Value& item) const {
    if (!attribute_.has_value()) return item;
    Value value = interpreter_.GetPath(item, *attribute_);
    if (value.IsUndefined() && otherwise_ != nullptr && !otherwise_->IsNone()) return *otherwise_;
    return value;
  }

 private:
  Value Fold(Value value) const {
    if (case_sensitive_ || !value.IsString()) return value;
    return interpreter_.Text(ToLower(value.Text()));
  }

  Interpreter& interpreter_;
  const bool case_sensitive_;
  const Value* const otherwise_;
  std::optional<Value> attribute_;
};

const Value* Given(const Parameters& parameters, size_t index) {
  return parameters.Has(index) ? &parameters[index] : nullptr;
}

struct Keyed {
  Value key;
  Value item;
};

// Stable merge sort. The sort filter compares lists that hold the key (`keys_in_lists`): equal keys
// are then equal even where they have no order, such as None. The comparison may fail or be no
// order at all (nan), which the standard library's sorts do not promise to survive.
void SortKeyed(Interpreter& interpreter, std::vector<Keyed>* items, bool reverse,
               bool keys_in_lists = false) {
  std::vector<Keyed> buffer(items->size());
  // With `reverse`, equal items keep their order, as in Python.
  const auto before = [&](const Keyed& a, const Keyed& b) {
    interpreter.heap().Step();
    if (keys_in_lists && Equals(a.key, b.key)) return false;
    return reverse ? LessThan(b.key, a.key) : LessThan(a.key, b.key);
  };
  for (size_t width = 1; width < items->size(); width *= 2) {
    for (size_t start = 0; start < items->size(); start += 2 * width) {
      const size_t middle = std::min(start + width, items->size());
      const size_t end = std::min(start + 2 * width, items->size());
      size_t left = start;
      size_t right = middle;
      for (size_t out = start; out < end; ++out) {
        const bool take_right =
            left == middle || (right < end && before((*items)[right], (*items)[left]));
        buffer[out] = std::move((*items)[take_right ? right++ : left++]);
      }
    }
    items->swap(buffer);
  }
}

std::vector<Keyed> KeyAll(Interpreter& interpreter, const Value& value, const KeyGetter& getter) {
  std::vector<Keyed> keyed;
  for (Value& item : interpreter.Collect(value)) {
    Value key = getter.Get(item);
    keyed.push_back({std::move(key), std::move(item)});
  }
  return keyed;
}

Value ListOf(Interpreter& interpreter, std::vector<Value> values) {
  const Ref<ListObject> list = MakeList(interpreter.heap());
  for (Value& value : values) list->Append(std::move(value));
  return Value::Of(list);
}

Value FilterSort(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = parameters.Bool(1, false);
  std::vector<Keyed> keyed;
  if (parameters.IsSet(2) && parameters[2].IsString() &&
      parameters[2].Text().find(',') != std::string::npos) {
    // Several attributes, compared one after the other.
    std::vector<KeyGetter> getters;
    const std::string& list = parameters[2].Text();
    for (size_t start = 0; start <= list.size();) {
      const size_t comma = std::min(list.find(',', start), list.size());
      const Value attribute = interpreter.Text(list.substr(start, comma - start));
      getters.emplace_back(interpreter, &attribute, case_sensitive);
      start = comma + 1;
    }
    for (Value& item : interpreter.Collect(self)) {
      const Ref<ListObject> key = MakeList(interpreter.heap());
      for (const KeyGetter& getter : getters) key->Append(getter.Get(item));
      keyed.push_back({Value::Of(key), std::move(item)});
    }
  } else {
    keyed = KeyAll(interpreter, self, KeyGetter(interpreter, Given(parameters, 2), case_sensitive));
  }
  SortKeyed(interpreter, &keyed, parameters.Bool(0, false), true);
  const Ref<ListObject> out = MakeList(interpreter.heap());
  for (Keyed& item : keyed) out->Append(std::move(item.item));
  return Value::Of(out);
}

Value FilterDictsort(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = parameters.Text(1, "key");
  if (by != "key" && by != "value") {
    Fail("dictsort sorts by \"key\" or \"value\", not " + ReprString(by));
  }
  if (self.IsUndefined()) FailUndefined(self);
  if (!self.Is(Kind::kDict)) Fail(std::string("dictsort needs a dict, not ") + TypeName(self));
  const KeyGetter getter(interpreter, nullptr, parameters.Bool(0, false));
  std::vector<Keyed> keyed;
  size_t position = 0;
  for (; DictObject::Entry* entry = self.AsDict()->At(&position); ++position) {
    interpreter.heap().Step();
    Value key = getter.Get(by == "key" ? entry->key : entry->value);
    keyed.push_back({std::move(key), MakePair(interpreter.heap(), entry->key, entry->value)});
  }
  SortKeyed(interpreter, &keyed, parameters.Bool(2, false));
  const Ref<ListObject> out = MakeList(interpreter.heap());
  for (Keyed& item : keyed) out->Append(std::move(item.item));
  return Value::Of(out);
}

Value FilterUnique(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("unique", arguments, {"case_sensitive", "attribute"});
  const KeyGetter getter(interpreter, Given(parameters, 1), parameters.Bool(0, false));
  const auto seen = Make<DictObject>(interpreter.heap());
  std::vector<Value> out;
  for (Value& item : interpreter.Collect(self)) {
    const Value key = getter.Get(item);
    if (seen->Find(key) != nullptr) continue;
    seen->Set(key, Value::None());
    out.push_back(std::move(item));
  }
  return MakeGenerator(interpreter, std::move(out));
}

template <bool kMax>
Value FilterExtreme(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters(kMax ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const KeyGetter getter(interpreter, Given(parameters, 1), parameters.Bool(0, false));
  std::vector<Keyed> keyed = KeyAll(interpreter, self, getter);
  if (keyed.empty()) {
    return Value::Undefined(interpreter.heap(), "no aggregated item, sequence was empty");
  }
  size_t best = 0;
  for (size_t i = 1; i < keyed.size(); ++i) {
    interpreter.heap().Step();
    const bool better =
        kMax ? LessThan(keyed[best].key, keyed[i].key) : LessThan(keyed[i].key, keyed[best].key);
    if (better) best = i;
  }
  return keyed[best].item;
}

Value FilterGroupby(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  static constexpr const char* kFields[] = {"grouper", "list"};
  const Parameters parameters("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const bool case_sensitive = parameters.Bool(2, false);
  const KeyGetter getter(interpreter, &parameters[0], case_sensitive, Given(parameters, 1));
  std::vector<Keyed> keyed = KeyAll(interpreter, self, getter);
  SortKeyed(interpreter, &keyed, false);
  const Ref<ListObject> groups = MakeList(interpreter.heap());
  for (size_t i = 0; i < keyed.size();) {
    const Ref<ListObject> members = MakeList(interpreter.heap());
    const size_t first = i;
    for (; i < keyed.size() && Equals(keyed[i].key, keyed[first].key); ++i) {
      members->Append(keyed[i].item);
    }
    // A key that equals nothing, not even itself (nan), makes a group of its own.
    if (i == first) members->Append(keyed[i++].item);
    const Value key = case_sensitive ? keyed[first].key : getter.GetAttribute(keyed[first].item);
    const Value group = MakePair(interpreter.heap(), key, Value::Of(members));
    group.AsList()->field_names = kFields;
    groups->Append(group);
  }
  return Value::Of(groups);
}

Value FilterJoin(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("join", arguments, {"d", "attribute"});
  const std::string separator = parameters.Has(0) ? Str(parameters[0]) : "";
  const Ref<IteratorObject> source = interpreter.Iterate(self);
  std::string out;
  Value item;
  for (bool first = true; source->Next(interpreter, &item); first = false) {
    interpreter.heap().Step();
    if (!first) out += separator;
    if (parameters.IsSet(1)) item = interpreter.GetPath(item, parameters[1]);
    out += Str(item);
    interpreter.heap().Check(out.size());
  }
  return interpreter.Text(std::move(out));
}

Value FilterDefault(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("default", arguments, {"default_value", "boolean"});
  if (self.IsUndefined() || (parameters.Bool(1, false) && !Truthy(self))) {
    return parameters.Has(0) ? parameters[0] : interpreter.Text("");
  }
  return self;
}

Value FilterLength(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("length", arguments, {});
  return Value::Integer(Size(self));
}

Value FilterList(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("list", arguments, {});
  return ListOf(interpreter, interpreter.Collect(self));
}

Value FilterFirst(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("first", arguments, {});
  Value item;
  if (interpreter.Iterate(self)->Next(interpreter, &item)) return item;
  return Value::Undefined(interpreter.heap(), "no first item, sequence was empty");
}

// What reversed() accepts: sequences and dicts, no generators.
bool IsReversible(const Value& value) {
  return value.IsString() || value.IsSequence() || value.Is(Kind::kDict) || value.Is(Kind::kView) ||
         value.Is(Kind::kRange) || value.IsUndefined();
}

Value FilterLast(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("last", arguments, {});
  if (!IsReversible(self)) {
    Fail(std::string("'") + TypeName(self) + "' object is not reversible");
  }
  std::vector<Value> items = interpreter.Collect(self);
  if (items.empty()) {
    return Value::Undefined(interpreter.heap(), "no last item, sequence was empty");
  }
  return items.back();
}

Value FilterRandom(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  Fail("the filter 'random' is not available: a template's text must not change between runs");
}

Value FilterReverse(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("reverse", arguments, {});
  if (self.IsString()) {
    std::u32string points = Decode(self.Text());
    std::reverse(points.begin(), points.end());
    return interpreter.TextLike(self, Encode(points));
  }
  std::vector<Value> items = interpreter.Collect(self);
  std::reverse(items.begin(), items.end());
  return IsReversible(self) ? MakeGenerator(interpreter, std::move(items))
                            : ListOf(interpreter, std::move(items));
}

Value FilterItems(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("items", arguments, {});
  if (self.IsUndefined()) return MakeGenerator(interpreter, {});
  if (!self.Is(Kind::kDict)) Fail("can only get item pairs from a mapping");
  return MakeGenerator(
      interpreter,
      interpreter.Collect(Value::Of(Make<ViewObject>(
          interpreter.heap(), Ref<DictObject>(self.AsDict()), ViewObject::Part::kItems))));
}

Value FilterAttr(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("attr", arguments, {"name"}, 1);
  const std::string name = parameters.Text(0, "");
  // Attributes only, never a dict's items.
  if (self.Is(Kind::kDict) && FindMethod(self, name) == nullptr) {
    return Value::Undefined(interpreter.heap(), "'dict object' has no attribute '" + name + "'");
  }
  return interpreter.GetAttribute(self, name);
}

Value FilterSum(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("sum", arguments, {"attribute", "start"});
  Value sum = parameters.Has(1) ? parameters[1] : Value::Integer(0);
  if (sum.IsString()) Fail("sum cannot add strings, use join");
  const Ref<IteratorObject> source = interpreter.Iterate(self);
  Value item;
  while (source->Next(interpreter, &item)) {
    interpreter.heap().Step();
    if (parameters.IsSet(0)) item = interpreter.GetPath(item, parameters[0]);
    sum = interpreter.BinaryOperation(BinaryOp::kAdd, sum, item);
  }
  return sum;
}

Value FilterBatch(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("batch", arguments, {"linecount", "fill_with"}, 1);
  const int64_t count = parameters.Integer(0, 0);
  std::vector<Value> batches;
  Ref<ListObject> batch = MakeList(interpreter.heap());
  for (Value& item : interpreter.Collect(self)) {
    if (static_cast<int64_t>(batch->items.size()) == count) {
      batches.push_back(Value::Of(batch));
      batch = MakeList(interpreter.heap());
    }
    batch->Append(std::move(item));
  }
  if (!batch->items.empty()) {
    while (parameters.IsSet(1) && static_cast<int64_t>(batch->items.size()) < count) {
      interpreter.heap().Step();
      batch->Append(parameters[1]);
    }
    batches.push_back(Value::Of(batch));
  }
  return MakeGenerator(interpreter, std::move(batches));
}

Value FilterSlice(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("slice", arguments, {"slices", "fill_with"}, 1);
  const std::vector<Value> items = interpreter.Collect(self);
  const int64_t slices = parameters.Integer(0, 0);
  if (slices == 0) Fail("slice needs a number of slices that is not zero");
  const auto length = static_cast<int64_t>(items.size());
  const int64_t per_slice = slices > 0 ? length / slices : 0;
  const int64_t with_extra = slices > 0 ? length % slices : 0;
  std::vector<Value> out;
  size_t next = 0;
  for (int64_t i = 0; i < slices; ++i) {
    interpreter.heap().Step();
    const Ref<ListObject> slice = MakeList(interpreter.heap());
    const int64_t take = per_slice + (i < with_extra ? 1 : 0);
    for (int64_t k = 0; k < take; ++k) slice->Append(items[next++]);
    if (parameters.IsSet(1) && i >= with_extra) slice->Append(parameters[1]);
    out.push_back(Value::Of(slice));
  }
  return MakeGenerator(interpreter, std::move(out));
}

// map, select, reject, selectattr, rejectattr: lazy
// ---------------------------------------------------

// The arguments behind the first `skip`, which go to the filter or test named there.
Arguments RestOf(const Arguments& arguments, size_t skip) {
  Arguments rest;
  for (size_t i = skip; i < arguments.positional.size(); ++i) {
    rest.positional.push_back(arguments.positional[i]);
  }
  rest.keywords = arguments.keywords;
  return rest;
}

// Keeps the values of `arguments` where cycles through them can be found, and takes them out again.
std::vector<Value> Keep(const Arguments& arguments, std::vector<std::string>* names) {
  std::vector<Value> kept = arguments.positional;
  for (const auto& [name, value] : arguments.keywords) {
    names->push_back(name);
    kept.push_back(value);
  }
  return kept;
}

Arguments Unpack(const std::vector<Value>& kept, const std::vector<std::string>& names) {
  Arguments arguments;
  const size_t positional = kept.size() - names.size();
  arguments.positional.assign(kept.begin(), kept.begin() + static_cast<ptrdiff_t>(positional));
  for (size_t i = 0; i < names.size(); ++i) {
    arguments.keywords.emplace_back(names[i], kept[positional + i]);
  }
  return arguments;
}

std::string NameFrom(const Value& value, const char* what) {
  if (value.IsUndefined()) FailUndefined(value);
  if (!value.IsString()) Fail(std::string(what) + " must be a str, not " + TypeName(value));
  return value.Text();
}

Value MakeLazy(Interpreter& interpreter, const Value& self, std::vector<Value> kept,
               LazyIterator::StepFunction step) {
  // Jinja's generators look at nothing but the truth of an empty or missing sequence.
  const Ref<IteratorObject> source =
      interpreter.Iterate(Truthy(self) ? self : Value::Of(MakeList(interpreter.heap())));
  return Value::Of(
      Make<LazyIterator>(interpreter.heap(), source, std::move(kept), std::move(step)));
}

Value FilterMap(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  if (arguments.positional.empty()) {
    const Parameters parameters("map", arguments, {"attribute", "default"}, 1);
    std::vector<Value> kept{parameters[0]};
    if (parameters.IsSet(1)) kept.push_back(parameters[1]);
    return MakeLazy(
        interpreter, self, std::move(kept),
        [](Interpreter& in, const std::vector<Value>& kept, const Value& item, Value* out) {
          const KeyGetter getter(in, &kept[0], true, kept.size() > 1 ? &kept[1] : nullptr);
          *out = getter.GetAttribute(item);
          return true;
        });
  }
  const std::string name = NameFrom(arguments.positional[0], "map's filter");
  std::vector<std::string> names;
  std::vector<Value> kept = Keep(RestOf(arguments, 1), &names);
  return MakeLazy(interpreter, self, std::move(kept),
                  [name, names](Interpreter& in, const std::vector<Value>& kept, const Value& item,
                                Value* out) {
                    Arguments rest = Unpack(kept, names);
                    *out = in.CallFilter(name, item, rest);
                    return true;
                  });
}

template <bool kWanted, bool kByAttribute>
Value FilterSelect(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  constexpr size_t kSkip = kByAttribute ? 1 : 0;
  if (arguments.positional.size() < kSkip) Fail("the attribute's name is missing");
  const bool has_test = arguments.positional.size() > kSkip;
  const std::string test =
      has_test ? NameFrom(arguments.positional[kSkip], "the test") : std::string();
  std::vector<std::string> names;
  std::vector<Value> kept;
  if (has_test) kept = Keep(RestOf(arguments, kSkip + 1), &names);
  // The attribute goes last, where Unpack does not look.
  const Value attribute = kByAttribute ? arguments.positional[0] : Value();
  kept.push_back(attribute);
  return MakeLazy(interpreter, self, std::move(kept),
                  [test, names, has_test](Interpreter& in, const std::vector<Value>& kept,
                                          const Value& item, Value* out) {
                    const Value tested = kByAttribute ? in.GetPath(item, kept.back()) : item;
                    bool passes = false;
                    if (has_test) {
                      Arguments rest =
                          Unpack(std::vector<Value>(kept.begin(), kept.end() - 1), names);
                      passes = in.CallTest(test, tested, rest);
                    } else {
                      passes = Truthy(tested);
                    }
                    if (passes != kWanted) return false;
                    *out = item;
                    return true;
                  });
}

constexpr Native kSequenceFilters[] = {
    {"attr", FilterAttr},
    {"batch", FilterBatch},
    {"count", FilterLength},
    {"d", FilterDefault},
    {"default", FilterDefault},
    {"dictsort", FilterDictsort},
    {"first", FilterFirst},
    {"groupby", FilterGroupby},
    {"items", FilterItems},
    {"join", FilterJoin},
    {"last", FilterLast},
    {"length", FilterLength},
    {"list", FilterList},
    {"map", FilterMap},
    {"max", FilterExtreme<true>},
    {"min", FilterExtreme<false>},
    {"random", FilterRandom},
    {"reject", FilterSelect<false, false>},
    {"rejectattr", FilterSelect<false, true>},
    {"reverse", FilterReverse},
    {"select", FilterSelect<true, false>},
    {"selectattr", FilterSelect<true, true>},
    {"slice", FilterSlice},
    {"sort", FilterSort},
    {"sum", FilterSum},
    {"unique", FilterUnique},
};

}  // namespace

NativeTable SequenceFilters() { return {std::begin(kSequenceFilters), std::end(kSequenceFilters)}; }

}  // namespace ink::jinja
