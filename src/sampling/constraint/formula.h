// Boolean combinations of schemas, as hash-consed nodes: what one place of a text must satisfy.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sampling/constraint/json_value.h"

namespace ink::constraint {

using FormulaId = int32_t;

struct Formula {
  enum class Kind : uint8_t { kTrue, kFalse, kAnd, kOr, kNot, kSchema, kEnum };
  Kind kind = Kind::kTrue;
  std::vector<int32_t> children;      // formulas (kAnd, kOr, kNot), value ids (kEnum), all sorted
  const JsonValue* schema = nullptr;  // kSchema
  int32_t scope = 0;                  // kSchema: the resources entered on the way, for $dynamicRef
};

class FormulaPool {
 public:
  static constexpr FormulaId kTrue = 0;
  static constexpr FormulaId kFalse = 1;

  FormulaPool();

  FormulaId And(std::vector<FormulaId> parts);
  FormulaId Or(std::vector<FormulaId> parts);
  FormulaId Not(FormulaId f);
  FormulaId Enum(std::vector<int32_t> value_ids);
  FormulaId Schema(const JsonValue* schema, int32_t scope);

  const Formula& operator[](FormulaId f) const { return nodes_[f]; }
  const JsonValue& value(int32_t id) const { return values_[id]; }
  int32_t ValueId(const JsonValue& value);
  /// Whether conjunction with `g` leaves `f` as it is.
  bool Implies(FormulaId f, FormulaId g) { return And({f, g}) == f; }

  /// Set by the compiler: whether a value satisfies a formula. Finite sets are filtered with it, so
  /// that a conjunction with one is always a finite set again.
  std::function<bool(FormulaId, const JsonValue&)> satisfies;

 private:
  FormulaId Intern(Formula formula);

  std::vector<Formula> nodes_;
  std::map<std::vector<int64_t>, FormulaId> ids_;
  std::vector<JsonValue> values_;
  std::map<std::string, int32_t> value_ids_;
};

/// JSON text that is the same for equal values: members sorted, numbers normalized.
std::string CanonicalText(const JsonValue& value);

}  // namespace ink::constraint
