#include "sampling/constraint/dfa.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "base/check.h"

namespace ink::constraint {
namespace {

// Elementary steps that building one automaton may take; about a second.
constexpr uint64_t kMaxWork = 100000000;
constexpr size_t kMaxNfaNodes = 200000;

struct VectorHash {
  size_t operator()(const std::vector<int32_t>& v) const {
    uint64_t h = 0x9E3779B97F4A7C15ull;
    for (int32_t x : v) h = (h ^ static_cast<uint32_t>(x)) * 0x100000001B3ull + (h >> 29);
    return h;
  }
};
using VectorMap = std::unordered_map<std::vector<int32_t>, int32_t, VectorHash>;

void FillAscii(Alphabet& a) {
  for (uint32_t c = 0; c < 128; ++c) a.ascii[c] = a.classes[a.RangeIndex(c)];
}

// Classes by which of `sets` hold a character.
Alphabet AlphabetOf(const std::vector<const CharSet*>& sets) {
  std::vector<uint32_t> cuts = {0};
  for (const CharSet* s : sets) {
    for (const auto& [low, high] : s->ranges()) {
      cuts.push_back(low);
      // Surrogates are in no set and never read: they go with what stands before them.
      if (high < kMaxCodePoint) cuts.push_back(high == 0xD7FF ? 0xE000 : high + 1);
    }
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  // Membership of each cut: one sweep per set.
  std::vector<std::vector<int32_t>> member(cuts.size());
  for (size_t i = 0; i < sets.size(); ++i) {
    size_t at = 0;
    for (const auto& [low, high] : sets[i]->ranges()) {
      at = std::lower_bound(cuts.begin() + at, cuts.end(), low) - cuts.begin();
      for (; at < cuts.size() && cuts[at] <= high; ++at) {
        member[at].push_back(static_cast<int32_t>(i));
      }
    }
  }
  Alphabet a;
  a.starts.clear();
  a.classes.clear();
  VectorMap ids;
  for (size_t i = 0; i < cuts.size(); ++i) {
    const int32_t id = ids.emplace(member[i], static_cast<int32_t>(ids.size())).first->second;
    if (!a.classes.empty() && a.classes.back() == id) continue;
    a.starts.push_back(cuts[i]);
    a.classes.push_back(static_cast<uint16_t>(id));
  }
  a.num_classes = static_cast<int>(ids.size());
  FillAscii(a);
  return a;
}

// Thompson's construction. Node kinds: a set of characters, a split, an assertion, the end.
struct NfaNode {
  enum class Kind { kSet, kSplit, kAssert, kMatch } kind = Kind::kSplit;
  int32_t set = -1;
  RegexNode::Assertion assertion = RegexNode::Assertion::kStart;
  std::vector<int32_t> out;
};

class NfaBuilder {
 public:
  // Builds `node` so that it continues at `next`; returns its entry. Grows beyond the limit only by
  // one repetition before it gives up.
  int32_t Build(const RegexPtr& node, int32_t next) {
    if (nodes_.size() > kMaxNfaNodes) {
      overflow_ = true;
      return next;
    }
    switch (node->kind) {
      case RegexNode::Kind::kSet: {
        NfaNode n;
        n.kind = NfaNode::Kind::kSet;
        n.set = SetId(node->set);
        n.out = {next};
        return Push(std::move(n));
      }
      case RegexNode::Kind::kConcat:
        for (size_t i = node->children.size(); i > 0; --i)
          next = Build(node->children[i - 1], next);
        return next;
      case RegexNode::Kind::kAlternate: {
        NfaNode n;
        for (const RegexPtr& child : node->children) n.out.push_back(Build(child, next));
        return Push(std::move(n));
      }
      case RegexNode::Kind::kRepeat: {
        const RegexPtr& child = node->children[0];
        int32_t entry = next;
        if (node->max < 0) {
          const int32_t loop = Push({});
          const int32_t body = Build(child, loop);
          nodes_[loop].out = {body, next};
          entry = loop;
        } else {
          for (int i = node->min; i < node->max && !overflow_; ++i) {
            const int32_t body = Build(child, entry);
            NfaNode n;
            n.out = {body, next};
            entry = Push(std::move(n));
          }
        }
        for (int i = 0; i < node->min && !overflow_; ++i) entry = Build(child, entry);
        return entry;
      }
      case RegexNode::Kind::kAssert: {
        NfaNode n;
        n.kind = NfaNode::Kind::kAssert;
        n.assertion = node->assertion;
        n.out = {next};
        using A = RegexNode::Assertion;
        if (n.assertion == A::kStart || n.assertion == A::kLineStart) uses_start_ = true;
        if (n.assertion == A::kLineStart || n.assertion == A::kLineEnd) uses_lines_ = true;
        if (n.assertion == A::kWordBoundary || n.assertion == A::kNotWordBoundary) {
          uses_words_ = true;
          uses_start_ = true;
        }
        return Push(std::move(n));
      }
    }
    return next;
  }
  int32_t Push(NfaNode node) {
    nodes_.push_back(std::move(node));
    return static_cast<int32_t>(nodes_.size()) - 1;
  }
  int32_t SetId(const CharSet& set) {
    const auto [it, inserted] = set_ids_.emplace(set.ranges(), static_cast<int32_t>(sets_.size()));
    if (inserted) sets_.push_back(set);
    return it->second;
  }

  std::vector<NfaNode> nodes_;
  std::vector<CharSet> sets_;
  std::map<std::vector<std::pair<uint32_t, uint32_t>>, int32_t> set_ids_;
  bool overflow_ = false;
  bool uses_start_ = false, uses_lines_ = false, uses_words_ = false;
};

// What stands before or after a position, as far as assertions can see it.
enum Side : int32_t { kEdge, kWord, kLineBreak, kOther };

bool Holds(RegexNode::Assertion a, Side before, Side after) {
  using A = RegexNode::Assertion;
  switch (a) {
    case A::kStart:
      return before == kEdge;
    case A::kEnd:
      return after == kEdge;
    case A::kLineStart:
      return before == kEdge || before == kLineBreak;
    case A::kLineEnd:
      return after == kEdge || after == kLineBreak;
    case A::kWordBoundary:
      return (before == kWord) != (after == kWord);
    case A::kNotWordBoundary:
      return (before == kWord) == (after == kWord);
  }
  return false;
}

class Determinizer {
 public:
  Determinizer(NfaBuilder& nfa, int32_t entry, int32_t sticky, size_t max_states)
      : nfa_(nfa), entry_(entry), sticky_(sticky), max_states_(max_states) {}

  Result<Dfa> Run() {
    std::vector<const CharSet*> sets;
    const CharSet words = WordChars(), lines = LineTerminators();
    for (const CharSet& s : nfa_.sets_) sets.push_back(&s);
    if (nfa_.uses_words_) sets.push_back(&words);
    if (nfa_.uses_lines_) sets.push_back(&lines);
    dfa_.alphabet = AlphabetOf(sets);
    const int classes = dfa_.alphabet.num_classes;
    in_set_.assign(nfa_.sets_.size() * classes, 0);
    side_.assign(classes, kOther);
    for (size_t r = 0; r < dfa_.alphabet.starts.size(); ++r) {
      const uint32_t probe = dfa_.alphabet.starts[r];
      const int k = dfa_.alphabet.classes[r];
      for (size_t s = 0; s < nfa_.sets_.size(); ++s) {
        if (nfa_.sets_[s].Contains(probe)) in_set_[s * classes + k] = 1;
      }
      if (nfa_.uses_words_ && words.Contains(probe)) side_[k] = kWord;
      if (nfa_.uses_lines_ && lines.Contains(probe)) side_[k] = kLineBreak;
    }
    mark_.assign(nfa_.nodes_.size(), 0);
    Intern({kEdge, entry_});
    for (size_t s = 0; s < keys_.size(); ++s) {
      if (keys_.size() > max_states_ || work_ > kMaxWork) {
        return Unsupported("the pattern needs an automaton of more than " +
                           std::to_string(max_states_) + " states");
      }
      const std::vector<int32_t> key = keys_[s];
      const Side before = static_cast<Side>(key[0]);
      bool match = false;
      Closure(key, before, kEdge, &match);
      dfa_.accept.push_back(match ? 1 : 0);
      int last_side = -1;
      std::vector<int32_t> closure;
      for (int k = 0; k < classes; ++k) {
        const Side after = side_[k];
        bool stuck = false;
        if (last_side != after) {
          closure = Closure(key, before, after, &stuck);
          last_side = after;
        }
        std::vector<int32_t> kernel = {nfa_.uses_words_ || nfa_.uses_lines_ ? after
                                       : nfa_.uses_start_                   ? kOther
                                                                            : kEdge};
        for (int32_t n : closure) {
          const NfaNode& node = nfa_.nodes_[n];
          if (in_set_[node.set * classes + k]) kernel.push_back(node.out[0]);
        }
        work_ += closure.size() + 1;
        std::sort(kernel.begin() + 1, kernel.end());
        kernel.erase(std::unique(kernel.begin() + 1, kernel.end()), kernel.end());
        // Once found, a search accepts whatever follows.
        if (sticky_ >= 0 && std::binary_search(kernel.begin() + 1, kernel.end(), sticky_)) {
          kernel = {kOther, sticky_};
        }
        dfa_.next.push_back(Intern(std::move(kernel)));
      }
    }
    return std::move(dfa_);
  }

 private:
  int32_t Intern(std::vector<int32_t> key) {
    const auto [it, inserted] = ids_.emplace(key, static_cast<int32_t>(keys_.size()));
    if (inserted) keys_.push_back(std::move(key));
    return it->second;
  }

  // Character nodes reachable without reading; `*match` is set where the end is.
  std::vector<int32_t> Closure(const std::vector<int32_t>& key, Side before, Side after,
                               bool* match) {
    std::vector<int32_t> result, stack(key.begin() + 1, key.end());
    ++epoch_;
    while (!stack.empty()) {
      const int32_t n = stack.back();
      stack.pop_back();
      if (mark_[n] == epoch_) continue;
      mark_[n] = epoch_;
      ++work_;
      const NfaNode& node = nfa_.nodes_[n];
      switch (node.kind) {
        case NfaNode::Kind::kSet:
          result.push_back(n);
          break;
        case NfaNode::Kind::kMatch:
          *match = true;
          break;
        case NfaNode::Kind::kAssert:
          if (!Holds(node.assertion, before, after)) break;
          [[fallthrough]];
        case NfaNode::Kind::kSplit:
          stack.insert(stack.end(), node.out.begin(), node.out.end());
          break;
      }
    }
    return result;
  }

  NfaBuilder& nfa_;
  int32_t entry_;
  int32_t sticky_;
  size_t max_states_;
  Dfa dfa_;
  std::vector<uint8_t> in_set_;  // [sets, classes]
  std::vector<Side> side_;
  std::vector<std::vector<int32_t>> keys_;
  VectorMap ids_;
  std::vector<uint32_t> mark_;
  uint32_t epoch_ = 0;
  uint64_t work_ = 0;
};

}  // namespace

size_t Alphabet::RangeIndex(uint32_t c) const {
  return std::upper_bound(starts.begin(), starts.end(), c) - starts.begin() - 1;
}

std::vector<uint64_t> Alphabet::Sizes() const {
  std::vector<uint64_t> sizes(num_classes, 0);
  for (size_t i = 0; i < starts.size(); ++i) {
    const uint32_t low = starts[i],
                   high = i + 1 < starts.size() ? starts[i + 1] - 1 : kMaxCodePoint;
    uint64_t n = high - low + 1;
    const uint32_t surrogate_low = std::max(low, 0xD800u), surrogate_high = std::min(high, 0xDFFFu);
    if (surrogate_low <= surrogate_high) n -= surrogate_high - surrogate_low + 1;
    sizes[classes[i]] += n;
  }
  return sizes;
}

uint32_t Alphabet::Example(int char_class) const {
  for (uint32_t c = 'a'; c <= 'z'; ++c) {
    if (ascii[c] == char_class) return c;
  }
  for (uint32_t c = ' '; c < 127; ++c) {
    if (ascii[c] == char_class && c != '"' && c != '\\') return c;
  }
  for (size_t i = 0; i < starts.size(); ++i) {
    if (classes[i] != char_class) continue;
    const uint32_t high = i + 1 < starts.size() ? starts[i + 1] - 1 : kMaxCodePoint;
    if (starts[i] < 0xD800 || starts[i] > 0xDFFF) return starts[i];
    if (high > 0xDFFF) return 0xE000;
  }
  return 0xFFFD;
}

int32_t Dfa::Match(std::string_view text) const {
  std::vector<uint32_t> characters;
  if (!DecodeUtf8(text, &characters)) return 0;
  int32_t s = start;
  for (uint32_t c : characters) s = Next(s, c);
  return accept[s];
}

std::vector<uint8_t> Dfa::Live(const std::vector<uint8_t>& accepting) const {
  const int32_t n = num_states();
  const int k = alphabet.num_classes;
  // Reverse edges in compressed rows.
  std::vector<int32_t> begin(n + 1, 0), from(next.size());
  for (int32_t t : next) ++begin[t + 1];
  for (int32_t i = 0; i < n; ++i) begin[i + 1] += begin[i];
  std::vector<int32_t> at(begin.begin(), begin.end() - 1);
  for (int32_t s = 0; s < n; ++s) {
    for (int c = 0; c < k; ++c) from[at[NextClass(s, c)]++] = s;
  }
  std::vector<uint8_t> live(accepting);
  std::vector<int32_t> stack;
  for (int32_t s = 0; s < n; ++s) {
    if (live[s]) stack.push_back(s);
  }
  while (!stack.empty()) {
    const int32_t s = stack.back();
    stack.pop_back();
    for (int32_t i = begin[s]; i < begin[s + 1]; ++i) {
      if (!live[from[i]]) {
        live[from[i]] = 1;
        stack.push_back(from[i]);
      }
    }
  }
  return live;
}

Dfa AnyTextDfa() {
  Dfa dfa;
  dfa.next = {0};
  dfa.accept = {1};
  return dfa;
}

Dfa LiteralsDfa(const std::vector<std::string>& literals) {
  std::vector<std::vector<uint32_t>> texts(literals.size());
  std::map<uint32_t, int> used;
  for (size_t i = 0; i < literals.size(); ++i) {
    DecodeUtf8(literals[i], &texts[i]);
    for (uint32_t c : texts[i]) used.emplace(c, 0);
  }
  Dfa dfa;
  std::vector<CharSet> sets;
  for (auto& [c, id] : used) sets.push_back(CharSet::Range(c, c));
  std::vector<const CharSet*> pointers;
  for (const CharSet& s : sets) pointers.push_back(&s);
  dfa.alphabet = AlphabetOf(pointers);
  const int k = dfa.alphabet.num_classes;
  // State 0: off every literal. State 1: the start.
  dfa.next.assign(2 * k, 0);
  dfa.accept.assign(2, 0);
  dfa.start = 1;
  for (size_t i = 0; i < texts.size(); ++i) {
    int32_t s = 1;
    for (uint32_t c : texts[i]) {
      int32_t t = dfa.Next(s, c);
      if (t == 0) {
        t = dfa.num_states();
        dfa.next.resize(dfa.next.size() + k, 0);
        dfa.accept.push_back(0);
        dfa.next[static_cast<size_t>(s) * k + dfa.alphabet.Class(c)] = t;
      }
      s = t;
    }
    dfa.accept[s] = static_cast<int32_t>(i) + 1;
  }
  return dfa;
}

Dfa LengthDfa(int64_t min, int64_t max) {
  Dfa dfa;
  const int64_t last = max >= 0 ? max + 1 : min;  // the state that absorbs what follows
  for (int64_t i = 0; i <= last; ++i) {
    dfa.next.push_back(static_cast<int32_t>(std::min(i + 1, last)));
    dfa.accept.push_back(i >= min && (max < 0 || i <= max) ? 1 : 0);
  }
  return dfa;
}

Result<Dfa> RegexDfa(const RegexPtr& regex, bool search, size_t max_states) {
  NfaBuilder nfa;
  NfaNode match;
  match.kind = NfaNode::Kind::kMatch;
  const int32_t end = nfa.Push(std::move(match));
  int32_t exit = end, sticky = -1;
  if (search) {
    sticky = exit = nfa.Push({});
    NfaNode any;
    any.kind = NfaNode::Kind::kSet;
    any.set = nfa.SetId(CharSet::All());
    any.out = {exit};
    const int32_t loop = nfa.Push(std::move(any));
    nfa.nodes_[exit].out = {end, loop};
  }
  int32_t entry = nfa.Build(regex, exit);
  if (search) {
    const int32_t start = nfa.Push({});
    NfaNode any;
    any.kind = NfaNode::Kind::kSet;
    any.set = nfa.SetId(CharSet::All());
    any.out = {start};
    const int32_t loop = nfa.Push(std::move(any));
    nfa.nodes_[start].out = {entry, loop};
    entry = start;
  }
  if (nfa.overflow_) {
    return Unsupported("the pattern repeats too much: more than " + std::to_string(kMaxNfaNodes) +
                       " positions");
  }
  INK_ASSIGN_OR_RETURN(Dfa dfa, Determinizer(nfa, entry, sticky, max_states).Run());
  return Minimized(std::move(dfa));
}

Result<Dfa> ProductDfa(const std::vector<const Dfa*>& parts,
                       const std::function<int32_t(std::span<const int32_t>)>& combine,
                       size_t max_states) {
  Dfa out;
  // The common refinement of the alphabets.
  std::vector<uint32_t> cuts;
  for (const Dfa* p : parts) {
    cuts.insert(cuts.end(), p->alphabet.starts.begin(), p->alphabet.starts.end());
  }
  cuts.push_back(0);
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  out.alphabet.starts.clear();
  out.alphabet.classes.clear();
  VectorMap class_ids;
  std::vector<std::vector<int32_t>> part_class;  // [class][part]
  for (uint32_t cut : cuts) {
    std::vector<int32_t> signature;
    for (const Dfa* p : parts) {
      signature.push_back(p->alphabet.classes[p->alphabet.RangeIndex(cut)]);
    }
    const auto [it, inserted] =
        class_ids.emplace(signature, static_cast<int32_t>(part_class.size()));
    if (inserted) part_class.push_back(signature);
    if (!out.alphabet.classes.empty() && out.alphabet.classes.back() == it->second) continue;
    out.alphabet.starts.push_back(cut);
    out.alphabet.classes.push_back(static_cast<uint16_t>(it->second));
  }
  if (part_class.size() > 4096) return Unsupported("patterns tell too many characters apart");
  out.alphabet.num_classes = static_cast<int>(part_class.size());
  FillAscii(out.alphabet);

  VectorMap ids;
  std::vector<std::vector<int32_t>> states;
  const auto intern = [&](std::vector<int32_t> key) {
    const auto [it, inserted] = ids.emplace(key, static_cast<int32_t>(states.size()));
    if (inserted) states.push_back(std::move(key));
    return it->second;
  };
  std::vector<int32_t> first;
  for (const Dfa* p : parts) first.push_back(p->start);
  intern(std::move(first));
  std::vector<int32_t> tags(parts.size());
  uint64_t work = 0;
  for (size_t s = 0; s < states.size(); ++s) {
    work += part_class.size() * (parts.size() + 1);
    if (states.size() > max_states || work > kMaxWork) {
      return Unsupported("the patterns together need an automaton of more than " +
                         std::to_string(max_states) + " states");
    }
    for (size_t i = 0; i < parts.size(); ++i) tags[i] = parts[i]->accept[states[s][i]];
    out.accept.push_back(combine(tags));
    for (const std::vector<int32_t>& c : part_class) {
      std::vector<int32_t> key(parts.size());
      for (size_t i = 0; i < parts.size(); ++i) key[i] = parts[i]->NextClass(states[s][i], c[i]);
      out.next.push_back(intern(std::move(key)));
    }
  }
  return out;
}

Dfa Minimized(Dfa dfa) {
  // Moore's refinement: as many rounds as the longest distinguishing text, so it is given up where
  // that is long.
  constexpr uint64_t kBudget = 30000000;
  const int32_t n = dfa.num_states();
  const int k = dfa.alphabet.num_classes;
  std::vector<int32_t> block(n);
  size_t blocks = 0;
  {
    std::map<int32_t, int32_t> ids;
    for (int32_t s = 0; s < n; ++s) {
      block[s] = ids.emplace(dfa.accept[s], static_cast<int32_t>(ids.size())).first->second;
    }
    blocks = ids.size();
  }
  for (uint64_t work = 0;; work += static_cast<uint64_t>(n) * (k + 1)) {
    if (work > kBudget) return dfa;
    VectorMap ids;
    std::vector<int32_t> refined(n), key(k + 1);
    for (int32_t s = 0; s < n; ++s) {
      key[0] = block[s];
      for (int c = 0; c < k; ++c) key[c + 1] = block[dfa.NextClass(s, c)];
      refined[s] = ids.emplace(key, static_cast<int32_t>(ids.size())).first->second;
    }
    const bool stable = ids.size() == blocks;
    blocks = ids.size();
    block = std::move(refined);
    if (stable) break;
  }
  if (blocks == static_cast<size_t>(n) && k == 1) return dfa;
  // Blocks become states, and classes with equal columns become one.
  std::vector<int32_t> member(blocks, -1);
  for (int32_t s = 0; s < n; ++s) {
    if (member[block[s]] < 0) member[block[s]] = s;
  }
  VectorMap columns;
  std::vector<int32_t> class_of(k), keep;
  for (int c = 0; c < k; ++c) {
    std::vector<int32_t> column(blocks);
    for (size_t b = 0; b < blocks; ++b) column[b] = block[dfa.NextClass(member[b], c)];
    const auto [it, inserted] =
        columns.emplace(std::move(column), static_cast<int32_t>(keep.size()));
    if (inserted) keep.push_back(c);
    class_of[c] = it->second;
  }
  Dfa out;
  out.alphabet.starts.clear();
  out.alphabet.classes.clear();
  for (size_t r = 0; r < dfa.alphabet.starts.size(); ++r) {
    const auto id = static_cast<uint16_t>(class_of[dfa.alphabet.classes[r]]);
    if (!out.alphabet.classes.empty() && out.alphabet.classes.back() == id) continue;
    out.alphabet.starts.push_back(dfa.alphabet.starts[r]);
    out.alphabet.classes.push_back(id);
  }
  out.alphabet.num_classes = static_cast<int>(keep.size());
  FillAscii(out.alphabet);
  for (size_t b = 0; b < blocks; ++b) {
    out.accept.push_back(dfa.accept[member[b]]);
    for (int32_t c : keep) out.next.push_back(block[dfa.NextClass(member[b], c)]);
  }
  out.start = block[dfa.start];
  return out;
}

}  // namespace ink::constraint
