// A tokenizer as plain data: what a GGUF vocabulary or a tokenizer.json says, in one form. Readers
// make it, writers and BuildTokenizer take it.
//
// A text passes through: added tokens are cut out (verbatim), each remaining piece is normalized,
// added tokens of normalized form are cut out, the rest is pre-tokenized into words, the model
// turns each word into ids, and the ids of `prefix` and `suffix` go around the whole. These are
// the stages and component definitions of Hugging Face tokenizers
// (https://github.com/huggingface/tokenizers); the components of a GGUF vocabulary are expressed in
// them, with the few differences of llama.cpp marked where they occur.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace ink {

inline constexpr int32_t kNoToken = -1;

/// Values are those of tokenizer.ggml.token_type.
enum class TokenType : uint8_t {
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // special: has no text of its own, e.g. <s>
  kUserDefined = 4,  // matched verbatim before anything else
  kUnused = 5,
  kByte = 6,  // <0xXX>
};

struct TokenEntry {
  std::string text;  // as in the vocabulary file (byte-level BPE: the printable form)
  float score = 0;   // log probability (Unigram) or merge priority (SentencePiece BPE)
  TokenType type = TokenType::kNormal;
  // Whether the model itself can produce the token; false for tokens that only exist as added
  // tokens.
  bool in_model = true;
};

/// A token that is found in the text before the model sees it.
struct AddedToken {
  int32_t id = kNoToken;
  bool special = false;     // skipped when parse_special is false
  bool normalized = false;  // matched in the normalized text
  bool lstrip = false;      // swallows white space on its left / right
  bool rstrip = false;
  bool single_word = false;  // only between non-word characters
};

enum class ModelKind { kBpe, kSentencePieceBpe, kUnigram, kWordPiece };

/// BPE: replace the adjacent pair (left, right) of lowest index by `result`.
struct Merge {
  int32_t left;
  int32_t right;
  int32_t result;
  friend bool operator==(const Merge&, const Merge&) = default;
};

struct ModelSpec {
  ModelKind kind = ModelKind::kBpe;
  int32_t unk = kNoToken;      // what an unknown character becomes; none: it is dropped
  bool byte_fallback = false;  // an unknown character becomes its <0xXX> tokens, if all exist
  // BPE
  std::vector<Merge> merges;
  bool fuse_unk = false;
  bool ignore_merges = false;  // a word that is a token is that token
  std::string continuing_subword_prefix;
  std::string end_of_word_suffix;
  // llama.cpp: an unknown character still keeps its neighbours from merging. Hugging Face: it is
  // as if it were not there.
  bool unknown_separates = false;
  bool newline_runs_whole = false;  // llama.cpp, Gemma 4: a run of \n that is a token is that token
  // WordPiece
  std::string word_prefix = "##";  // of tokens that continue a word
  int32_t max_word_chars = 100;    // longer words become `unk`; 0: no limit
};

struct NormalizerStep {
  enum class Kind {
    kNfc,
    kNfd,
    kNfkc,
    kNfkd,
    kLowercase,
    kStripAccents,
    kReplace,      // pattern, pattern_is_regex, content
    kPrepend,      // content
    kStrip,        // strip_left, strip_right
    kPrecompiled,  // charsmap, applied as Hugging Face does
    kBert,         // clean_text, handle_chinese_chars, strip_accents, lowercase
    // charsmap and white space as the SentencePiece library normalizes (and llama.cpp for "t5")
    kSentencePiece,  // charsmap, add_space_prefix, space_as_suffix, merge_spaces
  };
  Kind kind = Kind::kNfc;
  std::string pattern;
  bool pattern_is_regex = false;
  std::string content;
  bool strip_left = false, strip_right = false;
  std::string charsmap;
  bool clean_text = true, handle_chinese_chars = true, strip_accents = true, lowercase = true;
  // llama.cpp's "bert": of a decomposed character only the first code point stays, every mark is
  // an accent, and white space is recognised before control characters.
  bool llama_cpp_bert = false;
  bool add_space_prefix = true, space_as_suffix = false, merge_spaces = true;

  friend bool operator==(const NormalizerStep&, const NormalizerStep&) = default;
};

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
enum class PrependScheme { kAlways, kFirst, kNever };

