// The state of an automaton: a set of threads, each a position and a stack of frames.
//
// Every thread can be completed by itself, and the language accepted next is the union over the
// threads. Frames are immutable and shared, so that copying a state costs a few reference counts.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sampling/constraint/goal.h"

namespace ink::constraint {

struct Frame;

/// Counted reference to a frame; dropping a long chain does not recurse.
class FramePtr {
 public:
  FramePtr() = default;
  explicit FramePtr(Frame* frame) : frame_(frame) {}  // takes over the frame's first reference
  FramePtr(const FramePtr& other) : frame_(other.frame_) { Retain(); }
  FramePtr(FramePtr&& other) noexcept : frame_(other.frame_) { other.frame_ = nullptr; }
  FramePtr& operator=(FramePtr other) noexcept {
    std::swap(frame_, other.frame_);
    return *this;
  }
  ~FramePtr() { Release(); }

  const Frame* get() const { return frame_; }
  const Frame* operator->() const { return frame_; }
  const Frame& operator*() const { return *frame_; }
  explicit operator bool() const { return frame_ != nullptr; }

 private:
  void Retain();
  void Release();
  Frame* frame_ = nullptr;
};

/// What an element of a unique array must differ from.
struct Exclusion {
  std::vector<std::string> texts;            // CanonicalText, sorted
  std::vector<std::string> strings;          // those that are strings, decoded
  std::shared_ptr<const NumberSet> numbers;  // the goal's numbers without them
  GoalId goal = 0;
};

/// What is under way around a position.
struct Frame {
  enum class Kind : uint8_t {
    kSequence,  // continue at `place` of the grammar
    kArray,
    kObject,
    kExclude,  // the value inside must differ from some others
  };
  std::atomic<uint32_t> references{1};
  Kind kind = Kind::kSequence;
  FramePtr parent;
  uint64_t hash = 0;             // of this frame and all below
  uint64_t oldest = UINT64_MAX;  // least text offset that this frame or one below refers to

  int32_t place = 0;                   // kSequence
  const ArrayRule* array = nullptr;    // kArray
  const ObjectRule* object = nullptr;  // kObject
  uint64_t count = 0;    // elements or properties so far, as far as that matters; or table state
  uint32_t pending = 0;  // kObject: conditions that no property has witnessed yet
  uint64_t missing = 0;  // kObject: required names that have not come
  std::vector<uint64_t> used;                                // kObject: bits of literals
  std::shared_ptr<const std::vector<std::string>> others;    // kObject: other names
  std::shared_ptr<const std::vector<std::string>> elements;  // kArray, unique: canonical texts
  // kExclude; kArray, unique: for the next element, null where there can be none.
  std::shared_ptr<const Exclusion> exclusion;
  uint64_t start = 0;  // kExclude: offset of the value

  bool UsesLiteral(int32_t literal) const {
    const auto word = static_cast<size_t>(literal) / 64;
    return word < used.size() && (used[word] >> (literal % 64) & 1) != 0;
  }
};

inline void FramePtr::Retain() {
  if (frame_ != nullptr) frame_->references.fetch_add(1, std::memory_order_relaxed);
}

inline void FramePtr::Release() {
  Frame* f = frame_;
  frame_ = nullptr;
  while (f != nullptr && f->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    Frame* parent = f->parent.frame_;
    f->parent.frame_ = nullptr;
    delete f;
    f = parent;
  }
}

/// Where a thread is. Plain data; which members count depends on the kind.
struct Position {
  enum class Kind : uint8_t {
    kDone,         // nothing more may come
    kValue,        // goal; count: white space so far
    kLiteral,      // goal: 0 null, 1 false, 2 true; count: bytes so far
    kNumber,       // goal; start
    kString,       // goal; state of the lexer; count: characters
    kArrayFirst,   // after "["; count: white space (also below)
    kArrayAfter,   // after an element
    kArrayNext,    // after ","
    kObjectFirst,  // after "{"
    kObjectAfter,  // after a property
    kObjectNext,   // after ","
    kKey,          // state of the lexer; start: offset behind the quote
    kColon,        // goal of the value
    kSpace,        // place; count
    kText,         // place; state
    kFree,         // place; state
  };
  Kind kind = Kind::kDone;
  GoalId goal = 0;  // or place
  int32_t state = 0;
  uint32_t count = 0;
  uint64_t start = 0;

  bool operator==(const Position&) const = default;
};

struct Thread {
  Position pos;
  FramePtr stack;  // null below the outermost rule

  bool operator==(const Thread& other) const;
};

/// Fills hash and oldest; the last thing that is done to a frame.
FramePtr Sealed(std::unique_ptr<Frame> frame);
/// A copy that can still be changed.
std::unique_ptr<Frame> CopyOf(const Frame& frame);

/// The characters of the inside of a JSON string; one that is cut off at the end is left out.
std::string DecodeJsonString(std::string_view raw);

inline uint64_t Mix(uint64_t h, uint64_t x) {
  h ^= x + 0x9E3779B97F4A7C15ull + (h << 6) + (h >> 2);
  h *= 0xD6E8FEB86659FD93ull;
  return h ^ h >> 32;
}
uint64_t HashBytes(std::string_view bytes, uint64_t seed);

}  // namespace ink::constraint
