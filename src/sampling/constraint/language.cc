#include "sampling/constraint/language.h"

#include <algorithm>

#include "base/check.h"

namespace ink::constraint {
namespace {

uint64_t CountCharacters(std::string_view text) {
  return static_cast<uint64_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

uint64_t AddSaturated(uint64_t a, uint64_t b) { return std::min(kManyWords, a + b); }
uint64_t MulSaturated(uint64_t a, uint64_t b) {
  return a == 0 || b == 0 ? 0 : a > kManyWords / b ? kManyWords : a * b;
}

}  // namespace

LanguagePool::LanguagePool(size_t max_states) : max_states_(max_states) {
  nodes_.resize(2);
  nodes_[kNone].kind = Kind::kNone;
}

LangId LanguagePool::Intern(const std::string& key, Node node) {
  const auto [it, inserted] = ids_.emplace(key, static_cast<LangId>(nodes_.size()));
  if (inserted) nodes_.push_back(std::move(node));
  return it->second;
}

Result<LangId> LanguagePool::Search(const std::string& pattern) {
  const std::string key = "search " + pattern;
  if (auto it = ids_.find(key); it != ids_.end()) return it->second;
  INK_ASSIGN_OR_RETURN(const RegexPtr regex, ParseRegex(pattern));
  INK_ASSIGN_OR_RETURN(Dfa dfa, RegexDfa(regex, true, max_states_));
  Node node;
  node.kind = Kind::kDfa;
  if (dfa.num_states() == 1) return dfa.accept[0] ? kAll : kNone;
  node.dfa = std::make_shared<Dfa>(std::move(dfa));
  return Intern(key, std::move(node));
}

Result<LangId> LanguagePool::Whole(const std::string& name, const std::string& pattern) {
  const std::string key = "whole " + name;
  if (auto it = ids_.find(key); it != ids_.end()) return it->second;
  INK_ASSIGN_OR_RETURN(const RegexPtr regex, ParseRegex(pattern));
  INK_ASSIGN_OR_RETURN(Dfa dfa, RegexDfa(regex, false, max_states_));
  Node node;
  node.kind = Kind::kDfa;
  node.dfa = std::make_shared<Dfa>(std::move(dfa));
  return Intern(key, std::move(node));
}

LangId LanguagePool::Literals(std::vector<std::string> texts) {
  if (texts.empty()) return kNone;
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  std::string key = "literals";
  for (const std::string& t : texts) key += " " + std::to_string(t.size()) + ":" + t;
  Node node;
  node.kind = Kind::kLiterals;
  node.texts = std::move(texts);
  return Intern(key, std::move(node));
}

LangId LanguagePool::Length(uint64_t min, uint64_t max) {
  if (min > max) return kNone;
  if (min == 0 && max == UINT64_MAX) return kAll;
  Node node;
  node.kind = Kind::kLength;
  node.min = min;
  node.max = max;
  return Intern("length " + std::to_string(min) + " " + std::to_string(max), std::move(node));
}

LangId LanguagePool::Not(LangId a) {
  if (a == kAll) return kNone;
  if (a == kNone) return kAll;
  if (nodes_[a].kind == Kind::kNot) return nodes_[a].children[0];
  Node node;
  node.kind = Kind::kNot;
  node.children = {a};
  return Intern("not " + std::to_string(a), std::move(node));
}

LangId LanguagePool::And(LangId a, LangId b) { return Combine(Kind::kAnd, a, b); }
LangId LanguagePool::Or(LangId a, LangId b) { return Combine(Kind::kOr, a, b); }

LangId LanguagePool::Combine(Kind kind, LangId a, LangId b) {
  const bool both = kind == Kind::kAnd;
  const LangId zero = both ? kNone : kAll, one = both ? kAll : kNone;
  if (a == zero || b == zero) return zero;
  if (a == one || a == b) return b;
  if (b == one) return a;
  if (nodes_[b].kind == Kind::kLiterals) std::swap(a, b);
  if (nodes_[a].kind == Kind::kLiterals && (both || nodes_[b].kind == Kind::kLiterals)) {
    std::vector<std::string> texts = nodes_[a].texts;
    if (both) {
      std::erase_if(texts, [&](const std::string& t) { return !Accepts(b, t); });
    } else {
      texts.insert(texts.end(), nodes_[b].texts.begin(), nodes_[b].texts.end());
    }
    return Literals(std::move(texts));
  }
  std::vector<LangId> children;
  for (LangId x : {a, b}) {
    if (nodes_[x].kind == kind) {
      children.insert(children.end(), nodes_[x].children.begin(), nodes_[x].children.end());
    } else {
      children.push_back(x);
    }
  }
  std::sort(children.begin(), children.end());
  children.erase(std::unique(children.begin(), children.end()), children.end());
  std::string key = both ? "and" : "or";
  for (LangId x : children) {
    if (nodes_[x].kind == Kind::kNot &&
        std::binary_search(children.begin(), children.end(), nodes_[x].children[0])) {
      return zero;
    }
    key += " " + std::to_string(x);
  }
  Node node;
  node.kind = kind;
  node.children = std::move(children);
  return Intern(key, std::move(node));
}

bool LanguagePool::Accepts(LangId lang, std::string_view text) const {
  const Node& node = nodes_[lang];
  switch (node.kind) {
    case Kind::kAll:
      return true;
    case Kind::kNone:
      return false;
    case Kind::kDfa:
      return node.dfa->Match(text) != 0;
    case Kind::kLength: {
      const uint64_t n = CountCharacters(text);
      return n >= node.min && n <= node.max;
    }
    case Kind::kLiterals:
      return std::binary_search(node.texts.begin(), node.texts.end(), text);
    case Kind::kNot:
      return !Accepts(node.children[0], text);
    case Kind::kAnd:
      return std::all_of(node.children.begin(), node.children.end(),
                         [&](LangId x) { return Accepts(x, text); });
    case Kind::kOr:
      return std::any_of(node.children.begin(), node.children.end(),
                         [&](LangId x) { return Accepts(x, text); });
  }
  return false;
}

const std::vector<std::string>* LanguagePool::LiteralTexts(LangId lang) const {
  return nodes_[lang].kind == Kind::kLiterals ? &nodes_[lang].texts : nullptr;
}

void LanguagePool::Collect(LangId lang, Parts* parts) const {
  const Node& node = nodes_[lang];
  switch (node.kind) {
    case Kind::kAll:
    case Kind::kNone:
      return;
    case Kind::kDfa:
    case Kind::kLength:
      if (std::find(parts->bases.begin(), parts->bases.end(), lang) == parts->bases.end()) {
        parts->bases.push_back(lang);
      }
      return;
    case Kind::kLiterals:
      parts->literals.insert(parts->literals.end(), node.texts.begin(), node.texts.end());
      return;
    default:
      for (LangId x : node.children) Collect(x, parts);
  }
}

bool LanguagePool::Evaluate(LangId lang, const std::map<LangId, bool>& in_base,
                            const std::string* text) const {
  const Node& node = nodes_[lang];
  switch (node.kind) {
    case Kind::kAll:
      return true;
    case Kind::kNone:
      return false;
    case Kind::kDfa:
    case Kind::kLength:
      return in_base.at(lang);
    case Kind::kLiterals:
      return text != nullptr && std::binary_search(node.texts.begin(), node.texts.end(), *text);
    case Kind::kNot:
      return !Evaluate(node.children[0], in_base, text);
    case Kind::kAnd:
      return std::all_of(node.children.begin(), node.children.end(),
                         [&](LangId x) { return Evaluate(x, in_base, text); });
    case Kind::kOr:
      return std::any_of(node.children.begin(), node.children.end(),
                         [&](LangId x) { return Evaluate(x, in_base, text); });
  }
  return false;
}

Result<std::shared_ptr<const Dfa>> LanguagePool::BaseDfa(LangId base) {
  const Node& node = nodes_[base];
  if (node.kind == Kind::kDfa) return node.dfa;
  INK_CHECK(node.kind == Kind::kLength);
  std::shared_ptr<const Dfa>& dfa = dfas_[base];
  if (dfa == nullptr) {
    const uint64_t largest = node.max == UINT64_MAX ? node.min : node.max;
    if (largest >= max_states_) {
      return Unsupported("a length of " + std::to_string(largest) +
                         " in combination with other conditions");
    }
    dfa = std::make_shared<Dfa>(
        LengthDfa(static_cast<int64_t>(node.min),
                  node.max == UINT64_MAX ? -1 : static_cast<int64_t>(node.max)));
  }
  return dfa;
}

Result<std::shared_ptr<const Dfa>> LanguagePool::ToDfa(LangId lang) {
  if (nodes_[lang].kind == Kind::kDfa) return nodes_[lang].dfa;
  if (auto it = dfas_.find(lang); it != dfas_.end() && it->second != nullptr) return it->second;
  Parts parts;
  Collect(lang, &parts);
  std::sort(parts.literals.begin(), parts.literals.end());
  parts.literals.erase(std::unique(parts.literals.begin(), parts.literals.end()),
                       parts.literals.end());
  const Dfa literals = LiteralsDfa(parts.literals);
  std::vector<std::shared_ptr<const Dfa>> owners;
  std::vector<const Dfa*> dfas = {&literals};
  for (LangId base : parts.bases) {
    INK_ASSIGN_OR_RETURN(auto dfa, BaseDfa(base));
    dfas.push_back(dfa.get());
    owners.push_back(std::move(dfa));
  }
  const auto combine = [&](std::span<const int32_t> tags) -> int32_t {
    std::map<LangId, bool> in_base;
    for (size_t i = 0; i < parts.bases.size(); ++i) in_base[parts.bases[i]] = tags[i + 1] != 0;
    const std::string* text = tags[0] > 0 ? &parts.literals[tags[0] - 1] : nullptr;
    return Evaluate(lang, in_base, text) ? 1 : 0;
  };
  INK_ASSIGN_OR_RETURN(Dfa product, ProductDfa(dfas, combine, max_states_));
  auto dfa = std::make_shared<const Dfa>(Minimized(std::move(product)));
  dfas_[lang] = dfa;
  return dfa;
}

void LanguagePool::SplitLength(LangId lang, LangId* rest, uint64_t* min, uint64_t* max) {
  *min = 0;
  *max = UINT64_MAX;
  *rest = kAll;
  std::vector<LangId> parts = {lang};
  if (nodes_[lang].kind == Kind::kAnd) parts = nodes_[lang].children;
  for (LangId part : parts) {
    if (nodes_[part].kind == Kind::kLength) {
      *min = std::max(*min, nodes_[part].min);
      *max = std::min(*max, nodes_[part].max);
    } else {
      *rest = And(*rest, part);
    }
  }
}

std::vector<uint64_t> CountWords(const Dfa& dfa, const std::vector<uint8_t>& accepting) {
  const std::vector<uint8_t> live = dfa.Live(accepting);
  const std::vector<uint64_t> sizes = dfa.alphabet.Sizes();
  const int32_t n = dfa.num_states();
  const int k = dfa.alphabet.num_classes;
  // Peel live states whose live successors are all counted; what remains lies on or before a cycle.
  std::vector<int32_t> pending(n, 0);
  std::vector<std::vector<int32_t>> before(n);
  for (int32_t s = 0; s < n; ++s) {
    if (!live[s]) continue;
    for (int c = 0; c < k; ++c) {
      const int32_t t = dfa.NextClass(s, c);
      if (live[t] && sizes[c] > 0) {
        ++pending[s];
        before[t].push_back(s);
      }
    }
  }
  std::vector<uint64_t> words(n, 0);
  std::vector<int32_t> ready;
  for (int32_t s = 0; s < n; ++s) {
    if (!live[s]) continue;
    words[s] = kManyWords;
    if (pending[s] == 0) ready.push_back(s);
  }
  while (!ready.empty()) {
    const int32_t s = ready.back();
    ready.pop_back();
    uint64_t count = accepting[s] ? 1 : 0;
    for (int c = 0; c < k; ++c) {
      const int32_t t = dfa.NextClass(s, c);
      if (live[t]) count = AddSaturated(count, MulSaturated(words[t], sizes[c]));
    }
    words[s] = count;
    for (int32_t p : before[s]) {
      if (--pending[p] == 0) ready.push_back(p);
    }
  }
  return words;
}

bool StringSet::Alive(int32_t state, uint64_t count) const {
  if (shortest[state] == UINT64_MAX) return false;
  if (min == 0 && max == UINT64_MAX) return true;
  if (count > max) return false;
  const uint64_t low = count < min ? min - count : 0;
  const uint32_t* lengths = &next_length[static_cast<size_t>(state) * (horizon + 1)];
  const uint32_t found = lengths[std::min<uint64_t>(low, horizon)];
  return found != kNoLength && std::max<uint64_t>(found, low) <= max - count;
}

uint64_t StringSet::CountFrom(int32_t first, uint64_t count, uint64_t limit) const {
  if (!Alive(first, count)) return 0;
  if (max == UINT64_MAX && (words[first] == kManyWords || count >= min)) {
    return std::min(words[first], limit);
  }
  // Texts by length, until there are enough.
  const std::vector<uint64_t> sizes = dfa->alphabet.Sizes();
  const int32_t n = dfa->num_states();
  std::vector<uint64_t> at(n, 0);
  at[first] = 1;
  uint64_t total = 0, work = 0;
  for (uint64_t length = count; length <= max; ++length) {
    std::vector<uint64_t> next(n, 0);
    bool any = false;
    for (int32_t s = 0; s < n; ++s) {
      if (at[s] == 0) continue;
      if (Accepts(s, length)) total = AddSaturated(total, at[s]);
      for (int c = 0; c < dfa->alphabet.num_classes; ++c) {
        const int32_t t = dfa->NextClass(s, c);
        if (!Alive(t, length + 1)) continue;
        next[t] = AddSaturated(next[t], MulSaturated(at[s], sizes[c]));
        any = true;
      }
      work += static_cast<uint64_t>(dfa->alphabet.num_classes);
    }
    if (total >= limit) return limit;
    if (!any) return total;
    if (work > 5000000) return limit;  // thousands of lengths: as good as many
    at = std::move(next);
  }
  return total;
}

bool StringSet::Contains(std::string_view text) const {
  std::vector<uint32_t> characters;
  if (!DecodeUtf8(text, &characters)) return false;
  int32_t s = dfa->start;
  for (uint32_t c : characters) s = dfa->Next(s, c);
  return Accepts(s, characters.size());
}

std::string StringSet::Completion(int32_t state, uint64_t count) const {
  std::string out;
  const int k = dfa->alphabet.num_classes;
  while (!Accepts(state, count)) {
    // The nearest end among the continuations that still reach the least length.
    int best = -1;
    for (int c = 0; c < k; ++c) {
      const int32_t t = dfa->NextClass(state, c);
      if (!Alive(t, count + 1)) continue;
      if (best < 0 || shortest[t] < shortest[dfa->NextClass(state, best)]) best = c;
    }
    INK_CHECK(best >= 0);
    AppendUtf8Char(dfa->alphabet.Example(best), &out);
    state = dfa->NextClass(state, best);
    ++count;
  }
  return out;
}

namespace {

// Fills shortest and words.
void FillShortest(StringSet& set) {
  const Dfa& dfa = *set.dfa;
  const int32_t n = dfa.num_states();
  std::vector<uint8_t> accepting(n);
  for (int32_t s = 0; s < n; ++s) accepting[s] = dfa.accept[s] != 0;
  set.words = CountWords(dfa, accepting);
  set.shortest.assign(n, UINT64_MAX);
  std::vector<std::vector<int32_t>> before(n);
  std::vector<int32_t> queue;
  for (int32_t s = 0; s < n; ++s) {
    for (int c = 0; c < dfa.alphabet.num_classes; ++c) before[dfa.NextClass(s, c)].push_back(s);
    if (accepting[s]) {
      set.shortest[s] = 0;
      queue.push_back(s);
    }
  }
  for (size_t i = 0; i < queue.size(); ++i) {
    for (int32_t p : before[queue[i]]) {
      if (set.shortest[p] != UINT64_MAX) continue;
      set.shortest[p] = set.shortest[queue[i]] + 1;
      queue.push_back(p);
    }
  }
}

// Fills next_length. Which states accept some text of length L + 1 is a function of which accept
// one of length L, so once two steps are equal all later ones are. False where that takes long.
bool FillLengths(StringSet& set) {
  constexpr uint64_t kMaxCells = 4000000;
  const Dfa& dfa = *set.dfa;
  const auto n = static_cast<size_t>(dfa.num_states());
  std::vector<std::vector<uint8_t>> accepts(1, std::vector<uint8_t>(n));
  for (size_t s = 0; s < n; ++s) accepts[0][s] = dfa.accept[s] != 0;
  std::vector<std::vector<int32_t>> after(n);
  for (size_t s = 0; s < n; ++s) {
    for (int c = 0; c < dfa.alphabet.num_classes; ++c) {
      after[s].push_back(dfa.NextClass(static_cast<int32_t>(s), c));
    }
    std::sort(after[s].begin(), after[s].end());
    after[s].erase(std::unique(after[s].begin(), after[s].end()), after[s].end());
  }
  while (true) {
    std::vector<uint8_t> longer(n, 0);
    const std::vector<uint8_t>& last = accepts.back();
    for (size_t s = 0; s < n; ++s) {
      longer[s] =
          std::any_of(after[s].begin(), after[s].end(), [&](int32_t t) { return last[t] != 0; });
    }
    if (longer == last) break;
    accepts.push_back(std::move(longer));
    if (accepts.size() * n > kMaxCells) return false;
  }
  set.horizon = static_cast<uint32_t>(accepts.size()) - 1;
  set.next_length.assign(n * (set.horizon + 1), StringSet::kNoLength);
  for (size_t s = 0; s < n; ++s) {
    uint32_t next = StringSet::kNoLength;
    for (uint32_t length = set.horizon + 1; length > 0; --length) {
      if (accepts[length - 1][s]) next = length - 1;
      set.next_length[s * (set.horizon + 1) + length - 1] = next;
    }
  }
  return true;
}

}  // namespace

Result<std::shared_ptr<const StringSet>> MakeStringSet(LanguagePool& pool, LangId lang) {
  auto set = std::make_shared<StringSet>();
  LangId rest = LanguagePool::kAll;
  pool.SplitLength(lang, &rest, &set->min, &set->max);
  if (set->min > set->max) {
    rest = LanguagePool::kNone;
    set->min = 0;
    set->max = UINT64_MAX;
  }
  if (rest == LanguagePool::kAll) {
    set->any_text = true;
    set->dfa = std::make_shared<Dfa>(AnyTextDfa());
  } else {
    INK_ASSIGN_OR_RETURN(set->dfa, pool.ToDfa(rest));
    set->any_text = set->dfa->num_states() == 1 && set->dfa->accept[0] != 0;
  }
  FillShortest(*set);
  if ((set->min > 0 || set->max < UINT64_MAX) && !FillLengths(*set)) {
    // Lengths that come and go for ever: only the product with the bounds decides.
    const LangId length = pool.Length(set->min, set->max);
    INK_ASSIGN_OR_RETURN(auto bounds, pool.BaseDfa(length));
    const auto combine = [](std::span<const int32_t> tags) -> int32_t {
      return tags[0] != 0 && tags[1] != 0;
    };
    const std::shared_ptr<const Dfa> texts = set->dfa;
    INK_ASSIGN_OR_RETURN(Dfa product,
                         ProductDfa({texts.get(), bounds.get()}, combine, pool.max_states()));
    set->dfa = std::make_shared<Dfa>(Minimized(std::move(product)));
    set->min = 0;
    set->max = UINT64_MAX;
    FillShortest(*set);
  }
  set->cardinality = set->CountFrom(set->dfa->start, 0, kManyWords);
  return std::shared_ptr<const StringSet>(std::move(set));
}

}  // namespace ink::constraint
