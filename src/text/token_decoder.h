// What each token adds to a decoded text. Internal to src/text.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"
#include "text/tokenizer_spec.h"

namespace ink {

struct DecodeTable {
  std::string bytes;              // all tokens' bytes, one after the other
  std::vector<uint32_t> offsets;  // of token i: [offsets[i], offsets[i + 1])
  LeadingSpace leading_space = LeadingSpace::kKeep;
  bool drops_final_space = false;
};

/// Errors: kUnsupported for a decoder step that cannot be said token by token.
Result<DecodeTable> MakeDecodeTable(const TokenizerSpec& spec);

}  // namespace ink
