#include "sampling/constraint/thread.h"

namespace ink::constraint {
namespace {

bool SameList(const std::shared_ptr<const std::vector<std::string>>& a,
              const std::shared_ptr<const std::vector<std::string>>& b) {
  if (a == b) return true;
  const size_t n = a ? a->size() : 0;
  if (n != (b ? b->size() : 0)) return false;
  return n == 0 || *a == *b;
}

bool SameFrame(const Frame& a, const Frame& b) {
  return a.kind == b.kind && a.hash == b.hash && a.place == b.place && a.array == b.array &&
         a.object == b.object && a.count == b.count && a.pending == b.pending &&
         a.missing == b.missing && a.used == b.used && a.start == b.start &&
         SameList(a.others, b.others) && SameList(a.elements, b.elements);
}

}  // namespace

bool Thread::operator==(const Thread& other) const {
  if (!(pos == other.pos)) return false;
  const Frame* a = stack.get();
  const Frame* b = other.stack.get();
  while (a != b) {
    if (a == nullptr || b == nullptr || !SameFrame(*a, *b)) return false;
    a = a->parent.get();
    b = b->parent.get();
  }
  return true;
}

uint64_t HashBytes(std::string_view bytes, uint64_t seed) {
  uint64_t h = Mix(seed, bytes.size());
  for (char c : bytes) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001B3ull;
  return Mix(h, h >> 29);
}

FramePtr Sealed(std::unique_ptr<Frame> frame) {
  uint64_t h = Mix(static_cast<uint64_t>(frame->kind), frame->parent ? frame->parent->hash : 1);
  h = Mix(h, static_cast<uint64_t>(frame->place));
  h = Mix(h, reinterpret_cast<uintptr_t>(frame->array));
  h = Mix(h, reinterpret_cast<uintptr_t>(frame->object));
  h = Mix(h, frame->count);
  h = Mix(h, frame->pending);
  h = Mix(h, frame->start);
  for (uint64_t word : frame->used) h = Mix(h, word);
  for (const auto* list : {&frame->others, &frame->elements}) {
    if (*list == nullptr) continue;
    for (const std::string& s : **list) h = HashBytes(s, h);
  }
  frame->hash = h;
  frame->oldest = frame->parent ? frame->parent->oldest : UINT64_MAX;
  if (frame->kind == Frame::Kind::kExclude && frame->start < frame->oldest) {
    frame->oldest = frame->start;
  }
  return FramePtr(frame.release());
}

std::unique_ptr<Frame> CopyOf(const Frame& f) {
  auto copy = std::make_unique<Frame>();
  copy->kind = f.kind;
  copy->parent = f.parent;
  copy->place = f.place;
  copy->array = f.array;
  copy->object = f.object;
  copy->count = f.count;
  copy->pending = f.pending;
  copy->missing = f.missing;
  copy->used = f.used;
  copy->others = f.others;
  copy->elements = f.elements;
  copy->exclusion = f.exclusion;
  copy->start = f.start;
  return copy;
}

std::string DecodeJsonString(std::string_view raw) {
  std::string out;
  const auto hex = [&](size_t at, uint32_t* value) {
    if (at + 4 > raw.size()) return false;
    *value = 0;
    for (size_t i = at; i < at + 4; ++i) {
      const char c = raw[i];
      const int digit = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
      *value = *value << 4 | static_cast<uint32_t>(digit);
    }
    return true;
  };
  for (size_t i = 0; i < raw.size();) {
    const auto c = static_cast<uint8_t>(raw[i]);
    if (c != '\\') {
      const size_t length = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
      if (i + length > raw.size()) break;
      out += raw.substr(i, length);
      i += length;
      continue;
    }
    if (i + 1 >= raw.size()) break;
    switch (raw[i + 1]) {
      case 'b':
        out += '\b';
        break;
      case 'f':
        out += '\f';
        break;
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 't':
        out += '\t';
        break;
      case 'u': {
        uint32_t value = 0, low = 0;
        if (!hex(i + 2, &value)) return out;
        i += 4;
        if (value >= 0xD800 && value < 0xDC00) {
          if (i + 4 > raw.size() || !hex(i + 4, &low)) return out;
          value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
          i += 6;
        }
        AppendUtf8Char(value, &out);
        break;
      }
      default:
        out += raw[i + 1];
    }
    i += 2;
  }
  return out;
}

}  // namespace ink::constraint
