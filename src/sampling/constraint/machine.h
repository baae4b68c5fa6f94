// Drives threads over bytes, and over a vocabulary.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "sampling/constraint/constraint.h"
#include "sampling/constraint/grammar.h"
#include "sampling/constraint/string_masks.h"
#include "sampling/constraint/thread.h"

namespace ink::constraint {

using Threads = std::vector<Thread>;

/// The text so far, from `base` on: what positions and frames refer to by offset.
struct History {
  std::string& bytes;
  uint64_t base = 0;

  uint64_t end() const { return base + bytes.size(); }
  std::string_view From(uint64_t offset) const {
    return std::string_view(bytes).substr(static_cast<size_t>(offset - base));
  }
};

/// Immutable tables and the caches over them; all methods expect `mutex` to be held.
class Machine {
 public:
  explicit Machine(const ConstraintOptions& options) : options_(options) {}

  Status Build(const ConstraintSpec& spec, std::shared_ptr<const VocabularyTrie> vocabulary);

  Threads Start();
  /// Appends the threads after one more byte, which is already the last of `history`.
  void Step(const Thread& thread, uint8_t byte, const History& history, Threads& out);
  bool Accepting(const Thread& thread) const;
  /// ORs the tokens allowed after `thread` into `mask`.
  void AddMask(const Thread& thread, const History& history, std::span<uint32_t> mask);
  /// Leads `thread` some bytes towards its end: appends them to `history` and leaves in `thread`
  /// where they lead. False where it cannot.
  bool GoTowardsEnd(Thread& thread, const History& history);
  /// About how many bytes are missing.
  uint64_t Remaining(const Thread& thread, const History& history);
  /// The least offset that the thread refers to.
  static uint64_t Oldest(const Thread& thread);
  uint64_t memory_bytes() const;

  std::mutex mutex;

 private:
  struct StringRule {
    std::shared_ptr<const StringSet> set;
    std::unique_ptr<Lexer> lexer;        // for ordinary values
    std::unique_ptr<Lexer> exact_lexer;  // remembers characters; for elements of unique arrays
    bool bounded = false;                // lengths matter
  };

  // build.cc
  Status AddContent(const ConstraintSpec& spec, bool inside_tag, std::vector<Symbol>* symbols);
  Status AddTags(const ConstraintSpec& spec, std::vector<Symbol>* symbols);
  void BuildLexers();

  // machine.cc
  void Push(Threads& out, Thread thread);
  void Enter(int32_t place, const FramePtr& stack, Threads& out);
  // A value that ends at the end of the text so far.
  void Complete(const FramePtr& stack, const History& history, Threads& out);
  void PushNumber(Thread t, const History& history, Threads& out);
  void StartValue(GoalId goal, const FramePtr& stack, uint8_t byte, const History& history,
                  Threads& out);
  void StepString(const Thread& t, uint8_t byte, const History& history, Threads& out);
  void StepText(const Thread& t, uint8_t byte, const History& history, Threads& out);
  void StepFree(const Thread& t, uint8_t byte, const History& history, Threads& out);
  const NumberSet& NumbersOf(GoalId goal, const FramePtr& stack) const;
  const Exclusion* ExclusionOf(const FramePtr& stack) const;
  Lexer& StringLexer(GoalId goal, const FramePtr& stack);
  bool StringAlive(GoalId goal, const FramePtr& stack, int32_t state, uint32_t count,
                   std::string_view raw);
  bool StringEnds(GoalId goal, const FramePtr& stack, int32_t state, uint32_t count,
                  std::string_view raw);

