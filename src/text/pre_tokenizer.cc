#include "text/pre_tokenizer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "text/unicode.h"

namespace ink {

const std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

using Kind = PreTokenizerStep::Kind;

std::string_view View(const std::string& text, Span span) {
  return std::string_view(text).substr(span.begin, span.end - span.begin);
}

// Each character for which `is_match` holds is a match of its own.
template <typename IsMatch>
void CharMatches(const std::string& text, Span piece, IsMatch is_match,
                 std::vector<Span>* matches) {
  size_t i = piece.begin;
  while (i < piece.end) {
    const size_t start = i;
    if (is_match(Utf8Next(text, &i))) matches->push_back({start, i});
  }
}

void TextMatches(const std::string& text, Span piece, std::string_view pattern,
                 std::vector<Span>* matches) {
  if (pattern.empty()) return;
  const std::string_view view = View(text, piece);
  for (size_t i = view.find(pattern); i != std::string_view::npos;
       i = view.find(pattern, i + pattern.size())) {
    matches->push_back({piece.begin + i, piece.begin + i + pattern.size()});
  }
}

void RegexMatches(const std::string& text, Span piece, RegexMatcher& matcher,
                  std::vector<Span>* matches) {
  matcher.FindAll(View(text, piece), matches);
  for (Span& match : *matches) {
    match.begin += piece.begin;
    match.end += piece.begin;
  }
}

// \w+|[^\w\s]+
void WordMatches(const std::string& text, Span piece, std::vector<Span>* matches) {
  int previous = 0;
  size_t i = piece.begin;
  while (i < piece.end) {
    const size_t start = i;
    const char32_t c = Utf8Next(text, &i);
    const int kind = IsWordChar(c) ? 1 : IsWhiteSpace(c) ? 0 : 2;
    if (kind != 0) {
      if (kind == previous) {
        matches->back().end = i;
      } else {
        matches->push_back({start, i});
      }
    }
    previous = kind;
  }
}

void DigitGroupMatches(const std::string& text, Span piece, PreTokenizerStep::DigitKind kind,
                       std::vector<Span>* matches) {
  using DigitKind = PreTokenizerStep::DigitKind;
  const auto is_digit = [&](char32_t c) {
    if (kind == DigitKind::kDecimalAscii) return c >= '0' && c <= '9';
    return kind == DigitKind::kNumberClass ? IsNumeric(c) : IsDecimalDigit(c);
  };
  std::vector<size_t> starts;  // of the digits of the current run
  size_t i = piece.begin;
  while (i < piece.end) {
    starts.clear();
    size_t next = i;
    char32_t c = 0;
    bool ended = true;
    while (i < piece.end) {
      next = i;
      c = Utf8Next(text, &next);
      if (!is_digit(c)) {
        ended = false;
        break;
      }
      starts.push_back(i);
      i = next;
    }
    const bool wanted = kind != DigitKind::kDecimalWordEnd || ended || !IsWordChar(c);
    if (wanted) {
      size_t at = 0;
      while (at < starts.size()) {
        const size_t take = (starts.size() - at) % 3 == 0 ? 3 : (starts.size() - at) % 3;
        const size_t end = at + take < starts.size() ? starts[at + take] : i;
        if (kind == DigitKind::kNumberClass) {
          matches->push_back({matches->empty() ? piece.begin : matches->back().end, end});
        } else if (kind == DigitKind::kDecimalWordEnd) {
          matches->push_back({starts[at], end});
        } else if (take == 3) {  // that regex only matches the place in front of a whole three
          matches->push_back({starts[at], starts[at]});
        }
        at += take;
      }
    }
    if (!ended) i = next;
  }
}

// Applies `change`, which may rewrite it, to every word and lays the results out anew.
template <typename Change>
void RewriteWords(PreTokenized* state, Change change) {
  std::string text;
  text.reserve(state->text.size() + state->text.size() / 8 + 8);
  for (Span& word : state->words) {
    const size_t begin = text.size();
    change(View(state->text, word), word, &text);
    word = {begin, text.size()};
  }
  state->text = std::move(text);
}

template <typename FindMatches>
void SplitWords(PreTokenized* state, SplitBehavior behavior, bool invert, FindMatches find) {
  std::vector<Span> words, matches;
  words.reserve(state->words.size() + state->text.size() / 4);
  for (const Span& word : state->words) {
    matches.clear();
    find(word, &matches);
    SplitByMatches(word, matches, behavior, invert, &words);
  }
  state->words = std::move(words);
}

void Metaspace(const PreTokenizerStep& spec, TextBegin begin, PreTokenized* state) {
  RewriteWords(state, [&](std::string_view word, Span span, std::string* out) {
    const bool first = span.begin == 0;
    const bool wanted =
        (spec.prepend == PrependScheme::kAlways && !(first && begin == TextBegin::kText)) ||
        (spec.prepend == PrependScheme::kFirst && first && begin == TextBegin::kInput);
    if (wanted && !word.starts_with(' ') && !word.starts_with(spec.replacement)) {
      *out += spec.replacement;
    }
    for (const char c : word) {
      if (c == ' ') {
        *out += spec.replacement;
      } else {
        *out += c;
      }
    }
  });
  if (spec.split) {
    SplitWords(state, SplitBehavior::kMergedWithNext, false,
               [&](Span word, std::vector<Span>* matches) {
                 TextMatches(state->text, word, spec.replacement, matches);
               });
  }
}

}  // namespace

