// textwrap.wrap of Python's library, with drop_whitespace and without replacing white space.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/utf8.h"

namespace ink::jinja {
namespace {

bool IsBlank(char32_t c) { return c == ' ' || (c >= 0x09 && c <= 0x0D); }
bool IsLetter(char32_t c) { return c == '_' || IsAlpha(c); }
bool IsWord(char32_t c) { return c == '_' || IsAlpha(c) || IsNumeric(c); }
bool IsWordPunctuation(char32_t c) {
  return IsWord(c) || c == '!' || c == '"' || c == '\'' || c == '&' || c == '.' || c == ',' ||
         c == '?';
}

// Cuts a paragraph into words, runs of white space, and parts of hyphenated words.
class Chunker {
 public:
  explicit Chunker(const std::u32string& text) : text_(text) {}

  std::vector<std::u32string_view> Run(bool break_on_hyphens) const {
    const std::u32string_view text = text_;
    std::vector<std::u32string_view> chunks;
    for (size_t pos = 0; pos < text_.size();) {
      const size_t end = IsBlank(text_[pos]) ? BlankEnd(pos)
                         : break_on_hyphens  ? HyphenatedEnd(pos)
                                             : WordEnd(pos);
      chunks.push_back(text.substr(pos, end - pos));
      pos = end;
    }
    return chunks;
  }

 private:
  char32_t At(size_t i) const { return i < text_.size() ? text_[i] : U'\0'; }

  size_t BlankEnd(size_t pos) const {
    while (pos < text_.size() && IsBlank(text_[pos])) ++pos;
    return pos;
  }
  size_t WordEnd(size_t pos) const {
    while (pos < text_.size() && !IsBlank(text_[pos])) ++pos;
    return pos;
  }

  // The end of a dash of two or more hyphens between words that begins at `pos`, or `pos`.
  size_t DashEnd(size_t pos) const {
    if (pos == 0 || !IsWordPunctuation(text_[pos - 1])) return pos;
    size_t end = pos;
    while (At(end) == '-') ++end;
    return end - pos >= 2 && end < text_.size() && IsWord(text_[end]) ? end : pos;
  }

  // Whether the hyphen at `i` joins two parts of a word, so that a line may end behind it.
  bool JoinsWord(size_t i) const {
    const bool two_letters = i >= 2 && IsLetter(text_[i - 1]) && IsLetter(text_[i - 2]);
    const bool letter_hyphen_word =
        i >= 3 && IsLetter(text_[i - 3]) && text_[i - 2] == '-' && IsWordPunctuation(text_[i - 1]);
    if (!two_letters && !letter_hyphen_word) return false;
    if (i + 1 >= text_.size() || !IsLetter(text_[i + 1])) return false;
    const size_t second = At(i + 2) == '-' ? i + 3 : i + 2;
    return second < text_.size() && IsLetter(text_[second]);
  }

  size_t HyphenatedEnd(size_t pos) const {
    const size_t dash = DashEnd(pos);
    if (dash > pos) return dash;
    for (size_t end = pos + 1; end < text_.size(); ++end) {
      if (text_[end] == '-' && JoinsWord(end)) return end + 1;
      if (IsBlank(text_[end]) || DashEnd(end) > end) return end;
    }
    return text_.size();
  }

  const std::u32string& text_;
};

bool AllSpace(std::u32string_view chunk) {
  return std::all_of(chunk.begin(), chunk.end(), IsSpace);
}

}  // namespace

std::vector<std::u32string> WrapText(const std::u32string& text, int64_t width,
                                     bool break_long_words, bool break_on_hyphens) {
  std::vector<std::u32string_view> chunks = Chunker(text).Run(break_on_hyphens);
  std::reverse(chunks.begin(), chunks.end());
  const auto limit = static_cast<size_t>(width);
  std::vector<std::u32string> lines;
  while (!chunks.empty()) {
    std::vector<std::u32string_view> line;
    size_t length = 0;
    if (!lines.empty() && AllSpace(chunks.back())) chunks.pop_back();
    while (!chunks.empty() && length + chunks.back().size() <= limit) {
      length += chunks.back().size();
      line.push_back(chunks.back());
      chunks.pop_back();
    }
    if (!chunks.empty() && chunks.back().size() > limit) {
      std::u32string_view& chunk = chunks.back();
      if (break_long_words) {
        const size_t space = limit - length;
        size_t end = space;
        if (break_on_hyphens && space > 0) {
          const size_t hyphen = chunk.rfind(U'-', space - 1);
          if (hyphen != std::u32string_view::npos &&
              chunk.substr(0, hyphen).find_first_not_of(U'-') != std::u32string_view::npos) {
            end = hyphen + 1;
          }
        }
        line.push_back(chunk.substr(0, end));
        chunk.remove_prefix(end);
      } else if (line.empty()) {
        line.push_back(chunk);
        chunks.pop_back();
      }
    }
    if (!line.empty() && AllSpace(line.back())) line.pop_back();
    if (line.empty()) continue;
    std::u32string joined;
    for (const std::u32string_view part : line) joined += part;
    lines.push_back(std::move(joined));
  }
  return lines;
}

}  // namespace ink::jinja
