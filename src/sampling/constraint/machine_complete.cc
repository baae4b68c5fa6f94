// The way to the end: which bytes come next when a text is to be finished soon.
#include <algorithm>
#include <deque>
#include <optional>

#include "base/check.h"
#include "sampling/constraint/machine.h"

namespace ink::constraint {
namespace {

constexpr std::string_view kLiteralTexts[] = {"null", "false", "true"};
constexpr uint64_t kFar = uint64_t{1} << 50;

// The inside of a JSON string, escaped.
std::string Escaped(std::string_view text) {
  const std::string quoted = QuoteJson(text);
  return quoted.substr(1, quoted.size() - 2);
}

// A few characters of each class, or all where the classes are small.
std::vector<std::vector<uint32_t>> Samples(const Alphabet& a, size_t most) {
  std::vector<std::vector<uint32_t>> out(static_cast<size_t>(a.num_classes));
  for (int k = 0; k < a.num_classes; ++k) out[k].push_back(a.Example(k));
  for (size_t r = 0; r < a.starts.size(); ++r) {
    std::vector<uint32_t>& list = out[a.classes[r]];
    const uint32_t high = r + 1 < a.starts.size() ? a.starts[r + 1] - 1 : kMaxCodePoint;
    for (uint32_t c = a.starts[r]; c <= high && list.size() < most; ++c) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      if (c != list[0]) list.push_back(c);
    }
  }
  return out;
}

// A shortest text from `start` on that `ends` accepts, among those that stay `alive`.
std::optional<std::string> FindText(
    const Dfa& dfa, int32_t start, const std::function<bool(int32_t, uint64_t)>& alive,
    const std::function<bool(int32_t, uint64_t, const std::string&)>& ends) {
  for (const size_t most : {size_t{1}, size_t{64}}) {
    const auto samples = Samples(dfa.alphabet, most);
    std::deque<std::tuple<int32_t, uint64_t, std::string>> queue = {{start, 0, ""}};
    for (int steps = 0; !queue.empty() && steps < 20000; ++steps) {
      const auto [state, count, text] = std::move(queue.front());
      queue.pop_front();
      if (ends(state, count, text)) return text;
      if (queue.size() > 50000) continue;
      for (int k = 0; k < dfa.alphabet.num_classes; ++k) {
        const int32_t t = dfa.NextClass(state, k);
        if (!alive(t, count + 1)) continue;
        for (uint32_t c : samples[k]) {
          std::string longer = text;
          AppendUtf8Char(c, &longer);
          queue.emplace_back(t, count + 1, std::move(longer));
        }
      }
    }
  }
  return std::nullopt;
}

}  // namespace

// Whether `t` can read `bytes`.
bool Machine::Possible(const Thread& t, std::string_view bytes, const History& history) {
  const size_t before = history.bytes.size();
  Threads threads = {t}, next;
  for (char c : bytes) {
    history.bytes.push_back(c);
    next.clear();
    for (const Thread& x : threads) Step(x, static_cast<uint8_t>(c), history, next);
    std::swap(threads, next);
    if (threads.empty()) break;
  }
  history.bytes.resize(before);
  return !threads.empty();
}

// The first bytes of a shortest value: all of it, or an opening bracket.
std::string Machine::ValueText(GoalId g, const FramePtr& stack) {
  const Goal& goal = goals_[g];
  const Exclusion* e = ExclusionOf(stack);
  const auto excluded = [&](std::string_view text) {
    return e != nullptr && !text.empty() &&
           std::binary_search(e->texts.begin(), e->texts.end(), text);
  };
  std::string best;
  uint64_t length = kUnreachable;
  const auto offer = [&](uint64_t own, std::string text) {
    if (own >= length) return;
    length = own;
    best = std::move(text);
  };
  for (int i = 0; i < 3; ++i) {
    if ((goal.literals >> i & 1) != 0 && !excluded(kLiteralTexts[i])) {
      offer(kLiteralTexts[i].size(), std::string(kLiteralTexts[i]));
    }
  }
  if (goal.numbers != nullptr) {
    std::string text;
    if (NumbersOf(g, stack).Viable(NumberText(), &text)) offer(text.size(), text);
  }
  if (goal.strings != nullptr && length > 2) {
    const StringSet& set = *goal.strings;
    if (e == nullptr || e->strings.empty()) {
      const std::string text = QuoteJson(set.Completion(set.dfa->start, 0));
      offer(text.size(), text);
    } else if (StringAlive(g, stack, 0, 0, "")) {
      const auto text = FindText(
          *set.dfa, set.dfa->start, [&](int32_t s, uint64_t n) { return set.Alive(s, n); },
          [&](int32_t s, uint64_t n, const std::string& t) {
            return set.Accepts(s, n) &&
                   std::find(e->strings.begin(), e->strings.end(), t) == e->strings.end();
          });
      if (text) {
        const std::string quoted = QuoteJson(*text);
        offer(quoted.size(), quoted);
      }
    }
  }
  for (const auto& rule : goal.arrays) {
    if (!excluded(rule->constant)) offer(rule->length, "[");
  }
  for (const auto& rule : goal.objects) {
    if (!excluded(rule->constant)) offer(rule->length, "{");
  }
  return best;
}

