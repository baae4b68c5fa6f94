#include "text/json_reader.h"

#include <cmath>
#include <utility>

namespace ink {

Result<nlohmann::json> JsonNode::Parse(std::string_view text, std::string_view name) {
  nlohmann::json document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return Corrupt(std::string(name) + " is not valid JSON");
  return document;
}

Status JsonNode::Wrong(std::string_view expected) const {
  std::string actual = value_->type_name();
  if (value_->is_primitive()) {
    actual += " " + value_->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  if (actual.size() > 120) actual = actual.substr(0, 120) + "...";
  return Corrupt(path_ + ": expected " + std::string(expected) + ", found " + actual);
}

Status JsonNode::ExpectObject() const {
  return value_->is_object() ? OkStatus() : Wrong("an object");
}

Status JsonNode::ExpectArray() const { return value_->is_array() ? OkStatus() : Wrong("an array"); }

Result<std::optional<JsonNode>> JsonNode::Find(const char* key) const {
  INK_RETURN_IF_ERROR(ExpectObject());
  const auto it = value_->find(key);
  if (it == value_->end() || it->is_null()) return std::optional<JsonNode>();
  return std::optional<JsonNode>(JsonNode(*it, path_ + "." + key));
}

Result<JsonNode> JsonNode::Get(const char* key) const {
  INK_ASSIGN_OR_RETURN(std::optional<JsonNode> found, Find(key));
  if (!found) return Corrupt(path_ + ": expected a member \"" + key + "\", there is none");
  return *std::move(found);
}

Result<std::string> JsonNode::String() const {
  if (!value_->is_string()) return Wrong("a string");
  return value_->get_ref<const std::string&>();
}

Result<int64_t> JsonNode::Integer() const {
  if (value_->is_number_unsigned()) {
    const uint64_t value = value_->get<uint64_t>();
    if (value > INT64_MAX) return Wrong("an integer below 2^63");
    return static_cast<int64_t>(value);
  }
  if (!value_->is_number_integer()) return Wrong("an integer");
  return value_->get<int64_t>();
}

Result<double> JsonNode::Number() const {
  if (!value_->is_number()) return Wrong("a number");
  return value_->get<double>();
}

Result<std::string> JsonNode::String(const char* key, std::string fallback) const {
  INK_ASSIGN_OR_RETURN(const std::optional<JsonNode> found, Find(key));
  if (!found) return fallback;
  return found->String();
}

Result<bool> JsonNode::Bool(const char* key, bool fallback) const {
  INK_ASSIGN_OR_RETURN(const std::optional<JsonNode> found, Find(key));
  if (!found) return fallback;
  if (!found->value().is_boolean()) return found->Wrong("true or false");
  return found->value().get<bool>();
}

Result<int64_t> JsonNode::Integer(const char* key, int64_t fallback) const {
  INK_ASSIGN_OR_RETURN(const std::optional<JsonNode> found, Find(key));
  if (!found) return fallback;
  return found->Integer();
}

}  // namespace ink
