// Values of a running template, with Python's semantics, and the heap that owns and counts them.
//
// Objects are reference-counted without atomics: one heap belongs to one rendering on one thread.
// The heap also lists every object, so that cycles (a list appended to itself) are freed at its
// end, and it destroys iteratively, so that no nesting of lists overflows the stack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace ink::jinja {

class Interpreter;
class Heap;

/// Wide enough for every integer that JSON readers deliver; beyond it arithmetic is an error.
using Int = __int128;

/// Any failure of a template. Stays inside this folder: ChatTemplate turns it into a Status.
struct TemplateError {
  StatusCode code = StatusCode::kInvalidArgument;
  std::string message;
  int line = 0;  // 0: filled in by the interpreter with the line it is at
};
[[noreturn]] void Fail(std::string message);

enum class Kind : uint8_t {
  kUndefined,  // with or without a StringObject that says why
  kNone,
  kBool,
  kInt,
  kFloat,
  // Objects from here on.
  kString,
  kList,
  kTuple,
  kDict,
  kView,  // dict.keys(), values(), items()
  kRange,
  kNamespace,
  kIterator,  // a generator: consumed once, no length
  kNative,    // a builtin function or a bound method
  kMacro,
  kLoop,
  kJoiner,
  kCycler,
  kScope,  // variables; never visible to a template
};

struct Object {
  Object(Heap* heap, Kind kind);
  virtual ~Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  /// Drops all references to other objects.
  virtual void Clear() {}

  Heap* const heap;
  Object* previous = nullptr;
  Object* next = nullptr;
  size_t charged = 0;  // bytes this object has been charged for
  uint32_t references = 0;
  const Kind kind;
};

/// Owns the objects of one rendering; bounds their bytes and the work done on them.
class Heap {
 public:
  Heap(uint64_t max_bytes, uint64_t max_steps) : max_bytes_(max_bytes), steps_left_(max_steps) {}
  ~Heap();
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  /// Throws kOutOfMemory if `bytes` more would exceed the limit.
  void Check(uint64_t bytes) const;
  /// Counts `bytes` more as belonging to `object`; throws as Check.
  void Charge(Object* object, uint64_t bytes);
  void Destroy(Object* object);
  /// Counts `steps` of work; throws when the rendering has used up its share.
  void Step(uint64_t steps = 1) {
    if (steps > steps_left_) FailSteps();
    steps_left_ -= steps;
  }

 private:
  friend struct Object;

  [[noreturn]] void FailSteps();

  const uint64_t max_bytes_;
  uint64_t steps_left_;
  uint64_t bytes_ = 0;
  Object* first_ = nullptr;
  std::vector<Object*> doomed_;  // waiting for the destruction under way
  bool destroying_ = false;
};

/// A counted pointer to an Object.
template <typename T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(T* object) : object_(object) {
    if (object_ != nullptr) ++object_->references;
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr && --object_->references == 0) object_->heap->Destroy(object_);
  }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  T* object_ = nullptr;
};

struct StringObject;
struct ListObject;
struct DictObject;
struct ViewObject;
struct RangeObject;

class Value {
 public:
  Value() = default;  // undefined without a reason
  Value(const Value& other) : kind_(other.kind_), data_(other.data_) { Retain(); }
  Value(Value&& other) noexcept : kind_(other.kind_), data_(other.data_) {
    other.kind_ = Kind::kUndefined;
    other.data_.object = nullptr;
  }
  Value& operator=(Value other) noexcept {
    std::swap(kind_, other.kind_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Value() { Release(); }

  static Value None();
  static Value Bool(bool value);
  static Value Integer(Int value);
  static Value Float(double value);
  static Value Of(Object* object);  // of the object's kind
  template <typename T>
  static Value Of(const Ref<T>& object) {
    return Of(object.get());
  }
  /// An undefined value whose use fails with `reason`.
  static Value Undefined(Heap& heap, std::string reason);
  static Value String(Heap& heap, std::string text);
  static Value Markup(Heap& heap, std::string text);

  Kind kind() const { return kind_; }
  bool Is(Kind kind) const { return kind_ == kind; }
  bool IsUndefined() const { return kind_ == Kind::kUndefined; }
  bool IsNone() const { return kind_ == Kind::kNone; }
  bool IsString() const { return kind_ == Kind::kString; }
  /// bool, int or float, all of which are numbers to Python.
  bool IsNumber() const {
    return kind_ == Kind::kBool || kind_ == Kind::kInt || kind_ == Kind::kFloat;
  }
  bool IsIntegral() const { return kind_ == Kind::kBool || kind_ == Kind::kInt; }
  bool IsSequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }
  bool IsMarkup() const;

  // Each needs the kind it names.
  bool AsBool() const { return data_.boolean; }
  Int AsInt() const { return kind_ == Kind::kBool ? Int{data_.boolean} : data_.integer; }
  double AsDouble() const;  // of any number
  const std::string& Text() const;
  StringObject* AsString() const;
  ListObject* AsList() const;  // list or tuple
  DictObject* AsDict() const;
  Object* object() const { return data_.object; }
  template <typename T>
  T* As() const {
    return static_cast<T*>(data_.object);
  }

  /// Identity, as Python's `is`.
  bool SameAs(const Value& other) const;

 private:
  bool IsObject() const { return kind_ >= Kind::kString || kind_ == Kind::kUndefined; }
  void Retain() {
    if (IsObject() && data_.object != nullptr) ++data_.object->references;
  }
  void Release() {
    if (IsObject() && data_.object != nullptr && --data_.object->references == 0) {
      data_.object->heap->Destroy(data_.object);
    }
  }

  Kind kind_ = Kind::kUndefined;
  union Data {
    bool boolean;
    Int integer;
    double floating;
    Object* object;
  } data_{.object = nullptr};
};

struct StringObject final : Object {
  StringObject(Heap* heap, std::string value, bool is_markup);
  const std::string text;
  const bool markup;  // marked safe: "+", "%" and join escape what they add to it
  const bool ascii;
};

/// A list or a tuple.
struct ListObject final : Object {
  ListObject(Heap* heap, Kind kind) : Object(heap, kind) {}
  void Clear() override { items.clear(); }
  void Append(Value value) {
    heap->Charge(this, sizeof(Value));
    items.push_back(std::move(value));
  }
  std::vector<Value> items;
  // Names of a named tuple's elements (groupby); null for an ordinary one.
  const char* const* field_names = nullptr;
};

/// A dict in insertion order.
struct DictObject final : Object {
  explicit DictObject(Heap* heap) : Object(heap, Kind::kDict) {}
  void Clear() override;