void SplitByMatches(Span piece, const std::vector<Span>& matches, SplitBehavior behavior,
                    bool invert, std::vector<Span>* parts) {
  const auto put = [&](Span span) {
    if (span.begin < span.end) parts->push_back(span);
  };
  // Parts alternate between gap and match; `flush` gets them in order.
  const auto each = [&](auto flush) {
    size_t pos = piece.begin;
    for (const Span& match : matches) {
      if (match.begin > pos) flush(Span{pos, match.begin}, invert);
      flush(match, !invert);
      pos = match.end;
    }
    if (pos < piece.end) flush(Span{pos, piece.end}, invert);
  };
  switch (behavior) {
    case SplitBehavior::kIsolated:
      each([&](Span span, bool) { put(span); });
      return;
    case SplitBehavior::kRemoved:
      each([&](Span span, bool is_match) {
        if (!is_match) put(span);
      });
      return;
    case SplitBehavior::kContiguous: {
      bool previous = false, any = false;
      Span open;
      each([&](Span span, bool is_match) {
        if (any && is_match == previous) {
          open.end = span.end;
        } else {
          if (any) put(open);
          open = span;
        }
        any = true;
        previous = is_match;
      });
      if (any) put(open);
      return;
    }
    case SplitBehavior::kMergedWithPrevious: {
      bool previous = false, any = false;
      Span open;
      each([&](Span span, bool is_match) {
        if (any && is_match && !previous) {
          open.end = span.end;
        } else {
          if (any) put(open);
          open = span;
        }
        any = true;
        previous = is_match;
      });
      if (any) put(open);
      return;
    }
    case SplitBehavior::kMergedWithNext: {
      // The last match before a gap joins it: seen from the right, as Hugging Face does.
      std::vector<std::pair<Span, bool>> all;
      each([&](Span span, bool is_match) { all.emplace_back(span, is_match); });
      std::vector<Span> reversed;
      bool previous = false;
      for (auto it = all.rbegin(); it != all.rend(); ++it) {
        if (it->second && !previous && !reversed.empty()) {
          reversed.back().begin = it->first.begin;
        } else {
          reversed.push_back(it->first);
        }
        previous = it->second;
      }
      for (auto it = reversed.rbegin(); it != reversed.rend(); ++it) put(*it);
      return;
    }
  }
}

