// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer_spec.h"

namespace ink {

struct EncodeOptions {
  bool add_special = false;    // put bos, eos etc. around the text where the model wants them
  bool parse_special = false;  // recognise control tokens; false: such text is ordinary text
  bool continues = false;      // other text stands before this one: no leading space is added
};

/// How the first token of a text differs from the same token later on.
enum class LeadingSpace {
  kKeep,
  kStripOne,  // one leading space is the tokenizer's own, not the text's
  kStripAll,
};

/// Immutable and safe to use from many threads at once. Ids passed in are in [0, vocab_size()).
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Any bytes are accepted, UTF-8 or not. Time is O(n log n) in the length of the text.
  virtual std::vector<int32_t> Encode(std::string_view text, EncodeOptions options = {}) const = 0;

  virtual int32_t vocab_size() const = 0;
  /// The token as its vocabulary writes it, e.g. "Ġhello" or "▁hello".
  virtual std::string_view TokenText(int32_t id) const = 0;
  /// The bytes the token adds to a text when it is not the first one, e.g. " hello". May be part of
  /// a UTF-8 character (text/detokenizer.h puts them together). Control tokens give their text.
  virtual std::string_view TokenBytes(int32_t id) const = 0;
  virtual TokenType token_type(int32_t id) const = 0;
  bool IsControl(int32_t id) const { return token_type(id) == TokenType::kControl; }
  /// The id of exactly this vocabulary text, or kNoToken.
  virtual int32_t FindToken(std::string_view text) const = 0;

  /// What decoding does with a leading space, and (rare) whether the very last space of a text is
  /// an end-of-word mark and not part of it.
  virtual LeadingSpace leading_space() const = 0;
  virtual bool drops_final_space() const = 0;

  /// Ids with a role; kNoToken where the vocabulary has none.
  virtual const SpecialIds& special() const = 0;
  int32_t bos_id() const { return special().bos; }
  int32_t eos_id() const { return special().eos; }
  int32_t eot_id() const { return special().eot; }
  int32_t unk_id() const { return special().unk; }
  int32_t pad_id() const { return special().pad; }
  /// Tokens after which generation ends, ascending.
  virtual std::span<const int32_t> end_of_generation() const = 0;
  bool IsEndOfGeneration(int32_t id) const;
  /// Whether Encode with add_special puts bos in front / eos behind.
  virtual bool add_bos() const = 0;
  virtual bool add_eos() const = 0;
  /// Jinja source (text/chat_template.h); empty where the model has none.
  virtual const std::string& chat_template() const = 0;

  /// Everything, for writing it to a file.
  virtual const TokenizerSpec& spec() const = 0;
  /// Bytes of memory this object holds, for the ledger.
  virtual uint64_t memory_bytes() const = 0;
};

/// Checks the spec (ValidateSpec) and builds its tables. Errors: kCorrupt, and kUnsupported for a
/// regular expression that cannot be compiled.
Result<std::shared_ptr<const Tokenizer>> BuildTokenizer(TokenizerSpec spec);

}  // namespace ink
