// A language of characters as an automaton over bytes: UTF-8, and in JSON strings escapes too.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sampling/constraint/dfa.h"

namespace ink::constraint {

/// States and their rows of 256 transitions are made when first asked for; the owner serializes
/// access.
class Lexer {
 public:
  enum class Mode { kRaw, kJson };
  static constexpr int32_t kDead = -1;
  static constexpr int32_t kQuote = -2;  // the closing quote of a JSON string, between characters

  /// `alive`: the states of `dfa` that may be entered. `collapse`: those into which characters may
  /// be followed without remembering which ones they can be.
  Lexer(std::shared_ptr<const Dfa> dfa, Mode mode, std::vector<uint8_t> alive,
        std::vector<uint8_t> collapse);

  int32_t start() const { return 0; }
  int32_t Next(int32_t state, uint8_t byte) {
    std::unique_ptr<Row>& row = rows_[state];
    if (row == nullptr) FillRow(state);
    return (*rows_[state])[byte];
  }
  /// Between two characters.
  bool Whole(int32_t state) const { return states_[state].kind == Kind::kWhole; }
  /// The automaton's state before the character under way.
  int32_t base(int32_t state) const { return states_[state].base; }
  /// The characters that the one under way can become; empty if whole or collapsed.
  std::vector<std::pair<uint32_t, uint32_t>> Ranges(int32_t state) const;
  /// States of the automaton that the character under way can lead to; if whole, its own.
  const std::vector<int32_t>& targets(int32_t state) const { return targets_[state]; }
  const Dfa& dfa() const { return *dfa_; }
  Mode mode() const { return mode_; }
  /// Any characters at all may follow, for ever.
  bool Universal(int32_t dfa_state) const { return universal_[dfa_state] != 0; }
  /// The state of this lexer, whose language is every text, that has read as much of a character as
  /// `state` of `other`.
  int32_t Counterpart(const Lexer& other, int32_t state);
  uint64_t memory_bytes() const { return states_.size() * (sizeof(Row) + 96); }

 private:
  using Row = std::array<int32_t, 256>;
  enum class Kind : uint8_t {
    kWhole,
    kUtf8,      // `left` bytes missing, `value` holds the bits so far, `total` bytes in all
    kUniform,   // as kUtf8, all of them leading to target
    kEscape,    // after a backslash
    kHex,       // `left` digits of \u missing
    kLowSlash,  // after a high surrogate `high`
    kLowU,
    kLowHex,
  };
  struct State {
    Kind kind = Kind::kWhole;
    int32_t base = 0;
    uint32_t value = 0;
    uint32_t high = 0;
    uint8_t left = 0, total = 0;
    bool operator==(const State&) const = default;
  };
  struct Hash {
    size_t operator()(const State& s) const;
  };

  void FillRow(int32_t state);
  int32_t Character(int32_t base, uint32_t c);
  int32_t Partial(State s);  // kDead where no character fits
  int32_t Intern(const State& s, std::vector<int32_t> targets);
  int32_t Transition(const State& s, uint8_t byte);
  std::vector<std::pair<uint32_t, uint32_t>> RangesOf(const State& s) const;

  std::shared_ptr<const Dfa> dfa_;
  Mode mode_;
  std::vector<uint8_t> alive_, collapse_, universal_;
  std::vector<State> states_;
  std::vector<std::vector<int32_t>> targets_;
  std::vector<std::unique_ptr<Row>> rows_;
  std::unordered_map<State, int32_t, Hash> ids_;
};

}  // namespace ink::constraint
