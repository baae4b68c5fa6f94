// Conjunctions of conditions on arrays and objects: building, merging, simplifying.
#include <algorithm>

#include "sampling/constraint/schema_compiler.h"

namespace ink::constraint {
namespace {

constexpr size_t kMaxAlternatives = 2000;
constexpr uint64_t kMaxWork = 3000000;  // merges and comparisons; seconds

}  // namespace

void SchemaCompiler::AddAll(Conj& c, LangId names, FormulaId f) {
  if (names == LanguagePool::kNone || f == FormulaPool::kTrue) return;
  const auto [it, inserted] = c.all.emplace(names, f);
  if (!inserted) it->second = formulas_.And({it->second, f});
}

void SchemaCompiler::AddItems(Conj& c, uint64_t low, uint64_t high, FormulaId f) {
  if (low >= high || f == FormulaPool::kTrue) return;
  const auto [it, inserted] = c.items.emplace(std::make_pair(low, high), f);
  if (!inserted) it->second = formulas_.And({it->second, f});
}

SchemaCompiler::PropertyRules SchemaCompiler::Properties(const JsonValue* s, int32_t scope) {
  PropertyRules out;
  const auto map = [&](const char* keyword) -> const JsonValue* {
    const JsonValue* v = s->Find(keyword);
    if (v != nullptr && !v->IsObject()) Fail(keyword, "must be an object", true);
    return v != nullptr && v->IsObject() ? v : nullptr;
  };
  std::vector<std::string> names;
  if (const JsonValue* v = map("properties")) {
    for (const auto& [name, child] : v->members) {
      names.push_back(name);
      out.rules.emplace_back(Name(name), MakeSchema(&child, scope));
    }
  }
  out.seen = languages_.Literals(std::move(names));
  if (const JsonValue* v = map("patternProperties")) {
    for (const auto& [pattern, child] : v->members) {
      const Result<LangId> lang = languages_.Search(pattern);
      if (!lang.ok()) {
        Fail("patternProperties", lang.status().message(),
             lang.status().code() == StatusCode::kInvalidArgument);
        return out;
      }
      out.rules.emplace_back(*lang, MakeSchema(&child, scope));
      out.seen = languages_.Or(out.seen, *lang);
    }
  }
  if (const JsonValue* v = s->Find("additionalProperties")) {
    out.rules.emplace_back(languages_.Not(out.seen), MakeSchema(v, scope));
    out.seen = LanguagePool::kAll;
  }
  return out;
}

SchemaCompiler::ItemRules SchemaCompiler::Items(const JsonValue* s, int32_t scope) {
  ItemRules out;
  const JsonValue* items = s->Find("items");
  if (index_.DraftOf(s) <= Draft::k2019) {
    if (items != nullptr && items->IsArray()) {
      for (const JsonValue& v : items->items) out.prefix.push_back(MakeSchema(&v, scope));
      if (const JsonValue* rest = s->Find("additionalItems")) {
        out.has_rest = true;
        out.rest = MakeSchema(rest, scope);
      }
      return out;
    }
  } else if (const JsonValue* list = ListOf(s, "prefixItems", true)) {
    for (const JsonValue& v : list->items) out.prefix.push_back(MakeSchema(&v, scope));
  }
  if (items != nullptr) {
    if (items->IsArray()) {
      Fail("items", "must be a schema; an array of schemas is prefixItems since draft 2020-12",
           true);
      return out;
    }
    out.has_rest = true;
    out.rest = MakeSchema(items, scope);
  }
  return out;
}

bool SchemaCompiler::Contains(const JsonValue* s, int32_t scope, Count* count) {
  const JsonValue* v = s->Find("contains");
  if (v == nullptr) return false;
  count->formula = MakeSchema(v, scope);
  count->min = 1;
  Count32(s, "minContains", &count->min);
  Count32(s, "maxContains", &count->max);
  return true;
}

std::vector<SchemaCompiler::Dependency> SchemaCompiler::Dependencies(const JsonValue* s) {
  std::vector<Dependency> out;
  for (const char* keyword : {"dependentRequired", "dependentSchemas", "dependencies"}) {
    const JsonValue* v = s->Find(keyword);
    if (v == nullptr) continue;
    const bool legacy = std::string_view(keyword) == "dependencies";
    if (legacy && index_.DraftOf(s) >= Draft::k2019) continue;  // no keyword any more
    if (!v->IsObject()) {
      Fail(keyword, "must be an object", true);
      continue;
    }
    for (const auto& [name, child] : v->members) {
      Dependency d;
      d.name = name;
      if (child.IsArray()) {
        d.required = StringList(child, keyword);
      } else {
        d.schema = &child;
      }
      if ((child.IsArray() && std::string_view(keyword) == "dependentSchemas") ||
          (!child.IsArray() && std::string_view(keyword) == "dependentRequired")) {
        Fail(keyword, "has a value of the wrong type for " + QuoteJson(name), true);
      }
      out.push_back(std::move(d));
    }
  }
  return out;
}

SchemaCompiler::Conj SchemaCompiler::FromValue(const JsonValue& value) {
  Conj c;
  c.constant = CanonicalText(value);
  if (value.IsArray()) {
    c.min = c.max = value.items.size();
    for (size_t i = 0; i < value.items.size(); ++i) {
      AddItems(c, i, i + 1, formulas_.Enum({formulas_.ValueId(value.items[i])}));
    }
    return c;
  }
  std::vector<std::string> names;
  for (const auto& [name, child] : value.members) {
    names.push_back(name);
    c.required.insert(name);
    AddAll(c, Name(name), formulas_.Enum({formulas_.ValueId(child)}));
  }
  AddAll(c, languages_.Not(languages_.Literals(std::move(names))), FormulaPool::kFalse);
  return c;
}

// What the value of property `name` must satisfy, leaving out the rule for `except`.
FormulaId SchemaCompiler::ValueFormula(const Conj& c, const std::string& name, LangId except) {
  std::vector<FormulaId> parts;
  for (const auto& [lang, f] : c.all) {
    if (lang != except && languages_.Accepts(lang, name)) parts.push_back(f);
  }
  return formulas_.And(std::move(parts));
}

bool SchemaCompiler::Merge(Conj& into, const Conj& from) {
  ++work_;
  for (const auto& [lang, f] : from.all) AddAll(into, lang, f);
  for (const auto& s : from.some) {
    const auto it = std::lower_bound(into.some.begin(), into.some.end(), s);
    if (it == into.some.end() || *it != s) into.some.insert(it, s);
  }
  into.required.insert(from.required.begin(), from.required.end());
  for (const auto& [range, f] : from.items) AddItems(into, range.first, range.second, f);
  for (const Count& count : from.counts) {
    const auto it = std::lower_bound(into.counts.begin(), into.counts.end(), count);
    if (it == into.counts.end() || !(*it == count)) into.counts.insert(it, count);
  }
  into.unique = into.unique || from.unique;
  into.min = std::max(into.min, from.min);
  into.max = std::min(into.max, from.max);
  if (into.constant.empty()) into.constant = from.constant;
  into.seen_keys = languages_.Or(into.seen_keys, from.seen_keys);
  into.seen_prefix = std::max(into.seen_prefix, from.seen_prefix);
  into.seen_all_items = into.seen_all_items || from.seen_all_items;
  into.seen_by.insert(into.seen_by.end(), from.seen_by.begin(), from.seen_by.end());
  std::sort(into.seen_by.begin(), into.seen_by.end());
  into.seen_by.erase(std::unique(into.seen_by.begin(), into.seen_by.end()), into.seen_by.end());
  return Simplify(into);
}

// False where nothing can satisfy the conjunction, as far as that shows without a closer look.
bool SchemaCompiler::Simplify(Conj& c) {
  if (failed() || c.min > c.max) return false;
  return SimplifyObject(c) && SimplifyArray(c) && c.min <= c.max;
}

bool SchemaCompiler::SimplifyObject(Conj& c) {
  for (size_t i = c.some.size(); i > 0; --i) {
    const auto [names, f] = c.some[i - 1];
    if (names == LanguagePool::kNone || f == FormulaPool::kFalse) return false;
    const std::vector<std::string>* literals = languages_.LiteralTexts(names);
    if (literals != nullptr && literals->size() == 1) {
      c.required.insert((*literals)[0]);
      AddAll(c, names, f);
      c.some.erase(c.some.begin() + static_cast<ptrdiff_t>(i) - 1);
    }
  }
  if (c.required.size() > c.max) return false;
  if (c.min <= c.required.size()) c.min = 0;
  std::map<std::string, FormulaId> values;
  for (const std::string& name : c.required) {
    const FormulaId f = ValueFormula(c, name, -1);
    if (f == FormulaPool::kFalse) return false;
    values[name] = f;
  }
  // A rule for one name that the others already imply.
  for (auto it = c.all.begin(); it != c.all.end();) {
    const std::vector<std::string>* literals = languages_.LiteralTexts(it->first);
    bool implied = false;
    if (literals != nullptr && literals->size() == 1 && c.all.size() > 1) {
      const std::string name = (*literals)[0];
      implied = formulas_.Implies(ValueFormula(c, name, it->first), it->second);
    }
    it = implied ? c.all.erase(it) : std::next(it);
  }
  for (size_t i = c.some.size(); i > 0; --i) {
    const auto [names, f] = c.some[i - 1];
    bool met = false;
    for (const auto& [name, value] : values) {
      met = met || (languages_.Accepts(names, name) && formulas_.Implies(value, f));
    }
    if (met) {
      c.some.erase(c.some.begin() + static_cast<ptrdiff_t>(i) - 1);
      continue;
    }
    for (const LangId rule : {names, LanguagePool::kAll}) {
      const auto it = c.all.find(rule);
      if (it != c.all.end() && formulas_.And({it->second, f}) == FormulaPool::kFalse) return false;
    }
  }
  return true;
}

bool SchemaCompiler::SimplifyArray(Conj& c) {
  for (const auto& [range, f] : c.items) {
    if (f == FormulaPool::kFalse) c.max = std::min(c.max, range.first);
  }
  std::erase_if(c.items, [&](const auto& item) {
    return item.second == FormulaPool::kFalse || item.first.first >= c.max;
  });
  for (size_t i = c.counts.size(); i > 0; --i) {
    const Count count = c.counts[i - 1];
    bool drop = count.min == 0 && count.max == kNoLimit;
    if (count.min > count.max) return false;
    if (count.min > 0 && (count.start >= c.max || count.formula == FormulaPool::kFalse)) {
      return false;
    }
    if (count.formula == FormulaPool::kFalse) drop = true;
    if (count.formula == FormulaPool::kTrue) {
      if (count.min > 0) c.min = std::max(c.min, count.start + count.min);
      if (count.max != kNoLimit) c.max = std::min(c.max, count.start + count.max);
      drop = true;
    }
    if (drop) c.counts.erase(c.counts.begin() + static_cast<ptrdiff_t>(i) - 1);
  }
  return true;
}

// Whether each condition of `wide` is one of `narrow`, which is then not needed beside it.
bool SchemaCompiler::Covers(const Conj& wide, const Conj& narrow, Annotations mode) {
  ++work_;
  if (wide.min > narrow.min && wide.min > narrow.required.size()) return false;
  if (wide.max < narrow.max) return false;
  if (wide.unique && !narrow.unique) return false;
  if (!wide.constant.empty() && wide.constant != narrow.constant) return false;
  if (!std::includes(narrow.required.begin(), narrow.required.end(), wide.required.begin(),
                     wide.required.end())) {
    return false;
  }
  if (!std::includes(narrow.some.begin(), narrow.some.end(), wide.some.begin(), wide.some.end()) ||
      !std::includes(narrow.counts.begin(), narrow.counts.end(), wide.counts.begin(),
                     wide.counts.end())) {
    return false;
  }
  for (const auto& [lang, f] : wide.all) {
    const auto it = narrow.all.find(lang);
    if (it == narrow.all.end() || !formulas_.Implies(it->second, f)) return false;
  }
  for (const auto& [range, f] : wide.items) {
    const auto it = narrow.items.find(range);
    if (it == narrow.items.end() || !formulas_.Implies(it->second, f)) return false;
  }
  switch (mode) {
    case Annotations::kIgnore:
      return true;
    case Annotations::kSome:
      return languages_.Or(wide.seen_keys, narrow.seen_keys) == wide.seen_keys &&
             (wide.seen_all_items ||
              (!narrow.seen_all_items && wide.seen_prefix >= narrow.seen_prefix &&
               std::includes(wide.seen_by.begin(), wide.seen_by.end(), narrow.seen_by.begin(),
                             narrow.seen_by.end())));
    case Annotations::kExact:
      return wide.seen_keys == narrow.seen_keys && wide.seen_prefix == narrow.seen_prefix &&
             wide.seen_all_items == narrow.seen_all_items && wide.seen_by == narrow.seen_by;
  }
  return false;
}

void SchemaCompiler::Reduce(Conjs& list, Annotations mode) {
  if (list.size() < 2) return;
  std::vector<bool> dropped(list.size(), false);
  for (size_t i = 0; i < list.size(); ++i) {
    for (size_t j = 0; j < list.size() && !dropped[i]; ++j) {
      if (i == j || dropped[j]) continue;
      dropped[i] = Covers(list[j], list[i], mode);
    }
  }
  size_t out = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    if (dropped[i]) continue;
    if (out != i) list[out] = std::move(list[i]);
    ++out;
  }
  list.resize(out);
}

SchemaCompiler::Conjs SchemaCompiler::Cross(const Conjs& a, const Conjs& b, Annotations mode) {
  Conjs out;
  for (const Conj& x : a) {
    for (const Conj& y : b) {
      Conj c = x;
      if (Merge(c, y)) out.push_back(std::move(c));
      if (out.size() > 64 && out.size() % 64 == 0) Reduce(out, mode);
      if (out.size() > kMaxAlternatives || work_ > kMaxWork) {
        Fail(keyword_.empty() ? "schema" : keyword_,
             "its alternatives multiply to more than can be followed at once");
      }
      if (failed()) return {};
    }
  }
  Reduce(out, mode);
  return out;
}

void SchemaCompiler::Append(Conjs& to, Conjs from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace ink::constraint
