// JSON Schema to goals.
//
// A place of a text must satisfy a formula over schemas. For null, booleans, numbers and strings
// the formula is evaluated in an algebra of sets; for arrays and objects it is brought to a
// disjunction of conjunctions (Conj) of conditions that a machine can follow: which values are
// allowed for which names or indexes, how many there must be, and that some property or element
// satisfies a formula. Negation is pushed down to these conditions, so `not`, `oneOf`, `if` and
// `unevaluated*` are exact. All places that a text can reach are compiled ahead, and the smallest
// fixed point over them says which can be satisfied at all.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "sampling/constraint/constraint.h"
#include "sampling/constraint/formula.h"
#include "sampling/constraint/goal.h"
#include "sampling/constraint/language.h"
#include "sampling/constraint/number_set.h"
#include "sampling/constraint/schema_index.h"

namespace ink::constraint {

class SchemaCompiler {
 public:
  SchemaCompiler(const ConstraintOptions& options, std::vector<Goal>* goals);

  /// Adds the goals of a schema to `goals`; returns the root's. kUnsupported where the schema has
  /// no valid text at all, or cannot be enforced.
  Result<GoalId> Compile(std::string_view schema);

 private:
  enum class Container { kArray, kObject };
  // How far annotations (which properties and elements were evaluated) are followed: not at all;
  // some of those that hold; exactly those that hold.
  enum class Annotations { kIgnore, kSome, kExact };

  struct Count {
    uint64_t start = 0;
    FormulaId formula = 0;
    uint64_t min = 0, max = kNoLimit;
    auto operator<=>(const Count&) const = default;
  };
  // A conjunction of conditions on one array or object.
  struct Conj {
    // Objects.
    std::map<LangId, FormulaId> all;                 // every property named so has such a value
    std::vector<std::pair<LangId, FormulaId>> some;  // some property named so has such a value
    std::set<std::string> required;
    // Arrays.
    std::map<std::pair<uint64_t, uint64_t>, FormulaId> items;  // [low, high)
    std::vector<Count> counts;
    bool unique = false;
    // Both: number of properties or elements.
    uint64_t min = 0, max = kNoLimit;
    std::string constant;  // set where it came from a value
    // Annotations.
    LangId seen_keys = LanguagePool::kNone;
    uint64_t seen_prefix = 0;
    bool seen_all_items = false;
    std::vector<FormulaId> seen_by;  // elements that satisfy one of these
  };
  using Conjs = std::vector<Conj>;

  // schema_scalars.cc
  void Fail(std::string_view keyword, const std::string& why, bool invalid = false);
  bool failed() const { return !status_.ok(); }
  int32_t Enter(int32_t scope, const JsonValue* schema);
  FormulaId MakeSchema(const JsonValue* schema, int32_t scope);
  const JsonValue* Target(const JsonValue* schema, std::string_view keyword, int32_t scope);
  bool Satisfies(FormulaId f, const JsonValue& value);
  bool SatisfiesConj(const Conj& c, const JsonValue& value);
  bool Count32(const JsonValue* schema, std::string_view keyword, uint64_t* value);
  const JsonValue* ListOf(const JsonValue* schema, std::string_view keyword, bool schemas);
  std::vector<std::string> StringList(const JsonValue& list, std::string_view keyword);
  // Bit per JSON type; numbers are two bits, integers and the others.
  uint32_t Types(const JsonValue* schema);
  template <typename Domain>
  typename Domain::Value Evaluate(FormulaId f);
  template <typename Domain>
  typename Domain::Value EvaluateSchema(const JsonValue* schema, int32_t scope);
  struct LiteralDomain;
  struct NumberDomain;
  struct StringDomain;
  template <typename Value>
  std::map<FormulaId, Value>& Memo();
  uint8_t LiteralsOf(FormulaId f);
  NumberSet NumbersOf(FormulaId f);
  LangId StringsOf(FormulaId f);

  // schema_expand.cc
  Conjs Expand(FormulaId f, Container kind);
  Conjs ExpandNot(FormulaId f, Container kind);
  Conjs ExpandIn(FormulaId f, Container kind, Annotations mode);
  FormulaId InPlace(const JsonValue* schema, int32_t scope, Annotations mode);
  Conjs ExpandSchema(const JsonValue* s, int32_t scope, Container kind, Annotations mode);
  Conjs ExpandKeywords(const JsonValue* s, int32_t scope, Container kind, Annotations mode);
  Conjs ExpandAnyOf(const std::vector<FormulaId>& branches, Container kind, Annotations mode);
  Conjs ExpandOneOf(const std::vector<FormulaId>& branches, Container kind, Annotations mode);
  Conjs ExpandIf(const JsonValue* s, int32_t scope, Container kind, Annotations mode);
  std::vector<FormulaId> Branches(const JsonValue* s, int32_t scope, std::string_view keyword,
                                  Annotations mode);
  void ObjectKeywords(const JsonValue* s, int32_t scope, Annotations mode, Conjs& parts);
  void ArrayKeywords(const JsonValue* s, int32_t scope, Annotations mode, Conjs& parts);
  void AddUnevaluated(const JsonValue* s, int32_t scope, Container kind, Conjs& parts);

