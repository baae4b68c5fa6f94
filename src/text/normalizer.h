// The normalizer stage of a tokenizer.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/charsmap.h"
#include "text/split_regex.h"
#include "text/tokenizer_spec.h"

namespace ink {

/// Immutable, safe to use from many threads.
class Normalizer {
 public:
  /// Errors: kCorrupt (charsmap), kUnsupported (regex).
  static Result<Normalizer> Build(const std::vector<NormalizerStep>& steps);

  bool empty() const { return steps_.empty(); }
  /// Valid UTF-8 in, valid UTF-8 out. `continues`: other text stands directly before this one, so
  /// no leading space is added.
  std::string Apply(std::string_view text, bool continues = false) const;

 private:
  struct Step {
    NormalizerStep spec;
    std::shared_ptr<const SplitRegex> regex;
    std::shared_ptr<const Charsmap> charsmap;
  };
  static std::string ApplyStep(const Step& step, std::string text, bool continues);

  std::vector<Step> steps_;
};

}  // namespace ink
