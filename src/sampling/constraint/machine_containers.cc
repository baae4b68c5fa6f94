// Arrays and objects.
#include <algorithm>

#include "sampling/constraint/machine.h"
#include "sampling/constraint/unique.h"

namespace ink::constraint {
namespace {

// Beyond this many elements or properties a rule does not count.
uint64_t CountCap(uint64_t prefix, uint64_t min, uint64_t max) {
  return std::max({prefix, min, max == kNoLimit ? 0 : max});
}

constexpr uint64_t kImpossible = UINT64_MAX;

}  // namespace

FramePtr Machine::MakeArrayFrame(const ArrayRule* rule, const FramePtr& parent) {
  auto f = std::make_unique<Frame>();
  f->kind = Frame::Kind::kArray;
  f->parent = parent;
  f->array = rule;
  if (rule->unique) SetExclusion(*f);
  return Sealed(std::move(f));
}

FramePtr Machine::MakeObjectFrame(const ObjectRule* rule, const FramePtr& parent) {
  auto f = std::make_unique<Frame>();
  f->kind = Frame::Kind::kObject;
  f->parent = parent;
  f->object = rule;
  f->missing = rule->num_required;
  f->pending = (1u << rule->num_some) - 1;
  return Sealed(std::move(f));
}

void Machine::SetExclusion(Frame& array) {
  static const std::vector<std::string> kNothing;
  array.exclusion =
      NextExclusion(*array.array, array.count, array.elements ? *array.elements : kNothing, goals_);
}

bool Machine::CanElement(const FramePtr& f) {
  const ArrayRule& rule = *f->array;
  if (!rule.table.empty()) return !rule.table[f->count].edges.empty();
  return f->count < rule.max && (!rule.unique || f->exclusion != nullptr);
}

bool Machine::CanCloseArray(const Frame& f) const {
  const ArrayRule& rule = *f.array;
  return rule.table.empty() ? f.count >= rule.min : rule.table[f.count].accepting;
}

// What the element that starts at `offset` can be, and the stack below it.
std::vector<Machine::Element> Machine::Elements(const FramePtr& f, uint64_t offset) {
  std::vector<Element> out;
  const ArrayRule& rule = *f->array;
  if (!rule.table.empty()) {
    for (const ArrayRule::Edge& e : rule.table[f->count].edges) {
      if (e.to == static_cast<int32_t>(f->count)) {
        out.push_back({e.goal, f});
        continue;
      }
      std::unique_ptr<Frame> next = CopyOf(*f);
      next->count = static_cast<uint64_t>(e.to);
      out.push_back({e.goal, Sealed(std::move(next))});
    }
    return out;
  }
  if (!CanElement(f)) return out;
  const GoalId goal = rule.goal(f->count);
  // Unique arrays need their true number of elements.
  const uint64_t count =
      rule.unique ? f->count + 1
                  : std::min(f->count + 1, CountCap(rule.prefix.size(), rule.min, rule.max));
  FramePtr stack = f;
  if (count != f->count) {
    std::unique_ptr<Frame> next = CopyOf(*f);
    next->count = count;
    stack = Sealed(std::move(next));
  }
  if (rule.unique) {
    auto exclude = std::make_unique<Frame>();
    exclude->kind = Frame::Kind::kExclude;
    exclude->parent = stack;
    exclude->exclusion = f->exclusion;
    exclude->start = offset;
    stack = Sealed(std::move(exclude));
  }
  out.push_back({goal, std::move(stack)});
  return out;
}

void Machine::StepArray(const Thread& t, uint8_t byte, const History& history, Threads& out) {
  const bool after = t.pos.kind == Position::Kind::kArrayAfter;
  if (byte == ']' && t.pos.kind != Position::Kind::kArrayNext) {
    if (CanCloseArray(*t.stack)) Complete(t.stack->parent, history, out);
    return;
  }
  if (after) {
    if (byte != ',' || !CanElement(t.stack)) return;
    Thread n = t;
    n.pos.kind = Position::Kind::kArrayNext;
    n.pos.count = 0;
    Push(out, std::move(n));
    return;
  }
  if (byte == ',' || byte == ':' || byte == '}') return;
  for (const Element& e : Elements(t.stack, history.end() - 1)) {
    StartValue(e.goal, e.stack, byte, history, out);
  }
}

bool Machine::CanCloseObject(const Frame& f) const {
  return f.missing == 0 && f.pending == 0 && f.count >= f.object->min;
}

// The least number of further, not required properties that witness `pending`.
uint64_t Machine::CoverExtra(const Frame& f, uint32_t pending, std::vector<int32_t>& taken) const {
  if (pending == 0) return 0;
  const ObjectRule& rule = *f.object;
  const uint32_t lowest = pending & -pending;
  uint64_t best = kImpossible;
  for (size_t k = 0; k < rule.classes.size(); ++k) {
    const KeyClass& c = rule.classes[k];
    if (c.literal >= 0 &&
        (f.UsesLiteral(c.literal) ||
         std::find(taken.begin(), taken.end(), static_cast<int32_t>(k)) != taken.end())) {
      continue;
    }
    const uint64_t own = c.literal >= 0 && rule.required[c.literal] ? 0 : 1;
    for (uint32_t set = pending; set != 0; set = (set - 1) & pending) {
      if ((set & lowest) == 0 || c.goals[set] < 0) continue;
      taken.push_back(static_cast<int32_t>(k));
      const uint64_t rest = CoverExtra(f, pending & ~set, taken);
      taken.pop_back();
      if (rest != kImpossible) best = std::min(best, rest + own);
    }
  }
  return best;
}

// Whether the object can be completed once a property of class `added` has come (if not null) and
// `pending` conditions are left.
bool Machine::Viable(const Frame& f, const KeyClass* added, uint32_t pending) const {
  const ObjectRule& rule = *f.object;
  const uint64_t words = rule.words[rule.names->start];
  const bool roomy = rule.max == kNoLimit && (rule.min == 0 || words == kManyWords);
  if (pending == 0 && roomy) return true;
  std::vector<int32_t> taken;
  if (added != nullptr) {
    taken.push_back(static_cast<int32_t>(added - rule.classes.data()));
  }
  const uint64_t extra = CoverExtra(f, pending, taken);
  if (extra == kImpossible) return false;
  if (roomy) return true;
  const uint64_t count = f.count + (added != nullptr ? 1 : 0);
  uint64_t missing = f.missing;
  if (added != nullptr && added->literal >= 0 && rule.required[added->literal]) --missing;
  if (rule.max != kNoLimit && count + missing + extra > rule.max) return false;
  if (count >= rule.min || words == kManyWords) return true;
  uint64_t left = words - (f.others ? f.others->size() : 0);
  if (added != nullptr && added->literal < 0) --left;
  for (size_t i = 0; i < rule.literals.size(); ++i) {
    const KeyClass& c = rule.classes[rule.literal_class[i]];
    if (c.possible && &c != added && !f.UsesLiteral(static_cast<int32_t>(i))) ++left;
  }
  return left >= rule.min - count;
}

bool Machine::KeyAllowed(const Frame& f, int32_t key_class) const {
  const KeyClass& c = f.object->classes[key_class];
  if (!c.possible || (c.literal >= 0 && f.UsesLiteral(c.literal))) return false;
  for (uint32_t set = f.pending;; set = (set - 1) & f.pending) {
    if (c.goals[set] >= 0 && Viable(f, &c, f.pending & ~set)) return true;
    if (set == 0) return false;
  }
}

bool Machine::CanKey(const Frame& f) { return KeyAlive(f, key_lexers_.at(f.object)->start(), ""); }

// Whether some name that begins as `raw` (the inside of the string so far) is still allowed.
bool Machine::KeyAlive(const Frame& f, int32_t state, std::string_view raw) {
  const ObjectRule& rule = *f.object;
  const Lexer& lexer = *key_lexers_.at(f.object);
  const bool whole = lexer.Whole(state);
  const bool free_choice = rule.num_some == 0 && rule.max == kNoLimit &&
                           (rule.min == 0 || rule.words[rule.names->start] == kManyWords);
  uint64_t words = 0;
  for (int32_t t : lexer.targets(state)) words = std::max(words, rule.words[t]);
  bool names = words > 0;
  if (names && !free_choice) {
    names = false;
    for (size_t k = 0; k < rule.classes.size() && !names; ++k) {
      names = rule.classes[k].literal < 0 && KeyAllowed(f, static_cast<int32_t>(k));
    }
  }
  if (names && words == kManyWords) return true;
  const auto ranges = lexer.Ranges(state);
  const std::string prefix = DecodeJsonString(raw);
  const auto may_follow = [&](const std::string& name) {
    if (whole) return true;
    std::vector<uint32_t> rest;
    DecodeUtf8(std::string_view(name).substr(prefix.size()), &rest);
    return !rest.empty() && std::any_of(ranges.begin(), ranges.end(), [&](const auto& r) {
      return rest[0] >= r.first && rest[0] <= r.second;
    });
  };
  if (whole || !ranges.empty()) {
    for (int32_t literal : rule.ahead[lexer.base(state)]) {
      if (may_follow(rule.literals[literal]) && KeyAllowed(f, rule.literal_class[literal])) {
        return true;
      }
    }
  }
  if (!names) return false;
  // Few names are left: some must not have come yet.
  uint64_t total = 0, used = 0;
  if (whole) {
    total = words;
  } else {
    const Alphabet& a = rule.names->alphabet;
    for (const auto& [low, high] : ranges) {
      for (size_t r = a.RangeIndex(low); r < a.starts.size() && a.starts[r] <= high; ++r) {
        const uint32_t from = std::max(low, a.starts[r]);
        const uint32_t to = r + 1 < a.starts.size() ? std::min(high, a.starts[r + 1] - 1) : high;
        const uint64_t each = rule.words[rule.names->NextClass(lexer.base(state), a.classes[r])];
        total += std::min(each, kManyWords >> 21) * (to - from + 1);
      }
    }
  }
  if (f.others) {
    for (const std::string& name : *f.others) {
      used += name.compare(0, prefix.size(), prefix) == 0 && may_follow(name);
    }
  }
  return total > used;
}

void Machine::StepObject(const Thread& t, uint8_t byte, const History& history, Threads& out) {
  const Frame& f = *t.stack;
  if (byte == '}' && t.pos.kind != Position::Kind::kObjectNext) {
    if (CanCloseObject(f)) Complete(f.parent, history, out);
    return;
  }
  Thread n = t;
  n.pos = Position();
  if (t.pos.kind == Position::Kind::kObjectAfter) {
    if (byte != ',' || !CanKey(f)) return;
    n.pos.kind = Position::Kind::kObjectNext;
  } else {
    if (byte != '"' || !CanKey(f)) return;
    n.pos.kind = Position::Kind::kKey;
    n.pos.start = history.end();
  }
  Push(out, std::move(n));
}

void Machine::StepKey(const Thread& t, uint8_t byte, const History& history, Threads& out) {
  Lexer& lexer = *key_lexers_.at(t.stack->object);
  const int32_t next = lexer.Next(t.pos.state, byte);
  if (next == Lexer::kDead) return;
  const std::string_view raw = history.From(t.pos.start);
  if (next == Lexer::kQuote) {
    if (lexer.Whole(t.pos.state)) EndKey(t, raw.substr(0, raw.size() - 1), out);
    return;
  }
  if (!KeyAlive(*t.stack, next, raw)) return;
  Thread n = t;
  n.pos.state = next;
  Push(out, std::move(n));
}

// The name `raw` has just been closed.
void Machine::EndKey(const Thread& t, std::string_view raw, Threads& out) {
  const ObjectRule& rule = *t.stack->object;
  const int32_t k = rule.names->accept[key_lexers_.at(&rule)->base(t.pos.state)] - 1;
  if (!rule.classes[k].possible) return;
  AddProperty(t.stack, k, rule.classes[k].literal >= 0 ? "" : DecodeJsonString(raw), out);
}

void Machine::AddProperty(const FramePtr& object, int32_t key_class, std::string_view name,
                          Threads& out) {
  const Frame& f = *object;
  const ObjectRule& rule = *f.object;
  const KeyClass& c = rule.classes[key_class];
  if (c.literal >= 0) {
    if (f.UsesLiteral(c.literal)) return;
  } else if (f.others && std::find(f.others->begin(), f.others->end(), name) != f.others->end()) {
    return;
  }
  std::shared_ptr<const std::vector<std::string>> others = f.others;
  if (c.literal < 0) {
    auto more = others ? std::make_shared<std::vector<std::string>>(*others)
                       : std::make_shared<std::vector<std::string>>();
    more->emplace_back(name);
    others = std::move(more);
  }
  for (uint32_t set = f.pending;; set = (set - 1) & f.pending) {
    if (c.goals[set] >= 0 && Viable(f, &c, f.pending & ~set)) {
      std::unique_ptr<Frame> next = CopyOf(f);
      next->count = std::min(f.count + 1, CountCap(0, rule.min, rule.max));
      next->pending = f.pending & ~set;
      next->others = others;
      if (c.literal >= 0) {
        const auto word = static_cast<size_t>(c.literal) / 64;
        if (next->used.size() <= word) next->used.resize(word + 1, 0);
        next->used[word] |= uint64_t{1} << (c.literal % 64);
        if (rule.required[c.literal]) --next->missing;
      }
      Thread n;
      n.pos.kind = Position::Kind::kColon;
      n.pos.goal = c.goals[set];
      n.stack = Sealed(std::move(next));
      Push(out, std::move(n));
    }
    if (set == 0) return;
  }
}

}  // namespace ink::constraint
