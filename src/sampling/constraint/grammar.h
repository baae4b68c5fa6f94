// The outer structure of a constraint: rules over texts of regular languages, JSON values and free
// text.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "sampling/constraint/goal.h"
#include "sampling/constraint/lexer.h"

namespace ink::constraint {

struct Symbol {
  enum class Kind : uint8_t {
    kEnd,    // of an alternative
    kRule,   // index: rule
    kText,   // index: Grammar::texts
    kJson,   // index: goal
    kSpace,  // bounded JSON white space
    kFree,   // index: Grammar::free
  };
  Kind kind = Kind::kEnd;
  int32_t index = 0;
};

/// A regular language of raw text.
struct RawText {
  std::shared_ptr<const Dfa> dfa;
  std::unique_ptr<Lexer> lexer;
  std::vector<uint64_t> distance;  // per state: characters to the nearest end
  bool nullable = false;
  uint64_t length = 0;  // bytes of a shortest text

  /// A shortest continuation from `state`.
  std::string Completion(int32_t state) const;
};

/// Any bytes, until one of some triggers has appeared.
struct FreeText {
  std::vector<std::string> triggers;
  std::vector<std::array<int32_t, 256>> next;  // Aho-Corasick
  std::vector<int32_t> found;                  // per state: trigger, or -1
  std::vector<int32_t> rules;                  // per trigger: what follows it
  bool can_end = true;
  size_t shortest = 0;  // the trigger that leads to the shortest text
};

/// Alternatives are stretches of `code` that end with kEnd. The language is that of rule 0.
struct Grammar {
  std::vector<Symbol> code;
  std::vector<std::vector<int32_t>> rules;  // starts in `code`
  std::vector<std::string> rule_names;      // as far as rules have names
  std::vector<RawText> texts;
  std::vector<FreeText> free;
  std::vector<uint64_t> length;       // per place in `code`: bytes of a shortest rest
  std::vector<uint64_t> rule_length;  // per rule

  int32_t AddRule() {
    rules.emplace_back();
    return static_cast<int32_t>(rules.size()) - 1;
  }
  /// Adds an alternative to a rule.
  void AddAlternative(int32_t rule, std::vector<Symbol> symbols);
  /// Adds a text; null language (nothing matches) is kInvalidArgument.
  Result<Symbol> AddText(std::shared_ptr<const Dfa> dfa);
  Result<Symbol> AddLiteral(std::string_view text);
  Symbol AddFree(std::vector<std::string> triggers, std::vector<int32_t> rules, bool can_end);

  /// Drops what can never be completed and fills the lengths; `goals` for kJson. kUnsupported where
  /// nothing is left, or a rule calls itself before reading anything.
  Status Finish(const std::vector<Goal>& goals);
};

/// GBNF (the grammar language of llama.cpp, grammars/README.md there); returns the number of
/// `root`. Errors: kInvalidArgument with the line; kUnsupported for references to tokens.
Result<int32_t> ParseGbnf(std::string_view text, size_t max_states, Grammar* grammar);

}  // namespace ink::constraint
