// Constrained output: which texts a request may produce, as an automaton that is driven byte by
// byte and yields, for a vocabulary, the mask of tokens allowed next.
//
// The automaton never leads into a dead end: a byte is refused at the first offset after which no
// completion would be in the language. What cannot be decided this way is refused when the
// constraint is compiled (kUnsupported, with the keyword named), never enforced loosely.
//
// JSON Schema: draft 2020-12; the texts are RFC 8259 texts that validate, in any key order and with
// any white space up to ConstraintOptions::max_whitespace bytes between two tokens. Narrower than
// RFC 8259 in these points, so that every text means the same to every reader: no duplicate keys,
// no lone surrogate escapes, at most kMaxNumberDigits digits in a number's mantissa and 4 in its
// exponent, and a magnitude that is 0 or between 1e-300 and the largest double. Number keywords are
// decided by exact decimal arithmetic. `format` is an annotation unless enforce_formats is set.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "sampling/constraint/vocabulary.h"

namespace ink {

inline constexpr int kMaxNumberDigits = 100;

/// What to constrain to. Built by the static functions, nested for tagged text.
struct ConstraintSpec {
  enum class Kind { kJsonSchema, kRegex, kChoice, kGrammar, kTags };

  /// A tagged part: `begin`, then a text of `content`, then `end`. Content is absent for a part
  /// that is `begin` + `end` alone.
  struct Tag {
    std::string begin;
    std::shared_ptr<const ConstraintSpec> content;
    std::string end;
  };

  Kind kind = Kind::kJsonSchema;
  std::string text;                  // schema, pattern or grammar
  std::vector<std::string> choices;  // kChoice
  // kTags: free text in which a trigger may appear only as the start of one of the tags. Each tag's
  // `begin` must start with a trigger; without triggers each `begin` is one.
  std::vector<Tag> tags;
  std::vector<std::string> triggers;
  bool free_text = true;      // false: nothing but tags (and white space between them)
  int min_tags = 0;           // the text is incomplete before this many tagged parts
  int max_tags = 0;           // no more than this many, then nothing follows; 0: no limit
  std::string tag_separator;  // with free_text false: between two tags

  static ConstraintSpec JsonSchema(std::string schema);
  static ConstraintSpec JsonObject();
  /// The whole text must match. Syntax: ECMA-262 with the u flag, and Python's (?P<name>), \A, \Z.
  static ConstraintSpec Regex(std::string pattern);
  static ConstraintSpec Choice(std::vector<std::string> choices);
  /// GBNF; the start rule is `root`.
  static ConstraintSpec Grammar(std::string gbnf);
  static ConstraintSpec Tags(std::vector<Tag> tags, std::vector<std::string> triggers = {});
};

struct ConstraintOptions {
  int max_whitespace = 64;       // bytes of JSON white space between two JSON tokens
  bool enforce_formats = false;  // JSON Schema `format` as an assertion
  // Documents that `$ref` may name besides the schema itself: absolute URI -> JSON text. The draft
  // 2020-12 metaschemas are always known.
  std::map<std::string, std::string> documents;
  size_t max_automaton_states = 20000;  // per string language; more is kUnsupported
  size_t max_goals = 20000;             // distinct sub-languages of a schema
  size_t mask_cache_bytes = size_t{32} << 20;
};

namespace constraint {
class Machine;
struct Thread;
}  // namespace constraint

class ConstraintState;

/// Immutable to its users and safe to share between threads; fills caches under a mutex.
class CompiledConstraint {
 public:
  /// `vocabulary` may be null where only bytes are checked. Errors: kInvalidArgument (malformed
  /// schema, pattern or grammar; names the place), kUnsupported (names the keyword).
  static Result<std::shared_ptr<const CompiledConstraint>> Compile(
      const ConstraintSpec& spec, const ConstraintOptions& options = {},
      std::shared_ptr<const VocabularyTrie> vocabulary = nullptr);
  ~CompiledConstraint();

  const VocabularyTrie* vocabulary() const { return vocabulary_.get(); }
  /// Bytes of memory held by the tables and mask caches, for the ledger.
  uint64_t memory_bytes() const;

 private:
  friend class ConstraintState;
  CompiledConstraint();

  std::shared_ptr<const VocabularyTrie> vocabulary_;
  std::unique_ptr<constraint::Machine> machine_;
};

/// A position in a constraint's language. A value: copying it forks the sequence, and a kept copy
/// is how to roll back. One object is used by one thread at a time.
class ConstraintState {
 public:
  explicit ConstraintState(std::shared_ptr<const CompiledConstraint> constraint);
  ConstraintState(const ConstraintState&);
  ConstraintState(ConstraintState&&) noexcept;
  ConstraintState& operator=(const ConstraintState&);
  ConstraintState& operator=(ConstraintState&&) noexcept;
  ~ConstraintState();

  /// False, and no change, where no completion would be allowed after it.
  bool AdvanceByte(uint8_t byte);
  /// All of `bytes`, or false and no change; `accepted`, if given, receives how many bytes were
  /// possible.
  bool Advance(std::string_view bytes, size_t* accepted = nullptr);
  /// The token's bytes; an end token needs IsAccepting() and closes the state: nothing follows.
  bool AdvanceToken(int32_t id);

  /// The text so far is complete.
  bool IsAccepting() const;
  /// An end token was accepted.
  bool IsClosed() const { return closed_; }

  /// Sets bit id % 32 of word id / 32 for each allowed token, clears the others. `mask`:
  /// [ceil(n / 32)] words where n is at least the vocabulary's size; further bits are cleared.
  void FillMask(std::span<uint32_t> mask) const;

  /// The bytes that must come next, whatever is chosen, at most `limit`: the jump-forward text.
  std::string ForcedBytes(size_t limit = 1024) const;
  /// A shortest, or nearly shortest, text that completes this one.
  std::string Completion() const;

 private:
  std::shared_ptr<const CompiledConstraint> constraint_;
  std::vector<constraint::Thread> threads_;
  std::string history_;  // the bytes since the oldest position that a thread refers to
  uint64_t base_ = 0;    // offset of history_[0] in the text
  bool closed_ = false;
};

}  // namespace ink
