// Splits a template into data and the tokens of its tags, white space control applied.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace ink::jinja {

enum class TokenKind {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  // data, name, operator, or the string literal's value
  Int integer = 0;
  double floating = 0;
};

/// The token in words, for error messages.
std::string Describe(const Token& token);

/// Tokens of `source` (valid UTF-8), the last one kEnd. Throws TemplateError.
std::vector<Token> Tokenize(std::string_view source);

}  // namespace ink::jinja
