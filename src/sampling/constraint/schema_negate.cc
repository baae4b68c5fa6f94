// The negation of schemas and values, pushed down to the conditions of a Conj.
#include <algorithm>

#include "sampling/constraint/schema_compiler.h"

namespace ink::constraint {

SchemaCompiler::Conjs SchemaCompiler::ExpandNotSchema(const JsonValue* s, int32_t scope,
                                                      Container kind) {
  if (failed()) return {};
  const auto key = std::make_tuple(s, scope, (kind == Container::kArray ? 0 : 8) + 1);
  if (!active_.insert(key).second) {
    Fail("$ref", "references lead back to themselves without an end");
    return {};
  }
  const auto negate = [&](const JsonValue* schema) {
    return ExpandNot(MakeSchema(schema, scope), kind);
  };
  const bool array = kind == Container::kArray;
  Conjs out;
  const bool legacy_ref = index_.DraftOf(s) <= Draft::k7 && s->Find("$ref") != nullptr;
  for (const char* keyword : {"$ref", "$dynamicRef"}) {
    if (s->Find(keyword) == nullptr) continue;
    if (const JsonValue* target = Target(s, keyword, scope)) Append(out, negate(target));
  }
  if (!legacy_ref && (Types(s) >> (array ? 5 : 6) & 1) == 0) {
    out.assign(1, Conj());
  } else if (!legacy_ref) {
    for (const char* keyword : {"const", "enum"}) {
      const JsonValue* v = s->Find(keyword);
      if (v == nullptr) continue;
      const std::vector<JsonValue> values =
          keyword[0] == 'c' ? std::vector<JsonValue>{*v} : v->items;
      Conjs none(1);
      keyword_ = keyword;
      for (const JsonValue& value : values) {
        if (array ? value.IsArray() : value.IsObject()) {
          none = Cross(none, NotValue(value), Annotations::kIgnore);
        }
      }
      Append(out, std::move(none));
    }
    if (array) {
      NotArrayKeywords(s, scope, out);
    } else {
      NotObjectKeywords(s, scope, out);
    }
    if (const JsonValue* list = ListOf(s, "allOf", true)) {
      for (const JsonValue& v : list->items) Append(out, negate(&v));
    }
    if (const JsonValue* list = ListOf(s, "anyOf", true)) {
      Conjs none(1);
      for (const JsonValue& v : list->items) {
        const Conjs not_v = negate(&v);
        keyword_ = "anyOf";
        none = Cross(none, not_v, Annotations::kIgnore);
      }
      Append(out, std::move(none));
    }
    if (const JsonValue* list = ListOf(s, "oneOf", true)) {
      // None of them, or two.
      std::vector<FormulaId> branches;
      Conjs none(1);
      for (const JsonValue& v : list->items) {
        branches.push_back(MakeSchema(&v, scope));
        const Conjs not_v = ExpandNot(branches.back(), kind);
        keyword_ = "oneOf";
        none = Cross(none, not_v, Annotations::kIgnore);
      }
      Append(out, std::move(none));
      for (size_t i = 0; i < branches.size(); ++i) {
        for (size_t j = i + 1; j < branches.size(); ++j) {
          const Conjs first = Expand(branches[i], kind), second = Expand(branches[j], kind);
          keyword_ = "oneOf";
          Append(out, Cross(first, second, Annotations::kIgnore));
        }
      }
    }
    if (const JsonValue* v = s->Find("not")) Append(out, Expand(MakeSchema(v, scope), kind));
    const JsonValue* condition = s->Find("if");
    const JsonValue* then = s->Find("then");
    const JsonValue* otherwise = s->Find("else");
    if (condition != nullptr) {
      const FormulaId f = MakeSchema(condition, scope);
      if (then != nullptr) {
        const Conjs yes = Expand(f, kind), not_then = negate(then);
        keyword_ = "then";
        Append(out, Cross(yes, not_then, Annotations::kIgnore));
      }
      if (otherwise != nullptr) {
        const Conjs no = ExpandNot(f, kind), not_else = negate(otherwise);
        keyword_ = "else";
        Append(out, Cross(no, not_else, Annotations::kIgnore));
      }
    }
    NotUnevaluated(s, scope, kind, out);
  }
  Reduce(out, Annotations::kIgnore);
  active_.erase(key);
  return out;
}

void SchemaCompiler::NotObjectKeywords(const JsonValue* s, int32_t scope, Conjs& out) {
  const auto add = [&](Conj c) {
    if (Simplify(c)) out.push_back(std::move(c));
  };
  for (const auto& [lang, f] : Properties(s, scope).rules) {
    Conj c;
    c.some.emplace_back(lang, formulas_.Not(f));
    add(std::move(c));
  }
  if (const JsonValue* v = s->Find("required")) {
    for (const std::string& name : StringList(*v, "required")) {
      Conj c;
      AddAll(c, Name(name), FormulaPool::kFalse);
      add(std::move(c));
    }
  }
  uint64_t bound = 0;
  if (Count32(s, "minProperties", &bound) && bound > 0) {
    Conj c;
    c.max = bound - 1;
    add(std::move(c));
  }
  if (Count32(s, "maxProperties", &bound)) {
    Conj c;
    c.min = bound + 1;
    add(std::move(c));
  }
  if (const JsonValue* v = s->Find("propertyNames")) {
    Conj c;
    c.some.emplace_back(languages_.Not(StringsOf(MakeSchema(v, scope))), FormulaPool::kTrue);
    add(std::move(c));
  }
  for (const Dependency& d : Dependencies(s)) {
    Conj present;
    present.required.insert(d.name);
    if (d.schema != nullptr) {
      const Conjs not_schema = ExpandNot(MakeSchema(d.schema, scope), Container::kObject);
      keyword_ = "dependentSchemas";
      Append(out, Cross({present}, not_schema, Annotations::kIgnore));
      continue;
    }
    for (const std::string& name : d.required) {
      Conj c = present;
      AddAll(c, Name(name), FormulaPool::kFalse);
      add(std::move(c));
    }
  }
}

void SchemaCompiler::NotArrayKeywords(const JsonValue* s, int32_t scope, Conjs& out) {
  const auto add = [&](Conj c) {
    if (Simplify(c)) out.push_back(std::move(c));
  };
  const ItemRules rules = Items(s, scope);
  for (size_t i = 0; i < rules.prefix.size(); ++i) {
    Conj c;
    c.min = i + 1;
    AddItems(c, i, i + 1, formulas_.Not(rules.prefix[i]));
    add(std::move(c));
  }
  if (rules.has_rest) {
    Conj c;
    c.counts.push_back({rules.prefix.size(), formulas_.Not(rules.rest), 1, kNoLimit});
    add(std::move(c));
  }
  Count count;
  if (Contains(s, scope, &count)) {
    if (count.min > 0) {
      Conj c;
      c.counts.push_back({0, count.formula, 0, count.min - 1});
      add(std::move(c));
    }
    if (count.max != kNoLimit) {
      Conj c;
      c.counts.push_back({0, count.formula, count.max + 1, kNoLimit});
      add(std::move(c));
    }
  }
  uint64_t bound = 0;
  if (Count32(s, "minItems", &bound) && bound > 0) {
    Conj c;
    c.max = bound - 1;
    add(std::move(c));
  }
  if (Count32(s, "maxItems", &bound)) {
    Conj c;
    c.min = bound + 1;
    add(std::move(c));
  }
  const JsonValue* unique = s->Find("uniqueItems");
  if (unique != nullptr && unique->kind == JsonValue::Kind::kTrue) {
    Fail("uniqueItems", "cannot be enforced where it is negated (not, oneOf, if)");
  }
}

// Some property or element that nothing else in the schema evaluates, and that fails the keyword.
void SchemaCompiler::NotUnevaluated(const JsonValue* s, int32_t scope, Container kind, Conjs& out) {
  const bool array = kind == Container::kArray;
  const JsonValue* v = s->Find(array ? "unevaluatedItems" : "unevaluatedProperties");
  if (v == nullptr || index_.DraftOf(s) < Draft::k2019) return;
  const FormulaId fails = formulas_.Not(MakeSchema(v, scope));
  if (fails == FormulaPool::kFalse) return;
  for (Conj& c : ExpandKeywords(s, scope, kind, Annotations::kExact)) {
    if (array) {
      if (c.seen_all_items) continue;
      std::vector<FormulaId> all = {fails};
      for (FormulaId f : c.seen_by) all.push_back(formulas_.Not(f));
      const Count count = {c.seen_prefix, formulas_.And(std::move(all)), 1, kNoLimit};
      const auto at = std::lower_bound(c.counts.begin(), c.counts.end(), count);
      if (at == c.counts.end() || !(*at == count)) c.counts.insert(at, count);
    } else {
      const auto some = std::make_pair(languages_.Not(c.seen_keys), fails);
      const auto at = std::lower_bound(c.some.begin(), c.some.end(), some);
      if (at == c.some.end() || *at != some) c.some.insert(at, some);
    }
    c.seen_keys = LanguagePool::kNone;
    c.seen_prefix = 0;
    c.seen_all_items = false;
    c.seen_by.clear();
    if (Simplify(c)) out.push_back(std::move(c));
  }
}

SchemaCompiler::Conjs SchemaCompiler::NotValue(const JsonValue& value) {
  Conjs out;
  const auto add = [&](Conj c) {
    if (Simplify(c)) out.push_back(std::move(c));
  };
  if (value.IsArray()) {
    const uint64_t n = value.items.size();
    if (n > 0) {
      Conj shorter;
      shorter.max = n - 1;
      add(std::move(shorter));
    }
    Conj longer;
    longer.min = n + 1;
    add(std::move(longer));
    for (uint64_t i = 0; i < n; ++i) {
      Conj c;
      c.min = i + 1;
      AddItems(c, i, i + 1, formulas_.Not(formulas_.Enum({formulas_.ValueId(value.items[i])})));
      add(std::move(c));
    }
    return out;
  }
  std::vector<std::string> names;
  for (const auto& [name, child] : value.members) {
    names.push_back(name);
    Conj absent;
    AddAll(absent, Name(name), FormulaPool::kFalse);
    add(std::move(absent));
    Conj different;
    different.required.insert(name);
    AddAll(different, Name(name), formulas_.Not(formulas_.Enum({formulas_.ValueId(child)})));
    add(std::move(different));
  }
  Conj more;
  more.some.emplace_back(languages_.Not(languages_.Literals(std::move(names))), FormulaPool::kTrue);
  add(std::move(more));
  return out;
}

}  // namespace ink::constraint
