// What the reader and the writer of GGUF vocabularies share. Internal to src/text.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "text/tokenizer_spec.h"

namespace ink::gguf_vocab {

struct RoleKey {
  std::string_view name;  // behind "tokenizer.ggml."
  int32_t SpecialIds::*id;
};
std::span<const RoleKey> RoleKeys();

/// "tokenizer.ggml." + name.
std::string Key(std::string_view name);

}  // namespace ink::gguf_vocab
