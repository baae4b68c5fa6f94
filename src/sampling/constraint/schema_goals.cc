// Goals and rules from formulas: which places a text can reach, and what is allowed there.
#include <algorithm>

#include "base/check.h"
#include "sampling/constraint/schema_compiler.h"

namespace ink::constraint {
namespace {

constexpr uint64_t kMaxPrefix = 2000;
constexpr size_t kMaxTable = 20000;
constexpr size_t kMaxCounts = 6;
constexpr size_t kMaxSome = 4;
constexpr uint64_t kMaxRootLength = uint64_t{1} << 20;

}  // namespace

Result<GoalId> SchemaCompiler::Compile(std::string_view text) {
  INK_ASSIGN_OR_RETURN(const JsonValue* root, index_.AddRoot(text));
  const auto first = static_cast<GoalId>(goals_.size());
  all_arrays_.resize(goals_.size());
  all_objects_.resize(goals_.size());
  const GoalId goal = GoalOf(MakeSchema(root, 0));
  for (size_t g = static_cast<size_t>(first); g < goals_.size() && !failed(); ++g) {
    if (g - static_cast<size_t>(first) >= options_.max_goals) {
      Fail("schema", "it leads to more than " + std::to_string(options_.max_goals) +
                         " different sub-languages");
    }
    Explore(static_cast<GoalId>(g));
  }
  if (!failed()) Solve(first);
  if (!failed()) Finish(first);
  if (!failed() && !goals_[goal].possible()) {
    std::string keywords;
    for (const auto& [name, value] : root->members) {
      if (name != "$schema" && name != "$id" && name != "$defs") {
        keywords += (keywords.empty() ? "" : ", ") + name;
      }
    }
    Fail(keywords.empty() ? "false" : keywords, "no value can satisfy this schema");
  }
  if (!failed() && goals_[goal].length > kMaxRootLength) {
    Fail("schema", "its shortest text has more than " + std::to_string(kMaxRootLength) + " bytes");
  }
  if (failed()) return status_;
  return goal;
}

GoalId SchemaCompiler::GoalOf(FormulaId f) {
  const auto [it, inserted] = goal_ids_.emplace(f, static_cast<GoalId>(goals_.size()));
  if (inserted) {
    goals_.emplace_back();
    goals_.back().formula = f;
    all_arrays_.emplace_back();
    all_objects_.emplace_back();
  }
  return it->second;
}

void SchemaCompiler::Explore(GoalId g) {
  const FormulaId f = goals_[g].formula;
  goals_[g].literals = LiteralsOf(f);
  auto numbers = std::make_shared<NumberSet>(NumbersOf(f));
  const LangId strings = StringsOf(f);
  if (failed()) return;
  if (!numbers->Finish()) {
    Fail("multipleOf", "the steps that apply to one number have no manageable common multiple");
    return;
  }
  std::string shortest;
  if (numbers->Viable(NumberText(), &shortest)) {
    goals_[g].numbers = std::move(numbers);
    goals_[g].shortest_number = std::move(shortest);
  }
  std::shared_ptr<const StringSet>& set = string_sets_[strings];
  if (set == nullptr) {
    const auto made = MakeStringSet(languages_, strings);
    if (!made.ok()) {
      Fail("pattern", made.status().message());
      return;
    }
    set = *made;
  }
  if (!set->empty()) goals_[g].strings = set;
  for (const Conj& c : Expand(f, Container::kArray)) {
    if (failed()) return;
    auto rule = MakeArray(c);
    all_arrays_[g].push_back(std::move(rule));
  }
  for (const Conj& c : Expand(f, Container::kObject)) {
    if (failed()) return;
    auto rule = MakeObject(c);
    if (rule != nullptr) all_objects_[g].push_back(std::move(rule));
  }
}

std::shared_ptr<ArrayRule> SchemaCompiler::MakeArray(const Conj& c) {
  auto rule = std::make_shared<ArrayRule>();
  rule->min = c.min;
  rule->max = c.max;
  rule->unique = c.unique;
  rule->constant = c.constant;
  uint64_t prefix = 0;
  for (const auto& [range, f] : c.items) {
    prefix = std::max(prefix, range.second == kNoLimit ? range.first : range.second);
  }
  for (const Count& count : c.counts) prefix = std::max(prefix, count.start);
  prefix = std::min(prefix, c.max);
  if (prefix > kMaxPrefix) {
    Fail("prefixItems", "more than " + std::to_string(kMaxPrefix) + " positions differ");
    return rule;
  }
  for (uint64_t i = 0; i <= prefix; ++i) {
    std::vector<FormulaId> parts;
    for (const auto& [range, f] : c.items) {
      if (range.first <= i && i < range.second) parts.push_back(f);
    }
    const GoalId goal = GoalOf(formulas_.And(std::move(parts)));
    if (i < prefix) {
      rule->prefix.push_back(goal);
    } else {
      rule->tail = goal;
    }
  }
  // An element of the same language everywhere needs no positions.
  while (!rule->prefix.empty() && rule->prefix.back() == rule->tail) rule->prefix.pop_back();
  if (!c.counts.empty()) MakeTable(c, *rule);
  return rule;
}

// States: how many elements there are (as far as it matters) and how many satisfied each count.
void SchemaCompiler::MakeTable(const Conj& c, ArrayRule& rule) {
  const size_t k = c.counts.size();
  if (k > kMaxCounts) {
    Fail("contains", "more than " + std::to_string(kMaxCounts) + " conditions on one array");
    return;
  }
  uint64_t last = std::max<uint64_t>(rule.prefix.size(), c.min);
  for (const Count& count : c.counts) last = std::max(last, count.start);
  if (c.max != kNoLimit) last = c.max;
  using Key = std::vector<uint64_t>;  // elements, then counts
  std::map<Key, std::vector<std::pair<GoalId, Key>>> states;
  std::vector<Key> queue = {Key(k + 1, 0)};
  states.emplace(queue[0], std::vector<std::pair<GoalId, Key>>());
  for (size_t q = 0; q < queue.size() && !failed(); ++q) {
    if (queue.size() > kMaxTable) {
      Fail("contains", "needs more than " + std::to_string(kMaxTable) + " states");
      return;
    }
    const Key key = queue[q];
    const uint64_t n = key[0];
    if (c.max != kNoLimit && n == c.max) continue;
    std::vector<std::pair<GoalId, Key>> edges;
    for (uint32_t chosen = 0; chosen < 1u << k; ++chosen) {
      Key to = key;
      to[0] = std::min(n + 1, last);
      std::vector<FormulaId> parts = {goals_[rule.goal(n)].formula};
      bool possible = true;
      for (size_t j = 0; j < k && possible; ++j) {
        const Count& count = c.counts[j];
        const bool choose = (chosen >> j & 1) != 0;
        const bool bounded = count.max != kNoLimit;
        const uint64_t cap = bounded ? count.max : count.min;
        if (choose && (n < count.start || key[j + 1] == cap)) {
          possible = false;
        } else if (choose) {
          ++to[j + 1];
          parts.push_back(count.formula);
        } else if (bounded && n >= count.start) {
          parts.push_back(formulas_.Not(count.formula));
        }
      }
      if (!possible) continue;
      const FormulaId f = formulas_.And(std::move(parts));
      if (f == FormulaPool::kFalse) continue;
      edges.emplace_back(GoalOf(f), to);
      if (states.emplace(to, std::vector<std::pair<GoalId, Key>>()).second) queue.push_back(to);
    }
    states[key] = std::move(edges);
  }
  // The order of the map: edges lead forward, or back to the same state.
  std::map<Key, int32_t> ids;
  for (const auto& [key, edges] : states) ids.emplace(key, static_cast<int32_t>(ids.size()));
  for (const auto& [key, edges] : states) {
    ArrayRule::State state;
    state.accepting = key[0] >= c.min;
    for (size_t j = 0; j < k; ++j) {
      state.accepting = state.accepting && key[j + 1] >= c.counts[j].min;
    }
    for (const auto& [goal, to] : edges) state.edges.push_back({goal, ids[to]});
    rule.table.push_back(std::move(state));
  }
}

std::shared_ptr<ObjectRule> SchemaCompiler::MakeObject(const Conj& c) {
  auto rule = std::make_shared<ObjectRule>();
  rule->min = c.min;
  rule->max = c.max;
  rule->constant = c.constant;
  rule->num_some = static_cast<int>(c.some.size());
  if (c.some.size() > kMaxSome) {
    Fail("not", "more than " + std::to_string(kMaxSome) +
                    " conditions that some property must meet (negated properties)");
    return nullptr;
  }
  std::vector<LangId> langs;
  std::vector<FormulaId> values;
  for (const auto& [lang, f] : c.all) {
    langs.push_back(lang);
    values.push_back(f);
  }
  for (const auto& [lang, f] : c.some) langs.push_back(lang);
  LanguagePool::Parts parts;
  for (LangId lang : langs) languages_.Collect(lang, &parts);
  parts.literals.insert(parts.literals.end(), c.required.begin(), c.required.end());
  std::sort(parts.literals.begin(), parts.literals.end());
  parts.literals.erase(std::unique(parts.literals.begin(), parts.literals.end()),
                       parts.literals.end());
  rule->literals = parts.literals;

  const Dfa literals = LiteralsDfa(parts.literals);
  std::vector<std::shared_ptr<const Dfa>> owners;
  std::vector<const Dfa*> dfas = {&literals};
  for (LangId base : parts.bases) {
    auto dfa = languages_.BaseDfa(base);
    if (!dfa.ok()) {
      Fail("propertyNames", dfa.status().message());
      return nullptr;
    }
    dfas.push_back(dfa->get());
    owners.push_back(*dfa);
  }
  std::map<std::vector<int32_t>, int32_t> class_of_tags;
  std::map<std::pair<int32_t, std::vector<bool>>, int32_t> class_ids;
  const auto combine = [&](std::span<const int32_t> tags) -> int32_t {
    std::vector<int32_t> key(tags.begin(), tags.end());
    if (auto it = class_of_tags.find(key); it != class_of_tags.end()) return it->second + 1;
    std::map<LangId, bool> in_base;
    for (size_t i = 0; i < parts.bases.size(); ++i) in_base[parts.bases[i]] = tags[i + 1] != 0;
    const int32_t literal = tags[0] - 1;
    const std::string* text = literal >= 0 ? &parts.literals[literal] : nullptr;
    std::vector<bool> in;
    for (LangId lang : langs) in.push_back(languages_.Evaluate(lang, in_base, text));
    const auto [it, inserted] =
        class_ids.emplace(std::make_pair(literal, in), static_cast<int32_t>(rule->classes.size()));
    if (inserted) {
      KeyClass k;
      k.literal = literal;
      std::vector<FormulaId> all;
      for (size_t i = 0; i < values.size(); ++i) {
        if (in[i]) all.push_back(values[i]);
      }
      for (uint32_t set = 0; set < 1u << c.some.size(); ++set) {
        std::vector<FormulaId> with = all;
        bool applies = true;
        for (size_t j = 0; j < c.some.size(); ++j) {
          if ((set >> j & 1) == 0) continue;
          applies = applies && in[values.size() + j];
          with.push_back(c.some[j].second);
        }
        const FormulaId f = applies ? formulas_.And(std::move(with)) : FormulaPool::kFalse;
        k.goals.push_back(f == FormulaPool::kFalse ? -1 : GoalOf(f));
      }
      rule->classes.push_back(std::move(k));
    }
    class_of_tags[std::move(key)] = it->second;
    return it->second + 1;
  };
  Result<Dfa> names = ProductDfa(dfas, combine, options_.max_automaton_states);
  if (!names.ok()) {
    Fail(c.all.size() > 1 ? "patternProperties" : "properties", names.status().message());
    return nullptr;
  }
  if (failed()) return nullptr;
  rule->names = std::make_shared<Dfa>(Minimized(std::move(*names)));
  for (const std::string& name : rule->literals) {
    rule->literal_class.push_back(rule->names->Match(name) - 1);
    rule->required.push_back(c.required.contains(name) ? 1 : 0);
    rule->num_required += rule->required.back();
  }
  // A shortest name of each class, by breadth.
  const Dfa& dfa = *rule->names;
  std::vector<int32_t> queue = {dfa.start};
  std::vector<std::string> text(static_cast<size_t>(dfa.num_states()));
  std::vector<bool> seen(static_cast<size_t>(dfa.num_states()), false), named(rule->classes.size());
  seen[dfa.start] = true;
  for (size_t q = 0; q < queue.size(); ++q) {
    const int32_t s = queue[q];
    const int32_t k = dfa.accept[s] - 1;
    if (!named[k]) {
      named[k] = true;
      rule->classes[k].name = text[s];
    }
    for (int a = 0; a < dfa.alphabet.num_classes; ++a) {
      const int32_t t = dfa.NextClass(s, a);
      if (seen[t]) continue;
      seen[t] = true;
      text[t] = text[s];
      AppendUtf8Char(dfa.alphabet.Example(a), &text[t]);
      queue.push_back(t);
    }
  }
  return rule;
}

}  // namespace ink::constraint
