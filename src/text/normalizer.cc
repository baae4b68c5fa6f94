#include "text/normalizer.h"

#include <utility>

#include "text/unicode.h"

namespace ink {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";

std::string ReplaceAll(const std::string& text, std::string_view from, std::string_view to) {
  if (from.empty()) return text;
  std::string out;
  size_t pos = 0;
  for (;;) {
    const size_t hit = text.find(from, pos);
    if (hit == std::string::npos) break;
    out.append(text, pos, hit - pos);
    out += to;
    pos = hit + from.size();
  }
  if (pos == 0) return text;
  out.append(text, pos);
  return out;
}

std::string ReplaceMatches(const std::string& text, const SplitRegex& regex, std::string_view to) {
  std::vector<Span> matches;
  regex.FindAll(text, &matches);
  if (matches.empty()) return text;
  std::string out;
  size_t pos = 0;
  for (const Span& match : matches) {
    out.append(text, pos, match.begin - pos);
    out += to;
    pos = match.end;
  }
  out.append(text, pos);
  return out;
}

std::string Strip(const std::string& text, bool left, bool right) {
  size_t begin = 0, end = text.size();
  if (left) {
    while (begin < end) {
      size_t next = begin;
      if (!IsWhiteSpace(Utf8Next(text, &next))) break;
      begin = next;
    }
  }
  while (right && end > begin) {
    size_t start = end - 1;
    while (start > begin && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    size_t next = start;
    if (!IsWhiteSpace(Utf8Next(text, &next))) break;
    end = start;
  }
  return text.substr(begin, end - begin);
}

template <typename Keep>
std::string Filter(const std::string& text, Keep keep) {
  std::string out;
  out.reserve(text.size());
  size_t i = 0;
  while (i < text.size()) {
    const size_t start = i;
    if (keep(Utf8Next(text, &i))) out.append(text, start, i - start);
  }
  return out;
}

// Hugging Face's Precompiled: clusters under 6 bytes are looked up whole, and the first (shortest)
// key that they start with replaces all of them; else each character is looked up by itself.
std::string Precompiled(const std::string& text, const Charsmap& map) {
  std::string out;
  out.reserve(text.size());
  size_t i = 0;
  while (i < text.size()) {
    const size_t end = NextGrapheme(text, i);
    const std::string_view cluster = std::string_view(text).substr(i, end - i);
    if (cluster.size() < 6) {
      if (const auto match = map.Shortest(cluster)) {
        out += match->replacement;
        i = end;
        continue;
      }
    }
    while (i < end) {
      const size_t start = i;
      Utf8Next(text, &i);
      const std::string_view part = std::string_view(text).substr(start, i - start);
      const auto match = map.Shortest(part);
      out += match ? match->replacement : part;
    }
    i = end;
  }
  return out;
}

bool IsBertControl(char32_t c) { return c != '\t' && c != '\n' && c != '\r' && IsOther(c); }

std::string Bert(std::string text, const NormalizerStep& step) {
  if (step.clean_text || step.handle_chinese_chars) {
    std::string out;
    out.reserve(text.size());
    size_t i = 0;
    while (i < text.size()) {
      char32_t c = Utf8Next(text, &i);
      if (step.clean_text) {
        if (c == 0 || c == kReplacementChar || IsBertControl(c)) continue;
        if (IsWhiteSpace(c)) c = ' ';
      }
      const bool pad = step.handle_chinese_chars && IsBertIdeograph(c);
      if (pad) out += ' ';
      AppendUtf8(c, &out);
      if (pad) out += ' ';
    }
    text = std::move(out);
  }
  if (step.strip_accents) {
    text = Filter(NormalizeUnicode(text, NormalForm::kNfd),
                  [](char32_t c) { return !IsNonspacingMark(c); });
  }
  if (step.lowercase) text = LowercaseUnicode(text);
  return text;
}

std::string LlamaCppBert(const std::string& text, const NormalizerStep& step) {
  std::string out;
  out.reserve(text.size());
  size_t i = 0;
  while (i < text.size()) {
    char32_t c = Utf8Next(text, &i);
    if (step.strip_accents) c = FirstOfDecomposition(c);
    if (IsWhiteSpace(c)) {
      out += ' ';
      continue;
    }
    if (c == 0 || c == kReplacementChar || IsOther(c)) continue;
    if (step.strip_accents && IsMark(c)) continue;
    const bool pad = IsBertIdeograph(c);
    if (pad) out += ' ';
    AppendUtf8(step.lowercase ? LowercaseChar(c) : c, &out);
    if (pad) out += ' ';
  }
  return out;
}

// The white space rules of SentencePiece's Normalizer.
std::string SentencePiece(const std::string& text, const NormalizerStep& step, const Charsmap* map,
                          bool continues) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  const bool prepend = step.add_space_prefix && !step.space_as_suffix && !continues;
  bool prepended = false;
  bool in_word = continues;
  const auto put = [&](std::string_view normalized) {
    for (const char c : normalized) {
      if (c == ' ') {
        in_word = false;
        if (!step.merge_spaces) out += kMetaspace;
        continue;
      }
      if (!in_word) {
        in_word = true;
        if ((prepend && !prepended) || step.merge_spaces) {
          out += kMetaspace;
          prepended = true;
        }
      }
      out += c;
    }
  };
  size_t i = 0;
  while (i < text.size()) {
    const std::string_view rest = std::string_view(text).substr(i);
    if (map != nullptr) {
      if (const auto match = map->Longest(rest)) {
        put(match->replacement);
        i += match->length;
        continue;
      }
    }
    const size_t start = i;
    Utf8Next(text, &i);
    put(rest.substr(0, i - start));
  }
  if (step.add_space_prefix && step.space_as_suffix) out += kMetaspace;
  return out;
}

}  // namespace

