#include "sampling/constraint/machine.h"

#include <algorithm>

#include "base/check.h"

namespace ink::constraint {
namespace {

// More threads than this are not followed. None leads into a dead end, so dropping some narrows the
// language but never breaks it.
constexpr size_t kMaxThreads = 1024;

constexpr std::string_view kLiteralTexts[] = {"null", "false", "true"};

bool IsSpace(uint8_t b) { return b == ' ' || b == '\t' || b == '\n' || b == '\r'; }

}  // namespace

void Machine::Push(Threads& out, Thread thread) {
  if (out.size() >= kMaxThreads) return;
  for (const Thread& t : out) {
    if (t == thread) return;
  }
  out.push_back(std::move(thread));
}

Threads Machine::Start() {
  Threads out;
  for (int32_t place : grammar_.rules[0]) Enter(place, FramePtr(), out);
  return out;
}

uint64_t Machine::Oldest(const Thread& t) {
  uint64_t oldest = t.stack ? t.stack->oldest : UINT64_MAX;
  if (t.pos.kind == Position::Kind::kNumber || t.pos.kind == Position::Kind::kKey ||
      t.pos.kind == Position::Kind::kString) {
    oldest = std::min(oldest, t.pos.start);
  }
  return oldest;
}

void Machine::Enter(int32_t first, const FramePtr& below, Threads& out) {
  std::vector<std::pair<int32_t, FramePtr>> work = {{first, below}};
  // Places are entered once for each stack: a rule that can be empty may call itself.
  for (size_t i = 0; i < work.size(); ++i) {
    const auto place = work[i].first;
    const auto stack = work[i].second;
    const auto add = [&](int32_t next, const FramePtr& on) {
      for (const auto& [p, s] : work) {
        if (p == next && (s.get() == on.get() || (s && on && s->hash == on->hash))) return;
      }
      work.emplace_back(next, on);
    };
    const auto behind = [&] {
      if (grammar_.code[place + 1].kind == Symbol::Kind::kEnd) return stack;
      auto frame = std::make_unique<Frame>();
      frame->kind = Frame::Kind::kSequence;
      frame->place = place + 1;
      frame->parent = stack;
      return Sealed(std::move(frame));
    };
    const Symbol symbol = grammar_.code[place];
    Thread t;
    t.pos.goal = place;
    t.stack = stack;
    switch (symbol.kind) {
      case Symbol::Kind::kEnd:
        if (stack) {
          add(stack->place, stack->parent);
        } else {
          Push(out, Thread());
        }
        break;
      case Symbol::Kind::kRule: {
        const FramePtr on = behind();
        for (int32_t start : grammar_.rules[symbol.index]) add(start, on);
        break;
      }
      case Symbol::Kind::kText:
        t.pos.kind = Position::Kind::kText;
        t.pos.state = grammar_.texts[symbol.index].lexer->start();
        Push(out, std::move(t));
        if (grammar_.texts[symbol.index].nullable) add(place + 1, stack);
        break;
      case Symbol::Kind::kJson:
        t.pos.kind = Position::Kind::kValue;
        t.pos.goal = symbol.index;
        t.stack = behind();
        Push(out, std::move(t));
        break;
      case Symbol::Kind::kSpace:
        t.pos.kind = Position::Kind::kSpace;
        Push(out, std::move(t));
        add(place + 1, stack);
        break;
      case Symbol::Kind::kFree:
        t.pos.kind = Position::Kind::kFree;
        Push(out, std::move(t));
        break;
    }
  }
}

void Machine::Complete(const FramePtr& stack, const History& history, Threads& out) {
  if (!stack) {
    Push(out, Thread());
    return;
  }
  Thread t;
  t.stack = stack;
  switch (stack->kind) {
    case Frame::Kind::kSequence:
      Enter(stack->place, stack->parent, out);
      return;
    case Frame::Kind::kArray:
      t.pos.kind = Position::Kind::kArrayAfter;
      break;
    case Frame::Kind::kObject:
      t.pos.kind = Position::Kind::kObjectAfter;
      break;
    case Frame::Kind::kExclude: {
      const Result<JsonValue> value = ParseJson(history.From(stack->start), 2000);
      if (!value.ok()) return;  // nested deeper than a unique element may be
      std::string text = CanonicalText(*value);
      if (std::binary_search(stack->exclusion->texts.begin(), stack->exclusion->texts.end(),
                             text)) {
        return;
      }
      std::unique_ptr<Frame> array = CopyOf(*stack->parent);
      auto elements = std::make_shared<std::vector<std::string>>(
          array->elements ? *array->elements : std::vector<std::string>());
      elements->push_back(std::move(text));
      array->elements = std::move(elements);
      SetExclusion(*array);
      t.pos.kind = Position::Kind::kArrayAfter;
      t.stack = Sealed(std::move(array));
      break;
    }
  }
  Push(out, std::move(t));
}

bool Machine::Accepting(const Thread& t) const {
  switch (t.pos.kind) {
    case Position::Kind::kDone:
      return true;
    case Position::Kind::kFree:
      return grammar_.free[grammar_.code[t.pos.goal].index].can_end;
    default:
      return false;
  }
}

const Exclusion* Machine::ExclusionOf(const FramePtr& stack) const {
  return stack && stack->kind == Frame::Kind::kExclude ? stack->exclusion.get() : nullptr;
}

const NumberSet& Machine::NumbersOf(GoalId goal, const FramePtr& stack) const {
  const Exclusion* e = ExclusionOf(stack);
  return e != nullptr && e->numbers != nullptr ? *e->numbers : *goals_[goal].numbers;
}

Lexer& Machine::StringLexer(GoalId goal, const FramePtr& stack) {
  StringRule& rule = strings_[string_rule_[goal]];
  if (ExclusionOf(stack) == nullptr) return *rule.lexer;
  if (rule.exact_lexer == nullptr) {
    std::vector<uint8_t> alive;
    for (uint64_t s : rule.set->shortest) alive.push_back(s != UINT64_MAX);
    std::vector<uint8_t> collapse(alive.size(), 0);
    rule.exact_lexer = std::make_unique<Lexer>(rule.set->dfa, Lexer::Mode::kJson, std::move(alive),
                                               std::move(collapse));
  }
  return *rule.exact_lexer;
}

// `raw`: the inside of the string so far.
bool Machine::StringAlive(GoalId goal, const FramePtr& stack, int32_t state, uint32_t count,
                          std::string_view raw) {
  const StringSet& set = *strings_[string_rule_[goal]].set;
  Lexer& lexer = StringLexer(goal, stack);
  const uint32_t under_way = lexer.Whole(state) ? 0 : 1;
  bool alive = false;
  for (int32_t t : lexer.targets(state)) alive = alive || set.Alive(t, count + under_way);
  const Exclusion* e = ExclusionOf(stack);
  if (!alive || e == nullptr || e->strings.empty()) return alive;
  // Some continuation must be none of the excluded texts.
  const std::string prefix = DecodeJsonString(raw);
  const auto ranges = lexer.Ranges(state);
  uint64_t excluded = 0;
  for (const std::string& s : e->strings) {
    if (s.compare(0, prefix.size(), prefix) != 0) continue;
    if (under_way) {
      std::vector<uint32_t> rest;
      DecodeUtf8(std::string_view(s).substr(prefix.size()), &rest);
      if (rest.empty() || std::none_of(ranges.begin(), ranges.end(), [&](const auto& r) {
            return rest[0] >= r.first && rest[0] <= r.second;
          })) {
        continue;
      }
    }
    ++excluded;
  }
  if (excluded == 0) return true;
  if (!under_way) return set.CountFrom(lexer.base(state), count, excluded + 1) > excluded;
  uint64_t total = 0;
  const Alphabet& a = set.dfa->alphabet;
  for (const auto& [low, high] : ranges) {
    for (size_t r = a.RangeIndex(low); r < a.starts.size() && a.starts[r] <= high; ++r) {
      const uint32_t from = std::max(low, a.starts[r]);
      const uint32_t to = r + 1 < a.starts.size() ? std::min(high, a.starts[r + 1] - 1) : high;
      const int32_t t = set.dfa->NextClass(lexer.base(state), a.classes[r]);
      const uint64_t each = set.CountFrom(t, count + 1, excluded + 1);
      if (each > 0) total += std::min<uint64_t>(each * (to - from + 1), excluded + 1);
    }
  }
  return total > excluded;
}

bool Machine::StringEnds(GoalId goal, const FramePtr& stack, int32_t state, uint32_t count,
                         std::string_view raw) {
  const StringSet& set = *strings_[string_rule_[goal]].set;
  Lexer& lexer = StringLexer(goal, stack);
  if (!lexer.Whole(state) || !set.Accepts(lexer.base(state), count)) return false;
  const Exclusion* e = ExclusionOf(stack);
  if (e == nullptr || e->strings.empty()) return true;
  return std::find(e->strings.begin(), e->strings.end(), DecodeJsonString(raw)) == e->strings.end();
}

// A number that includes the last byte, if it is one and can be completed.
void Machine::PushNumber(Thread t, const History& history, Threads& out) {
  NumberText text;
  for (char c : history.From(t.pos.start)) {
    if (!text.Append(c)) return;
  }
  const NumberSet& set = NumbersOf(t.pos.goal, t.stack);
  const bool exponent = text.phase >= NumberText::Phase::kE;
  if (set.all() && !exponent) {
    if (text.Complete()) Complete(t.stack, history, out);
    Push(out, std::move(t));
    return;
  }
  if (text.Complete() && set.Contains(text.Value())) Complete(t.stack, history, out);
  if (set.Viable(text)) Push(out, std::move(t));
}

void Machine::StartValue(GoalId g, const FramePtr& stack, uint8_t byte, const History& history,
                         Threads& out) {
  const Goal& goal = goals_[g];
  const Exclusion* e = ExclusionOf(stack);
  const auto excluded = [&](std::string_view text) {
    return e != nullptr && !text.empty() &&
           std::binary_search(e->texts.begin(), e->texts.end(), text);
  };
  Thread t;
  t.pos.goal = g;
  t.stack = stack;
  switch (byte) {
    case '"':
      if (goal.strings == nullptr) return;
      t.pos.kind = Position::Kind::kString;
      t.pos.start = history.end();
      if (StringAlive(g, stack, 0, 0, "")) Push(out, std::move(t));
      return;
    case 'n':
    case 'f':
    case 't': {
      const int which = byte == 'n' ? 0 : byte == 'f' ? 1 : 2;
      if ((goal.literals >> which & 1) == 0 || excluded(kLiteralTexts[which])) return;
      t.pos.kind = Position::Kind::kLiteral;
      t.pos.goal = which;
      t.pos.count = 1;
      Push(out, std::move(t));
      return;
    }
    case '[':
      for (const auto& rule : goal.arrays) {
        if (excluded(rule->constant)) continue;
        t.pos = Position();
        t.pos.kind = Position::Kind::kArrayFirst;
        t.stack = MakeArrayFrame(rule.get(), stack);
        Push(out, t);
      }
      return;
    case '{':
      for (const auto& rule : goal.objects) {
        if (excluded(rule->constant)) continue;
        t.pos = Position();
        t.pos.kind = Position::Kind::kObjectFirst;
        t.stack = MakeObjectFrame(rule.get(), stack);
        Push(out, t);
      }
      return;
    default:
      if (goal.numbers == nullptr || (byte != '-' && (byte < '0' || byte > '9'))) return;
      t.pos.kind = Position::Kind::kNumber;
      t.pos.start = history.end() - 1;
      PushNumber(std::move(t), history, out);
  }
}

void Machine::StepString(const Thread& t, uint8_t byte, const History& history, Threads& out) {
  Lexer& lexer = StringLexer(t.pos.goal, t.stack);
  const int32_t next = lexer.Next(t.pos.state, byte);
  if (next == Lexer::kDead) return;
  const bool exclusive = ExclusionOf(t.stack) != nullptr;
  const std::string_view raw = exclusive ? history.From(t.pos.start) : std::string_view();
  if (next == Lexer::kQuote) {
    if (StringEnds(t.pos.goal, t.stack, t.pos.state, t.pos.count,
                   raw.substr(0, raw.empty() ? 0 : raw.size() - 1))) {
      Complete(t.stack, history, out);
    }
    return;
  }
  Thread n = t;
  n.pos.state = next;
  // Characters are counted only where that matters, so that equal states look equal.
  if (lexer.Whole(next) && (strings_[string_rule_[t.pos.goal]].bounded)) ++n.pos.count;
  if ((exclusive || strings_[string_rule_[t.pos.goal]].bounded) &&
      !StringAlive(t.pos.goal, t.stack, next, n.pos.count, raw)) {
    return;
  }
  Push(out, std::move(n));
}

void Machine::StepText(const Thread& t, uint8_t byte, const History& history, Threads& out) {
  const RawText& text = grammar_.texts[grammar_.code[t.pos.goal].index];
  const int32_t next = text.lexer->Next(t.pos.state, byte);
  if (next < 0) return;
  Thread n = t;
  n.pos.state = next;
  if (text.lexer->Whole(next) && text.dfa->accept[text.lexer->base(next)] != 0) {
    Enter(t.pos.goal + 1, t.stack, out);
  }
  Push(out, std::move(n));
}

void Machine::StepFree(const Thread& t, uint8_t byte, const History& history, Threads& out) {
  const FreeText& free = grammar_.free[grammar_.code[t.pos.goal].index];
  const int32_t next = free.next[t.pos.state][byte];
  const int32_t trigger = free.found[next];
  if (trigger < 0) {
    Thread n = t;
    n.pos.state = next;
    Push(out, std::move(n));
    return;
  }
  FramePtr behind = t.stack;
  if (grammar_.code[t.pos.goal + 1].kind != Symbol::Kind::kEnd) {
    auto frame = std::make_unique<Frame>();
    frame->kind = Frame::Kind::kSequence;
    frame->place = t.pos.goal + 1;
    frame->parent = t.stack;
    behind = Sealed(std::move(frame));
  }
  for (int32_t start : grammar_.rules[free.rules[trigger]]) Enter(start, behind, out);
}

void Machine::Step(const Thread& t, uint8_t byte, const History& history, Threads& out) {
  const auto space = [&] {
    if (!IsSpace(byte) || t.pos.count >= static_cast<uint32_t>(options_.max_whitespace)) return;
    Thread n = t;
    ++n.pos.count;
    Push(out, std::move(n));
  };
  switch (t.pos.kind) {
    case Position::Kind::kDone:
      return;
    case Position::Kind::kValue:
      if (IsSpace(byte)) return space();
      return StartValue(t.pos.goal, t.stack, byte, history, out);
    case Position::Kind::kLiteral: {
      const std::string_view text = kLiteralTexts[t.pos.goal];
      if (static_cast<uint8_t>(text[t.pos.count]) != byte) return;
      if (t.pos.count + 1 == text.size()) return Complete(t.stack, history, out);
      Thread n = t;
      ++n.pos.count;
      Push(out, std::move(n));
      return;
    }
    case Position::Kind::kNumber:
      return PushNumber(t, history, out);
    case Position::Kind::kString:
      return StepString(t, byte, history, out);
    case Position::Kind::kArrayFirst:
    case Position::Kind::kArrayAfter:
    case Position::Kind::kArrayNext:
      if (IsSpace(byte)) return space();
      return StepArray(t, byte, history, out);
    case Position::Kind::kObjectFirst:
    case Position::Kind::kObjectAfter:
    case Position::Kind::kObjectNext:
      if (IsSpace(byte)) return space();
      return StepObject(t, byte, history, out);
    case Position::Kind::kKey:
      return StepKey(t, byte, history, out);
    case Position::Kind::kColon: {
      if (IsSpace(byte)) return space();
      if (byte != ':') return;
      Thread n = t;
      n.pos.kind = Position::Kind::kValue;
      n.pos.count = 0;
      Push(out, std::move(n));
      return;
    }
    case Position::Kind::kSpace: {
      const size_t before = out.size();
      space();
      if (out.size() > before) Enter(t.pos.goal + 1, t.stack, out);
      return;
    }
    case Position::Kind::kText:
      return StepText(t, byte, history, out);
    case Position::Kind::kFree:
      return StepFree(t, byte, history, out);
  }
}

}  // namespace ink::constraint
