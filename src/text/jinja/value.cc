#include "text/jinja/value.h"

#include <cmath>
#include <functional>
#include <limits>

#include "base/check.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

// A dict of up to this many entries is searched front to back: faster than hashing.
constexpr size_t kSmallDict = 8;

size_t HashText(std::string_view text) { return std::hash<std::string_view>()(text); }

size_t HashDouble(double value) { return std::hash<double>()(value); }

// Equal values hash alike: 1, 1.0 and True are one key.
size_t Hash(const Value& value, int depth) {
  if (depth > 100) Fail("a tuple used as dict key is nested too deeply");
  switch (value.kind()) {
    case Kind::kUndefined:
      return 1;
    case Kind::kNone:
      return 2;
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return HashDouble(value.AsDouble());
    case Kind::kString:
      return HashText(value.Text());
    case Kind::kTuple: {
      size_t hash = 3;
      for (const Value& item : value.AsList()->items) {
        value.object()->heap->Step();
        hash = hash * 1000003 ^ Hash(item, depth + 1);
      }
      return hash;
    }
    case Kind::kList:
    case Kind::kDict:
      Fail(std::string("unhashable type: '") + TypeName(value) + "'");
    default:
      return std::hash<const void*>()(value.object());
  }
}

}  // namespace

void Fail(std::string message) {
  throw TemplateError{StatusCode::kInvalidArgument, std::move(message), 0};
}

Object::Object(Heap* h, Kind k) : heap(h), kind(k) {
  // What the object costs beyond its contents: its own fields and malloc's overhead.
  heap->Charge(this, 128);
  next = heap->first_;
  if (next != nullptr) next->previous = this;
  heap->first_ = this;
}

Object::~Object() {
  if (previous != nullptr) {
    previous->next = next;
  } else {
    heap->first_ = next;
  }
  if (next != nullptr) next->previous = previous;
  heap->bytes_ -= charged;
}

Heap::~Heap() {
  // Objects that are still here are in cycles. Hold all while their references go, then free all.
  for (Object* object = first_; object != nullptr; object = object->next) ++object->references;
  for (Object* object = first_; object != nullptr; object = object->next) object->Clear();
  while (first_ != nullptr) delete first_;
}

void Heap::Check(uint64_t bytes) const {
  if (bytes > max_bytes_ || bytes_ > max_bytes_ - bytes) {
    throw TemplateError{StatusCode::kOutOfMemory,
                        "the template's values need more than the " + std::to_string(max_bytes_) +
                            " bytes allowed (" + std::to_string(bytes_) + " in use, " +
                            std::to_string(bytes) + " asked for)",
                        0};
  }
}

void Heap::Charge(Object* object, uint64_t bytes) {
  Check(bytes);
  bytes_ += bytes;
  object->charged += bytes;
}

void Heap::FailSteps() {
  steps_left_ = 0;
  Fail("the template does not come to an end within the steps allowed");
}

void Heap::Destroy(Object* object) {
  doomed_.push_back(object);
  if (destroying_) return;
  destroying_ = true;
  while (!doomed_.empty()) {
    Object* next = doomed_.back();
    doomed_.pop_back();
    delete next;
  }
  destroying_ = false;
}

StringObject::StringObject(Heap* h, std::string value, bool is_markup)
    : Object(h, Kind::kString), text(std::move(value)), markup(is_markup), ascii(IsAscii(text)) {
  heap->Step(text.size() / 64);
  // The object is not linked to any reference yet: a failed charge must leave nothing behind,
  // which the base class's destructor sees to.
  heap->Charge(this, text.size());
}

IteratorObject::IteratorObject(Heap* h, int nesting)
    : Object(h, Kind::kIterator), depth(nesting + 1) {
  if (depth > 100) Fail("filters are chained too deeply (over 100 generators)");
}

// Value ----------------------------------------------------------------------------------------

