#include "text/detokenizer.h"

#include <utility>

#include "text/unicode.h"

namespace ink {
namespace {

bool IsSkipped(const Tokenizer& tokenizer, int32_t id, const DetokenizerOptions& options) {
  if (!options.skip_special) return false;
  const TokenType type = tokenizer.token_type(id);
  return type == TokenType::kControl || type == TokenType::kUnknown;
}

// The bytes of a token, which is the first of a text if `first`.
std::string_view BytesAt(const Tokenizer& tokenizer, int32_t id, bool first) {
  std::string_view bytes = tokenizer.TokenBytes(id);
  if (!first) return bytes;
  switch (tokenizer.leading_space()) {
    case LeadingSpace::kKeep:
      break;
    case LeadingSpace::kStripOne:
      if (bytes.starts_with(' ')) bytes.remove_prefix(1);
      break;
    case LeadingSpace::kStripAll:
      while (bytes.starts_with(' ')) bytes.remove_prefix(1);
      break;
  }
  return bytes;
}

}  // namespace

Detokenizer::Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, DetokenizerOptions options)
    : tokenizer_(std::move(tokenizer)), options_(options), at_start_(options.starts_text) {}

std::string Detokenizer::Add(int32_t id) {
  if (IsSkipped(*tokenizer_, id, options_)) return "";
  pending_ += BytesAt(*tokenizer_, id, std::exchange(at_start_, false));
  return TakeComplete();
}

std::string Detokenizer::TakeComplete() {
  size_t complete = pending_.size() - IncompleteUtf8Suffix(pending_);
  // The space may turn out to be the end-of-word mark of the last word.
  if (tokenizer_->drops_final_space() && complete == pending_.size() && pending_.ends_with(' ')) {
    --complete;
  }
  std::string text = RepairUtf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string Detokenizer::Flush() {
  if (tokenizer_->drops_final_space() && pending_.ends_with(' ')) pending_.pop_back();
  std::string text = RepairUtf8(pending_);
  pending_.clear();
  at_start_ = options_.starts_text;
  return text;
}

std::string Decode(const std::shared_ptr<const Tokenizer>& tokenizer, std::span<const int32_t> ids,
                   DetokenizerOptions options) {
  return RepairUtf8(DecodeBytes(*tokenizer, ids, options));
}

std::string DecodeBytes(const Tokenizer& tokenizer, std::span<const int32_t> ids,
                        DetokenizerOptions options) {
  std::string bytes;
  bool first = options.starts_text;
  for (const int32_t id : ids) {
    if (IsSkipped(tokenizer, id, options)) continue;
    bytes += BytesAt(tokenizer, id, std::exchange(first, false));
  }
  if (tokenizer.drops_final_space() && bytes.ends_with(' ')) bytes.pop_back();
  return bytes;
}

}  // namespace ink
