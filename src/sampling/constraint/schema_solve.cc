// Which goals can be satisfied: the least fixed point, as the length of a shortest text.
#include <algorithm>

#include "sampling/constraint/schema_compiler.h"
#include "sampling/constraint/unique.h"

namespace ink::constraint {
namespace {

constexpr size_t kMaxListed = 4096;
constexpr uint64_t kMaxSolveWork = 20000000;

uint64_t Add(uint64_t a, uint64_t b) {
  return a == kUnreachable || b == kUnreachable || a > kUnreachable - b ? kUnreachable : a + b;
}

}  // namespace

void SchemaCompiler::Solve(GoalId first) {
  uint64_t work = 0;
  for (bool changed = true; changed && !failed();) {
    changed = false;
    for (auto g = static_cast<size_t>(first); g < goals_.size() && !failed(); ++g) {
      Goal& goal = goals_[g];
      uint64_t length = goal.length;
      if (goal.literals & 5) {
        length = std::min<uint64_t>(length, 4);
      } else if (goal.literals != 0) {
        length = std::min<uint64_t>(length, 5);
      }
      if (goal.numbers != nullptr) {
        length = std::min<uint64_t>(length, goal.shortest_number.size());
      }
      if (goal.strings != nullptr && length > 2) {
        const StringSet& set = *goal.strings;
        length = std::min<uint64_t>(length, QuoteJson(set.Completion(set.dfa->start, 0)).size());
      }
      for (auto& rule : all_arrays_[g]) {
        rule->length = std::min(rule->length, ArrayLength(*rule));
        length = std::min(length, rule->length);
        work += 1 + rule->table.size();
      }
      for (auto& rule : all_objects_[g]) {
        rule->length = std::min(rule->length, ObjectLength(*rule));
        length = std::min(length, rule->length);
        work += 1 + rule->literals.size();
      }
      if (length < goal.length) {
        goal.length = length;
        changed = true;
      }
      if (work > kMaxSolveWork) Fail("schema", "takes too long to find out what can satisfy it");
    }
  }
}

uint64_t SchemaCompiler::ArrayLength(ArrayRule& rule) {
  if (!rule.table.empty()) {
    // Edges lead forward, or to the state itself.
    for (size_t s = rule.table.size(); s > 0; --s) {
      ArrayRule::State& state = rule.table[s - 1];
      uint64_t length = state.accepting ? 1 : kUnreachable;
      for (const ArrayRule::Edge& e : state.edges) {
        if (e.to == static_cast<int32_t>(s) - 1 || !Possible(e.goal)) continue;
        length = std::min(length, Add(goals_[e.goal].length + 1, rule.table[e.to].length));
      }
      state.length = std::min(state.length, length);
    }
    return Add(1, rule.table[0].length);
  }
  if (rule.min > rule.max) return kUnreachable;
  uint64_t length = 2;
  for (uint64_t i = 0; i < rule.min && i <= rule.prefix.size(); ++i) {
    const GoalId g = rule.goal(i);
    if (!Possible(g)) return kUnreachable;
    const uint64_t times = i < rule.prefix.size() ? 1 : rule.min - i;
    if (goals_[g].length > (uint64_t{1} << 40) / times) return uint64_t{1} << 40;
    length = Add(length, (goals_[g].length + 1) * times);
  }
  return rule.min > 0 ? length - 1 : length;
}

void SchemaCompiler::CountNames(ObjectRule& rule) {
  const Dfa& dfa = *rule.names;
  std::vector<uint8_t> accepting(static_cast<size_t>(dfa.num_states()));
  for (int32_t s = 0; s < dfa.num_states(); ++s) {
    const KeyClass& k = rule.classes[dfa.accept[s] - 1];
    accepting[s] = k.literal < 0 && k.possible;
  }
  rule.words = CountWords(dfa, accepting);
}

// The least number of bytes that properties witnessing the `pending` conditions add to the required
// ones; `*extra`: how many properties those are beyond the required.
uint64_t SchemaCompiler::CoverLength(const ObjectRule& rule, uint32_t pending,
                                     std::vector<int32_t>& taken, uint64_t* extra) {
  *extra = 0;
  if (pending == 0) return 0;
  const uint32_t lowest = pending & -pending;
  uint64_t best = kUnreachable;
  for (size_t k = 0; k < rule.classes.size(); ++k) {
    const KeyClass& c = rule.classes[k];
    if (c.literal >= 0 &&
        std::find(taken.begin(), taken.end(), static_cast<int32_t>(k)) != taken.end()) {
      continue;
    }
    const bool required = c.literal >= 0 && rule.required[c.literal] != 0;
    for (uint32_t set = pending; set != 0; set = (set - 1) & pending) {
      if ((set & lowest) == 0 || !Possible(c.goals[set])) continue;
      taken.push_back(static_cast<int32_t>(k));
      uint64_t more = 0;
      uint64_t length = CoverLength(rule, pending & ~set, taken, &more);
      taken.pop_back();
      const uint64_t value = goals_[c.goals[set]].length;
      const uint64_t own = required ? value : Add(value, QuoteJson(c.name).size() + 2);
      if (!required) ++more;
      length = Add(length, own);
      if (length < best) {
        best = length;
        *extra = more;
      }
    }
  }
  return best;
}

uint64_t SchemaCompiler::ObjectLength(ObjectRule& rule) {
  bool changed = rule.words.empty();
  for (KeyClass& k : rule.classes) {
    const bool possible = Possible(k.goals[0]);
    changed = changed || possible != k.possible;
    k.possible = possible;
  }
  if (changed) CountNames(rule);
  uint64_t length = 2, names = rule.words[rule.names->start];
  std::vector<uint64_t> optional;
  for (size_t i = 0; i < rule.literals.size(); ++i) {
    const KeyClass& k = rule.classes[rule.literal_class[i]];
    if (!k.possible) {
      if (rule.required[i]) return kUnreachable;
      continue;
    }
    const uint64_t own = Add(goals_[k.goals[0]].length, QuoteJson(rule.literals[i]).size() + 2);
    if (rule.required[i]) {
      length = Add(length, own);
    } else {
      optional.push_back(own);
    }
    ++names;
  }
  if (names < rule.min) return kUnreachable;
  std::vector<int32_t> taken;
  uint64_t extra = 0;
  length = Add(length, CoverLength(rule, (1u << rule.num_some) - 1, taken, &extra));
  if (length == kUnreachable) return length;
  const uint64_t have = rule.num_required + extra;
  if (have > rule.max || rule.min > rule.max) return kUnreachable;
  if (have < rule.min) {
    std::sort(optional.begin(), optional.end());
    uint64_t cheapest = kUnreachable;
    for (const KeyClass& k : rule.classes) {
      if (k.literal < 0 && k.possible) {
        cheapest = std::min(cheapest, goals_[k.goals[0]].length + QuoteJson(k.name).size() + 4);
      }
    }
    uint64_t missing = rule.min - have;
    for (uint64_t own : optional) {
      if (missing == 0) break;
      length = Add(length, own);
      --missing;
    }
    if (missing > 0) {
      if (cheapest == kUnreachable) return kUnreachable;
      length = missing > (uint64_t{1} << 40) / cheapest ? uint64_t{1} << 40
                                                        : Add(length, missing * cheapest);
    }
  }
  return length;
}

void SchemaCompiler::Finish(GoalId first) {
  for (auto g = static_cast<size_t>(first); g < goals_.size(); ++g) {
    for (auto& rule : all_arrays_[g]) {
      if (rule->length == kUnreachable) continue;
      FinishArray(*rule);
      goals_[g].arrays.push_back(rule);
    }
    for (auto& rule : all_objects_[g]) {
      if (rule->length == kUnreachable) continue;
      FinishObject(*rule);
      goals_[g].objects.push_back(rule);
    }
  }
  for (auto g = static_cast<size_t>(first); g < goals_.size(); ++g) {
    for (size_t i = 0; i < goals_[g].arrays.size() && !failed(); ++i) {
      if (goals_[g].arrays[i]->unique) CheckUnique(*goals_[g].arrays[i]);
    }
  }
}

void SchemaCompiler::FinishArray(ArrayRule& rule) {
  if (!rule.table.empty()) {
    for (ArrayRule::State& state : rule.table) {
      std::erase_if(state.edges, [&](const ArrayRule::Edge& e) {
        return !Possible(e.goal) || rule.table[e.to].length == kUnreachable;
      });
    }
    return;
  }
  for (uint64_t i = 0; i <= rule.prefix.size(); ++i) {
    if (!Possible(rule.goal(i))) {
      rule.max = std::min(rule.max, i);
      break;
    }
  }
}

void SchemaCompiler::FinishObject(ObjectRule& rule) {
  for (KeyClass& k : rule.classes) {
    for (GoalId& g : k.goals) {
      if (!Possible(g)) g = -1;
    }
    k.possible = k.goals[0] >= 0;
  }
  CountNames(rule);
  const Dfa& dfa = *rule.names;
  const auto n = static_cast<size_t>(dfa.num_states());
  rule.ahead.assign(n, {});
  for (size_t i = 0; i < rule.literals.size(); ++i) {
    if (!rule.classes[rule.literal_class[i]].possible) continue;
    std::vector<uint32_t> characters;
    DecodeUtf8(rule.literals[i], &characters);
    int32_t s = dfa.start;
    rule.ahead[s].push_back(static_cast<int32_t>(i));
    for (uint32_t c : characters) {
      s = dfa.Next(s, c);
      rule.ahead[s].push_back(static_cast<int32_t>(i));
    }
  }
  rule.alive.resize(n);
  for (size_t s = 0; s < n; ++s) rule.alive[s] = rule.words[s] > 0 || !rule.ahead[s].empty();
  rule.always_many = true;
  for (size_t s = 0; s < n; ++s) {
    rule.always_many = rule.always_many && (!rule.alive[s] || rule.words[s] == kManyWords);
  }
  rule.extensible = rule.max == kNoLimit && rule.words[dfa.start] == kManyWords;
}

// The values of a goal whose values are few.
void SchemaCompiler::ListValues(GoalId g) {
  Goal& goal = goals_[g];
  if (goal.cardinality != 0) return;
  const Formula node = formulas_[goal.formula];
  if (node.kind == Formula::Kind::kEnum) {
    for (int32_t v : node.children) goal.values.push_back(formulas_.value(v));
    goal.listed = true;
  } else if (goal.arrays.empty() && goal.objects.empty()) {
    static constexpr JsonValue::Kind kKinds[] = {JsonValue::Kind::kNull, JsonValue::Kind::kFalse,
                                                 JsonValue::Kind::kTrue};
    for (int i = 0; i < 3; ++i) {
      if ((goal.literals >> i & 1) == 0) continue;
      JsonValue v;
      v.kind = kKinds[i];
      goal.values.push_back(std::move(v));
    }
    goal.listed = goal.strings == nullptr || goal.strings->cardinality <= kMaxListed;
    if (goal.numbers != nullptr && goal.listed) {
      const auto numbers = goal.numbers->Values(kMaxListed);
      goal.listed = numbers.has_value();
      for (const Decimal& d : numbers.value_or(std::vector<Decimal>())) {
        JsonValue v;
        v.kind = JsonValue::Kind::kNumber;
        v.number = d;
        goal.values.push_back(std::move(v));
      }
    }
    if (goal.strings != nullptr && goal.listed) {
      // All texts of a small language, by depth.
      const StringSet& set = *goal.strings;
      std::vector<std::tuple<int32_t, uint64_t, std::string>> stack = {{set.dfa->start, 0, ""}};
      while (!stack.empty()) {
        const auto [state, count, text] = stack.back();
        stack.pop_back();
        if (set.Accepts(state, count)) {
          JsonValue v;
          v.kind = JsonValue::Kind::kString;
          v.text = text;
          goal.values.push_back(std::move(v));
        }
        const Alphabet& alphabet = set.dfa->alphabet;
        for (size_t r = 0; r < alphabet.starts.size(); ++r) {
          const int32_t t = set.dfa->NextClass(state, alphabet.classes[r]);
          if (!set.Alive(t, count + 1)) continue;
          const uint32_t high =
              r + 1 < alphabet.starts.size() ? alphabet.starts[r + 1] - 1 : kMaxCodePoint;
          for (uint32_t c = alphabet.starts[r]; c <= high; ++c) {
            if (c >= 0xD800 && c <= 0xDFFF) continue;
            std::string longer = text;
            AppendUtf8Char(c, &longer);
            stack.emplace_back(t, count + 1, std::move(longer));
          }
        }
      }
    }
  }
  if (!goal.listed) {
    goal.values.clear();
    goal.cardinality = kManyWords;
    return;
  }
  for (const JsonValue& v : goal.values) goal.value_texts.push_back(CanonicalText(v));
  goal.cardinality = std::max<uint64_t>(goal.values.size(), 1);
}

void SchemaCompiler::CheckUnique(const ArrayRule& rule) {
  if (!rule.constant.empty()) return;
  if (!rule.table.empty()) {
    Fail("uniqueItems", "cannot be enforced together with contains");
    return;
  }
  const uint64_t positions = std::min<uint64_t>(rule.max, rule.prefix.size() + 1);
  for (uint64_t i = 0; i < positions && !failed(); ++i) {
    const GoalId g = rule.goal(i);
    ListValues(g);
    if (goals_[g].listed) continue;
    for (const auto& array : goals_[g].arrays) {
      if (array->constant.empty() && (array->max != kNoLimit || !array->table.empty())) {
        Fail("uniqueItems", "cannot be enforced for elements that are arrays of bounded length");
      }
    }
    for (const auto& object : goals_[g].objects) {
      if (object->constant.empty() && !object->extensible) {
        Fail("uniqueItems",
             "cannot be enforced for elements that are objects with a closed set of properties");
      }
    }
  }
  if (!failed() && rule.min > 0 && NextExclusion(rule, 0, {}, goals_) == nullptr) {
    Fail("uniqueItems", "minItems asks for more elements than there are different ones");
  }
}

}  // namespace ink::constraint