  // machine_containers.cc
  void StepArray(const Thread& t, uint8_t byte, const History& history, Threads& out);
  void StepObject(const Thread& t, uint8_t byte, const History& history, Threads& out);
  void StepKey(const Thread& t, uint8_t byte, const History& history, Threads& out);
  struct Element {
    GoalId goal;
    FramePtr stack;
  };
  std::vector<Element> Elements(const FramePtr& array, uint64_t offset);
  bool CanElement(const FramePtr& array);
  bool CanCloseArray(const Frame& f) const;
  FramePtr MakeArrayFrame(const ArrayRule* rule, const FramePtr& parent);
  FramePtr MakeObjectFrame(const ObjectRule* rule, const FramePtr& parent);
  void SetExclusion(Frame& array);
  void EndKey(const Thread& t, std::string_view raw, Threads& out);
  void AddProperty(const FramePtr& object, int32_t key_class, std::string_view name, Threads& out);
  bool CanCloseObject(const Frame& f) const;
  bool CanKey(const Frame& f);
  bool KeyAlive(const Frame& f, int32_t lexer_state, std::string_view raw);
  bool KeyAllowed(const Frame& f, int32_t key_class) const;
  bool Viable(const Frame& f, const KeyClass* added, uint32_t pending) const;
  uint64_t CoverExtra(const Frame& f, uint32_t pending, std::vector<int32_t>& taken) const;

  // machine_mask.cc
  struct LocalMask {
    std::vector<uint32_t> inside;
    std::vector<int32_t> exits;
  };
  struct Key {
    uint64_t a = 0, b = 0;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& k) const { return static_cast<size_t>(k.a); }
  };
  static bool Spacious(Position::Kind kind);
  bool MaskKey(const Thread& t, const History& history, Key* key) const;
  void ComputeMask(const Thread& t, const History& history, std::span<uint32_t> mask);
  void Walk(int32_t node, Threads threads, const History& history, std::span<uint32_t> mask);
  void StringMask(const Thread& t, const History& history, std::span<uint32_t> mask);
  bool KeyExitsAlike(const Thread& t, std::string_view raw);
  void KeyMask(const Thread& t, const History& history, std::span<uint32_t> mask);
  void TextMask(const Thread& t, const History& history, std::span<uint32_t> mask);
  // The tokens that `fill` sets, kept under `key`.
  const std::vector<uint32_t>& Cached(const Key& key,
                                      const std::function<void(std::span<uint32_t>)>& fill);
  void FreeMask(const Thread& t, const History& history, std::span<uint32_t> mask);
  const LocalMask& Local(const void* owner, int32_t state, uint32_t extra,
                         const std::function<void(LocalMask&)>& fill);
  // Threads behind a string or text, and the bytes that they can go on with.
  struct After {
    Threads threads;
    bool first[256] = {};
  };
  // `any_byte`: without finding out which bytes.
  After MakeAfter(Threads threads, const History& history, bool any_byte);
  // What comes later depends on the text since some element began.
  static bool InsideUnique(const Thread& t) { return t.stack && t.stack->oldest != UINT64_MAX; }
  void Exit(int32_t node, const After& after, const History& history, std::span<uint32_t> mask);

  // machine_complete.cc
  std::string NextTowardsEnd(const Thread& t, const History& history);
  std::string ValueText(GoalId goal, const FramePtr& stack);
  Element NearestElement(const FramePtr& array, const History& history);
  std::string StringRest(const Thread& t, const History& history);
  std::string KeyRest(const Thread& t, const History& history);
  std::string KeyText(const Frame& f);
  std::string BytesToWhole(Lexer& lexer, int32_t state, const std::string& raw,
                           const std::function<bool(int32_t, std::string_view)>& alive);
  bool Possible(const Thread& t, std::string_view bytes, const History& history);
  uint64_t FrameRemaining(const FramePtr& stack);

  ConstraintOptions options_;
  std::shared_ptr<const VocabularyTrie> vocabulary_;
  std::vector<Goal> goals_;
  Grammar grammar_;
  std::vector<int32_t> string_rule_;  // per goal, -1 without strings
  std::vector<StringRule> strings_;
  std::map<const ObjectRule*, std::unique_ptr<Lexer>> key_lexers_;
  std::unordered_map<Key, std::shared_ptr<const std::vector<uint32_t>>, KeyHash> masks_;
  struct LocalKey {
    const void* owner;
    int32_t state;
    uint32_t extra;
    auto operator<=>(const LocalKey&) const = default;
  };
  std::map<LocalKey, LocalMask> locals_;
  uint64_t mask_bytes_ = 0, local_bytes_ = 0;
  std::vector<uint32_t> space_scratch_;
  std::vector<Threads> levels_;  // of Walk, kept for their memory
};

}  // namespace ink::constraint