Value Value::None() {
  Value v;
  v.kind_ = Kind::kNone;
  return v;
}
Value Value::Bool(bool value) {
  Value v;
  v.kind_ = Kind::kBool;
  v.data_.boolean = value;
  return v;
}
Value Value::Integer(Int value) {
  Value v;
  v.kind_ = Kind::kInt;
  v.data_.integer = value;
  return v;
}
Value Value::Float(double value) {
  Value v;
  v.kind_ = Kind::kFloat;
  v.data_.floating = value;
  return v;
}
Value Value::Of(Object* object) {
  Value v;
  v.kind_ = object->kind;
  v.data_.object = object;
  v.Retain();
  return v;
}
Value Value::Undefined(Heap& heap, std::string reason) {
  Value v = String(heap, std::move(reason));
  v.kind_ = Kind::kUndefined;
  return v;
}
Value Value::String(Heap& heap, std::string text) {
  return Of(Make<StringObject>(heap, std::move(text), false));
}
Value Value::Markup(Heap& heap, std::string text) {
  return Of(Make<StringObject>(heap, std::move(text), true));
}

bool Value::IsMarkup() const { return IsString() && AsString()->markup; }
double Value::AsDouble() const {
  return kind_ == Kind::kFloat ? data_.floating : static_cast<double>(AsInt());
}
StringObject* Value::AsString() const { return static_cast<StringObject*>(data_.object); }
const std::string& Value::Text() const { return AsString()->text; }
ListObject* Value::AsList() const { return static_cast<ListObject*>(data_.object); }
DictObject* Value::AsDict() const { return static_cast<DictObject*>(data_.object); }

bool Value::SameAs(const Value& other) const {
  if (kind_ != other.kind_) return false;
  switch (kind_) {
    case Kind::kNone:
      return true;
    case Kind::kBool:
      return data_.boolean == other.data_.boolean;
    case Kind::kInt:
      return data_.integer == other.data_.integer;
    case Kind::kFloat:
      return data_.floating == other.data_.floating;
    case Kind::kString:  // equal short strings are usually one object in Python
      return Text() == other.Text();
    default:
      return data_.object == other.data_.object;
  }
}

// DictObject -----------------------------------------------------------------------------------

void DictObject::Clear() {
  std::vector<Entry> entries = std::move(entries_);
  entries_.clear();
  slots_.clear();
  live_ = 0;
}

template <typename Equal>
int64_t DictObject::Locate(size_t hash, Equal equal) const {
  if (slots_.empty()) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      const Entry& entry = entries_[i];
      if (entry.live && entry.hash == hash && equal(entry.key)) return static_cast<int64_t>(i);
    }
    return -1;
  }
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash & mask; slots_[slot] >= 0; slot = (slot + 1) & mask) {
    heap->Step();
    const auto index = static_cast<size_t>(slots_[slot]);
    const Entry& entry = entries_[index];
    if (entry.live && entry.hash == hash && equal(entry.key)) return slots_[slot];
  }
  return -1;
}

Value* DictObject::Find(const Value& key) {
  const int64_t index = Locate(Hash(key, 0), [&](const Value& k) { return Equals(k, key); });
  return index < 0 ? nullptr : &entries_[static_cast<size_t>(index)].value;
}

Value* DictObject::Find(std::string_view key) {
  const int64_t index =
      Locate(HashText(key), [&](const Value& k) { return k.IsString() && k.Text() == key; });
  return index < 0 ? nullptr : &entries_[static_cast<size_t>(index)].value;
}

void DictObject::Set(const Value& key, Value value) {
  const size_t hash = Hash(key, 0);
  const int64_t index = Locate(hash, [&](const Value& k) { return Equals(k, key); });
  if (index >= 0) {
    entries_[static_cast<size_t>(index)].value = std::move(value);
  } else {
    Insert(key, hash, std::move(value));
  }
}

void DictObject::Set(std::string_view key, Value value) {
  if (Value* place = Find(key)) {
    *place = std::move(value);
  } else {
    Insert(Value::String(*heap, std::string(key)), HashText(key), std::move(value));
  }
}