// The bytes that finish a character under way, by a depth-first search of at most a few bytes.
std::string Machine::BytesToWhole(Lexer& lexer, int32_t state, const std::string& raw,
                                  const std::function<bool(int32_t, std::string_view)>& alive) {
  std::string out;
  while (!lexer.Whole(state)) {
    bool found = false;
    for (int b = 0; b < 256 && !found; ++b) {
      const int32_t next = lexer.Next(state, static_cast<uint8_t>(b));
      if (next < 0 || !alive(next, raw + out + static_cast<char>(b))) continue;
      out += static_cast<char>(b);
      state = next;
      found = true;
    }
    if (!found) return "";
  }
  return out;
}

std::string Machine::StringRest(const Thread& t, const History& history) {
  Lexer& lexer = StringLexer(t.pos.goal, t.stack);
  const StringRule& rule = strings_[string_rule_[t.pos.goal]];
  const StringSet& set = *rule.set;
  const Exclusion* e = ExclusionOf(t.stack);
  const std::string raw(history.From(t.pos.start));
  if (!lexer.Whole(t.pos.state)) {
    return BytesToWhole(lexer, t.pos.state, raw, [&](int32_t next, std::string_view inside) {
      const uint32_t count = t.pos.count + (lexer.Whole(next) && rule.bounded ? 1 : 0);
      return StringAlive(t.pos.goal, t.stack, next, count, inside);
    });
  }
  const int32_t state = lexer.base(t.pos.state);
  if (e == nullptr || e->strings.empty()) {
    return Escaped(set.Completion(state, t.pos.count)) + "\"";
  }
  const std::string prefix = DecodeJsonString(raw);
  const auto rest = FindText(
      *set.dfa, state, [&](int32_t s, uint64_t n) { return set.Alive(s, t.pos.count + n); },
      [&](int32_t s, uint64_t n, const std::string& text) {
        return set.Accepts(s, t.pos.count + n) &&
               std::find(e->strings.begin(), e->strings.end(), prefix + text) == e->strings.end();
      });
  return rest ? Escaped(*rest) + "\"" : "";
}

// A name that brings the object nearer to its end.
std::string Machine::KeyText(const Frame& f) {
  const ObjectRule& rule = *f.object;
  int32_t best = -1;
  uint64_t best_cost = kUnreachable;
  for (size_t k = 0; k < rule.classes.size(); ++k) {
    const KeyClass& c = rule.classes[k];
    if (!KeyAllowed(f, static_cast<int32_t>(k))) continue;
    uint64_t cost = goals_[c.goals[0]].length + c.name.size();
    if (f.missing > 0) {
      if (c.literal < 0 || !rule.required[c.literal]) continue;
    } else if (f.pending != 0) {
      // One that witnesses as much as it can.
      uint64_t witnessed = 0;
      for (uint32_t set = f.pending; set != 0; set = (set - 1) & f.pending) {
        if (c.goals[set] >= 0 && Viable(f, &c, f.pending & ~set)) {
          witnessed = std::max<uint64_t>(witnessed, static_cast<uint64_t>(__builtin_popcount(set)));
        }
      }
      if (witnessed == 0) continue;
      cost += (32 - witnessed) << 32;
    }
    if (cost < best_cost) {
      best_cost = cost;
      best = static_cast<int32_t>(k);
    }
  }
  if (best < 0) return "";
  const KeyClass& c = rule.classes[best];
  if (c.literal >= 0) return rule.literals[c.literal];
  const auto name = FindText(
      *rule.names, rule.names->start, [&](int32_t s, uint64_t) { return rule.words[s] > 0; },
      [&](int32_t s, uint64_t, const std::string& text) {
        return rule.names->accept[s] == best + 1 &&
               (f.others == nullptr ||
                std::find(f.others->begin(), f.others->end(), text) == f.others->end());
      });
  return name.value_or("");
}

