#include "sampling/constraint/formula.h"

#include <algorithm>

namespace ink::constraint {

std::string CanonicalText(const JsonValue& value) {
  switch (value.kind) {
    case JsonValue::Kind::kNumber:
      return (value.number.negative ? "-" : "") + value.number.digits + "e" +
             std::to_string(value.number.exponent);
    case JsonValue::Kind::kArray: {
      std::string out = "[";
      for (const JsonValue& item : value.items) out += CanonicalText(item) + ",";
      return out + "]";
    }
    case JsonValue::Kind::kObject: {
      std::vector<std::pair<std::string, const JsonValue*>> members;
      for (const auto& [key, child] : value.members) members.emplace_back(key, &child);
      std::sort(members.begin(), members.end());
      std::string out = "{";
      for (const auto& [key, child] : members) {
        out += QuoteJson(key) + ":" + CanonicalText(*child) + ",";
      }
      return out + "}";
    }
    default:
      return value.ToString();
  }
}

FormulaPool::FormulaPool() {
  nodes_.resize(2);
  nodes_[kFalse].kind = Formula::Kind::kFalse;
}

FormulaId FormulaPool::Intern(Formula formula) {
  std::vector<int64_t> key = {static_cast<int64_t>(formula.kind),
                              reinterpret_cast<int64_t>(formula.schema), formula.scope};
  key.insert(key.end(), formula.children.begin(), formula.children.end());
  const auto [it, inserted] = ids_.emplace(std::move(key), static_cast<FormulaId>(nodes_.size()));
  if (inserted) nodes_.push_back(std::move(formula));
  return it->second;
}

int32_t FormulaPool::ValueId(const JsonValue& value) {
  const auto [it, inserted] =
      value_ids_.emplace(CanonicalText(value), static_cast<int32_t>(values_.size()));
  if (inserted) values_.push_back(value);
  return it->second;
}

FormulaId FormulaPool::Schema(const JsonValue* schema, int32_t scope) {
  Formula f;
  f.kind = Formula::Kind::kSchema;
  f.schema = schema;
  f.scope = scope;
  return Intern(std::move(f));
}

FormulaId FormulaPool::Enum(std::vector<int32_t> value_ids) {
  if (value_ids.empty()) return kFalse;
  std::sort(value_ids.begin(), value_ids.end());
  value_ids.erase(std::unique(value_ids.begin(), value_ids.end()), value_ids.end());
  Formula f;
  f.kind = Formula::Kind::kEnum;
  f.children = std::move(value_ids);
  return Intern(std::move(f));
}

FormulaId FormulaPool::Not(FormulaId f) {
  if (f == kTrue) return kFalse;
  if (f == kFalse) return kTrue;
  if (nodes_[f].kind == Formula::Kind::kNot) return nodes_[f].children[0];
  Formula n;
  n.kind = Formula::Kind::kNot;
  n.children = {f};
  return Intern(std::move(n));
}

FormulaId FormulaPool::And(std::vector<FormulaId> parts) {
  std::vector<FormulaId> flat;
  for (FormulaId p : parts) {
    if (p == kFalse) return kFalse;
    if (p == kTrue) continue;
    if (nodes_[p].kind == Formula::Kind::kAnd) {
      flat.insert(flat.end(), nodes_[p].children.begin(), nodes_[p].children.end());
    } else {
      flat.push_back(p);
    }
  }
  std::sort(flat.begin(), flat.end());
  flat.erase(std::unique(flat.begin(), flat.end()), flat.end());
  for (FormulaId p : flat) {
    if (nodes_[p].kind == Formula::Kind::kNot &&
        std::binary_search(flat.begin(), flat.end(), nodes_[p].children[0])) {
      return kFalse;
    }
  }
  if (flat.empty()) return kTrue;
  if (flat.size() == 1) return flat[0];
  const auto finite = std::find_if(flat.begin(), flat.end(), [&](FormulaId p) {
    return nodes_[p].kind == Formula::Kind::kEnum;
  });
  if (finite != flat.end()) {
    const FormulaId set = *finite;
    std::vector<int32_t> kept;
    const std::vector<int32_t> candidates = nodes_[set].children;
    for (int32_t v : candidates) {
      const JsonValue value = values_[v];
      if (std::all_of(flat.begin(), flat.end(),
                      [&](FormulaId p) { return p == set || satisfies(p, value); })) {
        kept.push_back(v);
      }
    }
    return Enum(std::move(kept));
  }
  Formula f;
  f.kind = Formula::Kind::kAnd;
  f.children = std::move(flat);
  return Intern(std::move(f));
}

FormulaId FormulaPool::Or(std::vector<FormulaId> parts) {
  std::vector<FormulaId> flat;
  std::vector<int32_t> values;
  bool finite = false;
  const auto add = [&](FormulaId p) {
    if (nodes_[p].kind == Formula::Kind::kEnum) {
      values.insert(values.end(), nodes_[p].children.begin(), nodes_[p].children.end());
      finite = true;
    } else {
      flat.push_back(p);
    }
  };
  for (FormulaId p : parts) {
    if (p == kTrue) return kTrue;
    if (p == kFalse) continue;
    if (nodes_[p].kind == Formula::Kind::kOr) {
      for (FormulaId child : nodes_[p].children) add(child);
    } else {
      add(p);
    }
  }
  if (finite) flat.push_back(Enum(std::move(values)));
  std::sort(flat.begin(), flat.end());
  flat.erase(std::unique(flat.begin(), flat.end()), flat.end());
  for (FormulaId p : flat) {
    if (nodes_[p].kind == Formula::Kind::kNot &&
        std::binary_search(flat.begin(), flat.end(), nodes_[p].children[0])) {
      return kTrue;
    }
  }
  if (flat.empty()) return kFalse;
  if (flat.size() == 1) return flat[0];
  Formula f;
  f.kind = Formula::Kind::kOr;
  f.children = std::move(flat);
  return Intern(std::move(f));
}

}  // namespace ink::constraint