void DictObject::Insert(Value key, size_t hash, Value value) {
  heap->Charge(this, sizeof(Entry) + 2 * sizeof(int32_t));
  // Slot numbers are 32 bits; the byte limit stops far below, whatever it was set to.
  if (entries_.size() >= static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    Fail("a dict has too many entries");
  }
  if (entries_.size() > 2 * live_ + 16) {
    std::erase_if(entries_, [](const Entry& entry) { return !entry.live; });
    if (!slots_.empty()) Rebuild(slots_.size());
  }
  entries_.push_back(Entry{std::move(key), std::move(value), hash, true});
  ++live_;
  if (entries_.size() <= kSmallDict) return;
  if (2 * entries_.size() > slots_.size()) {
    size_t slots = 32;
    while (slots < 4 * entries_.size()) slots *= 2;
    Rebuild(slots);
    return;
  }
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  // The slot of a removed entry is free to take: probe sequences stay whole.
  while (slots_[slot] >= 0 && entries_[static_cast<size_t>(slots_[slot])].live) {
    slot = (slot + 1) & mask;
  }
  slots_[slot] = static_cast<int32_t>(entries_.size() - 1);
}

void DictObject::Rebuild(size_t slots) {
  heap->Step(entries_.size());
  slots_.assign(slots, -1);
  const size_t mask = slots - 1;
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].live) continue;
    size_t slot = entries_[i].hash & mask;
    while (slots_[slot] >= 0) slot = (slot + 1) & mask;
    slots_[slot] = static_cast<int32_t>(i);
  }
}

bool DictObject::Remove(const Value& key) {
  const int64_t index = Locate(Hash(key, 0), [&](const Value& k) { return Equals(k, key); });
  if (index < 0) return false;
  // The slot keeps pointing at the dead entry, so that probe sequences stay whole.
  Entry& entry = entries_[static_cast<size_t>(index)];
  entry.live = false;
  entry.key = Value();
  entry.value = Value();
  if (--live_ == 0) {
    entries_.clear();
    slots_.clear();
  }
  return true;
}

DictObject::Entry* DictObject::At(size_t* position) {
  while (*position < entries_.size() && !entries_[*position].live) ++*position;
  return *position < entries_.size() ? &entries_[*position] : nullptr;
}

int64_t RangeObject::size() const {
  if (step > 0) return start < stop ? (stop - start + step - 1) / step : 0;
  return start > stop ? (start - stop - step - 1) / -step : 0;
}

Value MakePair(Heap& heap, Value first, Value second) {
  Ref<ListObject> pair = MakeTuple(heap);
  pair->Append(std::move(first));
  pair->Append(std::move(second));
  return Value::Of(pair);
}

// Comparison -----------------------------------------------------------------------------------

const char* TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kView:
      switch (value.As<ViewObject>()->part) {
        case ViewObject::Part::kKeys:
          return "dict_keys";
        case ViewObject::Part::kValues:
          return "dict_values";
        case ViewObject::Part::kItems:
          return "dict_items";
      }
      return "dict_view";
    case Kind::kRange:
      return "range";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kIterator:
      return "generator";
    case Kind::kNative:
      return "function";
    case Kind::kMacro:
      return "Macro";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kJoiner:
      return "Joiner";
    case Kind::kCycler:
      return "Cycler";
    case Kind::kScope:
      break;
  }
  return "object";
}

void FailUndefined(const Value& value) {
  Fail(value.object() != nullptr ? value.Text() : "an undefined value was used");
}

bool Truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return value.AsBool();
    case Kind::kInt:
      return value.AsInt() != 0;
    case Kind::kFloat:
      return value.AsDouble() != 0;
    case Kind::kString:
      return !value.Text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !value.AsList()->items.empty();
    case Kind::kDict:
      return value.AsDict()->size() != 0;
    case Kind::kView:
      return value.As<ViewObject>()->dict->size() != 0;
    case Kind::kRange:
      return value.As<RangeObject>()->size() != 0;
    default:
      return true;
  }
}

