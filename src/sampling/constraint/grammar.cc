#include "sampling/constraint/grammar.h"

#include <algorithm>
#include <functional>

namespace ink::constraint {

std::string RawText::Completion(int32_t state) const {
  std::string out;
  while (distance[state] > 0) {
    for (int c = 0; c < dfa->alphabet.num_classes; ++c) {
      const int32_t t = dfa->NextClass(state, c);
      if (distance[t] + 1 != distance[state]) continue;
      AppendUtf8Char(dfa->alphabet.Example(c), &out);
      state = t;
      break;
    }
  }
  return out;
}

void Grammar::AddAlternative(int32_t rule, std::vector<Symbol> symbols) {
  rules[rule].push_back(static_cast<int32_t>(code.size()));
  code.insert(code.end(), symbols.begin(), symbols.end());
  code.push_back({Symbol::Kind::kEnd, 0});
}

Result<Symbol> Grammar::AddText(std::shared_ptr<const Dfa> dfa) {
  const int32_t n = dfa->num_states();
  std::vector<uint8_t> accepting(n);
  for (int32_t s = 0; s < n; ++s) accepting[s] = dfa->accept[s] != 0;
  std::vector<uint8_t> alive = dfa->Live(accepting);
  if (!alive[dfa->start]) return InvalidArgument("a pattern that no text can match");
  RawText text;
  text.dfa = dfa;
  text.nullable = accepting[dfa->start] != 0;
  text.distance.assign(n, UINT64_MAX);
  std::vector<std::vector<int32_t>> before(n);
  std::vector<int32_t> queue;
  for (int32_t s = 0; s < n; ++s) {
    if (!alive[s]) continue;
    for (int c = 0; c < dfa->alphabet.num_classes; ++c) {
      before[dfa->NextClass(s, c)].push_back(s);
    }
    if (accepting[s]) {
      text.distance[s] = 0;
      queue.push_back(s);
    }
  }
  for (size_t i = 0; i < queue.size(); ++i) {
    for (int32_t p : before[queue[i]]) {
      if (text.distance[p] != UINT64_MAX) continue;
      text.distance[p] = text.distance[queue[i]] + 1;
      queue.push_back(p);
    }
  }
  text.length = text.Completion(dfa->start).size();
  std::vector<uint8_t> collapse(n, 1);
  text.lexer =
      std::make_unique<Lexer>(dfa, Lexer::Mode::kRaw, std::move(alive), std::move(collapse));
  texts.push_back(std::move(text));
  return Symbol{Symbol::Kind::kText, static_cast<int32_t>(texts.size()) - 1};
}

Result<Symbol> Grammar::AddLiteral(std::string_view text) {
  std::vector<uint32_t> characters;
  if (!DecodeUtf8(text, &characters)) return InvalidArgument("a literal text must be UTF-8");
  return AddText(std::make_shared<Dfa>(LiteralsDfa({std::string(text)})));
}

Symbol Grammar::AddFree(std::vector<std::string> triggers, std::vector<int32_t> rules,
                        bool can_end) {
  FreeText f;
  f.next.emplace_back();
  f.next[0].fill(-1);
  f.found.push_back(-1);
  for (size_t i = 0; i < triggers.size(); ++i) {
    int32_t s = 0;
    for (char c : triggers[i]) {
      int32_t t = f.next[s][static_cast<uint8_t>(c)];
      if (t < 0) {
        t = static_cast<int32_t>(f.next.size());
        f.next[s][static_cast<uint8_t>(c)] = t;
        f.next.emplace_back();
        f.next.back().fill(-1);
        f.found.push_back(-1);
      }
      s = t;
    }
    if (f.found[s] < 0) f.found[s] = static_cast<int32_t>(i);
  }
  std::vector<int32_t> queue, fail(f.next.size(), 0);
  for (int b = 0; b < 256; ++b) {
    int32_t& t = f.next[0][b];
    if (t < 0) {
      t = 0;
    } else {
      queue.push_back(t);
    }
  }
  for (size_t i = 0; i < queue.size(); ++i) {
    const int32_t s = queue[i];
    if (f.found[s] < 0) f.found[s] = f.found[fail[s]];
    for (int b = 0; b < 256; ++b) {
      int32_t& t = f.next[s][b];
      if (t < 0) {
        t = f.next[fail[s]][b];
      } else {
        fail[t] = f.next[fail[s]][b];
        queue.push_back(t);
      }
    }
  }
  f.triggers = std::move(triggers);
  f.rules = std::move(rules);
  f.can_end = can_end;
  free.push_back(std::move(f));
  return {Symbol::Kind::kFree, static_cast<int32_t>(free.size()) - 1};
}

Status Grammar::Finish(const std::vector<Goal>& goals) {
  const auto add = [](uint64_t a, uint64_t b) {
    return a == kUnreachable || b > kUnreachable - a ? kUnreachable : a + b;
  };
  length.assign(code.size(), kUnreachable);
  rule_length.assign(rules.size(), kUnreachable);
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t p = code.size(); p > 0; --p) {
      const Symbol& s = code[p - 1];
      uint64_t own = 0;
      switch (s.kind) {
        case Symbol::Kind::kEnd:
        case Symbol::Kind::kSpace:
          break;
        case Symbol::Kind::kRule:
          own = rule_length[s.index];
          break;
        case Symbol::Kind::kText:
          own = texts[s.index].length;
          break;
        case Symbol::Kind::kJson:
          own = goals[s.index].length;
          break;
        case Symbol::Kind::kFree: {
          // Free text that can end is the last of its alternative.
          FreeText& f = free[s.index];
          if (f.can_end) break;
          own = kUnreachable;
          for (size_t t = 0; t < f.triggers.size(); ++t) {
            const uint64_t with = add(f.triggers[t].size(), rule_length[f.rules[t]]);
            if (with < own) {
              own = with;
              f.shortest = t;
            }
          }
          break;
        }
      }
      const uint64_t rest =
          s.kind == Symbol::Kind::kEnd || (s.kind == Symbol::Kind::kFree && free[s.index].can_end)
              ? 0
              : length[p];
      const uint64_t total = add(own, rest);
      if (total < length[p - 1]) {
        length[p - 1] = total;
        changed = true;
      }
    }
    for (size_t r = 0; r < rules.size(); ++r) {
      for (int32_t start : rules[r]) {
        if (length[start] < rule_length[r]) {
          rule_length[r] = length[start];
          changed = true;
        }
      }
    }
  }
  for (auto& alternatives : rules) {
    std::erase_if(alternatives, [&](int32_t start) { return length[start] == kUnreachable; });
  }
  if (rules.empty() || rules[0].empty()) {
    return Unsupported("grammar: no text can be completed from the start rule");
  }
  // Which rules can be entered before anything is read, and whether something is left to do then.
  const auto nullable = [&](const Symbol& s) {
    switch (s.kind) {
      case Symbol::Kind::kRule:
        return rule_length[s.index] == 0;
      case Symbol::Kind::kText:
        return texts[s.index].nullable;
      case Symbol::Kind::kJson:
        return false;
      case Symbol::Kind::kFree:
        return false;
      default:
        return true;
    }
  };
  struct Edge {
    int32_t to;
    bool tail;
  };
  std::vector<std::vector<Edge>> edges(rules.size());
  for (size_t r = 0; r < rules.size(); ++r) {
    for (int32_t p : rules[r]) {
      for (; code[p].kind != Symbol::Kind::kEnd; ++p) {
        if (code[p].kind == Symbol::Kind::kRule) {
          edges[r].push_back({code[p].index, code[p + 1].kind == Symbol::Kind::kEnd});
        }
        if (!nullable(code[p])) break;
      }
    }
  }
  // A call that is not the last thing of its rule must not lead back to the rule.
  for (size_t r = 0; r < rules.size(); ++r) {
    for (const Edge& e : edges[r]) {
      if (e.tail) continue;
      std::vector<bool> seen(rules.size(), false);
      std::vector<int32_t> stack = {e.to};
      seen[e.to] = true;
      while (!stack.empty()) {
        const int32_t x = stack.back();
        stack.pop_back();
        if (x == static_cast<int32_t>(r)) {
          const std::string name = r < rule_names.size() ? rule_names[r] : "";
          return Unsupported("left recursion: rule '" + name +
                             "' calls itself before reading anything");
        }
        for (const Edge& f : edges[x]) {
          if (!seen[f.to]) {
            seen[f.to] = true;
            stack.push_back(f.to);
          }
        }
      }
    }
  }
  return OkStatus();
}

}  // namespace ink::constraint
