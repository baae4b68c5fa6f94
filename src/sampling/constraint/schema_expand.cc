// Formulas and schemas as disjunctions of Conj, for arrays and objects.
#include <algorithm>

#include "sampling/constraint/schema_compiler.h"

namespace ink::constraint {
namespace {

constexpr size_t kMaxAnnotatedBranches = 10;

}  // namespace

SchemaCompiler::Conjs SchemaCompiler::Expand(FormulaId f, Container kind) {
  if (failed()) return {};
  const auto key = std::make_pair(f, kind == Container::kArray ? 0 : 1);
  if (auto it = expanded_.find(key); it != expanded_.end()) return it->second;
  const Formula node = formulas_[f];
  Conjs out;
  switch (node.kind) {
    case Formula::Kind::kTrue:
      out.emplace_back();
      break;
    case Formula::Kind::kFalse:
      break;
    case Formula::Kind::kAnd:
      out.emplace_back();
      for (FormulaId child : node.children) {
        out = Cross(out, Expand(child, kind), Annotations::kIgnore);
      }
      break;
    case Formula::Kind::kOr:
      for (FormulaId child : node.children) Append(out, Expand(child, kind));
      Reduce(out, Annotations::kIgnore);
      break;
    case Formula::Kind::kNot:
      out = ExpandNot(node.children[0], kind);
      break;
    case Formula::Kind::kEnum:
      for (int32_t v : node.children) {
        const JsonValue value = formulas_.value(v);
        if (kind == Container::kArray ? value.IsArray() : value.IsObject()) {
          out.push_back(FromValue(value));
        }
      }
      break;
    case Formula::Kind::kSchema:
      out = ExpandSchema(node.schema, node.scope, kind, Annotations::kIgnore);
      break;
  }
  if (!failed()) expanded_[key] = out;
  return out;
}

SchemaCompiler::Conjs SchemaCompiler::ExpandNot(FormulaId f, Container kind) {
  if (failed()) return {};
  const auto key = std::make_pair(f, kind == Container::kArray ? 2 : 3);
  if (auto it = expanded_.find(key); it != expanded_.end()) return it->second;
  const Formula node = formulas_[f];
  Conjs out;
  switch (node.kind) {
    case Formula::Kind::kTrue:
      break;
    case Formula::Kind::kFalse:
      out.emplace_back();
      break;
    case Formula::Kind::kAnd:
      for (FormulaId child : node.children) Append(out, ExpandNot(child, kind));
      Reduce(out, Annotations::kIgnore);
      break;
    case Formula::Kind::kOr:
      out.emplace_back();
      for (FormulaId child : node.children) {
        out = Cross(out, ExpandNot(child, kind), Annotations::kIgnore);
      }
      break;
    case Formula::Kind::kNot:
      out = Expand(node.children[0], kind);
      break;
    case Formula::Kind::kEnum:
      out.emplace_back();
      for (int32_t v : node.children) {
        const JsonValue value = formulas_.value(v);
        if (kind == Container::kArray ? value.IsArray() : value.IsObject()) {
          out = Cross(out, NotValue(value), Annotations::kIgnore);
        }
      }
      break;
    case Formula::Kind::kSchema:
      out = ExpandNotSchema(node.schema, node.scope, kind);
      break;
  }
  if (!failed()) expanded_[key] = out;
  return out;
}

// With the annotations that applying `f` leaves.
SchemaCompiler::Conjs SchemaCompiler::ExpandIn(FormulaId f, Container kind, Annotations mode) {
  const Formula node = formulas_[f];
  if (mode == Annotations::kIgnore || node.kind != Formula::Kind::kSchema) return Expand(f, kind);
  return ExpandSchema(node.schema, node.scope, kind, mode);
}

// A subschema that applies to the same place. Simplified where its annotations do not matter.
FormulaId SchemaCompiler::InPlace(const JsonValue* schema, int32_t scope, Annotations mode) {
  if (mode == Annotations::kIgnore || !schema->IsObject()) return MakeSchema(schema, scope);
  return formulas_.Schema(schema, Enter(scope, schema));
}

std::vector<FormulaId> SchemaCompiler::Branches(const JsonValue* s, int32_t scope,
                                                std::string_view keyword, Annotations mode) {
  std::vector<FormulaId> out;
  if (const JsonValue* list = ListOf(s, keyword, true)) {
    for (const JsonValue& v : list->items) out.push_back(InPlace(&v, scope, mode));
  }
  return out;
}

SchemaCompiler::Conjs SchemaCompiler::ExpandSchema(const JsonValue* s, int32_t scope,
                                                   Container kind, Annotations mode) {
  if (failed()) return {};
  const auto key =
      std::make_tuple(s, scope, (kind == Container::kArray ? 0 : 8) + static_cast<int>(mode) * 2);
  if (!active_.insert(key).second) {
    Fail("$ref", "references lead back to themselves without an end");
    return {};
  }
  const char* unevaluated =
      kind == Container::kArray ? "unevaluatedItems" : "unevaluatedProperties";
  const bool has_unevaluated = s->Find(unevaluated) != nullptr && index_.DraftOf(s) >= Draft::k2019;
  const Annotations inner =
      has_unevaluated && mode == Annotations::kIgnore ? Annotations::kSome : mode;
  Conjs parts = ExpandKeywords(s, scope, kind, inner);
  if (has_unevaluated) AddUnevaluated(s, scope, kind, parts);
  if (mode == Annotations::kIgnore) {
    for (Conj& c : parts) {
      c.seen_keys = LanguagePool::kNone;
      c.seen_prefix = 0;
      c.seen_all_items = false;
      c.seen_by.clear();
    }
  }
  Reduce(parts, mode);
  active_.erase(key);
  return parts;
}

void SchemaCompiler::AddUnevaluated(const JsonValue* s, int32_t scope, Container kind,
                                    Conjs& parts) {
  const bool array = kind == Container::kArray;
  const FormulaId f =
      MakeSchema(s->Find(array ? "unevaluatedItems" : "unevaluatedProperties"), scope);
  for (Conj& c : parts) {
    if (!array) {
      AddAll(c, languages_.Not(c.seen_keys), f);
      c.seen_keys = LanguagePool::kAll;
    } else if (!c.seen_all_items) {
      std::vector<FormulaId> either = c.seen_by;
      either.push_back(f);
      AddItems(c, c.seen_prefix, kNoLimit, formulas_.Or(std::move(either)));
      c.seen_all_items = true;
    }
  }
  std::erase_if(parts, [&](Conj& c) { return !Simplify(c); });
}

SchemaCompiler::Conjs SchemaCompiler::ExpandKeywords(const JsonValue* s, int32_t scope,
                                                     Container kind, Annotations mode) {
  Conjs parts(1);
  const bool legacy_ref = index_.DraftOf(s) <= Draft::k7 && s->Find("$ref") != nullptr;
  if (!legacy_ref) {
    // Array and object are bits 5 and 6 of Types().
    if ((Types(s) >> (kind == Container::kArray ? 5 : 6) & 1) == 0 || failed()) return {};
    const JsonValue* constant = s->Find("const");
    const JsonValue* list = s->Find("enum");
    for (const JsonValue* v : {constant, list}) {
      if (v == nullptr) continue;
      Conjs values;
      const std::vector<JsonValue> candidates =
          v == constant ? std::vector<JsonValue>{*v} : v->items;
      for (const JsonValue& value : candidates) {
        if (kind == Container::kArray ? value.IsArray() : value.IsObject()) {
          values.push_back(FromValue(value));
        }
      }
      parts = Cross(parts, values, mode);
    }
    if (kind == Container::kObject) {
      ObjectKeywords(s, scope, mode, parts);
    } else {
      ArrayKeywords(s, scope, mode, parts);
    }
  }
  for (const char* keyword : {"$ref", "$dynamicRef"}) {
    if (parts.empty() || failed()) return {};
    if (s->Find(keyword) == nullptr) continue;
    const JsonValue* target = Target(s, keyword, scope);
    if (target == nullptr) return {};
    keyword_ = keyword;
    parts = Cross(parts, ExpandIn(InPlace(target, scope, mode), kind, mode), mode);
  }
  if (legacy_ref) return parts;
  for (FormulaId f : Branches(s, scope, "allOf", mode)) {
    if (parts.empty()) return {};
    const Conjs branch = ExpandIn(f, kind, mode);
    keyword_ = "allOf";
    parts = Cross(parts, branch, mode);
  }
  if (const auto branches = Branches(s, scope, "anyOf", mode); !branches.empty()) {
    const Conjs any = ExpandAnyOf(branches, kind, mode);
    keyword_ = "anyOf";
    parts = Cross(parts, any, mode);
  }
  if (const auto branches = Branches(s, scope, "oneOf", mode); !branches.empty()) {
    const Conjs one = ExpandOneOf(branches, kind, mode);
    keyword_ = "oneOf";
    parts = Cross(parts, one, mode);
  }
  if (const JsonValue* v = s->Find("not")) {
    const Conjs none = ExpandNot(MakeSchema(v, scope), kind);
    keyword_ = "not";
    parts = Cross(parts, none, mode);
  }
  if (s->Find("if") != nullptr) {
    const Conjs either = ExpandIf(s, scope, kind, mode);
    keyword_ = "if";
    parts = Cross(parts, either, mode);
  }
  return parts;
}

SchemaCompiler::Conjs SchemaCompiler::ExpandAnyOf(const std::vector<FormulaId>& branches,
                                                  Container kind, Annotations mode) {
  std::vector<Conjs> lists;
  for (FormulaId f : branches) lists.push_back(ExpandIn(f, kind, mode));
  Conjs out;
  if (mode == Annotations::kIgnore) {
    for (Conjs& list : lists) Append(out, std::move(list));
    Reduce(out, mode);
    return out;
  }
  // Which branches hold decides what is evaluated: every set of them is an alternative. With kSome
  // a branch that leaves no annotations adds nothing to a set.
  std::vector<size_t> annotated;
  for (size_t i = 0; i < lists.size(); ++i) {
    const bool leaves = std::any_of(lists[i].begin(), lists[i].end(), [](const Conj& c) {
      return c.seen_keys != LanguagePool::kNone || c.seen_prefix > 0 || c.seen_all_items ||
             !c.seen_by.empty();
    });
    if (leaves) {
      annotated.push_back(i);
    } else {
      Append(out, lists[i]);
    }
  }
  if (annotated.size() > kMaxAnnotatedBranches) {
    Fail("anyOf", "more than " + std::to_string(kMaxAnnotatedBranches) +
                      " branches decide what is unevaluated");
    return {};
  }
  const Conjs plain = std::move(out);
  out.clear();
  keyword_ = "anyOf";
  for (uint32_t set = 0; set < 1u << annotated.size(); ++set) {
    Conjs cross = set == 0 ? plain : Conjs(1);
    for (size_t k = 0; k < annotated.size() && !cross.empty(); ++k) {
      if (set >> k & 1) {
        cross = Cross(cross, lists[annotated[k]], mode);
      } else if (mode == Annotations::kExact) {
        cross = Cross(cross, ExpandNot(branches[annotated[k]], kind), mode);
      }
    }
    Append(out, std::move(cross));
  }
  Reduce(out, mode);
  return out;
}

SchemaCompiler::Conjs SchemaCompiler::ExpandOneOf(const std::vector<FormulaId>& branches,
                                                  Container kind, Annotations mode) {
  Conjs out;
  for (size_t i = 0; i < branches.size() && !failed(); ++i) {
    Conjs one = ExpandIn(branches[i], kind, mode);
    for (size_t j = 0; j < branches.size() && !one.empty(); ++j) {
      if (j == i) continue;
      const Conjs other = ExpandNot(branches[j], kind);
      keyword_ = "oneOf";
      one = Cross(one, other, mode);
    }
    Append(out, std::move(one));
  }
  Reduce(out, mode);
  return out;
}

SchemaCompiler::Conjs SchemaCompiler::ExpandIf(const JsonValue* s, int32_t scope, Container kind,
                                               Annotations mode) {
  const JsonValue* then = s->Find("then");
  const JsonValue* otherwise = s->Find("else");
  const bool ignore = mode == Annotations::kIgnore;
  if (ignore && then == nullptr && otherwise == nullptr) return Conjs(1);
  const FormulaId condition = InPlace(s->Find("if"), scope, mode);
  Conjs out;
  if (ignore && otherwise == nullptr) {
    out = Expand(MakeSchema(then, scope), kind);  // not `if`, or `then`
  } else {
    Conjs yes = ExpandIn(condition, kind, mode);
    if (then != nullptr) {
      const Conjs more = ExpandIn(InPlace(then, scope, mode), kind, mode);
      keyword_ = "then";
      yes = Cross(yes, more, mode);
    }
    out = std::move(yes);
  }
  Conjs no = ExpandNot(condition, kind);
  if (otherwise != nullptr) {
    const Conjs more = ExpandIn(InPlace(otherwise, scope, mode), kind, mode);
    keyword_ = "else";
    no = Cross(no, more, mode);
  }
  Append(out, std::move(no));
  Reduce(out, mode);
  return out;
}

void SchemaCompiler::ObjectKeywords(const JsonValue* s, int32_t scope, Annotations mode,
                                    Conjs& parts) {
  Conj base;
  const PropertyRules rules = Properties(s, scope);
  for (const auto& [lang, f] : rules.rules) AddAll(base, lang, f);
  if (mode != Annotations::kIgnore) base.seen_keys = rules.seen;
  if (const JsonValue* v = s->Find("required")) {
    // Draft 3 had a boolean here; no later draft does.
    for (std::string& name : StringList(*v, "required")) base.required.insert(std::move(name));
  }
  Count32(s, "minProperties", &base.min);
  Count32(s, "maxProperties", &base.max);
  if (const JsonValue* v = s->Find("propertyNames")) {
    AddAll(base, languages_.Not(StringsOf(MakeSchema(v, scope))), FormulaPool::kFalse);
  }
  if (!Simplify(base)) {
    parts.clear();
    return;
  }
  parts = Cross(parts, {base}, mode);
  for (const Dependency& d : Dependencies(s)) {
    if (failed()) return;
    Conjs either(1);
    AddAll(either[0], Name(d.name), FormulaPool::kFalse);
    if (d.schema == nullptr) {
      keyword_ = "dependentRequired";
      Conj with;
      with.required.insert(d.required.begin(), d.required.end());
      if (with.required.empty()) continue;
      either.push_back(std::move(with));
    } else {
      Conjs with = ExpandIn(InPlace(d.schema, scope, mode), Container::kObject, mode);
      keyword_ = "dependentSchemas";
      if (mode != Annotations::kIgnore) {
        Conjs present(1);
        present[0].required.insert(d.name);
        with = Cross(present, with, mode);
      }
      Append(either, std::move(with));
    }
    parts = Cross(parts, either, mode);
  }
}

void SchemaCompiler::ArrayKeywords(const JsonValue* s, int32_t scope, Annotations mode,
                                   Conjs& parts) {
  Conj base;
  const ItemRules rules = Items(s, scope);
  for (size_t i = 0; i < rules.prefix.size(); ++i) AddItems(base, i, i + 1, rules.prefix[i]);
  if (rules.has_rest) AddItems(base, rules.prefix.size(), kNoLimit, rules.rest);
  Count32(s, "minItems", &base.min);
  Count32(s, "maxItems", &base.max);
  Count count;
  const bool contains = Contains(s, scope, &count);
  if (contains) base.counts.push_back(count);
  if (const JsonValue* v = s->Find("uniqueItems")) {
    if (!v->IsBool()) Fail("uniqueItems", "must be a boolean", true);
    base.unique = v->kind == JsonValue::Kind::kTrue;
  }
  if (mode != Annotations::kIgnore) {
    base.seen_prefix = rules.prefix.size();
    base.seen_all_items = rules.has_rest;
    if (contains && index_.DraftOf(s) >= Draft::k2020) base.seen_by.push_back(count.formula);
  }
  if (!Simplify(base)) {
    parts.clear();
    return;
  }
  parts = Cross(parts, {base}, mode);
}

}  // namespace ink::constraint
