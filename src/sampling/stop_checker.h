// Finds stop strings in text that arrives in pieces.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ink {

/// Byte by byte: the text ends with the first stop string to be complete (the longest, where
/// several complete at one byte). So the result never depends on how the text was cut into pieces,
/// and no byte of a stop string is ever handed out. Copying it forks the sequence.
class StopChecker {
 public:
  /// `stops`: not empty strings (Validate() checks). `include_stop`: hand out the stop string too.
  explicit StopChecker(std::span<const std::string> stops, bool include_stop = false);

  /// Returns the text that may be handed out now. What could be the beginning of a stop string is
  /// held back. `armed` false (before min_tokens): this text neither holds nor begins a stop
  /// string. After a stop nothing more comes out.
  std::string Append(std::string_view text, bool armed = true);
  /// At an end for another reason: the text still held back.
  std::string Flush();

  bool stopped() const { return matched_ >= 0; }
  /// The stop string found; only where stopped().
  const std::string& matched() const { return patterns_[matched_].text; }
  /// Bytes held back.
  size_t held() const { return held_.size(); }

 private:
  struct Pattern {
    std::string text;
    std::vector<int32_t> border;  // [size + 1], Knuth-Morris-Pratt failure links
  };
  std::vector<Pattern> patterns_;
  std::vector<int32_t> state_;  // per pattern: bytes matched so far
  std::string held_;            // the longest partial match, as text
  int32_t matched_ = -1;
  bool include_stop_ = false;
};

}  // namespace ink
