// Typed access to the fields of a config.json. Private to src/model/hf_*.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "formats/quote.h"

namespace ink::hf {

using ConfigJson = nlohmann::json;

/// Above any width, head count, context or vocabulary.
inline constexpr uint64_t kMaxConfigSize = 1 << 28;

inline std::string Describe(const ConfigJson& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array of " + std::to_string(value.size());
  if (value.is_string()) return Quoted(value.get_ref<const std::string&>());
  return value.dump();
}

inline const ConfigJson* Member(const ConfigJson* object, const char* key) {
  if (object == nullptr || !object->is_object()) return nullptr;
  auto it = object->find(key);
  return it == object->end() || it->is_null() ? nullptr : &*it;
}

// Fields by name, first in text_config (where there is one), then in the document itself.
class ConfigFields {
 public:
  ConfigFields(const ConfigJson& root, const std::string& path) : root_(&root), path_(path) {
    text_ = Member(root_, "text_config");
  }

  const ConfigJson* Find(const char* key) const {
    const ConfigJson* found = Member(text_, key);
    return found != nullptr ? found : Member(root_, key);
  }
  /// Present and null, which differs from absent where the class default is not null.
  bool IsNull(const char* key) const {
    for (const ConfigJson* object : {text_, root_}) {
      if (object == nullptr || !object->is_object()) continue;
      auto it = object->find(key);
      if (it != object->end()) return it->is_null();
    }
    return false;
  }
  const ConfigJson* text() const { return text_; }

  Status Wrong(std::string_view what, std::string_view expected, const ConfigJson& found) const {
    return Corrupt(Mismatch(path_, what, expected, Describe(found)));
  }

  Result<uint32_t> Int(const char* key, std::optional<uint32_t> fallback,
                       uint64_t limit = kMaxConfigSize, uint64_t least = 1) const {
    return IntOf(Find(key), key, fallback, limit, least);
  }
  Result<uint32_t> IntOf(const ConfigJson* value, const char* key, std::optional<uint32_t> fallback,
                         uint64_t limit, uint64_t least) const {
    const std::string expected =
        "an integer of " + std::to_string(least) + " to " + std::to_string(limit);
    if (value == nullptr) {
      if (fallback) return *fallback;
      return Corrupt(Mismatch(path_, key, expected, "no such field"));
    }
    // Sizes are sometimes written as 4096.0.
    double number = -1;
    if (value->is_number()) number = value->get<double>();
    if (!(number >= static_cast<double>(least)) || number > static_cast<double>(limit) ||
        number != std::floor(number)) {
      return Wrong(key, expected, *value);
    }
    return static_cast<uint32_t>(number);
  }
  Result<float> Number(const char* key, float fallback) const {
    return NumberOf(Find(key), key, fallback);
  }
  Result<float> NumberOf(const ConfigJson* value, const char* key, float fallback) const {
    if (value == nullptr) return fallback;
    if (!value->is_number()) return Wrong(key, "a number", *value);
    const double number = value->get<double>();
    if (!(std::abs(number) <= static_cast<double>(std::numeric_limits<float>::max()))) {
      return Wrong(key, "a number in the range of float", *value);
    }
    return static_cast<float>(number);
  }
  Result<bool> Bool(const char* key, bool fallback) const {
    const ConfigJson* value = Find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) return Wrong(key, "true or false", *value);
    return value->get<bool>();
  }
  Result<std::string> String(const ConfigJson* value, const char* key, std::string fallback) const {
    if (value == nullptr) return fallback;
    if (!value->is_string()) return Wrong(key, "a string", *value);
    return value->get<std::string>();
  }
  Result<std::vector<float>> Floats(const ConfigJson* value, const char* key) const {
    std::vector<float> out;
    if (value == nullptr) return out;
    if (!value->is_array()) return Wrong(key, "an array of numbers", *value);
    for (const ConfigJson& item : *value) {
      INK_ASSIGN_OR_RETURN(float number, NumberOf(&item, key, 0));
      if (!(number > 0)) return Wrong(key, "numbers above 0", item);
      out.push_back(number);
    }
    return out;
  }
  const std::string& path() const { return path_; }

 private:
  const ConfigJson* root_;
  const ConfigJson* text_;
  const std::string& path_;
};

}  // namespace ink::hf
