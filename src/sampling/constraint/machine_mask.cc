// Token masks. Tokens that stay inside a string or text of a regular language depend on the state
// of its automaton only and are found once for each; what follows is walked over the vocabulary.
#include <algorithm>

#include "sampling/constraint/machine.h"

namespace ink::constraint {
namespace {

void SetTokens(std::span<const int32_t> ids, std::span<uint32_t> mask) {
  for (int32_t id : ids) mask[id / 32] |= 1u << (id % 32);
}

void Or(const std::vector<uint32_t>& from, std::span<uint32_t> mask) {
  for (size_t i = 0; i < from.size(); ++i) mask[i] |= from[i];
}

// From the closing quote of one name to that of the next there are at least these bytes: :0,""
constexpr int32_t kBytesToNextName = 5;

}  // namespace

// False where the mask depends on more than can be told in a key, or would never be asked for
// again.
bool Machine::MaskKey(const Thread& t, const History& history, Key* key) const {
  if (InsideUnique(t)) return false;
  uint64_t h = Mix(static_cast<uint64_t>(t.pos.kind), static_cast<uint64_t>(t.pos.goal));
  h = Mix(h, static_cast<uint64_t>(t.pos.state));
  h = Mix(h, t.pos.count);
  if (t.pos.kind == Position::Kind::kKey) {
    h = HashBytes(history.From(t.pos.start), h);
  } else if (t.pos.kind == Position::Kind::kNumber) {
    NumberText text;
    for (char c : history.From(t.pos.start)) text.Append(c);
    const bool far = text.digits.size() + static_cast<size_t>(vocabulary_->max_depth()) <
                     static_cast<size_t>(kMaxNumberDigits);
    if (goals_[t.pos.goal].numbers->all() && far && text.phase < NumberText::Phase::kE) {
      // Any further digits will do; only zero tells itself apart, by its exponents.
      h = Mix(h, static_cast<uint64_t>(text.phase) * 2 +
                     (text.digits.find_first_not_of('0') == std::string::npos));
      // How far an exponent may go depends on the digits, unless both are short.
      if (vocabulary_->has_long_exponents() || text.digits.size() > 8)
        h = HashBytes(history.From(t.pos.start), h);
    } else {
      h = HashBytes(history.From(t.pos.start), h);
    }
  }
  const uint64_t below = t.stack ? t.stack->hash : 1;
  key->a = Mix(h, below);
  key->b = Mix(below * 0x9E3779B97F4A7C15ull, h);
  return true;
}

// White space may stand at these positions, and what may follow does not depend on how much there
// was.
bool Machine::Spacious(Position::Kind kind) {
  switch (kind) {
    case Position::Kind::kValue:
    case Position::Kind::kArrayFirst:
    case Position::Kind::kArrayAfter:
    case Position::Kind::kArrayNext:
    case Position::Kind::kObjectFirst:
    case Position::Kind::kObjectAfter:
    case Position::Kind::kObjectNext:
    case Position::Kind::kColon:
    case Position::Kind::kSpace:
      return true;
    default:
      return false;
  }
}

void Machine::AddMask(const Thread& t, const History& history, std::span<uint32_t> mask) {
  if (t.pos.kind == Position::Kind::kDone) return;
  if (t.pos.count > 0 && Spacious(t.pos.kind)) {
    // As without white space before it, less the tokens that begin with too much of it.
    Thread fresh = t;
    fresh.pos.count = 0;
    space_scratch_.assign(vocabulary_->mask_words(), 0);
    std::vector<uint32_t> scratch = std::move(space_scratch_);
    AddMask(fresh, history, scratch);
    const auto left = static_cast<uint32_t>(options_.max_whitespace) - t.pos.count;
    for (const auto& [length, id] : vocabulary_->leading_spaces()) {
      if (length <= left) break;
      scratch[id / 32] &= ~(1u << (id % 32));
    }
    Or(scratch, mask);
    space_scratch_ = std::move(scratch);
    return;
  }
  Key key;
  if (!MaskKey(t, history, &key)) {
    ComputeMask(t, history, mask);
    return;
  }
  Or(Cached(key, [&](std::span<uint32_t> made) { ComputeMask(t, history, made); }), mask);
}

const std::vector<uint32_t>& Machine::Cached(const Key& key,
                                             const std::function<void(std::span<uint32_t>)>& fill) {
  if (auto it = masks_.find(key); it != masks_.end()) return *it->second;
  auto made = std::make_shared<std::vector<uint32_t>>(vocabulary_->mask_words(), 0);
  fill(*made);
  const uint64_t bytes = made->size() * 4 + 64;
  if (mask_bytes_ + bytes > options_.mask_cache_bytes) {
    masks_.clear();
    mask_bytes_ = 0;
  }
  mask_bytes_ += bytes;
  return *masks_.emplace(key, std::move(made)).first->second;
}

void Machine::ComputeMask(const Thread& t, const History& history, std::span<uint32_t> mask) {
  switch (t.pos.kind) {
    case Position::Kind::kString:
      return StringMask(t, history, mask);
    case Position::Kind::kKey:
      return KeyMask(t, history, mask);
    case Position::Kind::kText:
      return TextMask(t, history, mask);
    case Position::Kind::kFree:
      return FreeMask(t, history, mask);
    default:
      return Walk(0, {t}, history, mask);
  }
}

// All tokens below `node`, which `threads` have read.
void Machine::Walk(int32_t node, Threads threads, const History& history,
                   std::span<uint32_t> mask) {
  const VocabularyTrie& v = *vocabulary_;
  if (levels_.size() < static_cast<size_t>(v.max_depth()) + 2) {
    levels_.resize(static_cast<size_t>(v.max_depth()) + 2);
  }
  const size_t before = history.bytes.size();
  const int32_t top = v.depth(node);
  levels_[0] = std::move(threads);
  for (int32_t i = node + 1; i < v.subtree_end(node);) {
    const auto d = static_cast<size_t>(v.depth(i) - top);
    history.bytes.resize(before + d - 1);
    history.bytes.push_back(static_cast<char>(v.byte(i)));
    Threads& level = levels_[d];
    level.clear();
    for (const Thread& t : levels_[d - 1]) Step(t, v.byte(i), history, level);
    if (level.empty()) {
      i = v.subtree_end(i);
    } else {
      SetTokens(v.tokens(i), mask);
      ++i;
    }
  }
  history.bytes.resize(before);
  for (Threads& level : levels_) level.clear();
}

const Machine::LocalMask& Machine::Local(const void* owner, int32_t state, uint32_t extra,
                                         const std::function<void(LocalMask&)>& fill) {
  const LocalKey key = {owner, state, extra};
  if (auto it = locals_.find(key); it != locals_.end()) return it->second;
  LocalMask made;
  made.inside.assign(vocabulary_->mask_words(), 0);
  fill(made);
  const uint64_t bytes = made.inside.size() * 4 + made.exits.size() * 4 + 64;
  if (local_bytes_ + bytes > options_.mask_cache_bytes) {
    locals_.clear();
    local_bytes_ = 0;
  }
  local_bytes_ += bytes;
  return locals_.emplace(key, std::move(made)).first->second;
}

// The tokens at `node` and below, where `after` are the threads once its bytes are read.
void Machine::Exit(int32_t node, const After& after, const History& history,
                   std::span<uint32_t> mask) {
  const VocabularyTrie& v = *vocabulary_;
  if (after.threads.empty()) return;
  SetTokens(v.tokens(node), mask);
  const int32_t end = v.subtree_end(node);
  for (int32_t child = node + 1; child < end; child = v.subtree_end(child)) {
    if (!after.first[v.byte(child)]) continue;
    history.bytes.push_back(static_cast<char>(v.byte(child)));
    Threads next;
    for (const Thread& t : after.threads) Step(t, v.byte(child), history, next);
    if (!next.empty()) {
      SetTokens(v.tokens(child), mask);
      if (v.height(child) > 0) Walk(child, std::move(next), history, mask);
    }
    history.bytes.pop_back();
  }
}

Machine::After Machine::MakeAfter(Threads threads, const History& history, bool any_byte) {
  After after;
  after.threads = std::move(threads);
  if (any_byte) {
    std::fill(std::begin(after.first), std::end(after.first), true);
    return after;
  }
  Threads next;
  for (int b = 0; b < 256; ++b) {
    history.bytes.push_back(static_cast<char>(b));
    for (const Thread& t : after.threads) {
      next.clear();
      Step(t, static_cast<uint8_t>(b), history, next);
      if (next.empty()) continue;
      after.first[b] = true;
      break;
    }
    history.bytes.pop_back();
  }
  return after;
}

void Machine::StringMask(const Thread& t, const History& history, std::span<uint32_t> mask) {
  const StringRule& rule = strings_[string_rule_[t.pos.goal]];
  Lexer& lexer = StringLexer(t.pos.goal, t.stack);
  const StringSet& set = *rule.set;
  const VocabularyTrie& v = *vocabulary_;
  if (ExclusionOf(t.stack) != nullptr) {
    if (rule.bounded || !lexer.Universal(lexer.base(t.pos.state))) {
      Walk(0, {t}, history, mask);
      return;
    }
    // What closes the string depends on its text: each such token is followed by itself.
    const StringMasks::Entry& entry = v.string_masks().Find(lexer, t.pos.state);
    entry.AddInside(kNoLimit, mask);
    const size_t before = history.bytes.size();
    for (const StringMasks::Exit& e : entry.exits) {
      Threads threads = {t}, next;
      for (char c : v.PathBytes(e.node)) {
        history.bytes.push_back(c);
        next.clear();
        for (const Thread& x : threads) Step(x, static_cast<uint8_t>(c), history, next);
        std::swap(threads, next);
      }
      if (!threads.empty()) {
        SetTokens(v.tokens(e.node), mask);
        if (v.height(e.node) > 0) Walk(e.node, std::move(threads), history, mask);
      }
      history.bytes.resize(before);
    }
    return;
  }
  const auto make_after = [&] {
    Threads closed;
    history.bytes.push_back('"');
    Complete(t.stack, history, closed);
    After made = MakeAfter(std::move(closed), history, InsideUnique(t));
    history.bytes.pop_back();
    return made;
  };
  // An element of a unique array is read again where it ends, so its text must be there.
  const auto exit = [&](int32_t node, const After& after) {
    const size_t before = history.bytes.size();
    if (InsideUnique(t)) history.bytes += v.PathBytes(node);
    Exit(node, after, history, mask);
    history.bytes.resize(before);
  };
  if (lexer.Universal(lexer.base(t.pos.state)) && (set.any_text || !rule.bounded)) {
    const StringMasks::Entry& entry = v.string_masks().Find(lexer, t.pos.state);
    const uint64_t limit = set.max == kNoLimit ? kNoLimit : set.max - t.pos.count;
    entry.AddInside(limit, mask);
    if (!InsideUnique(t) && rule.bounded && t.pos.count >= set.min &&
        (set.max == kNoLimit || t.pos.count + entry.longest_exit <= set.max)) {
      // The string may be closed whatever its length: the same for many lengths.
      const uint64_t below = t.stack ? t.stack->hash : 1;
      const Key key = {Mix(below, reinterpret_cast<uintptr_t>(&entry)),
                       Mix(below * 0x9E3779B97F4A7C15ull, 2)};
      Or(Cached(key,
                [&](std::span<uint32_t> made) {
                  const After after = make_after();
                  for (const StringMasks::Exit& e : entry.exits) Exit(e.node, after, history, made);
                }),
         mask);
      return;
    }
    const After after = make_after();
    for (const StringMasks::Exit& e : entry.exits) {
      if (set.any_text) {
        const uint64_t count = t.pos.count + e.chars;
        if (rule.bounded && (count < set.min || count > set.max)) continue;
      } else {
        int32_t state = t.pos.state;
        const std::string path = v.PathBytes(e.node);
        for (size_t i = 0; i + 1 < path.size(); ++i) {
          state = lexer.Next(state, static_cast<uint8_t>(path[i]));
        }
        if (set.dfa->accept[lexer.base(state)] == 0) continue;
      }
      exit(e.node, after);
    }
    return;
  }
  const uint32_t count = rule.bounded ? t.pos.count : 0;
  const LocalMask& local = Local(&lexer, t.pos.state, count, [&](LocalMask& made) {
    struct Level {
      int32_t state;
      uint32_t count;
    };
    std::vector<Level> levels(static_cast<size_t>(v.max_depth()) + 1);
    levels[0] = {t.pos.state, count};
    for (int32_t i = 1; i < v.num_nodes();) {
      const int32_t depth = v.depth(i);
      const Level above = levels[depth - 1];
      const int32_t next = lexer.Next(above.state, v.byte(i));
      bool alive = next >= 0;
      uint32_t chars = above.count;
      if (alive && rule.bounded) {
        if (lexer.Whole(next)) ++chars;
        alive = StringAlive(t.pos.goal, t.stack, next, chars, "");
      }
      if (!alive) {
        if (next == Lexer::kQuote && set.Accepts(lexer.base(above.state), above.count)) {
          made.exits.push_back(i);
        }
        i = v.subtree_end(i);
        continue;
      }
      levels[depth] = {next, chars};
      SetTokens(v.tokens(i), made.inside);
      ++i;
    }
  });
  Or(local.inside, mask);
  if (local.exits.empty()) return;
  const After after = make_after();
  for (int32_t node : local.exits) exit(node, after);
}

// Whether every name that begins so is of one class, and none of them has come yet.
bool Machine::KeyExitsAlike(const Thread& t, std::string_view raw) {
  const Frame& f = *t.stack;
  const Lexer& lexer = *key_lexers_.at(f.object);
  const int32_t state = lexer.base(t.pos.state);
  const Dfa& dfa = *f.object->names;
  for (int c = 0; c < dfa.alphabet.num_classes; ++c) {
    if (dfa.NextClass(state, c) != state) return false;
  }
  const KeyClass& k = f.object->classes[dfa.accept[state] - 1];
  if (!k.possible || k.literal >= 0) return false;
  if (f.others == nullptr) return true;
  const std::string prefix = DecodeJsonString(raw);
  return std::none_of(f.others->begin(), f.others->end(), [&](const std::string& name) {
    return name.compare(0, prefix.size(), prefix) == 0;
  });
}

void Machine::KeyMask(const Thread& t, const History& history, std::span<uint32_t> mask) {
  const Frame& f = *t.stack;
  const ObjectRule& rule = *f.object;
  Lexer& lexer = *key_lexers_.at(&rule);
  const VocabularyTrie& v = *vocabulary_;
  const bool free_choice = rule.num_some == 0 && rule.max == kNoLimit &&
                           (rule.min == 0 || rule.words[rule.names->start] == kManyWords);
  const bool universal = lexer.Universal(lexer.base(t.pos.state));
  const std::string raw(history.From(t.pos.start));
  if (!free_choice || (!universal && !rule.always_many)) {
    Walk(0, {t}, history, mask);
    return;
  }
  std::vector<int32_t> plain;
  const std::vector<int32_t>* exits = &plain;
  if (universal) {
    const StringMasks::Entry& entry = v.string_masks().Find(lexer, t.pos.state);
    entry.AddInside(kNoLimit, mask);
    if (!InsideUnique(t) && KeyExitsAlike(t, raw)) {
      // Wherever the name ends it is of the same class and new: the same for many names.
      const int32_t k = rule.names->accept[lexer.base(t.pos.state)] - 1;
      const uint64_t below = Mix(t.stack->hash, static_cast<uint64_t>(k));
      const Key key = {Mix(below, reinterpret_cast<uintptr_t>(&entry)),
                       Mix(below * 0x9E3779B97F4A7C15ull, 3)};
      Or(Cached(key,
                [&](std::span<uint32_t> made) {
                  Threads threads;
                  AddProperty(t.stack, k, DecodeJsonString(raw), threads);
                  const After after = MakeAfter(std::move(threads), history, false);
                  for (const StringMasks::Exit& e : entry.exits) {
                    if (v.height(e.node) < kBytesToNextName) Exit(e.node, after, history, made);
                  }
                }),
         mask);
      for (const StringMasks::Exit& e : entry.exits) {
        if (v.height(e.node) >= kBytesToNextName) plain.push_back(e.node);
      }
    } else {
      for (const StringMasks::Exit& e : entry.exits) plain.push_back(e.node);
    }
  } else {
    const LocalMask& local = Local(&lexer, t.pos.state, 0, [&](LocalMask& made) {
      std::vector<int32_t> levels(static_cast<size_t>(v.max_depth()) + 1);
      levels[0] = t.pos.state;
      for (int32_t i = 1; i < v.num_nodes();) {
        const int32_t depth = v.depth(i);
        const int32_t next = lexer.Next(levels[depth - 1], v.byte(i));
        if (next < 0) {
          if (next == Lexer::kQuote) made.exits.push_back(i);
          i = v.subtree_end(i);
          continue;
        }
        levels[depth] = next;
        SetTokens(v.tokens(i), made.inside);
        ++i;
      }
    });
    Or(local.inside, mask);
    exits = &local.exits;
  }
  // Behind the quote, names of one class lead to the same place, until the next name is compared
  // with them.
  std::map<int32_t, After> after;
  const size_t before = history.bytes.size();
  for (int32_t node : *exits) {
    const std::string path = v.PathBytes(node);
    int32_t state = t.pos.state;
    for (size_t i = 0; i + 1 < path.size(); ++i) {
      state = lexer.Next(state, static_cast<uint8_t>(path[i]));
    }
    const int32_t k = rule.names->accept[lexer.base(state)] - 1;
    const KeyClass& c = rule.classes[k];
    if (!c.possible || (c.literal >= 0 && f.UsesLiteral(c.literal))) continue;
    std::string name;
    if (c.literal < 0) {
      if (f.others != nullptr || v.height(node) >= kBytesToNextName) {
        name = DecodeJsonString(raw + path.substr(0, path.size() - 1));
        if (f.others != nullptr &&
            std::find(f.others->begin(), f.others->end(), name) != f.others->end()) {
          continue;
        }
      }
    }
    history.bytes += path;
    if (v.height(node) >= kBytesToNextName) {
      After any_byte;
      AddProperty(t.stack, k, name, any_byte.threads);
      std::fill(std::begin(any_byte.first), std::end(any_byte.first), true);
      Exit(node, any_byte, history, mask);
    } else {
      auto it = after.find(k);
      if (it == after.end()) {
        // Any name of the class that has not come.
        Threads threads;
        std::string any = name;
        if (c.literal < 0 && any.empty()) {
          any = DecodeJsonString(raw + path.substr(0, path.size() - 1));
        }
        AddProperty(t.stack, k, any, threads);
        it = after.emplace(k, MakeAfter(std::move(threads), history, InsideUnique(t))).first;
      }
      Exit(node, it->second, history, mask);
    }
    history.bytes.resize(before);
  }
}

void Machine::TextMask(const Thread& t, const History& history, std::span<uint32_t> mask) {
  const RawText& text = grammar_.texts[grammar_.code[t.pos.goal].index];
  Lexer& lexer = *text.lexer;
  const VocabularyTrie& v = *vocabulary_;
  const LocalMask& local = Local(&lexer, t.pos.state, 0, [&](LocalMask& made) {
    std::vector<int32_t> levels(static_cast<size_t>(v.max_depth()) + 1);
    levels[0] = t.pos.state;
    for (int32_t i = 1; i < v.num_nodes();) {
      const int32_t depth = v.depth(i);
      const int32_t next = lexer.Next(levels[depth - 1], v.byte(i));
      if (next < 0) {
        i = v.subtree_end(i);
        continue;
      }
      levels[depth] = next;
      SetTokens(v.tokens(i), made.inside);
      if (v.height(i) > 0 && lexer.Whole(next) && text.dfa->accept[lexer.base(next)] != 0) {
        made.exits.push_back(i);
      }
      ++i;
    }
  });
  Or(local.inside, mask);
  if (local.exits.empty()) return;
  Threads threads;
  Enter(t.pos.goal + 1, t.stack, threads);
  const After after = MakeAfter(std::move(threads), history, false);
  if (std::none_of(std::begin(after.first), std::end(after.first), [](bool b) { return b; })) {
    return;
  }
  for (int32_t node : local.exits) Exit(node, after, history, mask);
}

void Machine::FreeMask(const Thread& t, const History& history, std::span<uint32_t> mask) {
  const FreeText& free = grammar_.free[grammar_.code[t.pos.goal].index];
  const VocabularyTrie& v = *vocabulary_;
  const LocalMask& local = Local(&free, t.pos.state, 0, [&](LocalMask& made) {
    std::vector<int32_t> levels(static_cast<size_t>(v.max_depth()) + 1);
    levels[0] = t.pos.state;
    for (int32_t i = 1; i < v.num_nodes();) {
      const int32_t depth = v.depth(i);
      const int32_t next = free.next[levels[depth - 1]][v.byte(i)];
      if (free.found[next] >= 0) {
        made.exits.push_back(i);
        i = v.subtree_end(i);
        continue;
      }
      levels[depth] = next;
      SetTokens(v.tokens(i), made.inside);
      ++i;
    }
  });
  Or(local.inside, mask);
  const size_t before = history.bytes.size();
  for (int32_t node : local.exits) {
    const std::string path = v.PathBytes(node);
    history.bytes += path;
    // The state before the last byte, which completes the trigger.
    Thread last = t;
    for (size_t i = 0; i + 1 < path.size(); ++i) {
      last.pos.state = free.next[last.pos.state][static_cast<uint8_t>(path[i])];
    }
    Threads threads;
    StepFree(last, static_cast<uint8_t>(path.back()), history, threads);
    if (!threads.empty()) {
      SetTokens(v.tokens(node), mask);
      if (v.height(node) > 0) Walk(node, std::move(threads), history, mask);
    }
    history.bytes.resize(before);
  }
}

}  // namespace ink::constraint
