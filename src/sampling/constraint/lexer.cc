#include "sampling/constraint/lexer.h"

#include <algorithm>

namespace ink::constraint {
namespace {

using Ranges = std::vector<std::pair<uint32_t, uint32_t>>;

void AddScalars(uint32_t low, uint32_t high, Ranges& out) {
  if (low > high) return;
  if (low < 0xD800) out.emplace_back(low, std::min(high, 0xD7FFu));
  if (high > 0xDFFF) out.emplace_back(std::max(low, 0xE000u), high);
}

int HexValue(uint8_t b) {
  if (b >= '0' && b <= '9') return b - '0';
  if (b >= 'a' && b <= 'f') return b - 'a' + 10;
  if (b >= 'A' && b <= 'F') return b - 'A' + 10;
  return -1;
}

}  // namespace

size_t Lexer::Hash::operator()(const State& s) const {
  uint64_t h = static_cast<uint64_t>(s.base) * 0x9E3779B97F4A7C15ull;
  h ^= (static_cast<uint64_t>(s.value) << 24) + (static_cast<uint64_t>(s.high) << 8) +
       (static_cast<uint64_t>(s.kind) << 4) + s.left * 131u + s.total;
  h *= 0xD6E8FEB86659FD93ull;
  return h ^ h >> 32;
}

Lexer::Lexer(std::shared_ptr<const Dfa> dfa, Mode mode, std::vector<uint8_t> alive,
             std::vector<uint8_t> collapse)
    : dfa_(std::move(dfa)), mode_(mode), alive_(std::move(alive)), collapse_(std::move(collapse)) {
  // The greatest set of states whose every successor is in it.
  universal_ = collapse_;
  const int32_t n = dfa_->num_states();
  const int k = dfa_->alphabet.num_classes;
  std::vector<std::vector<int32_t>> before(n);
  std::vector<int32_t> lost;
  for (int32_t s = 0; s < n; ++s) {
    if (!alive_[s]) universal_[s] = 0;
    if (!universal_[s]) lost.push_back(s);
    for (int c = 0; c < k; ++c) before[dfa_->NextClass(s, c)].push_back(s);
  }
  while (!lost.empty()) {
    const int32_t s = lost.back();
    lost.pop_back();
    for (int32_t p : before[s]) {
      if (!universal_[p]) continue;
      universal_[p] = 0;
      lost.push_back(p);
    }
  }
  State first;
  first.base = dfa_->start;
  Intern(first, {dfa_->start});
}

int32_t Lexer::Intern(const State& s, std::vector<int32_t> targets) {
  const auto [it, inserted] = ids_.emplace(s, static_cast<int32_t>(states_.size()));
  if (inserted) {
    states_.push_back(s);
    targets_.push_back(std::move(targets));
    rows_.emplace_back();
  }
  return it->second;
}

int32_t Lexer::Character(int32_t base, uint32_t c) {
  const int32_t t = dfa_->Next(base, c);
  if (!alive_[t]) return kDead;
  State s;
  s.base = t;
  return Intern(s, {t});
}

std::vector<std::pair<uint32_t, uint32_t>> Lexer::Ranges(int32_t state) const {
  return RangesOf(states_[state]);
}

std::vector<std::pair<uint32_t, uint32_t>> Lexer::RangesOf(const State& s) const {
  std::vector<std::pair<uint32_t, uint32_t>> out;
  const auto astral = [&](uint32_t high_low, uint32_t high_high) {
    out.emplace_back(0x10000 + ((high_low - 0xD800) << 10),
                     0x10000 + ((high_high - 0xD800) << 10) + 0x3FF);
  };
  switch (s.kind) {
    case Kind::kWhole:
    case Kind::kUniform:
      break;
    case Kind::kUtf8: {
      const uint32_t shift = 6u * s.left;
      uint32_t low = s.value << shift, high = low + (1u << shift) - 1;
      static constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
      static constexpr uint32_t kMost[] = {0, 0, 0x7FF, 0xFFFF, kMaxCodePoint};
      low = std::max(low, kLeast[s.total]);
      high = std::min(high, kMost[s.total]);
      AddScalars(low, high, out);
      break;
    }
    case Kind::kEscape:
      AddScalars(0, kMaxCodePoint, out);
      break;
    case Kind::kHex: {
      const uint32_t shift = 4u * s.left;
      const uint32_t low = s.value << shift, high = low + (1u << shift) - 1;
      AddScalars(low, high, out);
      const uint32_t first = std::max(low, 0xD800u), last = std::min(high, 0xDBFFu);
      if (first <= last) astral(first, last);
      break;
    }
    case Kind::kLowSlash:
    case Kind::kLowU:
      astral(s.high, s.high);
      break;
    case Kind::kLowHex: {
      const uint32_t shift = 4u * s.left;
      const uint32_t low = std::max(s.value << shift, 0xDC00u);
      const uint32_t high = std::min((s.value << shift) + (1u << shift) - 1, 0xDFFFu);
      if (low <= high) {
        const uint32_t base = 0x10000 + ((s.high - 0xD800) << 10);
        out.emplace_back(base + low - 0xDC00, base + high - 0xDC00);
      }
      break;
    }
  }
  return out;
}

int32_t Lexer::Partial(State s) {
  if (auto it = ids_.find(s); it != ids_.end()) return it->second;
  const auto ranges = RangesOf(s);
  std::vector<int32_t> targets;
  bool all_alive = true;
  for (const auto& [low, high] : ranges) {
    const Alphabet& a = dfa_->alphabet;
    for (size_t r = a.RangeIndex(low); r < a.starts.size() && a.starts[r] <= high; ++r) {
      const int32_t t = dfa_->NextClass(s.base, a.classes[r]);
      if (alive_[t]) {
        targets.push_back(t);
      } else {
        all_alive = false;
      }
    }
  }
  std::sort(targets.begin(), targets.end());
  targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
  if (targets.empty()) return kDead;
  // Bytes of a character that all lead to one place need not be remembered, unless some are no
  // characters at all (overlong forms, surrogates).
  if (s.kind == Kind::kUtf8 && all_alive && targets.size() == 1 && collapse_[targets[0]]) {
    const uint32_t shift = 6u * s.left;
    if (ranges.size() == 1 && ranges[0].second - ranges[0].first + 1 == 1u << shift) {
      State u;
      u.kind = Kind::kUniform;
      u.base = targets[0];
      u.left = s.left;
      return Intern(u, std::move(targets));
    }
  }
  return Intern(s, std::move(targets));
}

int32_t Lexer::Transition(const State& s, uint8_t byte) {
  State next = s;
  switch (s.kind) {
    case Kind::kWhole:
      if (mode_ == Mode::kJson) {
        if (byte == '"') return kQuote;
        if (byte < 0x20) return kDead;
        if (byte == '\\') {
          next.kind = Kind::kEscape;
          return Partial(next);
        }
      }
      if (byte < 0x80) return Character(s.base, byte);
      if (byte < 0xC2 || byte > 0xF4) return kDead;
      next.kind = Kind::kUtf8;
      next.total = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
      next.left = static_cast<uint8_t>(next.total - 1);
      next.value = byte & (byte < 0xE0 ? 0x1F : byte < 0xF0 ? 0x0F : 0x07);
      return Partial(next);
    case Kind::kUtf8:
      if ((byte & 0xC0) != 0x80) return kDead;
      next.value = s.value << 6 | (byte & 0x3F);
      --next.left;
      if (next.left > 0) return Partial(next);
      // The range of one character: refused here if overlong or a surrogate.
      return RangesOf(next).empty() ? kDead : Character(s.base, next.value);
    case Kind::kUniform:
      if ((byte & 0xC0) != 0x80) return kDead;
      --next.left;
      if (next.left > 0) return Intern(next, {s.base});
      next = State();
      next.base = s.base;
      return Intern(next, {s.base});
    case Kind::kEscape:
      switch (byte) {
        case '"':
        case '\\':
        case '/':
          return Character(s.base, byte);
        case 'b':
          return Character(s.base, '\b');
        case 'f':
          return Character(s.base, '\f');
        case 'n':
          return Character(s.base, '\n');
        case 'r':
          return Character(s.base, '\r');
        case 't':
          return Character(s.base, '\t');
        case 'u':
          next.kind = Kind::kHex;
          next.left = 4;
          return Partial(next);
        default:
          return kDead;
      }
    case Kind::kHex:
    case Kind::kLowHex: {
      const int digit = HexValue(byte);
      if (digit < 0) return kDead;
      next.value = s.value << 4 | static_cast<uint32_t>(digit);
      --next.left;
      if (next.left > 0) return Partial(next);
      if (s.kind == Kind::kLowHex) {
        if (next.value < 0xDC00 || next.value > 0xDFFF) return kDead;
        return Character(s.base, 0x10000 + ((s.high - 0xD800) << 10) + (next.value - 0xDC00));
      }
      if (next.value < 0xD800 || next.value > 0xDFFF) return Character(s.base, next.value);
      if (next.value > 0xDBFF) return kDead;
      next.kind = Kind::kLowSlash;
      next.high = next.value;
      next.value = 0;
      return Partial(next);
    }
    case Kind::kLowSlash:
      if (byte != '\\') return kDead;
      next.kind = Kind::kLowU;
      return Partial(next);
    case Kind::kLowU:
      if (byte != 'u') return kDead;
      next.kind = Kind::kLowHex;
      next.left = 4;
      return Partial(next);
  }
  return kDead;
}

int32_t Lexer::Counterpart(const Lexer& other, int32_t state) {
  State s = other.states_[state];
  s.base = dfa_->start;
  if (s.kind == Kind::kWhole || s.kind == Kind::kUniform) return Intern(s, {s.base});
  return Partial(s);
}

void Lexer::FillRow(int32_t state) {
  auto row = std::make_unique<Row>();
  const State s = states_[state];
  for (int b = 0; b < 256; ++b) (*row)[b] = Transition(s, static_cast<uint8_t>(b));
  rows_[state] = std::move(row);
}

}  // namespace ink::constraint
