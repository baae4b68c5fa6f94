#include "sampling/constraint/charset.h"

#include <utf8proc.h>

#include <algorithm>

namespace ink::constraint {
namespace {

struct CategoryName {
  const char* short_name;
  const char* long_name;
};

// Unicode, PropertyValueAliases.txt, general categories; a one-letter name is a group.
constexpr CategoryName kCategories[] = {
    {"L", "Letter"},
    {"Lu", "Uppercase_Letter"},
    {"Ll", "Lowercase_Letter"},
    {"Lt", "Titlecase_Letter"},
    {"Lm", "Modifier_Letter"},
    {"Lo", "Other_Letter"},
    {"M", "Mark"},
    {"Mn", "Nonspacing_Mark"},
    {"Mc", "Spacing_Mark"},
    {"Me", "Enclosing_Mark"},
    {"N", "Number"},
    {"Nd", "Decimal_Number"},
    {"Nl", "Letter_Number"},
    {"No", "Other_Number"},
    {"P", "Punctuation"},
    {"Pc", "Connector_Punctuation"},
    {"Pd", "Dash_Punctuation"},
    {"Ps", "Open_Punctuation"},
    {"Pe", "Close_Punctuation"},
    {"Pi", "Initial_Punctuation"},
    {"Pf", "Final_Punctuation"},
    {"Po", "Other_Punctuation"},
    {"S", "Symbol"},
    {"Sm", "Math_Symbol"},
    {"Sc", "Currency_Symbol"},
    {"Sk", "Modifier_Symbol"},
    {"So", "Other_Symbol"},
    {"Z", "Separator"},
    {"Zs", "Space_Separator"},
    {"Zl", "Line_Separator"},
    {"Zp", "Paragraph_Separator"},
    {"C", "Other"},
    {"Cc", "Control"},
    {"Cf", "Format"},
    {"Co", "Private_Use"},
    {"Cn", "Unassigned"},
};

template <typename Predicate>
CharSet Collect(Predicate predicate) {
  CharSet set;
  uint32_t start = 0;
  bool inside = false;
  for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
    const bool in = predicate(static_cast<utf8proc_int32_t>(c));
    if (in && !inside) start = c;
    if (!in && inside) set.Add(start, c - 1);
    inside = in;
  }
  if (inside) set.Add(start, kMaxCodePoint);
  return set;
}

CharSet Category(const std::string& name) {
  return Collect([&](utf8proc_int32_t c) {
    const char* category = utf8proc_category_string(c);
    return category[0] == name[0] && (name.size() == 1 || category[1] == name[1]);
  });
}

}  // namespace

CharSet CharSet::Range(uint32_t low, uint32_t high) {
  CharSet s;
  s.Add(low, high);
  return s;
}

CharSet CharSet::Of(std::string_view ascii) {
  CharSet s;
  for (char c : ascii) s.Add(static_cast<uint8_t>(c), static_cast<uint8_t>(c));
  return s;
}

CharSet CharSet::All() { return Range(0, kMaxCodePoint); }

void CharSet::Add(uint32_t low, uint32_t high) {
  if (low < 0xD800 && high >= 0xD800) {
    ranges_.emplace_back(low, 0xD7FF);
    low = 0xE000;
  } else if (low >= 0xD800 && low <= 0xDFFF) {
    low = 0xE000;
  }
  high = std::min(high, kMaxCodePoint);
  if (low <= high) ranges_.emplace_back(low, high);
  Normalize();
}

void CharSet::Add(const CharSet& other) {
  ranges_.insert(ranges_.end(), other.ranges_.begin(), other.ranges_.end());
  Normalize();
}

void CharSet::Normalize() {
  const size_t n = ranges_.size();
  if (n < 2) return;
  if (!std::is_sorted(ranges_.begin(), ranges_.end())) std::sort(ranges_.begin(), ranges_.end());
  size_t out = 0;
  for (size_t i = 1; i < n; ++i) {
    // D7FF and E000 are neighbours here, yet kept apart so that ranges never hold surrogates.
    if (ranges_[i].first <= ranges_[out].second + 1) {
      ranges_[out].second = std::max(ranges_[out].second, ranges_[i].second);
    } else {
      ranges_[++out] = ranges_[i];
    }
  }
  ranges_.resize(out + 1);
}

CharSet CharSet::Complement() const {
  CharSet result;
  uint32_t next = 0;
  for (const auto& [low, high] : ranges_) {
    if (next < low) result.Add(next, low - 1);
    next = high + 1;
  }
  if (next <= kMaxCodePoint) result.Add(next, kMaxCodePoint);
  return result;
}

