#include "sampling/constraint/unique.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

namespace ink::constraint {
namespace {

// Assigns different values to all positions (Kuhn's algorithm); each position lists its candidates.
bool CanAssign(const std::vector<std::vector<int>>& positions, int num_values) {
  std::vector<int> owner(static_cast<size_t>(num_values), -1);
  for (size_t p = 0; p < positions.size(); ++p) {
    std::vector<bool> seen(static_cast<size_t>(num_values), false);
    const std::function<bool(size_t, int)> place = [&](size_t position, int depth) {
      for (int v : positions[position]) {
        if (seen[v]) continue;
        seen[v] = true;
        if (owner[v] < 0 || (depth < 500 && place(static_cast<size_t>(owner[v]), depth + 1))) {
          owner[v] = static_cast<int>(position);
          return true;
        }
      }
      return false;
    };
    if (!place(p, 0)) return false;
  }
  return true;
}

}  // namespace

std::shared_ptr<const Exclusion> NextExclusion(const ArrayRule& rule, uint64_t index,
                                               const std::vector<std::string>& used,
                                               const std::vector<Goal>& goals) {
  if (index >= rule.max) return nullptr;
  const GoalId g = rule.goal(index);
  const Goal& goal = goals[g];
  std::set<std::string> excluded(used.begin(), used.end());

  // Required positions behind this one that have few values.
  std::map<std::string, int> ids;
  std::vector<std::vector<int>> positions;
  for (uint64_t i = index + 1; i < rule.min; ++i) {
    const Goal& later = goals[rule.goal(i)];
    if (!later.listed) {
      if (i >= rule.prefix.size()) break;
      continue;
    }
    std::vector<int> candidates;
    for (const std::string& text : later.value_texts) {
      if (excluded.contains(text)) continue;
      candidates.push_back(ids.emplace(text, static_cast<int>(ids.size())).first->second);
    }
    positions.push_back(std::move(candidates));
    if (positions.size() > ids.size()) return nullptr;  // more positions than values
  }
  const auto critical = [&](const std::string& text) {
    const auto it = ids.find(text);
    if (it == ids.end()) return false;
    std::vector<std::vector<int>> without = positions;
    for (auto& candidates : without) std::erase(candidates, it->second);
    return !CanAssign(without, static_cast<int>(ids.size()));
  };
  std::vector<std::string> forbidden;
  if (!positions.empty()) {
    if (!CanAssign(positions, static_cast<int>(ids.size()))) return nullptr;
    for (const auto& [text, id] : ids) {
      if (critical(text)) forbidden.push_back(text);
    }
  }
  excluded.insert(forbidden.begin(), forbidden.end());
  if (goal.listed &&
      std::all_of(goal.value_texts.begin(), goal.value_texts.end(),
                  [&](const std::string& text) { return excluded.contains(text); })) {
    return nullptr;
  }

  auto out = std::make_shared<Exclusion>();
  out->goal = g;
  out->texts.assign(excluded.begin(), excluded.end());
  std::vector<Decimal> numbers;
  for (const std::string& text : out->texts) {
    if (text[0] == '"') {
      const Result<JsonValue> value = ParseJson(text);
      if (value.ok() && goal.strings != nullptr && goal.strings->Contains(value->text)) {
        out->strings.push_back(value->text);
      }
    } else if (goal.numbers != nullptr &&
               (text[0] == '-' || text[0] == 'e' || (text[0] >= '0' && text[0] <= '9'))) {
      // CanonicalText writes 0.DIGITS * 10^exponent as DIGITSeEXPONENT, and zero as e0.
      const size_t e = text.find('e');
      const bool negative = text[0] == '-';
      const std::string digits = text.substr(negative ? 1 : 0, e - (negative ? 1 : 0));
      Decimal d;
      d.negative = negative;
      d.digits = digits;
      d.exponent = std::stoi(text.substr(e + 1));
      numbers.push_back(std::move(d));
    }
  }
  if (!numbers.empty()) {
    auto rest =
        std::make_shared<NumberSet>(goal.numbers->And(NumberSet::Points(std::move(numbers)).Not()));
    rest->Finish();
    out->numbers = std::move(rest);
  }
  return out;
}

}  // namespace ink::constraint