Result<PreTokenizer> PreTokenizer::Build(const std::vector<PreTokenizerStep>& steps) {
  PreTokenizer result;
  for (const PreTokenizerStep& spec : steps) {
    Step step{.spec = spec};
    const bool gpt2 = spec.kind == Kind::kByteLevel && spec.use_regex;
    if (gpt2 || (spec.kind == Kind::kSplit && spec.pattern_is_regex)) {
      INK_ASSIGN_OR_RETURN(SplitRegex regex, SplitRegex::Compile(gpt2 ? kGpt2Regex : spec.pattern));
      step.regex = std::make_shared<const SplitRegex>(std::move(regex));
    }
    result.steps_.push_back(std::move(step));
  }
  return result;
}

bool PreTokenizer::byte_level() const {
  return !steps_.empty() && steps_.back().spec.kind == Kind::kByteLevel;
}

PreTokenized PreTokenizer::Apply(std::string text, TextBegin begin) const {
  PreTokenized state;
  state.text = std::move(text);
  if (!state.text.empty()) state.words.push_back({0, state.text.size()});
  for (const Step& step : steps_) {
    const PreTokenizerStep& spec = step.spec;
    if (state.byte_level) {  // a step after ByteLevel sees the printable form
      RewriteWords(&state, [](std::string_view word, Span, std::string* out) {
        *out += BytesToPrintable(word);
      });
      state.byte_level = false;
    }
    std::optional<RegexMatcher> matcher;
    if (step.regex != nullptr) matcher.emplace(*step.regex);
    const auto by_regex = [&](Span word, std::vector<Span>* matches) {
      RegexMatches(state.text, word, *matcher, matches);
    };
    const auto by_char = [&](bool (*is_match)(char32_t)) {
      return [&state, is_match](Span word, std::vector<Span>* matches) {
        CharMatches(state.text, word, is_match, matches);
      };
    };
    switch (spec.kind) {
      case Kind::kByteLevel:
        if (spec.add_prefix_space) {
          RewriteWords(&state, [begin](std::string_view word, Span span, std::string* out) {
            const bool continues = span.begin == 0 && begin == TextBegin::kText;
            if (!continues && !word.starts_with(' ')) *out += ' ';
            *out += word;
          });
        }
        if (matcher) SplitWords(&state, SplitBehavior::kIsolated, false, by_regex);
        state.byte_level = true;
        break;
      case Kind::kSplit:
        if (matcher) {
          SplitWords(&state, spec.behavior, spec.invert, by_regex);
        } else {
          SplitWords(&state, spec.behavior, spec.invert,
                     [&](Span word, std::vector<Span>* matches) {
                       TextMatches(state.text, word, spec.pattern, matches);
                     });
        }
        break;
      case Kind::kMetaspace:
        Metaspace(spec, begin, &state);
        break;
      case Kind::kDigits:
        SplitWords(&state,
                   spec.individual_digits ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
                   false, by_char(IsNumeric));
        break;
      case Kind::kWhitespace:
        SplitWords(
            &state, SplitBehavior::kRemoved, true,
            [&](Span word, std::vector<Span>* matches) { WordMatches(state.text, word, matches); });
        break;
      case Kind::kWhitespaceSplit:
        SplitWords(&state, SplitBehavior::kRemoved, false, by_char(IsWhiteSpace));
        break;
      case Kind::kPunctuation:
        SplitWords(&state, spec.behavior, false, by_char(IsPunctuation));
        break;
      case Kind::kBert:
        SplitWords(&state, SplitBehavior::kRemoved, false, by_char(IsWhiteSpace));
        SplitWords(&state, SplitBehavior::kIsolated, false, by_char(IsPunctuation));
        break;
      case Kind::kDigitGroups:
        SplitWords(&state, SplitBehavior::kIsolated, false,
                   [&](Span word, std::vector<Span>* matches) {
                     DigitGroupMatches(state.text, word, spec.digits, matches);
                   });
        break;
    }
  }
  return state;
}

}  // namespace ink
