// Iterators over the values that a template can loop over.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "text/jinja/interpreter.h"

namespace ink::jinja {

/// Yields the elements of a list or tuple, seeing changes made meanwhile, as Python does.
struct ListIterator final : IteratorObject {
  ListIterator(Heap* heap, Ref<ListObject> l) : IteratorObject(heap), list(std::move(l)) {}
  void Clear() override { list = Ref<ListObject>(); }
  bool Next(Interpreter& interpreter, Value* out) override;
  Ref<ListObject> list;
  size_t position = 0;
};

/// What map, select and the like return: values drawn from `source` on demand. `step` sets the
/// value to yield and returns whether to yield it.
struct LazyIterator final : IteratorObject {
  using StepFunction = std::function<bool(Interpreter&, const std::vector<Value>& kept,
                                          const Value& item, Value* out)>;
  // `kept` are the values that `step` refers to, here so that cycles through them can be broken.
  LazyIterator(Heap* heap, Ref<IteratorObject> s, std::vector<Value> k, StepFunction f)
      : IteratorObject(heap, s->depth),
        source(std::move(s)),
        kept(std::move(k)),
        step(std::move(f)) {}
  void Clear() override {
    source = Ref<IteratorObject>();
    kept.clear();
  }
  bool Next(Interpreter& interpreter, Value* out) override;
  Ref<IteratorObject> source;
  std::vector<Value> kept;
  StepFunction step;
};

/// A one-time iterator over `values` without a length.
Value MakeGenerator(Interpreter& interpreter, std::vector<Value> values);

}  // namespace ink::jinja