  struct Entry {
    Value key;
    Value value;
    size_t hash = 0;
    bool live = true;
  };

  /// The value's place, or null. Fails on a key that cannot be hashed.
  Value* Find(const Value& key);
  Value* Find(std::string_view key);
  void Set(const Value& key, Value value);
  void Set(std::string_view key, Value value);
  bool Remove(const Value& key);
  size_t size() const { return live_; }
  /// First live entry at or after `position`, or null; `*position` becomes its index.
  Entry* At(size_t* position);

 private:
  template <typename Equal>
  int64_t Locate(size_t hash, Equal equal) const;
  void Insert(Value key, size_t hash, Value value);
  void Rebuild(size_t slots);

  std::vector<Entry> entries_;
  std::vector<int32_t> slots_;  // open addressing, -1 empty; none for a small dict
  size_t live_ = 0;
};

struct ViewObject final : Object {
  enum class Part { kKeys, kValues, kItems };
  ViewObject(Heap* heap, Ref<DictObject> d, Part p)
      : Object(heap, Kind::kView), dict(std::move(d)), part(p) {}
  void Clear() override { dict = Ref<DictObject>(); }
  Ref<DictObject> dict;
  const Part part;
};

struct RangeObject final : Object {
  RangeObject(Heap* heap, int64_t first, int64_t last, int64_t step_size)
      : Object(heap, Kind::kRange), start(first), stop(last), step(step_size) {}
  int64_t size() const;
  int64_t operator[](int64_t index) const { return start + index * step; }
  const int64_t start, stop, step;
};

struct NamespaceObject final : Object {
  NamespaceObject(Heap* heap, Ref<DictObject> d)
      : Object(heap, Kind::kNamespace), attributes(std::move(d)) {}
  void Clear() override { attributes = Ref<DictObject>(); }
  Ref<DictObject> attributes;
};

/// What yields values one by one. Subclasses live beside the code that makes them.
struct IteratorObject : Object {
  explicit IteratorObject(Heap* heap, int nesting = 0);
  /// The next value; false at the end.
  virtual bool Next(Interpreter& interpreter, Value* out) = 0;
  const int depth;  // iterators that draw from iterators; bounded
};

struct JoinerObject final : Object {
  JoinerObject(Heap* heap, Value s) : Object(heap, Kind::kJoiner), separator(std::move(s)) {}
  void Clear() override { separator = Value(); }
  Value separator;
  bool used = false;
};

struct CyclerObject final : Object {
  CyclerObject(Heap* heap, std::vector<Value> v)
      : Object(heap, Kind::kCycler), items(std::move(v)) {}
  void Clear() override { items.clear(); }
  std::vector<Value> items;
  size_t position = 0;
};

template <typename T, typename... Args>
Ref<T> Make(Heap& heap, Args&&... args) {
  return Ref<T>(new T(&heap, std::forward<Args>(args)...));
}
inline Ref<ListObject> MakeList(Heap& heap) { return Make<ListObject>(heap, Kind::kList); }
inline Ref<ListObject> MakeTuple(Heap& heap) { return Make<ListObject>(heap, Kind::kTuple); }
Value MakePair(Heap& heap, Value first, Value second);

/// Python's name of the type, for messages: "str", "dict", ...
const char* TypeName(const Value& value);
/// Fails with the reason that the undefined value carries.
[[noreturn]] void FailUndefined(const Value& value);

bool Truthy(const Value& value);
bool Equals(const Value& a, const Value& b);
/// Python's ordering: negative, 0 or positive; fails on types without a common order. Floats that
/// are not comparable (nan) give `unordered`.
int Compare(const Value& a, const Value& b, bool* unordered);
bool LessThan(const Value& a, const Value& b);
/// len(); fails where Python has none.
int64_t Size(const Value& value);

/// str() and repr(). Fail on nesting beyond a bound; a container inside itself prints as "[...]".
std::string Str(const Value& value);
std::string Repr(const Value& value);
std::string ReprString(std::string_view text);
std::string ReprFloat(double value);
std::string IntToString(Int value);

/// HTML escaping: & < > " '.
std::string Escape(std::string_view text);

}  // namespace ink::jinja
