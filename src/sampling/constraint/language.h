// Languages of strings (values and property names) and their Boolean combinations.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "sampling/constraint/dfa.h"

namespace ink::constraint {

/// Index into a LanguagePool; equal ids are equal languages (not always the other way round).
using LangId = int32_t;

inline constexpr uint64_t kManyWords = uint64_t{1} << 40;  // "as good as infinitely many"

/// A pool of expressions over base languages: patterns, length ranges and finite sets.
class LanguagePool {
 public:
  static constexpr LangId kAll = 0;
  static constexpr LangId kNone = 1;

  explicit LanguagePool(size_t max_states);

  /// JSON Schema's `pattern`: texts that contain a match.
  Result<LangId> Search(const std::string& pattern);
  /// Texts that match a given expression as a whole; `name` identifies it.
  Result<LangId> Whole(const std::string& name, const std::string& pattern);
  LangId Literals(std::vector<std::string> texts);
  LangId Length(uint64_t min, uint64_t max);  // max UINT64_MAX: no limit
  LangId Not(LangId a);
  LangId And(LangId a, LangId b);
  LangId Or(LangId a, LangId b);

  bool Accepts(LangId lang, std::string_view text) const;
  /// The texts of a language that is written as a finite set, else null.
  const std::vector<std::string>* LiteralTexts(LangId lang) const;

  /// What `langs` are built from: base languages other than literals, and all literal texts.
  struct Parts {
    std::vector<LangId> bases;
    std::vector<std::string> literals;
  };
  void Collect(LangId lang, Parts* parts) const;
  /// Whether a text is in `lang`, given which bases it is in and the text itself where it is one of
  /// the literals (else null).
  bool Evaluate(LangId lang, const std::map<LangId, bool>& in_base, const std::string* text) const;
  /// The automaton of a base from Collect(). kUnsupported for a length beyond the state limit.
  Result<std::shared_ptr<const Dfa>> BaseDfa(LangId base);
  /// The automaton of any language.
  Result<std::shared_ptr<const Dfa>> ToDfa(LangId lang);
  /// Takes length ranges out of a conjunction: lang = rest and min <= length <= max.
  void SplitLength(LangId lang, LangId* rest, uint64_t* min, uint64_t* max);

  size_t max_states() const { return max_states_; }

 private:
  enum class Kind { kAll, kNone, kDfa, kLength, kLiterals, kNot, kAnd, kOr };
  struct Node {
    Kind kind = Kind::kAll;
    std::shared_ptr<const Dfa> dfa;
    uint64_t min = 0, max = UINT64_MAX;
    std::vector<std::string> texts;  // sorted
    std::vector<LangId> children;    // sorted
  };
  LangId Intern(const std::string& key, Node node);
  LangId Combine(Kind kind, LangId a, LangId b);

  size_t max_states_;
  std::vector<Node> nodes_;
  std::map<std::string, LangId> ids_;
  std::map<LangId, std::shared_ptr<const Dfa>> dfas_;
};

/// How many texts each state still accepts, at most kManyWords; `accepting` may narrow the
/// automaton's own acceptance.
std::vector<uint64_t> CountWords(const Dfa& dfa, const std::vector<uint8_t>& accepting);

/// The language of a string value: an automaton and a range of lengths in characters.
struct StringSet {
  std::shared_ptr<const Dfa> dfa;
  uint64_t min = 0, max = UINT64_MAX;
  bool any_text = false;  // the automaton accepts everything
  // Per state: the length of a shortest text still accepted, UINT64_MAX where there is none.
  std::vector<uint64_t> shortest;
  // [state, 0 .. horizon]: the least length of at least that much; at the horizon it stands for
  // every length beyond (a state accepts all of those lengths or none). kNoLength: none.
  uint32_t horizon = 0;
  std::vector<uint32_t> next_length;
  static constexpr uint32_t kNoLength = UINT32_MAX;
  std::vector<uint64_t> words;  // CountWords
  uint64_t cardinality = 0;     // of the whole set, at most kManyWords

  bool empty() const { return cardinality == 0; }
  /// Some continuation is in the set, in `state` after `count` characters.
  bool Alive(int32_t state, uint64_t count) const;
  bool Accepts(int32_t state, uint64_t count) const {
    return dfa->accept[state] != 0 && count >= min && count <= max;
  }
  /// How many continuations there are, at most `limit`.
  uint64_t CountFrom(int32_t state, uint64_t count, uint64_t limit) const;
  /// A shortest continuation (UTF-8, not escaped).
  std::string Completion(int32_t state, uint64_t count) const;
  bool Contains(std::string_view text) const;
};
Result<std::shared_ptr<const StringSet>> MakeStringSet(LanguagePool& pool, LangId lang);

}  // namespace ink::constraint