Result<Normalizer> Normalizer::Build(const std::vector<NormalizerStep>& steps) {
  using Kind = NormalizerStep::Kind;
  Normalizer normalizer;
  for (const NormalizerStep& spec : steps) {
    Step step{.spec = spec};
    if (spec.kind == Kind::kReplace && spec.pattern_is_regex) {
      INK_ASSIGN_OR_RETURN(SplitRegex regex, SplitRegex::Compile(spec.pattern));
      step.regex = std::make_shared<const SplitRegex>(std::move(regex));
    }
    if (!spec.charsmap.empty()) {
      INK_ASSIGN_OR_RETURN(Charsmap map, Charsmap::Parse(spec.charsmap));
      step.charsmap = std::make_shared<const Charsmap>(std::move(map));
      step.spec.charsmap.clear();
    }
    normalizer.steps_.push_back(std::move(step));
  }
  return normalizer;
}

std::string Normalizer::ApplyStep(const Step& step, std::string text, bool continues) {
  using Kind = NormalizerStep::Kind;
  const NormalizerStep& spec = step.spec;
  switch (spec.kind) {
    case Kind::kNfc:
      return NormalizeUnicode(text, NormalForm::kNfc);
    case Kind::kNfd:
      return NormalizeUnicode(text, NormalForm::kNfd);
    case Kind::kNfkc:
      return NormalizeUnicode(text, NormalForm::kNfkc);
    case Kind::kNfkd:
      return NormalizeUnicode(text, NormalForm::kNfkd);
    case Kind::kLowercase:
      return LowercaseUnicode(text);
    case Kind::kStripAccents:
      return Filter(text, [](char32_t c) { return !IsMark(c); });
    case Kind::kReplace:
      return step.regex != nullptr ? ReplaceMatches(text, *step.regex, spec.content)
                                   : ReplaceAll(text, spec.pattern, spec.content);
    case Kind::kPrepend:
      return text.empty() || continues ? text : spec.content + text;
    case Kind::kStrip:
      return Strip(text, spec.strip_left, spec.strip_right);
    // The replacements of a charsmap are bytes from a file.
    case Kind::kPrecompiled:
      return step.charsmap == nullptr ? text : RepairUtf8(Precompiled(text, *step.charsmap));
    case Kind::kBert:
      return spec.llama_cpp_bert ? LlamaCppBert(text, spec) : Bert(text, spec);
    case Kind::kSentencePiece:
      return RepairUtf8(SentencePiece(text, spec, step.charsmap.get(), continues));
  }
  return text;
}

std::string Normalizer::Apply(std::string_view text, bool continues) const {
  std::string out(text);
  for (const Step& step : steps_) out = ApplyStep(step, std::move(out), continues);
  return out;
}

}  // namespace ink
