// Byte-level BPE training (Sennrich et al. 2016, "Neural machine translation of rare words with
// subword units"; on bytes as in GPT-2).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer_spec.h"

namespace ink {

struct BpeTrainerOptions {
  int32_t vocab_size = 4096;  // with the 256 bytes and the special tokens
  // tokenizer.ggml.pre: how text is cut into words, "gpt-2", "llama-bpe", "qwen2", ...
  std::string pre_name = "gpt-2";
  // First ids, in this order. The roles name some of them.
  std::vector<std::string> special_tokens;
  std::string bos, eos, pad;  // members of special_tokens, or empty
  bool add_bos = false, add_eos = false;
  int64_t min_pair_count = 2;    // rarer pairs are not merged
  int32_t max_token_bytes = 64;  // longer tokens are not made
  std::string chat_template;
};

/// The next text, or none at the end. The view need only live until the next call.
using TextSource = std::function<std::optional<std::string_view>()>;

/// Same texts and options, same result: the most frequent pair is merged first, of equally
/// frequent ones that with the smaller ids. The vocabulary is smaller than asked for when the
/// pairs run out. `progress(done, total)` is called now and then with merges made; returning false
/// stops with kCancelled. Errors: kInvalidArgument (vocab_size too small, no text, duplicate
/// special token, unknown pre_name).
Result<TokenizerSpec> TrainBpe(const TextSource& texts, const BpeTrainerOptions& options,
                               const std::function<bool(int64_t, int64_t)>& progress = nullptr);

}  // namespace ink