namespace {

constexpr int kMaxCompareDepth = 500;

bool EqualsAt(const Value& a, const Value& b, int depth);

bool DictEquals(DictObject* a, DictObject* b, int depth) {
  if (a->size() != b->size()) return false;
  size_t position = 0;
  while (DictObject::Entry* entry = a->At(&position)) {
    const Value* other = b->Find(entry->key);
    if (other == nullptr || !EqualsAt(entry->value, *other, depth + 1)) return false;
    ++position;
  }
  return true;
}

bool ListEquals(const ListObject* a, const ListObject* b, int depth) {
  if (a->items.size() != b->items.size()) return false;
  for (size_t i = 0; i < a->items.size(); ++i) {
    if (!EqualsAt(a->items[i], b->items[i], depth + 1)) return false;
  }
  return true;
}

bool RangeEquals(const RangeObject& a, const RangeObject& b) {
  if (a.size() != b.size()) return false;
  if (a.size() == 0) return true;
  return a.start == b.start && (a.size() == 1 || a.step == b.step);
}

bool EqualsAt(const Value& a, const Value& b, int depth) {
  if (depth > kMaxCompareDepth) Fail("compared values are nested too deeply");
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsIntegral() && b.IsIntegral()) return a.AsInt() == b.AsInt();
    return a.AsDouble() == b.AsDouble();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      a.object()->heap->Step(1 + a.Text().size() / 64);
      return a.Text() == b.Text();
    case Kind::kList:
    case Kind::kTuple:
      if (a.object() == b.object()) return true;
      a.object()->heap->Step();
      return ListEquals(a.AsList(), b.AsList(), depth);
    case Kind::kDict:
      if (a.object() == b.object()) return true;
      a.object()->heap->Step();
      return DictEquals(a.AsDict(), b.AsDict(), depth);
    case Kind::kRange:
      return RangeEquals(*a.As<RangeObject>(), *b.As<RangeObject>());
    default:
      return a.object() == b.object();
  }
}

int CompareAt(const Value& a, const Value& b, bool* unordered, int depth) {
  if (depth > kMaxCompareDepth) Fail("compared values are nested too deeply");
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsIntegral() && b.IsIntegral()) {
      return a.AsInt() < b.AsInt() ? -1 : a.AsInt() > b.AsInt() ? 1 : 0;
    }
    const double x = a.AsDouble();
    const double y = b.AsDouble();
    if (std::isnan(x) || std::isnan(y)) *unordered = true;
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.IsUndefined()) FailUndefined(a);
  if (b.IsUndefined()) FailUndefined(b);
  if (a.IsString() && b.IsString()) {
    // UTF-8 orders bytes as code points order.
    a.object()->heap->Step(1 + a.Text().size() / 64);
    const int order = a.Text().compare(b.Text());
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  if (a.IsSequence() && a.kind() == b.kind()) {
    const std::vector<Value>& x = a.AsList()->items;
    const std::vector<Value>& y = b.AsList()->items;
    for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
      a.object()->heap->Step();
      if (EqualsAt(x[i], y[i], depth + 1)) continue;
      return CompareAt(x[i], y[i], unordered, depth + 1);
    }
    return x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0;
  }
  Fail(std::string("'") + TypeName(a) + "' and '" + TypeName(b) + "' have no order");
}

}  // namespace

bool Equals(const Value& a, const Value& b) { return EqualsAt(a, b, 0); }

int Compare(const Value& a, const Value& b, bool* unordered) {
  return CompareAt(a, b, unordered, 0);
}

bool LessThan(const Value& a, const Value& b) {
  bool unordered = false;
  return Compare(a, b, &unordered) < 0 && !unordered;
}

int64_t Size(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return static_cast<int64_t>(value.AsString()->ascii ? value.Text().size()
                                                          : Length(value.Text()));
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<int64_t>(value.AsList()->items.size());
    case Kind::kDict:
      return static_cast<int64_t>(value.AsDict()->size());
    case Kind::kView:
      return static_cast<int64_t>(value.As<ViewObject>()->dict->size());
    case Kind::kRange:
      return value.As<RangeObject>()->size();
    default:
      Fail(std::string("object of type '") + TypeName(value) + "' has no len()");
  }
}

}  // namespace ink::jinja