CharSet CharSet::Intersect(const CharSet& other) const {
  CharSet result;
  size_t i = 0, j = 0;
  while (i < ranges_.size() && j < other.ranges_.size()) {
    const uint32_t low = std::max(ranges_[i].first, other.ranges_[j].first);
    const uint32_t high = std::min(ranges_[i].second, other.ranges_[j].second);
    if (low <= high) result.ranges_.emplace_back(low, high);
    if (ranges_[i].second < other.ranges_[j].second) {
      ++i;
    } else {
      ++j;
    }
  }
  return result;
}

bool CharSet::Contains(uint32_t c) const {
  auto it = std::upper_bound(ranges_.begin(), ranges_.end(), c,
                             [](uint32_t v, const auto& r) { return v < r.first; });
  return it != ranges_.begin() && c <= std::prev(it)->second;
}

CharSet DigitChars() { return CharSet::Range('0', '9'); }

CharSet WordChars() {
  CharSet s = CharSet::Of("_");
  s.Add('0', '9');
  s.Add('A', 'Z');
  s.Add('a', 'z');
  return s;
}

CharSet SpaceChars() {
  CharSet s = CharSet::Of("\t\n\v\f\r ");
  for (uint32_t c : {0xA0u, 0x1680u, 0x2028u, 0x2029u, 0x202Fu, 0x205Fu, 0x3000u, 0xFEFFu}) {
    s.Add(c, c);
  }
  s.Add(0x2000, 0x200A);
  return s;
}

CharSet LineTerminators() {
  CharSet s = CharSet::Of("\n\r");
  s.Add(0x2028, 0x2029);
  return s;
}

std::optional<CharSet> PropertyChars(std::string_view name) {
  for (std::string_view prefix : {"General_Category=", "gc="}) {
    if (name.substr(0, prefix.size()) == prefix) {
      name.remove_prefix(prefix.size());
      break;
    }
  }
  if (name == "Any") return CharSet::All();
  if (name == "ASCII") return CharSet::Range(0, 0x7F);
  if (name == "White_Space" || name == "space") {
    CharSet s = Category("Z");
    s.Add(0x09, 0x0D);
    s.Add(0x85, 0x85);
    return s;
  }
  if (name == "LC" || name == "Cased_Letter") {
    CharSet s = Category("Lu");
    s.Add(Category("Ll"));
    s.Add(Category("Lt"));
    return s;
  }
  if (name == "digit") name = "Nd";
  if (name == "punct") name = "P";
  for (const CategoryName& c : kCategories) {
    if (name == c.short_name || name == c.long_name) return Category(c.short_name);
  }
  return std::nullopt;
}

CharSet FoldCase(const CharSet& set) {
  CharSet result = set;
  for (const auto& [low, high] : set.ranges()) {
    if (high - low > 0x3000) continue;  // a whole plane holds both cases already
    for (uint32_t c = low; c <= high; ++c) {
      const auto cp = static_cast<utf8proc_int32_t>(c);
      const auto lower = static_cast<uint32_t>(utf8proc_tolower(cp));
      const auto upper = static_cast<uint32_t>(utf8proc_toupper(cp));
      if (lower != c) result.Add(lower, lower);
      if (upper != c) result.Add(upper, upper);
    }
  }
  return result;
}

void AppendUtf8Char(uint32_t c, std::string* out) {
  if (c < 0x80) {
    *out += static_cast<char>(c);
  } else if (c < 0x800) {
    *out += static_cast<char>(0xC0 | c >> 6);
    *out += static_cast<char>(0x80 | (c & 63));
  } else if (c < 0x10000) {
    *out += static_cast<char>(0xE0 | c >> 12);
    *out += static_cast<char>(0x80 | (c >> 6 & 63));
    *out += static_cast<char>(0x80 | (c & 63));
  } else {
    *out += static_cast<char>(0xF0 | c >> 18);
    *out += static_cast<char>(0x80 | (c >> 12 & 63));
    *out += static_cast<char>(0x80 | (c >> 6 & 63));
    *out += static_cast<char>(0x80 | (c & 63));
  }
}

bool DecodeUtf8(std::string_view text, std::vector<uint32_t>* out) {
  for (size_t i = 0; i < text.size();) {
    utf8proc_int32_t c = 0;
    const utf8proc_ssize_t n =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + i),
                         static_cast<utf8proc_ssize_t>(text.size() - i), &c);
    if (n <= 0) return false;
    out->push_back(static_cast<uint32_t>(c));
    i += static_cast<size_t>(n);
  }
  return true;
}

}  // namespace ink::constraint