std::string Machine::KeyRest(const Thread& t, const History& history) {
  const Frame& f = *t.stack;
  const ObjectRule& rule = *f.object;
  Lexer& lexer = *key_lexers_.at(&rule);
  const std::string raw(history.From(t.pos.start));
  if (raw.empty()) return Escaped(KeyText(f)) + "\"";
  if (!lexer.Whole(t.pos.state)) {
    return BytesToWhole(lexer, t.pos.state, raw, [&](int32_t next, std::string_view inside) {
      return KeyAlive(f, next, inside);
    });
  }
  const std::string prefix = DecodeJsonString(raw);
  const int32_t state = lexer.base(t.pos.state);
  const auto rest = FindText(
      *rule.names, state, [&](int32_t s, uint64_t) { return rule.alive[s] != 0; },
      [&](int32_t s, uint64_t, const std::string& text) {
        const int32_t k = rule.names->accept[s] - 1;
        if (!KeyAllowed(f, k)) return false;
        return rule.classes[k].literal >= 0 || f.others == nullptr ||
               std::find(f.others->begin(), f.others->end(), prefix + text) == f.others->end();
      });
  if (rest) return Escaped(*rest) + "\"";
  for (int32_t literal : rule.ahead[state]) {
    if (KeyAllowed(f, rule.literal_class[literal])) {
      return Escaped(rule.literals[literal].substr(prefix.size())) + "\"";
    }
  }
  return "";
}

// The element after which least is left to do.
Machine::Element Machine::NearestElement(const FramePtr& array, const History& history) {
  Element best{0, array};
  uint64_t cost = kUnreachable;
  for (Element& e : Elements(array, history.end())) {
    uint64_t own = std::min(kFar, goals_[e.goal].length);
    const Frame* f = e.stack->kind == Frame::Kind::kExclude ? e.stack->parent.get() : e.stack.get();
    if (!f->array->table.empty()) own += std::min(kFar, f->array->table[f->count].length);
    if (own >= cost) continue;
    cost = own;
    best = std::move(e);
  }
  return best;
}

bool Machine::GoTowardsEnd(Thread& thread, const History& history) {
  const std::string bytes = NextTowardsEnd(thread, history);
  if (bytes.empty()) return false;
  Threads threads = {thread}, next;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    history.bytes.push_back(bytes[i]);
    next.clear();
    const Position::Kind kind = thread.pos.kind;
    if (i == 0 && kind == Position::Kind::kValue) {
      StartValue(thread.pos.goal, thread.stack, byte, history, next);
    } else if (i == 0 && byte != ']' &&
               (kind == Position::Kind::kArrayFirst || kind == Position::Kind::kArrayNext)) {
      // Only the element that was meant, though others may begin alike.
      history.bytes.pop_back();
      const Element e = NearestElement(thread.stack, history);
      history.bytes.push_back(bytes[i]);
      StartValue(e.goal, e.stack, byte, history, next);
    } else {
      for (const Thread& t : threads) Step(t, byte, history, next);
    }
    std::swap(threads, next);
  }
  // The shortest rule of those that begin alike, else the thread that is nearest to its end.
  const Thread* best = nullptr;
  uint64_t least = UINT64_MAX;
  for (const Thread& t : threads) {
    uint64_t own = 0;
    if (bytes == "[" && t.pos.kind == Position::Kind::kArrayFirst) {
      own = t.stack->array->length;
    } else if (bytes == "{" && t.pos.kind == Position::Kind::kObjectFirst) {
      own = t.stack->object->length;
    } else if (threads.size() > 1) {
      own = Remaining(t, history);
    }
    if (own >= least) continue;
    least = own;
    best = &t;
  }
  if (best == nullptr) return false;
  thread = Thread(*best);
  return true;
}

std::string Machine::NextTowardsEnd(const Thread& t, const History& history) {
  switch (t.pos.kind) {
    case Position::Kind::kDone:
    case Position::Kind::kSpace:
      return "";
    case Position::Kind::kValue:
      return ValueText(t.pos.goal, t.stack);
    case Position::Kind::kLiteral:
      return std::string(kLiteralTexts[t.pos.goal].substr(t.pos.count));
    case Position::Kind::kNumber: {
      NumberText text;
      for (char c : history.From(t.pos.start)) text.Append(c);
      std::string rest;
      NumbersOf(t.pos.goal, t.stack).Viable(text, &rest);
      return rest;
    }
    case Position::Kind::kString:
      return StringRest(t, history);
    case Position::Kind::kArrayFirst:
    case Position::Kind::kArrayAfter:
      if (CanCloseArray(*t.stack) && Possible(t, "]", history)) return "]";
      if (t.pos.kind == Position::Kind::kArrayAfter) return ",";
      [[fallthrough]];
    case Position::Kind::kArrayNext: {
      const Element e = NearestElement(t.stack, history);
      return ValueText(e.goal, e.stack);
    }
    case Position::Kind::kObjectFirst:
    case Position::Kind::kObjectAfter:
      if (CanCloseObject(*t.stack) && Possible(t, "}", history)) return "}";
      if (t.pos.kind == Position::Kind::kObjectAfter) return ",";
      [[fallthrough]];
    case Position::Kind::kObjectNext:
      return QuoteJson(KeyText(*t.stack));
    case Position::Kind::kKey:
      return KeyRest(t, history);
    case Position::Kind::kColon:
      return ":";
    case Position::Kind::kText: {
      const RawText& text = grammar_.texts[grammar_.code[t.pos.goal].index];
      if (!text.lexer->Whole(t.pos.state)) {
        return BytesToWhole(*text.lexer, t.pos.state, "",
                            [](int32_t, std::string_view) { return true; });
      }
      return text.Completion(text.lexer->base(t.pos.state));
    }
    case Position::Kind::kFree: {
      const FreeText& free = grammar_.free[grammar_.code[t.pos.goal].index];
      return free.triggers[free.shortest];
    }
  }
  return "";
}

