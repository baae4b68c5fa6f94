// The `format` keyword as regular languages.
#pragma once

#include <cstdint>
#include <string_view>

namespace ink::constraint {

struct Format {
  const char* name;
  const char* pattern;  // of the whole text; null: defined by JSON Schema, but not enforceable here
  uint64_t max_length;  // in characters; 0: no limit
};

/// The format of this name as JSON Schema 2020-12 defines it, or null for a name it does not
/// define. Where a format has rare forms (a leap second, a quoted e-mail local part), the language
/// leaves them out: what it accepts is always valid.
const Format* FindFormat(std::string_view name);

}  // namespace ink::constraint
