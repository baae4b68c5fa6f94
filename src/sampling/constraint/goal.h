// What a JSON Schema compiles to: goals (the language of a value at one place), and rules for the
// arrays and objects among its alternatives.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sampling/constraint/formula.h"
#include "sampling/constraint/language.h"
#include "sampling/constraint/number_set.h"

namespace ink::constraint {

using GoalId = int32_t;

inline constexpr uint64_t kNoLimit = UINT64_MAX;
inline constexpr uint64_t kUnreachable = UINT64_MAX;  // as a length: there is no such text

/// One alternative for arrays. Elements [0, prefix.size()) have their own goals, the rest `tail`.
/// With `contains` conditions the positions are the states of `table` instead.
struct ArrayRule {
  struct Edge {
    GoalId goal = 0;
    int32_t to = 0;
  };
  struct State {
    bool accepting = false;
    uint64_t length = kUnreachable;  // of a shortest rest, "]" included
    std::vector<Edge> edges;         // only to states that can be completed, for possible goals
  };
  std::vector<GoalId> prefix;
  GoalId tail = 0;
  uint64_t min = 0, max = kNoLimit;
  bool unique = false;
  std::vector<State> table;        // empty: no `contains`
  std::string constant;            // CanonicalText of the one array accepted, else ""
  uint64_t length = kUnreachable;  // of a shortest text

  GoalId goal(uint64_t index) const { return index < prefix.size() ? prefix[index] : tail; }
};

/// Property names that are treated alike: one name that the schema mentions, or all other names
/// with the same matching patterns.
struct KeyClass {
  int32_t literal = -1;   // index into ObjectRule::literals
  bool possible = false;  // the value's goal can be satisfied
  std::string name;       // a shortest name of the class
  // By set of `some` conditions that the property shall witness: the value's goal, or -1 where the
  // name is not one they speak of (or no value is possible). [1 << num_some]
  std::vector<GoalId> goals;
};

/// One alternative for objects.
struct ObjectRule {
  std::vector<std::string> literals;   // sorted
  std::vector<int32_t> literal_class;  // [literals]
  std::vector<uint8_t> required;       // [literals]
  uint64_t num_required = 0;
  uint64_t min = 0, max = kNoLimit;
  int num_some = 0;  // conditions "some property ..."
  std::vector<KeyClass> classes;
  // Names; the tag of a state is the class of the name + 1.
  std::shared_ptr<const Dfa> names;
  std::vector<uint64_t> words;              // per state: possible names that are no literals
  std::vector<std::vector<int32_t>> ahead;  // per state: literals that may still come
  std::vector<uint8_t> alive;               // per state: some possible name may still come
  std::string constant;                     // CanonicalText of the one object accepted, else ""
  bool extensible = false;                  // there is always one more property to add
  bool always_many = false;                 // every name under way has infinitely many endings
  uint64_t length = kUnreachable;           // of a shortest text
};

/// The language of a JSON value.
struct Goal {
  FormulaId formula = 0;
  uint8_t literals = 0;                              // bit 0 null, 1 false, 2 true
  std::shared_ptr<const NumberSet> numbers;          // null: none
  std::shared_ptr<const StringSet> strings;          // null: none
  std::vector<std::shared_ptr<ArrayRule>> arrays;    // possible ones
  std::vector<std::shared_ptr<ObjectRule>> objects;  // possible ones
  uint64_t length = kUnreachable;                    // of a shortest text
  std::string shortest_number;
  // How many values there are, at most kManyWords; where few, their canonical texts and themselves
  // (only filled for elements of unique arrays).
  uint64_t cardinality = 0;
  bool listed = false;
  std::vector<JsonValue> values;
  std::vector<std::string> value_texts;

  bool possible() const { return length != kUnreachable; }
};

}  // namespace ink::constraint
