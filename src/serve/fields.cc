#include "serve/fields.h"

#include <algorithm>
#include <cmath>

namespace ink {
namespace {

// A value as an error shows it: short, whatever was sent.
std::string Show(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = DumpJson(value);
  if (text.size() > 40) {
    size_t cut = 40;
    while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
    text = text.substr(0, cut) + "...";
  }
  return text;
}

std::string ShowNumber(double value) { return DumpJson(Json(value)); }

}  // namespace

ApiStatus CheckFields(const Json& body, FieldTable table, bool strict,
                      std::vector<std::string>* warnings) {
  for (const auto& [name, value] : body.items()) {
    const std::string& key = name;
    auto row = std::find_if(table.begin(), table.end(),
                            [&key](const Field& field) { return field.name == key; });
    if (row == table.end()) {
      std::string shown = key.substr(0, 64);
      if (strict) return BadRequest("unknown field '" + shown + "'", shown, "unknown_field");
      warnings->push_back("unknown field '" + shown + "' was ignored");
      continue;
    }
    if (row->use != FieldUse::kUnsupported || value.is_null()) continue;
    if (!row->neutral.empty() && DumpJson(value) == row->neutral) continue;
    std::string message = "'" + key + "' is not supported by this server";
    if (!row->neutral.empty()) message += " (only " + std::string(row->neutral) + " is)";
    return BadRequest(message + ", got " + Show(value), key, "unsupported_parameter");
  }
  return std::nullopt;
}

const Json* FieldReader::Find(std::string_view name) const {
  auto found = object_.find(name);
  if (found == object_.end() || found->is_null()) return nullptr;
  return &*found;
}

void FieldReader::Fail(std::string_view name, std::string message) {
  if (error_) return;
  std::string param = path_ + std::string(name);
  error_ = BadRequest("'" + param + "': " + std::move(message), param, "invalid_value");
}

bool FieldReader::FailType(std::string_view name, std::string_view expected, const Json& value) {
  Fail(name, "expected " + std::string(expected) + ", got " + Show(value));
  return false;
}

bool FieldReader::Bool(std::string_view name, bool* out) {
  const Json* value = Find(name);
  if (value == nullptr || error_) return false;
  if (!value->is_boolean()) return FailType(name, "true or false", *value);
  *out = value->get<bool>();
  return true;
}

bool FieldReader::Number(std::string_view name, double* out, double low, double high) {
  const Json* value = Find(name);
  if (value == nullptr || error_) return false;
  const bool bounded = std::isfinite(low) || std::isfinite(high);
  std::string expected = "a number";
  if (bounded && !std::isfinite(high)) expected += " of at least " + ShowNumber(low);
  if (bounded && std::isfinite(high)) {
    expected += " from " + ShowNumber(low) + " to " + ShowNumber(high);
  }
  if (!value->is_number()) return FailType(name, expected, *value);
  const double number = value->get<double>();
  if (!(number >= low && number <= high)) return FailType(name, expected, *value);
  *out = number;
  return true;
}

bool FieldReader::Integer(std::string_view name, int64_t* out, int64_t low, int64_t high) {
  const Json* value = Find(name);
  if (value == nullptr || error_) return false;
  std::string expected = "an integer";
  const bool has_low = low != std::numeric_limits<int64_t>::min();
  const bool has_high = high != std::numeric_limits<int64_t>::max() && high != INT32_MAX;
  if (has_low && has_high) {
    expected += " from " + std::to_string(low) + " to " + std::to_string(high);
  } else if (has_low) {
    expected += " of at least " + std::to_string(low);
  }
  int64_t integer = 0;
  if (value->is_number_unsigned()) {
    const uint64_t raw = value->get<uint64_t>();
    if (raw > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return FailType(name, expected, *value);
    }
    integer = static_cast<int64_t>(raw);
  } else if (value->is_number_integer()) {
    integer = value->get<int64_t>();
  } else if (value->is_number_float()) {
    // Some clients write 16.0.
    const double number = value->get<double>();
    if (number != std::floor(number) || std::fabs(number) > 9e15) {
      return FailType(name, expected, *value);
    }
    integer = static_cast<int64_t>(number);
  } else {
    return FailType(name, expected, *value);
  }
  if (integer < low || integer > high) return FailType(name, expected, *value);
  *out = integer;
  return true;
}

bool FieldReader::Int32(std::string_view name, int32_t* out, int32_t low, int32_t high) {
  int64_t value = 0;
  if (!Integer(name, &value, low, high)) return false;
  *out = static_cast<int32_t>(value);
  return true;
}

bool FieldReader::String(std::string_view name, std::string* out) {
  const Json* value = Find(name);
  if (value == nullptr || error_) return false;
  if (!value->is_string()) return FailType(name, "a string", *value);
  *out = value->get_ref<const std::string&>();
  return true;
}

bool FieldReader::Choice(std::string_view name, std::span<const std::string_view> allowed,
                         std::string* out) {
  const Json* value = Find(name);
  if (value == nullptr || error_) return false;
  if (value->is_string()) {
    const std::string& text = value->get_ref<const std::string&>();
    if (std::find(allowed.begin(), allowed.end(), text) != allowed.end()) {
      *out = text;
      return true;
    }
  }
  std::string expected;
  for (size_t i = 0; i < allowed.size(); ++i) {
    if (i > 0) expected += i + 1 == allowed.size() ? " or " : ", ";
    expected += "\"" + std::string(allowed[i]) + "\"";
  }
  return FailType(name, expected, *value);
}

bool FieldReader::Strings(std::string_view name, std::vector<std::string>* out, bool allow_single) {
  const Json* value = Find(name);
  if (value == nullptr || error_) return false;
  if (allow_single && value->is_string()) {
    *out = {value->get<std::string>()};
    return true;
  }
  const std::string_view expected =
      allow_single ? "a string or a list of strings" : "a list of strings";
  if (!value->is_array()) return FailType(name, expected, *value);
  std::vector<std::string> strings;
  for (const Json& item : *value) {
    if (!item.is_string()) return FailType(name, expected, item);
    strings.push_back(item.get<std::string>());
  }
  *out = std::move(strings);
  return true;
}

bool FieldReader::Integers(std::string_view name, std::vector<int32_t>* out) {
  const Json* value = Find(name);
  if (value == nullptr || error_) return false;
  if (!value->is_array()) return FailType(name, "a list of integers", *value);
  std::vector<int32_t> integers;
  for (const Json& item : *value) {
    if (!item.is_number_integer() || item.get<int64_t>() < 0 || item.get<int64_t>() > INT32_MAX) {
      return FailType(name, "a list of token ids", item);
    }
    integers.push_back(item.get<int32_t>());
  }
  *out = std::move(integers);
  return true;
}

const Json* FieldReader::Object(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr || error_) return nullptr;
  if (value->is_object()) return value;
  FailType(name, "an object", *value);
  return nullptr;
}

const Json* FieldReader::List(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr || error_) return nullptr;
  if (value->is_array()) return value;
  FailType(name, "a list", *value);
  return nullptr;
}

}  // namespace ink
