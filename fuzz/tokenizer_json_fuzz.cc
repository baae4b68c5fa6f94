// layers: text
// A tokenizer.json and a tokenizer_config.json (separated by a NUL) from anywhere: an error or a
// tokenizer that encodes, decodes, and comes back the same from its own files.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "text/detokenizer.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find('\0');
  const std::string_view json = input.substr(0, cut);
  const std::string_view config =
      cut == std::string_view::npos ? std::string_view() : input.substr(cut + 1);
  const auto tokenizer =
      ink::TokenizerFromJson({.tokenizer_json = json, .tokenizer_config = config});
  if (!tokenizer.ok()) return 0;
  const std::string_view text = "Hello, w\xC3\xB6rld 123 \xE4\xBD\xA0 <s>\xFF \n";
  const auto ids = (*tokenizer)->Encode(text, {.add_special = true, .parse_special = true});
  if (!ink::IsValidUtf8(ink::Decode(*tokenizer, ids))) std::abort();

  const auto written = ink::SpecToJson((*tokenizer)->spec());
  if (!written.ok()) return 0;
  const auto back = ink::TokenizerFromJson(
      {.tokenizer_json = written->tokenizer_json, .tokenizer_config = written->tokenizer_config});
  if (!back.ok()) std::abort();
  if ((*back)->Encode(text) != (*tokenizer)->Encode(text)) std::abort();

  ink::Metadata metadata("fuzz");
  if (!ink::SpecToGguf((*tokenizer)->spec(), metadata).ok()) return 0;
  const auto gguf = ink::TokenizerFromGguf(metadata);
  if (!gguf.ok()) std::abort();
  if ((*gguf)->Encode(text) != (*tokenizer)->Encode(text)) std::abort();
  return 0;
}
