// Schemas and formulas for null, booleans, numbers and strings; what is common to all types.
#include <algorithm>

#include "sampling/constraint/formats.h"
#include "sampling/constraint/schema_compiler.h"

namespace ink::constraint {
namespace {

constexpr int kMaxDepth = 250;

enum TypeBit : uint32_t {
  kNullBit = 1,
  kBooleanBit = 2,
  kIntegerBit = 4,
  kFractionBit = 8,
  kStringBit = 16,
  kArrayBit = 32,
  kObjectBit = 64,
  kAllBits = 127,
};

constexpr std::string_view kAssertions[] = {
    "$ref",
    "$dynamicRef",
    "type",
    "enum",
    "const",
    "multipleOf",
    "maximum",
    "minimum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "items",
    "prefixItems",
    "contains",
    "maxItems",
    "minItems",
    "uniqueItems",
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "required",
    "maxProperties",
    "minProperties",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$recursiveRef",
    "format",
};

bool OnlyReference(const JsonValue& schema, std::string_view* keyword) {
  bool found = false;
  for (const auto& [name, value] : schema.members) {
    if (name == "$ref" || name == "$dynamicRef") {
      if (found) return false;
      found = true;
      *keyword = name == "$ref" ? "$ref" : "$dynamicRef";
    } else if (std::find(std::begin(kAssertions), std::end(kAssertions), name) !=
               std::end(kAssertions)) {
      return false;
    }
  }
  return found;
}

}  // namespace

SchemaCompiler::SchemaCompiler(const ConstraintOptions& options, std::vector<Goal>* goals)
    : options_(options),
      goals_(*goals),
      index_(options.documents),
      languages_(options.max_automaton_states) {
  scopes_.emplace_back();
  scope_ids_.emplace(scopes_[0], 0);
  formulas_.satisfies = [this](FormulaId f, const JsonValue& v) { return Satisfies(f, v); };
}

void SchemaCompiler::Fail(std::string_view keyword, const std::string& why, bool invalid) {
  if (failed()) return;
  const std::string message = std::string(keyword) + ": " + why;
  status_ = invalid ? InvalidArgument(message) : Unsupported(message);
}

int32_t SchemaCompiler::Enter(int32_t scope, const JsonValue* schema) {
  if (!index_.uses_dynamic_ref()) return 0;
  std::vector<int> list = scopes_[scope];
  const int resource = index_.ResourceOf(schema);
  if (std::find(list.begin(), list.end(), resource) != list.end()) return scope;
  list.push_back(resource);
  const auto [it, inserted] = scope_ids_.emplace(list, static_cast<int32_t>(scopes_.size()));
  if (inserted) scopes_.push_back(std::move(list));
  return it->second;
}

// `scope` includes the resource of `schema`.
const JsonValue* SchemaCompiler::Target(const JsonValue* schema, std::string_view keyword,
                                        int32_t scope) {
  const JsonValue* reference = schema->Find(keyword);
  if (!reference->IsString()) {
    Fail(keyword, "must be a string", true);
    return nullptr;
  }
  const auto resolved = index_.Resolve(schema, std::string(keyword), reference->text);
  if (!resolved.ok()) {
    if (!failed()) status_ = resolved.status();
    return nullptr;
  }
  const JsonValue* target = *resolved;
  if (keyword == "$dynamicRef") {
    const std::string anchor = index_.DynamicAnchor(target, reference->text);
    if (!anchor.empty()) {
      for (int resource : scopes_[scope]) {
        const auto& dynamic = index_.resource(resource).dynamic_anchors;
        if (auto it = dynamic.find(anchor); it != dynamic.end()) return it->second;
      }
    }
  }
  return target;
}

FormulaId SchemaCompiler::MakeSchema(const JsonValue* schema, int32_t scope) {
  if (failed()) return FormulaPool::kFalse;
  if (schema->kind == JsonValue::Kind::kTrue) return FormulaPool::kTrue;
  if (schema->kind == JsonValue::Kind::kFalse) return FormulaPool::kFalse;
  if (!schema->IsObject()) {
    Fail("schema",
         "a schema must be an object or a boolean, got " + schema->ToString().substr(0, 40), true);
    return FormulaPool::kFalse;
  }
  scope = Enter(scope, schema);
  const auto key = std::make_pair(schema, scope);
  if (auto it = made_.find(key); it != made_.end()) return it->second;
  std::string_view reference;
  FormulaId made = FormulaPool::kTrue;
  if (OnlyReference(*schema, &reference)) {
    if (++depth_ > kMaxDepth) {
      Fail(reference, "references lead back to themselves without an end");
    } else if (const JsonValue* target = Target(schema, reference, scope)) {
      made = MakeSchema(target, scope);
    }
    --depth_;
  } else {
    bool asserts = false;
    for (const auto& [name, value] : schema->members) {
      if (name == "format" && !options_.enforce_formats) continue;
      asserts = asserts || std::find(std::begin(kAssertions), std::end(kAssertions), name) !=
                               std::end(kAssertions);
    }
    if (asserts) {
      made = formulas_.Schema(schema, scope);
      std::vector<JsonValue> values;
      const JsonValue* list = schema->Find("enum");
      const JsonValue* constant = schema->Find("const");
      if (constant != nullptr) {
        values.push_back(*constant);
      } else if (list != nullptr && list->IsArray()) {
        values = list->items;
      }
      const bool legacy_ref =
          index_.DraftOf(schema) <= Draft::k7 && schema->Find("$ref") != nullptr;
      if ((constant != nullptr || list != nullptr) && !legacy_ref) {
        if (list != nullptr && !list->IsArray()) Fail("enum", "must be an array", true);
        std::vector<int32_t> ids;
        for (const JsonValue& v : values) {
          if (Satisfies(made, v)) ids.push_back(formulas_.ValueId(v));
        }
        made = formulas_.Enum(std::move(ids));
      }
    }
  }
  if (!failed()) made_[key] = made;
  return made;
}

bool SchemaCompiler::Count32(const JsonValue* schema, std::string_view keyword, uint64_t* value) {
  const JsonValue* v = schema->Find(keyword);
  if (v == nullptr) return false;
  if (!v->IsNumber() || v->number.negative || !v->number.IsInteger()) {
    Fail(keyword, "must be a non-negative integer, got " + v->ToString().substr(0, 40), true);
    return false;
  }
  if (!v->number.ToUint64(value) || *value > (uint64_t{1} << 62)) *value = uint64_t{1} << 62;
  return true;
}

const JsonValue* SchemaCompiler::ListOf(const JsonValue* schema, std::string_view keyword,
                                        bool schemas) {
  const JsonValue* v = schema->Find(keyword);
  if (v == nullptr) return nullptr;
  if (!v->IsArray() || (schemas && v->items.empty())) {
    Fail(keyword, schemas ? "must be a non-empty array of schemas" : "must be an array", true);
    return nullptr;
  }
  return v;
}

std::vector<std::string> SchemaCompiler::StringList(const JsonValue& list,
                                                    std::string_view keyword) {
  std::vector<std::string> out;
  if (!list.IsArray()) Fail(keyword, "must be an array of strings", true);
  for (const JsonValue& v : list.items) {
    if (!v.IsString()) Fail(keyword, "must be an array of strings", true);
    out.push_back(v.text);
  }
  return out;
}

uint32_t SchemaCompiler::Types(const JsonValue* schema) {
  const JsonValue* type = schema->Find("type");
  if (type == nullptr) return kAllBits;
  std::vector<const JsonValue*> names;
  if (type->IsArray()) {
    for (const JsonValue& v : type->items) names.push_back(&v);
  } else {
    names.push_back(type);
  }
  uint32_t bits = 0;
  for (const JsonValue* name : names) {
    const std::string& n = name->text;
    if (n == "null") {
      bits |= kNullBit;
    } else if (n == "boolean") {
      bits |= kBooleanBit;
    } else if (n == "integer") {
      bits |= kIntegerBit;
    } else if (n == "number") {
      bits |= kIntegerBit | kFractionBit;
    } else if (n == "string") {
      bits |= kStringBit;
    } else if (n == "array") {
      bits |= kArrayBit;
    } else if (n == "object") {
      bits |= kObjectBit;
    } else {
      Fail("type", name->ToString().substr(0, 40) + " is no JSON type", true);
    }
  }
  return bits;
}

struct SchemaCompiler::LiteralDomain {
  using Value = uint8_t;
  static Value All() { return 7; }
  static Value None() { return 0; }
  static Value And(SchemaCompiler&, const Value& a, const Value& b) { return a & b; }
  static Value Or(SchemaCompiler&, const Value& a, const Value& b) { return a | b; }
  static Value Not(SchemaCompiler&, const Value& a) { return static_cast<Value>(~a & 7); }
  static Value Types(uint32_t bits) {
    return static_cast<Value>((bits & kNullBit ? 1 : 0) | (bits & kBooleanBit ? 6 : 0));
  }
  static Value Of(SchemaCompiler&, const JsonValue& v) {
    switch (v.kind) {
      case JsonValue::Kind::kNull:
        return 1;
      case JsonValue::Kind::kFalse:
        return 2;
      case JsonValue::Kind::kTrue:
        return 4;
      default:
        return 0;
    }
  }
  static Value Own(SchemaCompiler&, const JsonValue*) { return All(); }
};

struct SchemaCompiler::NumberDomain {
  using Value = NumberSet;
  static Value All() { return NumberSet::All(); }
  static Value None() { return NumberSet::None(); }
  static Value And(SchemaCompiler& c, const Value& a, const Value& b) {
    return Checked(c, a.And(b));
  }
  static Value Or(SchemaCompiler& c, const Value& a, const Value& b) { return Checked(c, a.Or(b)); }
  static Value Not(SchemaCompiler&, const Value& a) { return a.Not(); }
  static Value Checked(SchemaCompiler& c, Value v) {
    if (v.overflow()) {
      c.Fail("multipleOf", "more than " + std::to_string(NumberSet::kMaxSteps) +
                               " different steps apply to one number");
    }
    return v;
  }
  static Value Types(uint32_t bits) {
    const Value integers = NumberSet::Multiples(DecimalStep{1, 0});
    switch (bits & (kIntegerBit | kFractionBit)) {
      case 0:
        return None();
      case kIntegerBit:
        return integers;
      case kFractionBit:
        return integers.Not();
      default:
        return All();
    }
  }
  static Value Of(SchemaCompiler&, const JsonValue& v) {
    return v.IsNumber() ? NumberSet::Point(v.number) : None();
  }
  static Value Own(SchemaCompiler& c, const JsonValue* s) {
    Value r = All();
    const bool draft4 = c.index_.DraftOf(s) == Draft::k4;
    const auto bound = [&](const char* keyword, bool lower, bool exclusive) {
      const JsonValue* v = s->Find(keyword);
      if (v == nullptr) return;
      if (draft4 && exclusive) return;
      if (!v->IsNumber()) {
        c.Fail(keyword, "must be a number, got " + v->ToString().substr(0, 40), true);
        return;
      }
      if (draft4) {
        const JsonValue* flag = s->Find(lower ? "exclusiveMinimum" : "exclusiveMaximum");
        exclusive = flag != nullptr && flag->kind == JsonValue::Kind::kTrue;
      }
      r = r.And(lower ? NumberSet::AtLeast(v->number, exclusive)
                      : NumberSet::AtMost(v->number, exclusive));
    };
    bound("minimum", true, false);
    bound("exclusiveMinimum", true, true);
    bound("maximum", false, false);
    bound("exclusiveMaximum", false, true);
    if (const JsonValue* v = s->Find("multipleOf")) {
      DecimalStep step;
      if (!v->IsNumber() || v->number.negative || v->number.IsZero()) {
        c.Fail("multipleOf", "must be a number above 0, got " + v->ToString().substr(0, 40), true);
      } else if (!DecimalStep::FromDecimal(v->number, &step)) {
        c.Fail("multipleOf", v->ToString() + " has more than 18 digits");
      } else {
        r = r.And(NumberSet::Multiples(step));
      }
    }
    return r;
  }
};

struct SchemaCompiler::StringDomain {
  using Value = LangId;
  static Value All() { return LanguagePool::kAll; }
  static Value None() { return LanguagePool::kNone; }
  static Value And(SchemaCompiler& c, Value a, Value b) { return c.languages_.And(a, b); }
  static Value Or(SchemaCompiler& c, Value a, Value b) { return c.languages_.Or(a, b); }
  static Value Not(SchemaCompiler& c, Value a) { return c.languages_.Not(a); }
  static Value Types(uint32_t bits) { return bits & kStringBit ? All() : None(); }
  static Value Of(SchemaCompiler& c, const JsonValue& v) {
    return v.IsString() ? c.languages_.Literals({v.text}) : None();
  }
  static Value Own(SchemaCompiler& c, const JsonValue* s) {
    Value r = All();
    uint64_t min = 0, max = kNoLimit;
    const bool bounded = c.Count32(s, "minLength", &min) | c.Count32(s, "maxLength", &max);
    if (bounded) r = c.languages_.Length(min, max);
    if (const JsonValue* v = s->Find("pattern")) {
      if (!v->IsString()) {
        c.Fail("pattern", "must be a string", true);
        return r;
      }
      const Result<LangId> lang = c.languages_.Search(v->text);
      if (lang.ok()) {
        r = c.languages_.And(r, *lang);
      } else {
        c.Fail("pattern", lang.status().message(),
               lang.status().code() == StatusCode::kInvalidArgument);
      }
    }
    const JsonValue* format = c.options_.enforce_formats ? s->Find("format") : nullptr;
    const Format* known =
        format != nullptr && format->IsString() ? FindFormat(format->text) : nullptr;
    if (known != nullptr && known->pattern == nullptr) {
      c.Fail("format", QuoteJson(format->text) + " cannot be enforced");
    } else if (known != nullptr) {
      const Result<LangId> lang = c.languages_.Whole("format " + format->text, known->pattern);
      if (lang.ok()) {
        r = c.languages_.And(r, *lang);
        if (known->max_length > 0) {
          r = c.languages_.And(r, c.languages_.Length(0, known->max_length));
        }
      } else {
        c.Fail("format", lang.status().message());
      }
    }
    return r;
  }
};

template <>
std::map<FormulaId, uint8_t>& SchemaCompiler::Memo<uint8_t>() {
  return literal_memo_;
}
template <>
std::map<FormulaId, NumberSet>& SchemaCompiler::Memo<NumberSet>() {
  return number_memo_;
}
template <>
std::map<FormulaId, LangId>& SchemaCompiler::Memo<LangId>() {
  return string_memo_;
}

template <typename Domain>
typename Domain::Value SchemaCompiler::Evaluate(FormulaId f) {
  using Value = typename Domain::Value;
  if (failed()) return Domain::None();
  auto& memo = Memo<Value>();
  if (auto it = memo.find(f); it != memo.end()) return it->second;
  const Formula node = formulas_[f];
  Value r = Domain::All();
  switch (node.kind) {
    case Formula::Kind::kTrue:
      break;
    case Formula::Kind::kFalse:
      r = Domain::None();
      break;
    case Formula::Kind::kAnd:
      for (FormulaId child : node.children) r = Domain::And(*this, r, Evaluate<Domain>(child));
      break;
    case Formula::Kind::kOr:
      r = Domain::None();
      for (FormulaId child : node.children) r = Domain::Or(*this, r, Evaluate<Domain>(child));
      break;
    case Formula::Kind::kNot:
      r = Domain::Not(*this, Evaluate<Domain>(node.children[0]));
      break;
    case Formula::Kind::kEnum:
      r = Domain::None();
      for (int32_t v : node.children) {
        r = Domain::Or(*this, r, Domain::Of(*this, formulas_.value(v)));
      }
      break;
    case Formula::Kind::kSchema:
      if (++depth_ > kMaxDepth) {
        Fail("$ref", "references lead back to themselves without an end");
      } else {
        r = EvaluateSchema<Domain>(node.schema, node.scope);
      }
      --depth_;
      break;
  }
  memo.insert_or_assign(f, r);
  return r;
}

template <typename Domain>
typename Domain::Value SchemaCompiler::EvaluateSchema(const JsonValue* s, int32_t scope) {
  using Value = typename Domain::Value;
  Value r = Domain::All();
  const auto child = [&](const JsonValue* schema) {
    return Evaluate<Domain>(MakeSchema(schema, scope));
  };
  const bool legacy_ref = index_.DraftOf(s) <= Draft::k7 && s->Find("$ref") != nullptr;
  for (const char* keyword : {"$ref", "$dynamicRef"}) {
    if (s->Find(keyword) == nullptr) continue;
    const JsonValue* target = Target(s, keyword, scope);
    if (target == nullptr) return Domain::None();
    r = Domain::And(*this, r, child(target));
  }
  if (legacy_ref) return r;
  if (s->Find("$recursiveRef") != nullptr) Fail("$recursiveRef", "is not supported");
  r = Domain::And(*this, r, Domain::Types(Types(s)));
  for (const char* keyword : {"const", "enum"}) {
    const JsonValue* v = s->Find(keyword);
    if (v == nullptr) continue;
    if (keyword[0] == 'c') {
      r = Domain::And(*this, r, Domain::Of(*this, *v));
    } else if (ListOf(s, keyword, false) != nullptr) {
      Value any = Domain::None();
      for (const JsonValue& item : v->items) any = Domain::Or(*this, any, Domain::Of(*this, item));
      r = Domain::And(*this, r, any);
    }
  }
  r = Domain::And(*this, r, Domain::Own(*this, s));
  if (const JsonValue* list = ListOf(s, "allOf", true)) {
    for (const JsonValue& item : list->items) r = Domain::And(*this, r, child(&item));
  }
  if (const JsonValue* list = ListOf(s, "anyOf", true)) {
    Value any = Domain::None();
    for (const JsonValue& item : list->items) any = Domain::Or(*this, any, child(&item));
    r = Domain::And(*this, r, any);
  }
  if (const JsonValue* list = ListOf(s, "oneOf", true)) {
    Value none = Domain::All(), one = Domain::None();
    for (const JsonValue& item : list->items) {
      const Value x = child(&item);
      const Value not_x = Domain::Not(*this, x);
      one = Domain::Or(*this, Domain::And(*this, one, not_x), Domain::And(*this, none, x));
      none = Domain::And(*this, none, not_x);
    }
    r = Domain::And(*this, r, one);
  }
  if (const JsonValue* v = s->Find("not")) {
    r = Domain::And(*this, r, Domain::Not(*this, child(v)));
  }
  const JsonValue* condition = s->Find("if");
  const JsonValue* then = s->Find("then");
  const JsonValue* otherwise = s->Find("else");
  if (condition != nullptr && (then != nullptr || otherwise != nullptr)) {
    const Value c = child(condition);
    const Value yes = then != nullptr ? Domain::And(*this, c, child(then)) : c;
    const Value not_c = Domain::Not(*this, c);
    const Value no = otherwise != nullptr ? Domain::And(*this, not_c, child(otherwise)) : not_c;
    r = Domain::And(*this, r, Domain::Or(*this, yes, no));
  }
  return r;
}

template uint8_t SchemaCompiler::Evaluate<SchemaCompiler::LiteralDomain>(FormulaId);
template NumberSet SchemaCompiler::Evaluate<SchemaCompiler::NumberDomain>(FormulaId);
template LangId SchemaCompiler::Evaluate<SchemaCompiler::StringDomain>(FormulaId);

uint8_t SchemaCompiler::LiteralsOf(FormulaId f) { return Evaluate<LiteralDomain>(f); }
NumberSet SchemaCompiler::NumbersOf(FormulaId f) { return Evaluate<NumberDomain>(f); }
LangId SchemaCompiler::StringsOf(FormulaId f) { return Evaluate<StringDomain>(f); }

bool SchemaCompiler::Satisfies(FormulaId f, const JsonValue& value) {
  if (failed()) return false;
  switch (value.kind) {
    case JsonValue::Kind::kNull:
      return (LiteralsOf(f) & 1) != 0;
    case JsonValue::Kind::kFalse:
      return (LiteralsOf(f) & 2) != 0;
    case JsonValue::Kind::kTrue:
      return (LiteralsOf(f) & 4) != 0;
    case JsonValue::Kind::kNumber:
      return NumbersOf(f).Contains(value.number);
    case JsonValue::Kind::kString:
      return languages_.Accepts(StringsOf(f), value.text);
    default: {
      // Another place of a text: expansions under way do not count as going round in a circle.
      if (depth_ > kMaxDepth) {
        Fail("$ref", "references lead back to themselves without an end");
        return false;
      }
      ++depth_;
      std::set<std::tuple<const JsonValue*, int32_t, int>> outer;
      std::swap(outer, active_);
      const Conjs list = Expand(f, value.IsArray() ? Container::kArray : Container::kObject);
      const bool any = std::any_of(list.begin(), list.end(),
                                   [&](const Conj& c) { return SatisfiesConj(c, value); });
      std::swap(outer, active_);
      --depth_;
      return any && !failed();
    }
  }
}

bool SchemaCompiler::SatisfiesConj(const Conj& c, const JsonValue& value) {
  const uint64_t size = value.IsArray() ? value.items.size() : value.members.size();
  if (size < c.min || size > c.max) return false;
  if (value.IsArray()) {
    for (const auto& [range, f] : c.items) {
      for (uint64_t i = range.first; i < size && i < range.second; ++i) {
        if (!Satisfies(f, value.items[i])) return false;
      }
    }
    for (const Count& count : c.counts) {
      uint64_t n = 0;
      for (uint64_t i = count.start; i < size; ++i) n += Satisfies(count.formula, value.items[i]);
      if (n < count.min || n > count.max) return false;
    }
    if (c.unique) {
      std::set<std::string> seen;
      for (const JsonValue& item : value.items) {
        if (!seen.insert(CanonicalText(item)).second) return false;
      }
    }
    return true;
  }
  for (const std::string& name : c.required) {
    if (value.Find(name) == nullptr) return false;
  }
  for (const auto& [lang, f] : c.all) {
    for (const auto& [name, child] : value.members) {
      if (languages_.Accepts(lang, name) && !Satisfies(f, child)) return false;
    }
  }
  for (const auto& [lang, f] : c.some) {
    if (std::none_of(value.members.begin(), value.members.end(),
                     [&, &lang = lang, &f = f](const auto& member) {
                       return languages_.Accepts(lang, member.first) && Satisfies(f, member.second);
                     })) {
      return false;
    }
  }
  return true;
}

}  // namespace ink::constraint