struct PreTokenizerStep {
  enum class Kind {
    kByteLevel,  // add_prefix_space, use_regex
    kSplit,      // pattern, pattern_is_regex, behavior, invert
    kMetaspace,  // replacement, prepend, split
    kDigits,     // individual_digits
    kWhitespace,
    kWhitespaceSplit,
    kPunctuation,  // behavior
    kBert,
    // Runs of digits cut into threes from the right. Stands for the look-ahead regexes that say so,
    // which take quadratic time.
    kDigitGroups,  // digits
  };
  enum class DigitKind {
    kNumberClass,     // \p{N}; llama.cpp's form: what is in front of a run joins its first group
    kDecimalWordEnd,  // \d{1,3}(?=(?:\d{3})*\b)
    kDecimalAscii,    // (?=(\d{3})+(?!\d)) with \d = [0-9]
  };
  Kind kind = Kind::kSplit;
  bool add_prefix_space = false, use_regex = true;
  std::string pattern;
  bool pattern_is_regex = true;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
  std::string replacement = "\xE2\x96\x81";  // U+2581
  PrependScheme prepend = PrependScheme::kAlways;
  bool split = true;
  bool individual_digits = false;
  DigitKind digits = DigitKind::kNumberClass;

  friend bool operator==(const PreTokenizerStep&, const PreTokenizerStep&) = default;
};

struct DecoderStep {
  enum class Kind {
    kByteLevel,
    kWordPiece,  // content = prefix, cleanup
    kMetaspace,  // content = replacement, prepend
    kBpe,        // content = suffix
    kByteFallback,
    kFuse,
    kStrip,    // content = one character, start, stop
    kReplace,  // pattern (plain text or regex), content
  };
  Kind kind = Kind::kFuse;
  std::string pattern;
  bool pattern_is_regex = false;
  std::string content;
  bool cleanup = true;
  PrependScheme prepend = PrependScheme::kAlways;
  int32_t start = 0, stop = 0;

  friend bool operator==(const DecoderStep&, const DecoderStep&) = default;
};

/// Token ids with a role, kNoToken where there is none.
struct SpecialIds {
  int32_t bos = kNoToken, eos = kNoToken, eot = kNoToken, eom = kNoToken, unk = kNoToken,
          sep = kNoToken, pad = kNoToken, cls = kNoToken, mask = kNoToken, fim_pre = kNoToken,
          fim_suf = kNoToken, fim_mid = kNoToken, fim_pad = kNoToken, fim_rep = kNoToken,
          fim_sep = kNoToken;
  friend bool operator==(const SpecialIds&, const SpecialIds&) = default;
};

struct TokenizerSpec {
  std::vector<TokenEntry> tokens;  // index = id; texts are unique, none is empty
  std::vector<AddedToken> added;
  // llama.cpp takes the longest added token anywhere in the text first; Hugging Face goes from left
  // to right and takes the longest at each position.
  bool added_longest_first = false;
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  ModelSpec model;
  std::vector<int32_t> prefix, suffix;  // what add_special puts around a text
  std::vector<DecoderStep> decoder;
  bool added_decode_verbatim = false;  // added tokens do not pass through `decoder`
  SpecialIds special;
  std::vector<int32_t> end_of_generation;  // ascending
  bool add_bos = false, add_eos = false;   // what prefix and suffix say about bos and eos
  std::string chat_template;
  std::string pre_name;  // tokenizer.ggml.pre, where known
};

/// Checks what a hostile file could get wrong: ids in range, texts unique, non-empty and at most
/// 64 KiB, scores finite where the model sorts by them, merges that say what they do. Errors:
/// kCorrupt, naming the token.
Status ValidateSpec(const TokenizerSpec& spec);

/// Fills special.eot, eom, fim_* and end_of_generation from well-known token texts, for files that
/// do not state them; ids already set stay. `control_only` leaves alone tokens that are ordinary
/// text; otherwise a token with such a text becomes a control token, as in llama.cpp.
void DetectSpecialTokens(TokenizerSpec& spec, bool control_only);

/// The id of a token text, or kNoToken; linear, for set-up code.
int32_t FindTokenLinear(const TokenizerSpec& spec, std::string_view text);

}  // namespace ink
