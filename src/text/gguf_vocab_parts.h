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

inline constexpr std::string_view kChatTemplateKey = "tokenizer.chat_template";
/// What the standard keys cannot say (tokenizer_json::WriteComponents).
inline constexpr std::string_view kComponentsKey = "inkstone.tokenizer";

/// Whether both give the same ids and the same texts. May be false for some that do.
bool TokenizesAlike(const TokenizerSpec& a, const TokenizerSpec& b);

}  // namespace ink::gguf_vocab