uint64_t Machine::FrameRemaining(const FramePtr& stack) {
  uint64_t total = 0;
  // Threads that differ do so near the top.
  int depth = 0;
  for (const Frame* f = stack.get(); f != nullptr && total < kFar && depth < 1000;
       f = f->parent.get(), ++depth) {
    switch (f->kind) {
      case Frame::Kind::kSequence:
        total += std::min(kFar, grammar_.length[f->place]);
        break;
      case Frame::Kind::kExclude:
        break;
      case Frame::Kind::kArray: {
        const ArrayRule& rule = *f->array;
        if (!rule.table.empty()) {
          total += std::min(kFar, rule.table[f->count].length);
          break;
        }
        ++total;
        for (uint64_t i = f->count; i < rule.min && total < kFar; ++i) {
          const uint64_t own = std::min(kFar, goals_[rule.goal(i)].length + 1);
          if (i >= rule.prefix.size()) {
            total += own * std::min<uint64_t>(rule.min - i, 1 << 20);
            break;
          }
          total += own;
        }
        break;
      }
      case Frame::Kind::kObject: {
        const ObjectRule& rule = *f->object;
        total += 1 + (static_cast<uint64_t>(__builtin_popcount(f->pending)) << 30);
        if (f->missing > 0) {
          for (size_t i = 0; i < rule.literals.size(); ++i) {
            if (!rule.required[i] || f->UsesLiteral(static_cast<int32_t>(i))) continue;
            const GoalId g = rule.classes[rule.literal_class[i]].goals[0];
            total += std::min(kFar, goals_[g].length) + rule.literals[i].size() + 4;
          }
        }
        if (rule.min > f->count + f->missing) {
          total += 16 * std::min<uint64_t>(rule.min - f->count - f->missing, 1 << 20);
        }
        break;
      }
    }
  }
  return total;
}

uint64_t Machine::Remaining(const Thread& t, const History& history) {
  const auto with = [&](uint64_t own) { return std::min(kFar, own) + FrameRemaining(t.stack); };
  switch (t.pos.kind) {
    case Position::Kind::kDone:
      return 0;
    case Position::Kind::kValue:
      return with(goals_[t.pos.goal].length);
    case Position::Kind::kLiteral:
      return with(kLiteralTexts[t.pos.goal].size() - t.pos.count);
    case Position::Kind::kNumber:
      return with(NextTowardsEnd(t, history).size());
    case Position::Kind::kString: {
      const StringSet& set = *strings_[string_rule_[t.pos.goal]].set;
      const Lexer& lexer = StringLexer(t.pos.goal, t.stack);
      uint64_t shortest = kFar;
      for (int32_t s : lexer.targets(t.pos.state)) shortest = std::min(shortest, set.shortest[s]);
      return with(shortest + 1);
    }
    case Position::Kind::kArrayNext: {
      uint64_t best = kFar;
      for (const Element& e : Elements(t.stack, history.end())) {
        best = std::min(best, std::min(kFar, goals_[e.goal].length) + FrameRemaining(e.stack));
      }
      return best;
    }
    case Position::Kind::kObjectNext:
    case Position::Kind::kKey:
      return with(8);
    case Position::Kind::kColon:
      return with(std::min(kFar, goals_[t.pos.goal].length) + 1);
    case Position::Kind::kSpace:
      return kFar;  // its end is another thread
    case Position::Kind::kText: {
      const RawText& text = grammar_.texts[grammar_.code[t.pos.goal].index];
      uint64_t nearest = kFar;
      for (int32_t s : text.lexer->targets(t.pos.state)) {
        nearest = std::min(nearest, text.distance[s]);
      }
      if (nearest == 0) nearest = kFar;  // as for white space
      return with(nearest) + std::min(kFar, grammar_.length[t.pos.goal + 1]);
    }
    case Position::Kind::kFree:
      return with(grammar_.length[t.pos.goal]);
    default:
      return with(0);
  }
}

}  // namespace ink::constraint
