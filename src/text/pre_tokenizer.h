// The pre-tokenizer stage: cuts a normalized text into words.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "text/split_regex.h"
#include "text/tokenizer_spec.h"

namespace ink {

/// What stands before a text: nothing, a token that was cut out of the input, or other text.
enum class TextBegin { kInput, kToken, kText };

struct PreTokenized {
  std::string text;
  std::vector<Span> words;  // in order; parts of `text` may belong to none
  // The words are bytes that stand for their printable form (ByteToPrintable), rather than being
  // written in it.
  bool byte_level = false;
};

/// Immutable, safe to use from many threads.
class PreTokenizer {
 public:
  /// Errors: kUnsupported (regex).
  static Result<PreTokenizer> Build(const std::vector<PreTokenizerStep>& steps);

  /// True when words come out as bytes: the last step is ByteLevel.
  bool byte_level() const;
  /// `text` is valid UTF-8. After kText no leading space is added.
  PreTokenized Apply(std::string text, TextBegin begin) const;

 private:
  struct Step {
    PreTokenizerStep spec;
    std::shared_ptr<const SplitRegex> regex;
  };
  std::vector<Step> steps_;
};

/// The splitting rule of GPT-2, which ByteLevel applies with use_regex.
extern const std::string_view kGpt2Regex;

/// Cuts `piece` by matches (ascending, within it) as Hugging Face's SplitDelimiterBehavior says;
/// `invert` swaps matches and what is between them. Empty parts are left out.
void SplitByMatches(Span piece, const std::vector<Span>& matches, SplitBehavior behavior,
                    bool invert, std::vector<Span>* parts);

}  // namespace ink
