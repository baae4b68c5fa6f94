#include "sampling/stop_checker.h"

#include <algorithm>

#include "base/check.h"

namespace ink {

StopChecker::StopChecker(std::span<const std::string> stops, bool include_stop)
    : state_(stops.size(), 0), include_stop_(include_stop) {
  for (const std::string& text : stops) {
    INK_CHECK(!text.empty());
    // border[i]: length of the longest proper prefix of text[0, i) that is also its suffix.
    std::vector<int32_t> border(text.size() + 1, -1);
    for (size_t i = 0; i < text.size(); ++i) {
      int32_t b = border[i];
      while (b >= 0 && text[static_cast<size_t>(b)] != text[i]) b = border[static_cast<size_t>(b)];
      border[i + 1] = b + 1;
    }
    patterns_.push_back({text, std::move(border)});
  }
}

std::string StopChecker::Append(std::string_view text, bool armed) {
  if (stopped()) return {};
  if (!armed || patterns_.empty()) {
    std::string out = Flush();
    out += text;
    return out;
  }
  std::string out;
  for (char byte : text) {
    held_ += byte;
    int32_t longest = 0;
    for (size_t p = 0; p < patterns_.size(); ++p) {
      const Pattern& pattern = patterns_[p];
      int32_t s = state_[p];
      while (s >= 0 && pattern.text[static_cast<size_t>(s)] != byte) {
        s = pattern.border[static_cast<size_t>(s)];
      }
      state_[p] = ++s;
      const auto size = static_cast<int32_t>(pattern.text.size());
      if (s == size && (!stopped() || pattern.text.size() > matched().size())) {
        matched_ = static_cast<int32_t>(p);
      }
      longest = std::max(longest, s);
    }
    if (stopped()) {
      out += held_;
      held_.clear();
      if (!include_stop_) out.resize(out.size() - matched().size());
      return out;
    }
    // What can no longer be the beginning of a stop string goes out.
    size_t free = held_.size() - static_cast<size_t>(longest);
    out.append(held_, 0, free);
    held_.erase(0, free);
  }
  return out;
}

std::string StopChecker::Flush() {
  std::fill(state_.begin(), state_.end(), 0);
  std::string out;
  out.swap(held_);
  return out;
}

}  // namespace ink
