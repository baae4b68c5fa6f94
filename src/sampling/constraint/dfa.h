// Deterministic automata over code points. Characters that no transition tells apart share a class.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "sampling/constraint/regex.h"

namespace ink::constraint {

/// Code points -> classes 0 .. num_classes-1. Surrogates have a class too but are never read.
struct Alphabet {
  std::vector<uint32_t> starts = {0};   // first code point of each range, ascending
  std::vector<uint16_t> classes = {0};  // of each range
  uint16_t ascii[128] = {};
  int num_classes = 1;

  int Class(uint32_t c) const { return c < 128 ? ascii[c] : classes[RangeIndex(c)]; }
  size_t RangeIndex(uint32_t c) const;
  /// How many code points each class holds.
  std::vector<uint64_t> Sizes() const;
  /// A code point of the class, printable ASCII where there is one.
  uint32_t Example(int char_class) const;
};

struct Dfa {
  Alphabet alphabet;
  std::vector<int32_t> next;    // [num_states, num_classes]; complete: dead states are states
  std::vector<int32_t> accept;  // [num_states]: 0 refuses, else the tag of what was accepted
  int32_t start = 0;

  int32_t num_states() const { return static_cast<int32_t>(accept.size()); }
  int32_t NextClass(int32_t state, int char_class) const {
    return next[static_cast<size_t>(state) * alphabet.num_classes + char_class];
  }
  int32_t Next(int32_t state, uint32_t c) const { return NextClass(state, alphabet.Class(c)); }
  /// The tag for a whole text (well-formed UTF-8).
  int32_t Match(std::string_view text) const;
  /// Which states can reach a state for which `accepting` holds.
  std::vector<uint8_t> Live(const std::vector<uint8_t>& accepting) const;
};

/// Every text, tag 1.
Dfa AnyTextDfa();
/// Tag i + 1 for the text literals[i]; the literals are distinct.
Dfa LiteralsDfa(const std::vector<std::string>& literals);
/// Tag 1 for texts of min to max characters (max < 0: no limit).
Dfa LengthDfa(int64_t min, int64_t max);
/// Tag 1 for texts that match: as a whole, or (search) that contain a match. kUnsupported where
/// more than `max_states` states are needed.
Result<Dfa> RegexDfa(const RegexPtr& regex, bool search, size_t max_states);
/// Runs all `parts` side by side; `combine` maps their tags to the tag of the product.
Result<Dfa> ProductDfa(const std::vector<const Dfa*>& parts,
                       const std::function<int32_t(std::span<const int32_t>)>& combine,
                       size_t max_states);
/// The same language with fewer states, where that is cheap to find.
Dfa Minimized(Dfa dfa);

}  // namespace ink::constraint