  // schema_negate.cc
  Conjs ExpandNotSchema(const JsonValue* s, int32_t scope, Container kind);
  void NotObjectKeywords(const JsonValue* s, int32_t scope, Conjs& out);
  void NotArrayKeywords(const JsonValue* s, int32_t scope, Conjs& out);
  void NotUnevaluated(const JsonValue* s, int32_t scope, Container kind, Conjs& out);
  Conjs NotValue(const JsonValue& value);

  // schema_conj.cc
  struct PropertyRules {
    std::vector<std::pair<LangId, FormulaId>> rules;  // properties, patternProperties, additional
    LangId seen = LanguagePool::kNone;
  };
  PropertyRules Properties(const JsonValue* s, int32_t scope);
  struct ItemRules {
    std::vector<FormulaId> prefix;
    bool has_rest = false;
    FormulaId rest = 0;
  };
  ItemRules Items(const JsonValue* s, int32_t scope);
  bool Contains(const JsonValue* s, int32_t scope, Count* count);
  struct Dependency {
    std::string name;
    std::vector<std::string> required;
    const JsonValue* schema = nullptr;  // else `required`
  };
  std::vector<Dependency> Dependencies(const JsonValue* s);
  Conj FromValue(const JsonValue& value);
  LangId Name(const std::string& name) { return languages_.Literals({name}); }
  void AddAll(Conj& c, LangId names, FormulaId f);
  void AddItems(Conj& c, uint64_t low, uint64_t high, FormulaId f);
  FormulaId ValueFormula(const Conj& c, const std::string& name, LangId except);
  bool Merge(Conj& into, const Conj& from);
  bool Simplify(Conj& c);
  bool SimplifyObject(Conj& c);
  bool SimplifyArray(Conj& c);
  bool Covers(const Conj& wide, const Conj& narrow, Annotations mode);
  void Reduce(Conjs& list, Annotations mode);
  Conjs Cross(const Conjs& a, const Conjs& b, Annotations mode);
  static void Append(Conjs& to, Conjs from);

  // schema_goals.cc
  GoalId GoalOf(FormulaId f);
  void Explore(GoalId g);
  std::shared_ptr<ArrayRule> MakeArray(const Conj& c);
  void MakeTable(const Conj& c, ArrayRule& rule);
  std::shared_ptr<ObjectRule> MakeObject(const Conj& c);

  // schema_solve.cc
  void Solve(GoalId first);
  uint64_t ArrayLength(ArrayRule& rule);
  uint64_t ObjectLength(ObjectRule& rule);
  uint64_t CoverLength(const ObjectRule& rule, uint32_t pending, std::vector<int32_t>& taken,
                       uint64_t* extra);
  bool Possible(GoalId g) const { return g >= 0 && goals_[g].possible(); }
  void CountNames(ObjectRule& rule);
  void Finish(GoalId first);
  void FinishArray(ArrayRule& rule);
  void FinishObject(ObjectRule& rule);
  void CheckUnique(const ArrayRule& rule);
  void ListValues(GoalId g);

  const ConstraintOptions& options_;
  std::vector<Goal>& goals_;
  SchemaIndex index_;
  LanguagePool languages_;
  FormulaPool formulas_;
  Status status_;
  std::vector<std::vector<int>> scopes_;
  std::map<std::vector<int>, int32_t> scope_ids_;
  std::map<std::pair<const JsonValue*, int32_t>, FormulaId> made_;
  std::map<FormulaId, GoalId> goal_ids_;
  std::map<std::pair<FormulaId, int>, Conjs> expanded_;
  std::map<FormulaId, uint8_t> literal_memo_;
  std::map<FormulaId, NumberSet> number_memo_;
  std::map<FormulaId, LangId> string_memo_;
  std::map<LangId, std::shared_ptr<const StringSet>> string_sets_;
  std::set<std::tuple<const JsonValue*, int32_t, int>> active_;  // expansions under way
  // Rules before it is known which are possible.
  std::vector<std::vector<std::shared_ptr<ArrayRule>>> all_arrays_;
  std::vector<std::vector<std::shared_ptr<ObjectRule>>> all_objects_;
  std::string keyword_;  // the one whose alternatives are being multiplied, for messages
  int depth_ = 0;
  uint64_t work_ = 0;
};

}  // namespace ink::constraint
