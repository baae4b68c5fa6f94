// The regular expressions of tokenizer files, run by PCRE2 with JIT.
//
// Files are written for Oniguruma in its Ruby syntax, which Hugging Face tokenizers uses.
// TranslateRegex says the same in PCRE2's syntax where the two differ: \s is White_Space (PCRE2
// adds U+180E), \w and \b follow UTS 18, \h is a hexadecimal digit, \p{Han} is the script itself
// and not its extensions, long property names, nested character classes and && in them, X{n,m}+ is
// a repeated X{n,m}, ^ and $ are line anchors.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ink {

/// A part [begin, end) of a text, in bytes.
struct Span {
  size_t begin = 0;
  size_t end = 0;
  friend bool operator==(const Span&, const Span&) = default;
};

/// Errors: kUnsupported with the construct's name.
Result<std::string> TranslateRegex(std::string_view pattern);

/// Compiled; immutable, safe to use from many threads.
class SplitRegex {
 public:
  /// `pattern` in Oniguruma's syntax. Errors: kUnsupported with the reason.
  static Result<SplitRegex> Compile(std::string_view pattern);

  /// All matches from left to right, not overlapping; empty ones too, but none where the match
  /// before it ended. `text` must be valid UTF-8 and is the whole subject (anchors and look-around
  /// see nothing beyond it). A pattern that needs more than a bounded number of steps on a text
  /// finds nothing from there on.
  void FindAll(std::string_view text, std::vector<Span>* matches) const;

 private:
  friend class RegexMatcher;
  struct Code;
  std::shared_ptr<const Code> code_;
};

/// SplitRegex::FindAll for many texts: keeps what a search needs. For one thread at a time; the
/// regex must outlive it.
class RegexMatcher {
 public:
  explicit RegexMatcher(const SplitRegex& regex);
  ~RegexMatcher();
  RegexMatcher(const RegexMatcher&) = delete;
  RegexMatcher& operator=(const RegexMatcher&) = delete;

  /// Appends to `matches`.
  void FindAll(std::string_view text, std::vector<Span>* matches);

 private:
  struct State;
  const SplitRegex::Code& code_;
  std::unique_ptr<State> state_;
};

}  // namespace ink
